//! One record of history: a run, from why it was started to what of it is saved.
//!
//! A record is known by its bot, the millisecond it started and its number, so writing it twice changes nothing. It is
//! written open when a run is seen, and completed when its end is.

use std::time::Duration;

use contract::BotId;
use contract::record::{Outcome, Reason, RunResult, Time};
use serde::{Deserialize, Serialize};

use super::cause::{Birth, Cause};
use super::herald::Kind;

/// What of a run's end is in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// How the last push went; `None`: none was ever made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// The claim's generation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// When the store last held all there was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ok_at: Option<Time>,
    /// Whether the store has all that the run had.
    pub all: bool,
    /// Files of the state that could not be saved.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: u64,
}

/// A run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Whose it is.
    pub bot: BotId,
    /// Its number; 0 for a start that came to no run.
    pub run: u64,
    /// When it was started.
    pub started_at: Time,
    /// Why.
    pub cause: Cause,
    /// With what the run before crashed, or more about the cause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
    /// The bot's name.
    pub name: String,
    /// The code's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The code's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code_key: Option<String>,
    /// The launch digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch: Option<String>,
    /// The image's digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The container's id, short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// When it had ended; `None`: it runs, as far as is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Time>,
    /// How long it ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// Its exit code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<i32>,
    /// The signal that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// What a person should know besides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Why it was stopped, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
    /// Runs in a row before it that ended by themselves without a stable minute.
    #[serde(default, skip_serializing_if = "is_none")]
    pub restarts: u32,
    /// What the bot said of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<RunResult>,
    /// What of it is saved; `None`: that is not settled yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saved: Option<Saved>,
    /// Lines of the log that were dropped unsaved since the start of its supervisor.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub log_lines_dropped: u64,
    /// How many starts that failed in one way this stands for.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub count: u64,
    /// What is still to be told of it over NATS.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub untold: Vec<Kind>,
    /// Whether it is known by the files of a later start only, so that its cause is a guess.
    #[serde(skip)]
    pub is_hearsay: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_none(n: &u32) -> bool {
    *n == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_one(n: &u64) -> bool {
    *n == 1
}

fn one() -> u64 {
    1
}

impl Entry {
    /// A run of which only the start is known.
    pub fn open(bot: &BotId, birth: &Birth, run: u64, started_at: Time) -> Self {
        Self {
            bot: bot.clone(),
            run,
            started_at,
            cause: birth.start.cause,
            because: birth.start.because.clone(),
            name: birth.name.clone(),
            version: birth.version.clone(),
            code_key: birth.code.clone(),
            launch: birth.launch.clone(),
            image: birth.image.clone(),
            container: birth.container.clone(),
            ended_at: None,
            duration_ms: None,
            reason: None,
            exit: None,
            signal: None,
            message: None,
            stopped: None,
            restarts: 0,
            result: None,
            saved: None,
            log_lines_dropped: 0,
            count: 1,
            untold: Vec::new(),
            is_hearsay: false,
        }
    }

    /// What tells it from every other.
    pub fn key(&self) -> String {
        format!("{}:{}:{}", self.bot, millis(self.started_at), self.run)
    }

    /// Whether its end is not known.
    pub fn is_open(&self) -> bool {
        self.ended_at.is_none()
    }

    /// Whether it is the same run as `other`: of one container each has a number of its own. The start of one that was lost,
    /// or that a kubelet tells, is not known to the millisecond.
    pub fn is(&self, other: &Entry) -> bool {
        let is_open = self.is_open() || other.is_open();
        let is_one_place = match (&self.container, &other.container) {
            (Some(own), Some(theirs)) => own == theirs,
            _ => is_open,
        };
        let is_same_start = self.started_at == other.started_at;
        self.run == other.run && (is_same_start || (self.run > 0 && is_one_place))
    }

    /// Sets when it ended.
    pub fn end(&mut self, at: Time) {
        let lasted = at.system().duration_since(self.started_at.system());
        let lasted = lasted.unwrap_or(Duration::ZERO).as_millis();
        self.duration_ms = u64::try_from(lasted).ok();
        self.ended_at = Some(at);
    }

    /// What is known of the same run when `new` is, too. An end that is known stays; what of it is saved may become
    /// known later.
    pub fn merged(&self, new: Entry) -> Entry {
        let mut merged = self.clone();
        if self.is_open() && !new.is_open() {
            merged = new.clone();
            merged.started_at = self.started_at;
            merged.is_hearsay = false;
            new.ended_at.into_iter().for_each(|at| merged.end(at));
        }
        if self.cause != Cause::Found || new.is_hearsay {
            merged.cause = self.cause;
            merged.because.clone_from(&self.because);
            merged.container = self.container.clone().or(new.container);
            merged.image = self.image.clone().or(new.image);
            merged.launch = self.launch.clone().or(new.launch);
            merged.version = self.version.clone().or(new.version);
            merged.code_key = self.code_key.clone().or(new.code_key);
        } else {
            merged.cause = new.cause;
            merged.because = new.because;
        }
        let is_settled = self.saved.as_ref().is_some_and(|saved| saved.all);
        let new_saved = new.saved.filter(|new| new.all || self.saved.is_none());
        merged.saved = new_saved
            .filter(|_| !is_settled)
            .or_else(|| self.saved.clone());
        merged.untold.clone_from(&self.untold);
        merged.stopped = self.stopped.clone().or(new.stopped);
        merged.message = further(self.message.as_ref(), new.message.as_ref());
        merged.result = new.result.or_else(|| self.result.clone());
        merged.log_lines_dropped = self.log_lines_dropped.max(new.log_lines_dropped);
        merged
    }

    /// The record of both where `next` is a start that failed just as this one.
    pub fn folded(&self, next: &Entry) -> Option<Entry> {
        let failed = |entry: &Entry| entry.reason == Some(Reason::StartFailed);
        let same = self.message == next.message && self.exit == next.exit;
        if !(failed(self) && failed(next) && same) {
            return None;
        }
        let mut folded = self.clone();
        folded.count += next.count;
        next.ended_at.into_iter().for_each(|at| folded.end(at));
        folded.restarts = next.restarts;
        folded.container.clone_from(&next.container);
        folded.launch.clone_from(&next.launch);
        Some(folded)
    }

    /// Without what takes room and does not change any more.
    pub fn light(mut self) -> Self {
        if let Some(result) = &mut self.result {
            result.data = None;
        }
        self.is_hearsay = false;
        self
    }
}

/// What is said of an end of which `own` was said: `new`, where that goes on from it.
fn further(own: Option<&String>, new: Option<&String>) -> Option<String> {
    match (own, new) {
        (Some(own), Some(new)) if new.starts_with(own.as_str()) => Some(new.clone()),
        (own, new) => own.or(new).cloned(),
    }
}

/// Milliseconds since the epoch.
pub fn millis(time: Time) -> u64 {
    let since = time.system().duration_since(std::time::UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}
