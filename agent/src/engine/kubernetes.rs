//! Bots as Pods of a Kubernetes namespace, one each, that outlive the agent.
//!
//! It ensures that there are never two instances of a bot: a Pod's name is made of stack and bot, so the API server
//! refuses a second one, also while the first is being ended on a node that nobody reaches; of one bot only one thing is
//! under way at a time ([`slot::Work`]). A Pod is the bot's by its labels; others are never touched.
//!
//! ```text
//! list, watch ──▶ what Pods there are ──▶ lives: adopted     over: told to history, judged, let go
//! start ──▶ keys, Secrets, Pod ([`work`])     stop ──▶ delete; the kubelet sends TERM, `sync` has its time to save
//! ```
//!
//! The Pods of a CronJob have other names, and the API server refuses none of them beside ours. There it is [`times`] and
//! [`crate::schedule`] that see to it: who starts ticks changes hands only where nothing runs or is due, and a CronJob that
//! is seen beside a run of ours is taken back at once.
//!
//! A Pod carries our finalizer, so it stays until it is known how it ended. Its state goes with it: it ends when all is
//! saved, or when its time is over. Nothing here waits: operations are tasks of their own whose ends come back as
//! [`News`]. An agent that goes away in the middle of one leaves a Pod that the next agent finds by its labels.

mod access;
mod connect;
mod containers;
mod cronjob;
mod cronjob_watch;
mod cronjob_work;
mod ends;
pub mod job;
mod keys;
mod link;
pub mod logs;
pub mod names;
mod news;
mod others;
mod pages;
mod pod;
pub mod question;
mod refusal;
mod refusals;
mod secret;
mod seen;
mod slot;
mod synced;
pub mod template;
#[cfg(test)]
mod tests;
mod times;
pub mod trial;
mod undo;
mod usage;
mod view;
mod work;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use contract::BotId;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{Notify, oneshot};

use self::keys::Term;
use self::link::Snapshot;
use self::others::Others;
use self::seen::{Seen, Stage};
use self::slot::{Slot, Stop, Work};
use self::times::Times;
use crate::document::Bot;
use crate::engine::Told;
use crate::engine::not_started::NotStarted;
use crate::engine::remote::{Clock, Link, Word};
use crate::history::Start;
use crate::launch;
use crate::plan::{Outcome, Phase, Why};
use crate::schedule::ledger::Key;
use crate::show::Console;

pub use access::Access;
pub use connect::connect;
pub use containers::BOT;
#[cfg(test)]
pub use link::PACE;
pub use refusal::{has_status, said};
pub use work::Running;

/// How soon keys that could not be renewed are asked for again, at most; a quarter of their life, if that is less.
const RENEW_AGAIN: Duration = Duration::from_mins(1);
/// Within this time an agent hands new keys to the Pods it finds.
const RENEW_FOUND: Duration = Duration::from_mins(1);
/// Time between two tries of what the API server did not take.
const AGAIN: Duration = Duration::from_secs(5);
/// Time between two looks for Secrets and Jobs that are nobody's.
const SWEEP: Duration = Duration::from_mins(10);
/// How long it is measured that a bot's Pod went with something not known to be saved, and told of one that is not there any more.
const TOLD: Duration = Duration::from_hours(1);

/// The engine.
#[derive(Debug)]
pub struct Engine {
    access: Access,
    news: UnboundedSender<News>,
    clock: Clock,
    slots: BTreeMap<BotId, Slot>,
    /// The stack's Pods as they were last told of, by bot.
    pods: HashMap<BotId, Vec<Seen>>,
    /// Pods of ticks that have ended and are kept until that is written down, by their unique ids.
    husks: HashMap<String, Husk>,
    link: Link,
    told: Vec<Told>,
    /// Makes the next listing come at once.
    again: Arc<Notify>,
    /// How old the last listing is, and the oldest that one may decide by, by the clock.
    listed: u64,
    needed: u64,
    /// When Secrets that are nobody's are looked for again.
    sweep_at: Duration,
    /// Whether that is too early for what is too young then, and is done once more soon.
    sweep_again: bool,
    /// What the cluster's own clock has.
    times: Times,
    /// Pods beside another one of their bot that were told of, by unique id.
    doubles: BTreeSet<String>,
    /// What another runner has.
    others: Others,
    /// Bots whose last Pod went with something of which it is not known that it is saved, and when.
    unsaved: BTreeMap<BotId, Duration>,
    console: Console,
}

/// A Pod that has ended and whose end is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Husk {
    /// It stays until its end is written down.
    Kept,
    /// It could not be let go, and is not tried before.
    Refused(Duration),
    /// It is being let go.
    Going,
}

