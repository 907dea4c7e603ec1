//! Bots that run at times: each tick once, whoever is killed or paused when.
//!
//! ```text
//!                     the ledger of each schedule ([`book`]: in its document, or in a file beside the bot)
//!   next time due ──▶ claimed ──▶ a container is made ──▶ started ──▶ it runs, is saved ──▶ over ──▶ it is removed
//!                       ▲ its name has the tick: the       ▲ [`permit`]: who lost the claim    ▲ only then
//!                       │ daemon gives a name once         │ removes what it made
//!                       └ on condition ([`decide`])        └ on condition
//! ```
//!
//! Everything can be cut off between any two steps, and is gone on with from what is written and what is there. The
//! loop owns [`Schedules`]; what is written comes back as [`News`]. An idle schedule costs nothing: what is due is the
//! first of a sorted set. So many starts are under way at once and no more; the others wait, the longest due first.

pub mod ask;
pub mod book;
pub mod decide;
mod entry;
pub mod ledger;
mod listed;
mod live;
pub mod permit;
pub mod timetable;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use contract::BotId;
use tokio::sync::mpsc::UnboundedSender;

use crate::bots::Listed;
use crate::engine::{self, Engine};
use crate::history::Failed;
use crate::plan::{Wanted, Why};
use crate::show::Console;
use book::{Book, Written};
use decide::{Step, Whose};
use entry::{Entry, Hand, Work};
use ledger::{Key, Ledger, Tick};
use permit::Permits;
use timetable::Seconds;

/// Starts of ticks under way at once, where nothing else is said.
pub const STARTS: usize = 8;
/// The longest pause after a word that was not taken.
const LONGEST_PAUSE: Seconds = 30;

/// A word that was to be written, and what has become of it.
#[derive(Debug)]
pub struct News {
    /// Whose.
    pub bot: BotId,
    /// What was to be written.
    pub to: Ledger,
    /// What has become of it.
    pub done: Written,
    /// Whether it was the word before a start.
    pub is_permit: bool,
}

/// What the loop has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Stop what runs.
    Stop(BotId, Why),
    /// Remove the container that was made for it and not started.
    Unmake(BotId),
    /// Ask the engine anew what there is.
    LookAnew,
    /// The cluster's clock starts the ticks of the bot of this row, as it is now.
    HandOver(Arc<Listed>),
    /// It does not any more.
    TakeBack(BotId),
}

/// All schedules.
#[derive(Debug)]
pub struct Schedules {
    book: Book,
    permits: Permits,
    me: String,
    most: usize,
    news: UnboundedSender<engine::News>,
    console: Console,
    known: BTreeMap<BotId, Entry>,
    /// Those that wait for a time.
    due: BTreeSet<(Seconds, BotId)>,
    /// Those that are looked at each time.
    active: BTreeSet<BotId>,
    /// Those that are being started.
    starting: BTreeSet<BotId>,
    missed: Vec<Failed>,
    /// Those of which it is told that another runner has them.
    anothers: BTreeSet<BotId>,
    /// Whether what is written has to be read again.
    is_curious: bool,
    is_told: bool,
    /// How far it is known which bots there are.
    sight: Sight,
    /// The bots that a person has stopped, and whether any may run, as it was taken in last.
    heeded: (BTreeSet<BotId>, bool),
}

/// How far it is known which bots there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sight {
    /// It is not.
    Blind,
    /// It is.
    Listed,
    /// And each was looked at once, whether the cluster's clock should have it.
    Offered,
}

/// Seconds since 1970, by the host's clock.
pub fn wall() -> Seconds {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(0))
}

/// What is said of a bot that another runner has.
const ANOTHERS: &str = "another runner has it in the cluster: none of its ticks is started here before that has ended and is removed";

/// What changes who starts the ticks of a bot, which `may` run.
fn handing(
    bot: &BotId,
    entry: &Entry,
    engine: &Engine,
    whose: Whose,
    live: &decide::Live,
    now: Seconds,
    may: bool,
) -> Option<Order> {
    match entry.hand(whose, live, now, may) {
        Hand::Keep if engine.is_clocked_as(&entry.row) => None,
        Hand::Over | Hand::Keep => Some(Order::HandOver(Arc::clone(&entry.row))),
        Hand::Back => Some(Order::TakeBack(bot.clone())),
        Hand::Leave => None,
    }
}

