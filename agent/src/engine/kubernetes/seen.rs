//! What a Pod tells of its bot. Pure.
//!
//! All that is known of runs comes by the Pod's own status: a program's last words (its termination message) are the
//! record it also writes to its disk. What has no such words - the kernel killed the supervisor, too - is made out of
//! what the kubelet saw.

mod reading;

use std::net::IpAddr;
use std::time::SystemTime;

use contract::record::{CODE_OVER, Reason, RunRecord, State, Status, Synced, Time};
use contract::{BotId, BotType, ObjectKey};

pub(super) use self::reading::{container, disruption, parsed, trouble};
use super::secret;
use crate::history::Birth;
use crate::live::printer::Life;
use crate::schedule::ledger::Key;

/// A bot's Pod.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// Whose it is.
    pub bot: BotId,
    /// Its name.
    pub name: String,
    /// What tells it from every other of that name.
    pub uid: String,
    /// How late it is: a greater one is a later word on the same Pod. 0: it is not known.
    pub version: u64,
    /// The bot's name, for a person.
    pub called: String,
    /// How the bot's life goes.
    pub kind: BotType,
    /// What it was made of, and why.
    pub birth: Birth,
    /// The launch digest it was made with.
    pub launch: String,
    /// The digest of what the operator set then.
    pub template: String,
    /// The code bundle's key.
    pub code: Option<ObjectKey>,
    /// When it was decided to make it, as its annotation has it.
    pub began: String,
    /// Its Secrets.
    pub secrets: Option<secret::Names>,
    /// The Job that has made it, if the cluster's own clock has started it: its Secrets are others' too.
    pub job: Option<String>,
    /// Whether its kubelet has said how it ended.
    pub is_final: bool,
    /// Its address.
    pub address: Option<IpAddr>,
    /// Where its `query` answers, if it has one.
    pub query: Option<IpAddr>,
    /// Whether it was told to end.
    pub is_ending: bool,
    /// By when it should have, its grace included.
    pub ends_by: Option<SystemTime>,
    /// Whether nobody waits for its end: a kubelet says that it is over, or a person that its node is gone.
    pub is_forced: bool,
    /// Its finalizers, ours included.
    pub finalizers: Vec<String>,
    /// How far it is.
    pub stage: Stage,
    /// How often the kubelet has started the bot's container again.
    pub restarts: u32,
    /// Since when the bot runs.
    pub started: Option<Time>,
    /// The runs that have ended and are known by it, oldest first.
    pub runs: Vec<RunRecord>,
    /// Runs before these that its supervisors have told of, too, oldest first, without what was said of them.
    pub earlier: Vec<RunRecord>,
    /// How its bot's container has ended.
    pub end: Option<Ended>,
    /// What was saved at its end.
    pub synced: Option<Synced>,
    /// Whether the probe of its `sync`, where it has one, says that saving works.
    pub saves: Option<bool>,
    /// Why the cluster takes it away, where it does that itself.
    pub taken: Option<String>,
    /// What keeps it from its work.
    pub trouble: Option<String>,
}

/// How far a Pod is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It is made and may not be started yet.
    Gated,
    /// It is being started.
    Coming,
    /// Its bot runs.
    Running,
    /// Its bot has ended and is started again by the kubelet.
    Waiting,
    /// Nothing of it runs any more.
    Over,
}

/// How a bot's container has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Its exit code.
    pub code: Option<i32>,
    /// Whether the kernel killed it for want of memory.
    pub is_oom: bool,
    /// When.
    pub at: Option<Time>,
}

impl Seen {
    /// Whether the cluster's own clock has started it.
    pub fn is_clocked(&self) -> bool {
        self.job.is_some()
    }

    /// The tick it was made for.
    pub fn tick(&self) -> Option<Key> {
        self.birth.start.tick
    }

    /// Whether it runs or is about to.
    pub fn is_live(&self) -> bool {
        self.stage != Stage::Over
    }

    /// Why its own programs say that it should be made anew, or not at all.
    pub fn verdict(&self) -> Option<Reason> {
        let last = self.waits_after()?;
        let is_told = matches!(last.reason, Reason::Fenced | Reason::Disk | Reason::Edited);
        (is_told && !self.is_outgrown()).then_some(last.reason)
    }

    /// Whether its state is over its limit: what could not be saved is in the Pod only, and its supervisor does not start it
    /// before that is mended there.
    pub fn is_outgrown(&self) -> bool {
        let message = |last: &RunRecord| last.message.clone().unwrap_or_default();
        self.waits_after().is_some_and(|last| {
            last.reason == Reason::Disk && !message(last).starts_with(CODE_OVER)
        })
    }

    /// The run after which a bot that runs on waits to be started again.
    fn waits_after(&self) -> Option<&RunRecord> {
        let waits = self.stage == Stage::Waiting && self.kind == BotType::Realtime;
        self.runs.last().filter(|_| waits)
    }

    /// How far it is for who reads what it prints.
    pub fn life(&self) -> Life {
        let has_begun = self.restarts > 0 || self.end.is_some();
        match self.stage {
            Stage::Over => Life::Over,
            Stage::Running => Life::Runs(self.restarts),
            Stage::Gated | Stage::Coming if !has_begun => Life::Coming,
            Stage::Gated | Stage::Coming | Stage::Waiting => Life::Rests(self.restarts),
        }
    }

    /// What its supervisor does, as far as the kubelet sees it; `run` is the number of the last run that ended, after
    /// so many `restarts` in a row.
    pub fn status(&self, run: u64, restarts: u32) -> Status {
        let state = match self.stage {
            Stage::Over => State::Stopped,
            _ if self.is_ending => State::Stopping,
            Stage::Gated | Stage::Coming => State::Starting,
            Stage::Running => State::Running,
            Stage::Waiting => State::Waiting,
        };
        let ended = self.end.and_then(|end| end.at);
        let is_running = self.stage == Stage::Running;
        let since = self.started.filter(|_| is_running).or(ended);
        Status {
            state,
            since: since.unwrap_or(self.birth.start.at),
            run: if is_running { run + 1 } else { run },
            pid: None,
            restarts,
            next_start: None,
            supervisor: 1,
            log_lines_dropped: 0,
        }
    }
}

#[cfg(test)]
#[path = "seen/tests.rs"]
mod tests;