/// What has happened, told to the loop that owns the engine.
#[derive(Debug)]
pub enum News {
    /// The API server does not answer.
    Down(String),
    /// What the namespace has.
    Listed(Box<Snapshot>),
    /// What another runner has.
    Others(Others),
    /// A bot's Pod is new or has changed.
    Seen(Box<Seen>),
    /// A bot's Pod with this unique id is gone.
    Gone(BotId, String),
    /// A start has come to its end.
    Started(BotId, Box<Result<Running, NotStarted>>),
    /// The API server has taken that a Pod is to end, or has not.
    Deleted(BotId, Result<(), String>),
    /// The keys of the Pod with this unique id were renewed, and when the next are due; or they were not.
    Renewed(BotId, String, Result<Term, String>),
    /// The end of the Pod with this unique id is written down, or is not going to be.
    Noted(BotId, String),
    /// A Pod of which nothing runs was let go, or was not.
    Released(BotId, String, Result<(), String>),
    /// Something has happened to a CronJob.
    Times(times::Word),
}

/// Why a bot that another runner has is not started.
fn beside(other: &str) -> String {
    format!(
        "{other} of another runner runs it: end that runner and remove it, so that there are not two"
    )
}

impl Engine {
    /// On the cluster of `access`, told of changes on `news`.
    pub fn new(access: Access, news: UnboundedSender<News>) -> Self {
        let clock = Clock::default();
        let again = Arc::default();
        let source = link::Source {
            pods: access.pods(),
            cronjobs: access.cronjobs(),
            stack: access.template.stack.clone(),
            clock: clock.clone(),
            again: Arc::clone(&again),
            gate: access.gate.clone(),
        };
        tokio::spawn(link::watch(source, news.clone()));
        let times = Times::default();
        let anew = times.again.clone();
        tokio::spawn(cronjob_watch::watch(access.clone(), news.clone(), anew));
        Self {
            console: access.console.clone(),
            access,
            news,
            clock,
            slots: BTreeMap::new(),
            pods: HashMap::new(),
            husks: HashMap::new(),
            link: Link::Unknown,
            told: Vec::new(),
            again,
            listed: 0,
            needed: 0,
            sweep_at: Duration::ZERO,
            sweep_again: true,
            times,
            doubles: BTreeSet::new(),
            others: Others::new(),
            unsaved: BTreeMap::new(),
        }
    }

    /// Starts the bot, unless something of it is there or under way.
    pub fn start(&mut self, bot: &Bot, start: Start, now: Duration) {
        if self.slots.get(&bot.id).is_some_and(Slot::is_live) {
            return;
        }
        let digest = launch::digest(bot);
        let (definition, touched) = (&bot.definition, self.clock.tick());
        let (name, kind) = (&definition.name, definition.kind);
        let mut slot = Slot::new(&bot.id, name, kind, digest.clone(), now, touched);
        slot.code = Some(bot.code.clone());
        slot.start = Some(start.clone());
        if let Some(before) = self.slots.remove(&bot.id)
            && before.instance.actual.digest == digest
        {
            slot.failures = before.failures;
            slot.instance.reason = before.instance.reason;
        }
        if let Some(other) = self.others.get(&bot.id) {
            let not = NotStarted::new(Outcome::Busy, beside(other));
            self.not_started(&bot.id, &mut slot, not, now);
        } else {
            slot.work = Work::Starting(Some(self.begin(bot, start)));
        }
        self.slots.insert(bot.id.clone(), slot);
    }

    /// Tells of the Pods whose `sync` has said for long enough that it does not save.
    fn tell_unsaved(&mut self, now: Duration) {
        let may_act = self.access.lease.may_act();
        for (bot, slot) in &mut self.slots {
            if !slot.fails_to_save(now) {
                continue;
            }
            let Some(pod) = slot.pod.as_ref().filter(|pod| pod.is_live()) else {
                continue;
            };
            if let Some(trouble) = slot.instance.trouble.as_ref().filter(|_| may_act) {
                self.console.about(bot, &slot.name).warn(trouble);
            }
            self.told.push(Told::Ran {
                bot: bot.clone(),
                birth: pod.birth.clone(),
                records: Box::new(slot.records()),
            });
        }
    }

    /// Takes in what another runner has of bots.
    fn beside_others(&mut self, others: Others) {
        let changed = |bot: &&BotId| others.get(*bot) != self.others.get(*bot);
        let moved = others.keys().chain(self.others.keys()).filter(changed);
        self.times.moves(moved.cloned().collect());
        for (bot, other) in &others {
            let slot = self.slots.get(bot).filter(|slot| slot.pod.is_some());
            if let Some(slot) = slot
                && self.access.lease.may_act()
                && self.others.get(bot) != Some(other)
            {
                let text = format!("it runs twice: {}", beside(other));
                self.console.about(bot, &slot.name).warn(&text);
            }
        }
        self.others = others;
    }

