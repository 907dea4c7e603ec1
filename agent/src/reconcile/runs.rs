//! What history learns from the loop: why bots are started and stopped, how they end, when their files are read.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use contract::BotId;
use contract::record::Time;
use tokio::sync::oneshot::Sender;

use super::World;
use crate::engine::{Engine, Told};
use crate::health::Board;
use crate::history::cause::Cause;
use crate::history::{self, Answer, Before, Birth, Failed, Last, Life, Sight, Start};
use crate::plan::{Phase, Why};
use crate::report::Records;

/// How long the agent's end waits until history is written.
const PATIENCE: Duration = Duration::from_secs(5);

impl World {
    /// Starts the bot and notes why.
    pub(super) fn begin(&mut self, bot: &BotId, now: Duration) {
        let listing = Arc::clone(&self.listing);
        let Some(bot) = listing.bot(bot) else { return };
        let tick = match bot.timetable {
            None => None,
            Some(_) => match self.launch_tick(&bot.id) {
                Some(tick) => Some(tick),
                None => return,
            },
        };
        let (birth, is_known) = self.engine.before(&bot.id);
        let before = Before {
            birth: birth.as_ref(),
            is_known,
            boot: history::boot(),
        };
        let start = match &mut self.history {
            Some(history) => history.track.start(bot, &before),
            None => Start::now(Cause::Found, None),
        };
        let start = match tick {
            Some(tick) => start.of_tick(tick),
            None => start,
        };
        self.engine.start(bot, start, now);
        self.hear();
    }

    /// Stops the bot and notes why.
    pub(super) fn halt(&mut self, bot: &BotId, why: Why, now: Duration) {
        if self.is_live(bot)
            && let Some(history) = &mut self.history
        {
            history.track.stop(bot, why);
        }
        if let Some(schedules) = &mut self.schedules {
            schedules.halted(bot, why);
        }
        self.engine.stop(bot, why, now);
    }

    /// A person wants the bot started: that is why it is, if it does not run.
    pub fn asked(&mut self, bot: &BotId) {
        if !self.is_live(bot)
            && let Some(history) = &mut self.history
        {
            history.track.ask(bot);
        }
    }

    fn is_live(&self, bot: &BotId) -> bool {
        let instance = self.engine.instance(bot);
        instance.is_some_and(|instance| !matches!(instance.actual.phase, Phase::Ended(_)))
    }

    /// Takes in what the engine has to tell. While another agent acts, what ends is its to write; it is held until it is
    /// ours, for then it may be nobody's, and what is written already stays as it is.
    pub(super) fn hear(&mut self) {
        let may_act = self.lease.may_act();
        for told in self.engine.told() {
            let Some(history) = &mut self.history else {
                continue;
            };
            match told {
                Told::Over {
                    bot,
                    birth,
                    mut end,
                    records,
                    failures,
                    noted,
                } => {
                    end.why = history.track.why(&bot);
                    let life = Life {
                        bot: bot.clone(),
                        birth,
                        end: Some(end),
                    };
                    history.track.end(&bot, history::last_of(&life, &records));
                    let began = life.birth.start.at;
                    self.board.count(|m| m.saves.end(&bot, &records, began));
                    let sight = Sight {
                        life,
                        records: *records,
                        failures,
                        noted,
                    };
                    if may_act {
                        history.seen(sight);
                    } else {
                        history.hold(sight);
                    }
                }
                Told::Ran {
                    bot,
                    birth,
                    records,
                } => {
                    note_saves(&self.board, &bot, &records, birth.start.at);
                    if may_act {
                        history.seen(sight(bot, birth, *records));
                    }
                }
                Told::NotStarted {
                    bot,
                    name,
                    start,
                    why,
                    failures,
                } => {
                    history.track.end(&bot, Last::NotStarted(why.clone()));
                    history.not_started(Failed {
                        bot,
                        name,
                        start,
                        why,
                        failures,
                        at: Time::now(),
                    });
                }
            }
        }
    }

