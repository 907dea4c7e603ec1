//! What to do next, decided from values alone.
//!
//! [`plan`] compares what should run with what runs and says which bots to start, stop and forget. It never waits,
//! logs or reads a clock; what it must remember between calls ([`Patience`]) goes in and comes out.
//!
//! ```text
//!            wanted, not stopped by a person            told to stop, changed,
//!   nothing ───────────────────────────────▶ Running ── disabled, gone, absent ──▶ Stopping
//!      ▲                                        │                                      │
//!      │ forgotten                              │ ends by itself                       │
//!      └────────────── Ended ◀──────────────────┴──────────────────────────────────────┘
//!                        └─▶ started again: at once after a stop, later after a failure, never after completion
//! ```
//!
//! It ensures: a bot is started only when nothing of it is left; a disabled or deleted bot is stopped at once; one
//! that is merely missing from the listing only after it was missing from listings [`Situation::settle`] apart, and
//! many that are missing together only when a person has confirmed it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use contract::{BotId, Digest};
use serde::{Deserialize, Serialize};

/// What should be so for one bot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// It should run, as this launch digest says.
    Run(Digest),
    /// It runs at times, and none of them has come: what runs goes on to its end, whatever has changed.
    Idle,
    /// It runs at times, and one of them has come and is claimed.
    Once,
    /// It is disabled.
    Off,
    /// Its document cannot be used: what runs goes on.
    Unusable,
    /// It was deleted, for certain.
    Gone,
}

/// What is so for one bot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actual {
    /// What it was started as.
    pub digest: Digest,
    /// How far it is.
    pub phase: Phase,
}

/// How far an instance is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// It runs, or is being started or restarted by its supervisor.
    Running,
    /// It was told to stop.
    Stopping,
    /// Nothing of it is left.
    Ended(Ended),
}

/// How an instance ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// When.
    pub at: Duration,
    /// Failures in a row, this one included.
    pub failures: u32,
    /// How.
    pub outcome: Outcome,
}

/// How an instance ended, for what comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// As it was told to.
    Stopped,
    /// It has done all it had to.
    Completed,
    /// It failed and may succeed later.
    Failed,
    /// It failed in a way that time does not mend: a person or a change must.
    Refused,
    /// Something of an earlier instance is still there.
    Busy,
}

/// What [`plan`] looks at.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    /// The last full listing.
    pub wanted: &'a BTreeMap<BotId, Wanted>,
    /// When that listing was made.
    pub listed: Duration,
    /// What the engine has.
    pub actual: &'a BTreeMap<BotId, Actual>,
    /// Bots that a person has stopped.
    pub stopped: &'a BTreeSet<BotId>,
    /// Whether any bot may run.
    pub switch: Switch,
    /// Now, by the clock of all times here.
    pub now: Duration,
    /// How long a bot must be missing before it is taken for removed.
    pub settle: Duration,
}

impl Situation<'_> {
    /// Whether a person wants the bot not to run.
    fn is_stopped(&self, bot: &BotId) -> bool {
        self.switch == Switch::Off || self.stopped.contains(bot)
    }
}

/// The switch that stops all bots at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Switch {
    /// Bots run as they are wanted.
    #[default]
    On,
    /// None runs, until a person says so.
    Off,
}

/// What is remembered about bots that are missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Patience {
    /// The first listing each was missing from.
    absent: BTreeMap<BotId, Duration>,
    /// Those whose removal a person has confirmed.
    confirmed: BTreeSet<BotId>,
    /// Those that wait for that: however many of them there still are.
    held: BTreeSet<BotId>,
}

impl Patience {
    /// A person confirms that these were removed on purpose.
    pub fn confirm(&mut self, bots: impl IntoIterator<Item = BotId>) {
        self.confirmed.extend(bots);
    }