impl Schedules {
    /// None yet. Words are written in `book` in the name of `me` and told on `news`; so many starts at once.
    pub fn new(
        book: Book,
        me: String,
        most: usize,
        news: UnboundedSender<engine::News>,
        console: Console,
    ) -> Self {
        Self {
            permits: Permits::new(book.clone(), news.clone()),
            book,
            me,
            most: most.max(1),
            news,
            console,
            known: BTreeMap::new(),
            due: BTreeSet::new(),
            active: BTreeSet::new(),
            starting: BTreeSet::new(),
            missed: Vec::new(),
            anothers: BTreeSet::new(),
            is_curious: false,
            is_told: false,
            sight: Sight::Blind,
            heeded: (BTreeSet::new(), true),
        }
    }

    /// Who gives the permits.
    pub fn permits(&self) -> Permits {
        self.permits.clone()
    }

    /// Whether time has made something due.
    pub fn is_due(&self) -> bool {
        let due = self.due.first();
        due.is_some_and(|(at, _)| *at <= wall()) && self.starting.len() < self.most
    }

    /// Takes in which bots a person has stopped, and whether any may run: where that has changed it is looked at who starts
    /// their ticks.
    pub fn heed(&mut self, stopped: &BTreeSet<BotId>, may_any: bool) {
        if self.heeded.1 != may_any {
            self.active.extend(self.known.keys().cloned());
        }
        if self.heeded.0 != *stopped {
            let changed = stopped.symmetric_difference(&self.heeded.0);
            let changed = changed.filter(|bot| self.known.contains_key(*bot));
            self.active.extend(changed.cloned());
            self.heeded.0.clone_from(stopped);
        }
        self.heeded.1 = may_any;
    }

    /// Takes in for which bots it has changed who starts their ticks, or may.
    pub fn moved(&mut self, bots: BTreeSet<BotId>) {
        let known = bots.into_iter().filter(|bot| self.known.contains_key(bot));
        self.active.extend(known);
    }

    /// Does what there is to do; `may` tells the bots that a person lets run.
    pub fn step(&mut self, engine: &Engine, may: impl Fn(&BotId) -> bool) -> Vec<Order> {
        let now = wall();
        let mut orders = Vec::new();
        orders.extend(self.clocked(engine, &may));
        for bot in self.active.clone() {
            orders.extend(self.look(&bot, engine, now, &may));
        }
        while let Some((at, bot)) = self.due.first().cloned() {
            if at > now || self.starting.len() >= self.most {
                break;
            }
            self.arm(&bot, None);
            // An active one was looked at already, and is not ordered twice.
            if self.active.insert(bot.clone()) {
                orders.extend(self.look(&bot, engine, now, &may));
            }
        }
        orders
    }