    fn begin(&mut self, bot: &Bot, why: Start) -> oneshot::Sender<()> {
        let (cancel, cancelled) = oneshot::channel();
        let (access, news) = (self.access.clone(), self.news.clone());
        let name = names::pod(&access.template.stack, &bot.id, why.tick);
        // Of an earlier try of the same tick.
        let last = self.pods.get(&bot.id).and_then(|pods| {
            let is_it = |pod: &&Seen| pod.name == name && self.husks.contains_key(&pod.uid);
            pods.iter().find(is_it).cloned()
        });
        let bot = bot.clone();
        tokio::spawn(async move {
            let started = Box::pin(work::start(&access, &bot, &why, last, cancelled)).await;
            let _ = news.send(News::Started(bot.id, Box::new(started)));
        });
        cancel
    }

    /// Tells the bot to stop.
    pub fn stop(&mut self, bot: &BotId, why: Why, now: Duration) {
        let slot = self.slots.get(bot);
        let Some(slot) = slot.filter(|slot| slot.is_live() && slot.stop.is_none()) else {
            return;
        };
        let text = format!("stopping, {}", why.text());
        self.console.about(bot, &slot.name).say(&text);
        self.halt(bot, Outcome::Stopped, now);
    }

    /// Ends the bot's Pod; `outcome` is what that is for the plan.
    fn halt(&mut self, bot: &BotId, outcome: Outcome, now: Duration) {
        let touched = self.clock.tick();
        let Some(slot) = self.slots.get_mut(bot) else {
            return;
        };
        slot.touched = touched;
        slot.instance.actual.phase = Phase::Stopping;
        slot.stop = Some(Stop {
            outcome,
            told: Word::Unsaid,
            again_at: now + AGAIN,
        });
        if let Work::Starting(cancel) = &mut slot.work {
            cancel.take().map(|cancel| cancel.send(()));
        }
        self.delete(bot, now);
    }

    /// Tells the API server that the bot's Pod is to end, if there is one. It gets the keys first that it needs for that.
    fn delete(&mut self, bot: &BotId, now: Duration) {
        let grace = self.access.template.grace();
        let Some(slot) = self.slots.get_mut(bot) else {
            return;
        };
        let keys = keys::wanted(slot, grace, now);
        let (Some(pod), Some(stop)) = (&slot.pod, &mut slot.stop) else {
            return;
        };
        if pod.is_ending || pod.stage == Stage::Over {
            stop.told = Word::Taken;
            return;
        }
        stop.told = Word::Telling;
        let (access, news) = (self.access.clone(), self.news.clone());
        let (pod, bot) = (pod.clone(), bot.clone());
        tokio::spawn(async move {
            if let Some(code) = keys {
                let given = keys::give_last(&access, &pod, &code).await;
                let _ = news.send(News::Renewed(bot.clone(), pod.uid.clone(), given));
            }
            let deleted = work::delete(&access, &pod).await;
            let _ = news.send(News::Deleted(bot, deleted));
        });
    }

    /// Lets go of a Pod of which nothing runs.
    fn release(&self, pod: &Seen) {
        let (access, news, pod) = (self.access.clone(), self.news.clone(), pod.clone());
        tokio::spawn(async move {
            let released = work::release(&access, &pod).await;
            let _ = news.send(News::Released(pod.bot, pod.uid, released));
        });
    }

    /// Drops what is known about a bot that has ended.
    pub fn forget(&mut self, bot: &BotId) {
        if self.slots.get(bot).is_some_and(|slot| !slot.is_live()) {
            self.slots.remove(bot);
        }
    }

    /// Does what time has made due: what the API server did not take, and keys; of these, what is begun is brought to its end
    /// whoever has the lease, and the rest is done unless another agent is known to do it.
    pub fn tick(&mut self, now: Duration) {
        if self.link != Link::Up {
            return;
        }
        let renews = !self.access.lease.stands_by() && self.access.keys.ready().is_ok();
        let may_act = self.access.lease.may_act();
        let (mut stops, mut releases, mut renewals) = (Vec::new(), Vec::new(), Vec::new());
        let (mut lost, wall) = (Vec::new(), SystemTime::now());
        self.tell_unsaved(now);
        for (bot, slot) in &mut self.slots {
            if may_act && let Some(why) = slot.overdue(wall) {
                self.console.about(bot, &slot.name).warn(&why);
            }
            if slot.is_stop_due(now) {
                stops.push(bot.clone());
            }
            if slot.give_up_at.is_some_and(|due| now >= due) {
                slot.give_up_at = None;
                lost.extend(slot.pod.clone());
            }
            if may_act && slot.release_at.is_some_and(|due| now >= due) {
                slot.release_at = None;
                slot.work = Work::Releasing;
                releases.extend(slot.pod.clone());
            }
            if renews && slot.renew_at.is_some_and(|due| now >= due) {
                let again = RENEW_AGAIN.min(self.access.template.keys / 4);
                slot.renew_at = Some(now + again);
                renewals.push(bot.clone());
            }
        }
        for bot in &stops {
            self.delete(bot, now);
        }
        for pod in &releases {
            self.release(pod);
        }
        for bot in &renewals {
            self.renew(bot);
        }
        if renews {
            self.renew_times(now);
        }
        for pod in lost {
            let stage = Stage::Over;
            self.over(&Seen { stage, ..pod }, now);
        }
    }