    /// Whether the bot is missing from the listing.
    #[cfg(test)]
    pub fn is_absent(&self, bot: &BotId) -> bool {
        self.absent.contains_key(bot)
    }
}

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Start the bot as it is wanted now.
    Start(BotId),
    /// Stop it.
    Stop(BotId, Why),
    /// Drop what is known about its last instance.
    Forget(BotId),
}

/// Why a bot is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// A person asked.
    Asked,
    /// It is disabled.
    Disabled,
    /// It was deleted.
    Deleted,
    /// It is not in the listing any more.
    Absent,
    /// It is to run in another way.
    Changed,
    /// A person wants it started anew.
    Restarted,
    /// It is to run in a container as the operator now wants it.
    Rolled,
    /// It has run as long as it may.
    Limit,
    /// Its next tick is due.
    Replaced,
    /// The agent ends.
    Ending,
}

impl Why {
    /// The name in records of history.
    pub fn name(self) -> &'static str {
        match self {
            Why::Asked => "asked",
            Why::Disabled => "disabled",
            Why::Deleted => "deleted",
            Why::Absent => "removed",
            Why::Changed => "changed",
            Why::Restarted => "restarted",
            Why::Rolled => "rolled",
            Why::Limit => "limit",
            Why::Replaced => "replaced",
            Why::Ending => "the session ended",
        }
    }

    /// For a person, after "stopping it: ".
    pub fn text(self) -> &'static str {
        match self {
            Why::Asked => "asked to",
            Why::Disabled => "it is disabled",
            Why::Deleted => "it was deleted",
            Why::Absent => "it is not there any more",
            Why::Changed => "it has changed and starts again",
            Why::Restarted => "it is restarted",
            Why::Rolled => "it is rolled: it starts again from the image and settings of now",
            Why::Limit => "it has run as long as its schedule lets it",
            Why::Replaced => "its next tick is due",
            Why::Ending => "the session ends",
        }
    }
}

/// What to do and what to remember.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Stops first.
    pub actions: Vec<Action>,
    /// For the next call.
    pub patience: Patience,
    /// Bots that run though they are missing, because too many are missing at once: a person must confirm.
    pub held: BTreeSet<BotId>,
}

/// The pause before the next start after so many failures in a row.
pub fn pause(failures: u32) -> Duration {
    Duration::from_secs(1u64 << failures.saturating_sub(1).min(6)).min(Duration::from_secs(60))
}

/// How many may vanish together without anybody confirming it.
pub fn unconfirmed(running: usize) -> usize {
    (running / 5).max(5)
}

/// The stops that a person has asked for of bots that are not in the listing, or when there is none yet: these wait for
/// no listing and no confirmation.
pub fn ordered(
    actual: &BTreeMap<BotId, Actual>,
    is_stopped: impl Fn(&BotId) -> bool,
) -> Vec<Action> {
    let running = actual
        .iter()
        .filter(|(bot, actual)| actual.phase == Phase::Running && is_stopped(bot));
    running
        .map(|(bot, _)| Action::Stop(bot.clone(), Why::Asked))
        .collect()
}

/// Decides.
pub fn plan(see: Situation<'_>, patience: Patience) -> Plan {
    let (patience, removed, held) = absences(see, patience);
    let mut actions: Vec<Action> = removed;
    actions.extend(ordered(see.actual, |bot| {
        see.is_stopped(bot) && !see.wanted.contains_key(bot)
    }));
    let listed = see.wanted.iter().filter_map(|(bot, wanted)| {
        next(
            bot,
            wanted,
            see.actual.get(bot),
            see.is_stopped(bot),
            see.now,
        )
    });
    actions.extend(listed);
    actions.sort_by_key(|action| matches!(action, Action::Start(_)));
    Plan {
        actions,
        patience,
        held,
    }
}