    fn look(
        &mut self,
        bot: &BotId,
        engine: &Engine,
        now: Seconds,
        may: &impl Fn(&BotId) -> bool,
    ) -> Option<Order> {
        let entry = self.known.get_mut(bot)?;
        let live = live::live(engine, bot, &mut entry.end, entry.stopping);
        if let Work::Launched(key, rev) = entry.work
            && let Some(launched) = live::launched(engine, bot, key)
        {
            entry.work = Work::Rest;
            self.starting.remove(bot);
            entry.take_launched(launched, rev, now);
        }
        let is_anothers = entry.is_on && engine.is_anothers(bot);
        if !is_anothers {
            self.anothers.remove(bot);
        } else if self.anothers.insert(bot.clone()) {
            self.console.about(bot, &entry.row.name).warn(ANOTHERS);
        }
        let may = entry.is_on && may(bot) && !is_anothers;
        if entry.work == Work::Mine && !may {
            entry.work = Work::Rest;
            self.starting.remove(bot);
        }
        let is_busy = matches!(
            entry.work,
            Work::Writing | Work::Claiming | Work::Launched(..)
        );
        if is_busy || entry.is_stale {
            return None;
        }
        if entry.pause.0 > now {
            let until = entry.pause.0;
            self.arm(bot, Some(until));
            return None;
        }
        let whose = engine.whose(bot);
        if let Some(late) = entry.overdue(whose, &live, now) {
            let (name, at) = (&entry.row.name, timetable::shown(late));
            self.console.about(bot, name).warn(&format!(
                "its CronJob has not started the tick of {at} (kubectl describe may say why): the agent takes the schedule back, and it or a later one runs"
            ));
        }
        let order = handing(bot, entry, engine, whose, &live, now, may);
        let is_owed = order.is_some();
        if is_owed && engine.can_hand(bot) {
            return order;
        }
        let is_possible = is_owed && engine.gives_to_a_clock();
        let owed_at = is_possible.then_some(now + decide::SOON);
        let is_live = matches!(live, decide::Live::Runs(_));
        let step = entry.decide(live, now, &self.me, whose);
        match (&step, whose) {
            (Step::Wait(_), Whose::Nobodys) => {
                self.arm(bot, Some(now + 2 * decide::SOON));
                return None;
            }
            // What the cluster's clock must not start, or not so, is not left to its next tick.
            (Step::Wait(_), Whose::Clusters(_)) if is_owed => {
                self.arm(bot, Some(now + decide::SOON));
                return None;
            }
            _ => {}
        }
        let quiet = entry.quiet_at(now).filter(|_| engine.keeps_a_clock());
        match step {
            Step::Wait(at) => {
                let at = at.into_iter().chain(quiet).chain(owed_at).min();
                self.rest(bot, at, is_live);
            }
            Step::Write(to) => self.write(bot, to, Work::Writing),
            Step::Claim(to) if may && self.starting.len() < self.most => {
                self.starting.insert(bot.clone());
                self.write(bot, to, Work::Claiming);
            }
            Step::Claim(to) => self.wait(bot, &to, may),
            Step::Stop(why) if entry.stopping.is_none() => {
                return Some(Order::Stop(bot.clone(), why));
            }
            Step::Start | Step::Stop(_) => {}
            Step::Unmake => return Some(Order::Unmake(bot.clone())),
            Step::Doubt => {
                entry.is_doubted = true;
                return Some(Order::LookAnew);
            }
        }
        None
    }

    /// Looks at what the cluster's clock does; gives what it starts and is no bot of ours, or none that runs at times.
    fn clocked(&mut self, engine: &Engine, may: &impl Fn(&BotId) -> bool) -> Vec<Order> {
        if engine.keeps_a_clock() && self.sight == Sight::Listed {
            self.sight = Sight::Offered;
            self.active.extend(self.known.keys().cloned());
        }
        let ran = engine.clocked().filter(|bot| self.known.contains_key(*bot));
        self.active.extend(ran.cloned());
        // Held by a person, now or before: the cluster does not know of that, however long it is to their next tick.
        let held = engine.clocked_all().filter(|bot| !may(bot));
        let held = held.filter(|bot| self.known.contains_key(*bot));
        self.active.extend(held.cloned());
        self.strays(engine)
    }

    /// What the cluster's clock has of bots that are not there, and what it was only about to get.
    fn strays(&self, engine: &Engine) -> Vec<Order> {
        if self.sight == Sight::Blind {
            return Vec::new();
        }
        let unknown = engine
            .clocked_all()
            .filter(|bot| !self.known.contains_key(*bot));
        let known = |bot: &&BotId| self.known.contains_key(*bot);
        let strays = unknown.chain(engine.clocked_off().filter(known));
        let strays = strays.filter(|bot| engine.can_hand(bot));
        strays.cloned().map(Order::TakeBack).collect()
    }

    /// It may be started, and others are first; or a person must let it.
    fn wait(&mut self, bot: &BotId, to: &Ledger, may: bool) {
        let Some(entry) = self.known.get(bot) else {
            return;
        };
        let at = to.tick.as_ref().map(|tick| tick.at);
        if may {
            self.active.remove(bot);
            self.arm(bot, at);
        } else if !entry.is_on && !entry.ledger.is_open() {
            self.active.remove(bot);
        }
    }

    /// It is looked at again at that time; if nothing is under way, not before.
    fn rest(&mut self, bot: &BotId, at: Option<Seconds>, is_live: bool) {
        let Some(entry) = self.known.get(bot) else {
            return;
        };
        let at = at.filter(|_| entry.is_on || entry.ledger.is_open());
        if !entry.ledger.is_open() && !is_live {
            self.active.remove(bot);
        }
        self.arm(bot, at);
    }