    /// Reads the files of those bots whose turn it is.
    pub(super) fn read_runs(&mut self) {
        if !self.lease.may_act() {
            return;
        }
        let now = self.now();
        let Some(history) = &mut self.history else {
            return;
        };
        history.release();
        let births = self.engine.births();
        let live = births.iter().map(|(bot, birth)| (*bot, birth.start.at));
        let due = history.due(live, now);
        if due.is_empty() {
            return;
        }
        let births: BTreeMap<&BotId, &Birth> = births.into_iter().collect();
        let of = |bot: &BotId| Some((bot.clone(), (*births.get(bot)?).clone()));
        let due: Vec<(BotId, Birth)> = due.iter().filter_map(of).collect();
        self.read(due);
    }

    fn read(&self, bots: Vec<(BotId, Birth)>) {
        let Some(history) = &self.history else { return };
        let seen = history.seer();
        let ids: Vec<BotId> = bots.iter().map(|(bot, _)| bot.clone()).collect();
        match &self.engine {
            Engine::Process(_) => {
                for (bot, birth) in bots {
                    let records = Records::read(&self.host.paths(&bot));
                    note_saves(&self.board, &bot, &records, birth.start.at);
                    seen(sight(bot, birth, records));
                }
            }
            Engine::Kubernetes(cluster) => {
                let records = cluster.records_asked(&ids);
                tokio::spawn(give(bots, records, self.board.clone(), seen));
            }
            Engine::Docker(docker) => {
                let records = docker.records(&ids);
                tokio::spawn(give(bots, records, self.board.clone(), seen));
            }
        }
    }

    /// Gives the latest records of a bot, after its files were read.
    pub fn recall(&self, bot: &BotId, count: usize, to: Sender<Answer>) {
        let Some(history) = &self.history else { return };
        let ask = history.asker(bot.clone(), count, to);
        let births = self.engine.births();
        let birth = births.into_iter().find(|(known, _)| *known == bot);
        let birth = birth.filter(|_| self.lease.may_act());
        let Some(birth) = birth.map(|(_, birth)| birth.clone()) else {
            return ask(None);
        };
        let bot = bot.clone();
        match &self.engine {
            Engine::Process(_) => {
                let records = Records::read(&self.host.paths(&bot));
                ask(Some(sight(bot, birth, records)));
            }
            Engine::Kubernetes(cluster) => {
                let records = cluster.records_asked(std::slice::from_ref(&bot));
                tokio::spawn(async move {
                    let records = records.await.remove(&bot);
                    ask(records.map(|records| sight(bot, birth, records)));
                });
            }
            Engine::Docker(docker) => {
                let records = docker.records(std::slice::from_ref(&bot));
                tokio::spawn(async move {
                    let records = records.await.remove(&bot);
                    ask(records.map(|records| sight(bot, birth, records)));
                });
            }
        }
    }

    /// Tells history which bots there are.
    pub(super) fn tell_there(&mut self) {
        let running = self.engine.births();
        let there = running.into_iter().map(|(bot, _)| bot.clone());
        let there = there.chain(self.wanted.keys().cloned()).collect();
        self.board.count(|metrics| metrics.saves.retain(&there));
        if let Some(history) = &mut self.history {
            history.there(there);
        }
    }

    /// Waits until what is known is written, at the agent's end.
    pub fn close_history(&mut self) {
        self.hear();
        if let Some(mut history) = self.history.take() {
            history.finish(PATIENCE);
        }
    }
}

/// Counts what a bot's records say of its saving.
fn note_saves(board: &Board, bot: &BotId, records: &Records, started: Time) {
    board.count(|metrics| metrics.saves.note(bot, records, started));
}

/// Gives to history what there is to see of these bots.
async fn give(
    bots: Vec<(BotId, Birth)>,
    records: impl Future<Output = HashMap<BotId, Records>>,
    board: Board,
    seen: impl Fn(Sight),
) {
    let mut records = records.await;
    for (bot, birth) in bots {
        if let Some(records) = records.remove(&bot) {
            note_saves(&board, &bot, &records, birth.start.at);
            seen(sight(bot, birth, records));
        }
    }
}

fn sight(bot: BotId, birth: Birth, records: Records) -> Sight {
    Sight {
        life: Life {
            bot,
            birth,
            end: None,
        },
        records,
        failures: 0,
        noted: None,
    }
}