/// The next step for a bot that is in the listing.
fn next(
    bot: &BotId,
    wanted: &Wanted,
    actual: Option<&Actual>,
    stopped: bool,
    now: Duration,
) -> Option<Action> {
    let stop = |why| Some(Action::Stop(bot.clone(), why));
    let off = match (wanted, stopped) {
        (Wanted::Gone, _) => Some(Why::Deleted),
        (Wanted::Off, _) => Some(Why::Disabled),
        (_, true) => Some(Why::Asked),
        _ => None,
    };
    match (actual.map(|a| (&a.phase, &a.digest)), off, wanted) {
        (Some((Phase::Running, _)), Some(why), _) => stop(why),
        (Some((Phase::Ended(_), _)), Some(_), _) => Some(Action::Forget(bot.clone())),
        (None, None, Wanted::Run(_) | Wanted::Once)
        | (Some((Phase::Ended(_), _)), None, Wanted::Once) => Some(Action::Start(bot.clone())),
        (Some((Phase::Running, was)), None, Wanted::Run(digest)) if was != digest => {
            stop(Why::Changed)
        }
        (Some((Phase::Ended(ended), was)), None, Wanted::Run(digest)) => {
            let due = was != digest || is_due(ended, now);
            due.then(|| Action::Start(bot.clone()))
        }
        // It is stopping, or is as it should be.
        _ => None,
    }
}

fn is_due(ended: &Ended, now: Duration) -> bool {
    due(ended).is_some_and(|due| now >= due)
}

/// When an instance that has ended is started again; `None`: only after a change.
fn due(ended: &Ended) -> Option<Duration> {
    match ended.outcome {
        Outcome::Stopped => Some(ended.at),
        Outcome::Completed | Outcome::Refused => None,
        Outcome::Busy => Some(ended.at + Duration::from_secs(1)),
        Outcome::Failed => Some(ended.at + pause(ended.failures)),
    }
}

/// When there is something to do although nothing happens: the first start that is due after now.
pub fn wake(actual: &BTreeMap<BotId, Actual>, now: Duration) -> Option<Duration> {
    let ended = actual.values().filter_map(|actual| match &actual.phase {
        Phase::Ended(ended) => due(ended),
        _ => None,
    });
    ended.filter(|due| *due > now).min()
}

/// Bots the engine has and the listing has not.
fn absences(see: Situation<'_>, before: Patience) -> (Patience, Vec<Action>, BTreeSet<BotId>) {
    let missing = |bot: &&BotId| !see.wanted.contains_key(*bot);
    let mut absent = BTreeMap::new();
    for bot in see.actual.keys().filter(missing) {
        let since = before.absent.get(bot).copied().unwrap_or(see.listed);
        absent.insert(bot.clone(), since);
    }
    let mut confirmed = before.confirmed;
    confirmed.retain(|bot| absent.contains_key(bot));

    let runs = |bot: &BotId| {
        let actual = see.actual.get(bot);
        actual.is_some_and(|a| a.phase == Phase::Running)
    };
    let running = see.actual.keys().filter(|bot| runs(bot)).count();
    let unsaid = |bot: &&BotId| runs(bot) && !confirmed.contains(*bot) && !see.is_stopped(bot);
    let vanished: BTreeSet<BotId> = absent.keys().filter(unsaid).cloned().collect();
    let held: BTreeSet<BotId> = if vanished.len() > unconfirmed(running) {
        vanished
    } else {
        vanished.intersection(&before.held).cloned().collect()
    };

    let settled = |since: Duration| see.listed.saturating_sub(since) >= see.settle;
    let ripe = absent.iter().filter(|(bot, since)| {
        settled(**since) && !held.contains(*bot) && !(runs(bot) && see.is_stopped(bot))
    });
    let actions = ripe.filter_map(|(bot, _)| match see.actual.get(bot)?.phase {
        Phase::Running => Some(Action::Stop(bot.clone(), Why::Absent)),
        Phase::Ended(_) => Some(Action::Forget(bot.clone())),
        Phase::Stopping => None,
    });
    let actions = actions.collect();
    let patience = Patience {
        absent,
        confirmed,
        held: held.clone(),
    };
    (patience, actions, held)
}

#[cfg(test)]
#[path = "plan/tests.rs"]
mod tests;