    fn renew(&self, bot: &BotId) {
        let Some(slot) = self.slots.get(bot) else {
            return;
        };
        let (Some(pod), Some(code)) = (&slot.pod, &slot.code) else {
            return;
        };
        let (access, news) = (self.access.clone(), self.news.clone());
        let (pod, code) = (pod.clone(), code.clone());
        tokio::spawn(async move {
            let renewed = work::renew(&access, &pod, &code).await;
            let _ = news.send(News::Renewed(pod.bot, pod.uid, renewed));
        });
    }

    /// Removes what nobody needs: Pods of ticks that have ended, or were made and are not going to be started, and Secrets
    /// without a Pod. `is_held` tells the bots the end of whose last run is not written down.
    pub fn collect(
        &mut self,
        is_listed: impl Fn(&BotId) -> bool,
        is_held: impl Fn(&BotId, Option<Key>) -> bool,
        now: Duration,
    ) {
        self.unsaved
            .retain(|bot, at| is_listed(bot) || now < *at + TOLD);
        if self.link != Link::Up || !self.access.lease.may_act() {
            return;
        }
        let idle = |bot: &BotId| self.slots.get(bot).is_none_or(|slot| !slot.is_live());
        let is_left = |pod: &&Seen| {
            let is_next = match self.husks.get(&pod.uid) {
                Some(Husk::Kept) => true,
                Some(Husk::Refused(until)) => now >= *until,
                Some(Husk::Going) => false,
                None => pod.stage == Stage::Gated && idle(&pod.bot),
            };
            is_next && !is_held(&pod.bot, pod.tick())
        };
        let left = self.pods.values().flatten().filter(is_left);
        let left: Vec<Seen> = left.cloned().collect();
        for pod in left {
            self.husks.insert(pod.uid.clone(), Husk::Going);
            self.release(&pod);
        }
        if now >= self.sweep_at && self.times.is_known(self.access.clock) {
            let pause = if self.sweep_again {
                cronjob_work::LEFT * 2
            } else {
                SWEEP
            };
            self.sweep_at = now + pause;
            self.sweep_again = false;
            let secrets = self.pods.values().flatten();
            let secrets = secrets.filter_map(|pod| pod.secrets.clone());
            let used = secrets.flat_map(|names| [names.config, names.keys]);
            let used = used.chain(self.times.secrets()).collect();
            let busy = self.times.busy();
            tokio::spawn(work::sweep(self.access.clone(), used, busy));
            let kept = self.times.names(&self.access.template.stack);
            tokio::spawn(cronjob_work::sweep(self.access.clone(), kept));
        }
    }

    /// Removes the Pod that was made for a tick of the bot and not started. It is looked anew then.
    pub fn unmake(&mut self, bot: &BotId) {
        let Some(pod) = self.gated(bot).cloned() else {
            return;
        };
        self.husks.insert(pod.uid.clone(), Husk::Going);
        let (access, news) = (self.access.clone(), self.news.clone());
        let again = Arc::clone(&self.again);
        tokio::spawn(async move {
            let undone = work::release(&access, &pod).await;
            let _ = news.send(News::Released(pod.bot, pod.uid, undone));
            again.notify_one();
        });
        self.look_anew();
    }

    /// The tick for which a Pod of the bot was made and not started.
    pub fn made(&self, bot: &BotId) -> Option<Key> {
        let slot = self.slots.get(bot);
        if slot.is_some_and(|slot| matches!(slot.work, Work::Starting(_))) {
            return None;
        }
        self.gated(bot)?.tick()
    }

    fn gated(&self, bot: &BotId) -> Option<&Seen> {
        let is_it = |pod: &&Seen| pod.stage == Stage::Gated && !self.husks.contains_key(&pod.uid);
        self.pods.get(bot)?.iter().find(is_it)
    }

    /// What is known may be old: it is not ready before it has looked anew, nor is it known what others have left behind.
    pub fn look_anew(&mut self) {
        self.needed = self.clock.tick();
        self.sweep_at = Duration::ZERO;
        self.sweep_again = true;
        self.again.notify_one();
        self.times.look_anew();
    }
}