    fn arm(&mut self, bot: &BotId, at: Option<Seconds>) {
        let Some(entry) = self.known.get_mut(bot) else {
            return;
        };
        if let Some(before) = entry.armed.take() {
            self.due.remove(&(before, bot.clone()));
        }
        entry.armed = at;
        self.due.extend(at.map(|at| (at, bot.clone())));
    }

    fn write(&mut self, bot: &BotId, to: Ledger, work: Work) {
        let Some(entry) = self.known.get_mut(bot) else {
            return;
        };
        entry.work = work;
        let (from, timetable) = (entry.ledger.clone(), entry.timetable.clone());
        let (book, news, bot) = (self.book.clone(), self.news.clone(), bot.clone());
        if let Book::Folder(_) = book {
            let done = book.put(&bot, &timetable, &from, &to);
            let _ = news.send(told(bot, to, done));
            return;
        }
        tokio::spawn(async move {
            let done = book.write(&bot, &timetable, &from, &to).await;
            let _ = news.send(told(bot, to, done));
        });
    }

    /// What the plan wants to know of those of which something is under way.
    pub fn wanted(&self) -> impl Iterator<Item = (&BotId, Wanted)> {
        self.active.iter().filter_map(|bot| {
            let entry = self.known.get(bot)?;
            let is_next = entry.work == Work::Mine;
            Some((bot, if is_next { Wanted::Once } else { Wanted::Idle }))
        })
    }

    /// The engine is told to start the claimed tick of the bot: which?
    pub fn launch(&mut self, bot: &BotId) -> Option<Key> {
        let entry = self.known.get_mut(bot)?;
        let tick = entry.ledger.tick.as_ref();
        let tick = tick.filter(|_| entry.work == Work::Mine)?;
        let (key, rev) = (tick.key(), tick.rev);
        entry.work = Work::Launched(key, rev);
        Some(key)
    }

    /// It was not told, after all: another one has gone on with the tick.
    pub fn give_up(&mut self, bot: &BotId) {
        self.starting.remove(bot);
        if let Some(entry) = self.known.get_mut(bot) {
            entry.work = Work::Rest;
        }
    }

    /// Somebody has the bot stopped.
    pub fn halted(&mut self, bot: &BotId, why: Why) {
        if let Some(entry) = self.known.get_mut(bot) {
            entry.stopping.get_or_insert(why);
            self.active.insert(bot.clone());
        }
    }

    /// Whether what is left of the bot's last run is needed, that of the tick `of` if it is known: its end is not written down.
    pub fn holds(&self, bot: &BotId, of: Option<Key>) -> bool {
        let Some(entry) = self.known.get(bot) else {
            return false;
        };
        let last = entry.ledger.tick.as_ref().map(|tick| tick.at);
        let is_clusters = |of: &Key| of.attempt == Key::CLUSTERS;
        let is_new = of.is_some_and(|of| is_clusters(&of) && last < Some(of.at));
        // The tick is tried again: that the first try has ended is written down.
        let tick = entry.ledger.tick.as_ref();
        let is_again = |tick: &Tick| tick.attempt != Key::CLUSTERS;
        if of.as_ref().is_some_and(is_clusters) && !is_new && tick.is_some_and(is_again) {
            return false;
        }
        is_new || entry.ledger.is_open() || entry.work != Work::Rest
    }

    /// What a person may know of the bot's schedule.
    pub fn timing(&self, bot: &BotId) -> Option<&Ledger> {
        Some(&self.known.get(bot)?.ledger)
    }
}

fn told(bot: BotId, to: Ledger, done: Written) -> engine::News {
    engine::News::Schedule(Box::new(News {
        bot,
        to,
        done,
        is_permit: false,
    }))
}

/// So many ticks may be started at once, as the operator says.
///
/// # Errors
/// It is no number.
pub fn starts(given: &contract::launch::Variables) -> anyhow::Result<usize> {
    let text = given.get("THE0_SCHEDULE_STARTS").map(|text| text.trim());
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(STARTS);
    };
    let count = text.parse().ok().filter(|count| (1..=1000).contains(count));
    count.ok_or_else(|| {
        anyhow::anyhow!("THE0_SCHEDULE_STARTS is {text:?}: give a whole number from 1 to 1000")
    })
}

#[cfg(test)]
mod tests;
