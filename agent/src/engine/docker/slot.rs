//! What is known about one bot's container.

use std::time::Duration;

use contract::{BotId, BotType, Digest, ObjectKey};
use tokio::sync::oneshot;

use super::examine::{Over, Running};
use super::{SIGNAL_AGAIN, container};
use crate::ending::{self, Facts, Verdict};
use crate::engine::Instance;
use crate::engine::remote::Word;
use crate::engine::saved::has_run;
pub use crate::engine::saved::is_saved;
use crate::history::Start;
use crate::plan::{Actual, Ended, Outcome, Phase};

/// An instance that lived as long did not fail at once.
const STABLE: Duration = Duration::from_secs(60);

/// One bot's.
#[derive(Debug)]
pub struct Slot {
    /// The bot for a person: many instances have one name, so with its id.
    pub name: String,
    /// How its life goes.
    pub kind: BotType,
    /// Its code.
    pub code: Option<ObjectKey>,
    /// The plan's view.
    pub instance: Instance,
    /// What is under way with it.
    pub work: Work,
    /// Its container while it runs.
    pub running: Option<Running>,
    /// The id of a container of it that was seen and has to be looked at.
    pub seen: Option<String>,
    /// When it was started or found.
    pub since: Duration,
    /// Failures in a row.
    pub failures: u32,
    /// Its stop, once it was told to.
    pub stop: Option<Stop>,
    /// When it needs new keys.
    pub renew_at: Option<Duration>,
    /// Whether it has to be looked at when what is under way is done.
    pub look_again: bool,
    /// Its start, while it is made.
    pub start: Option<Start>,
    /// The clock at its last change: an older listing says nothing about it.
    pub touched: u64,
}

/// What is under way: one thing at a time, so no two starts are.
#[derive(Debug)]
pub enum Work {
    /// Nothing.
    None,
    /// A start; sending ends its waiting for an image.
    Starting(Option<oneshot::Sender<()>>),
    /// A look at what became of the container.
    Looking,
}

/// A stop under way.
#[derive(Debug, Clone, Copy)]
pub struct Stop {
    /// When it is killed.
    pub deadline: Duration,
    /// Whether the daemon has taken the signal.
    pub told: Word,
    /// When one that was not taken is sent again.
    pub again_at: Duration,
}

impl Slot {
    /// One of the bot `id` whose digest is `launch`.
    pub fn new(
        id: &BotId,
        name: &str,
        kind: BotType,
        launch: Digest,
        now: Duration,
        touched: u64,
    ) -> Self {
        let mut instance = Instance::new(Actual {
            digest: launch,
            phase: Phase::Running,
        });
        instance.name = Some(name.to_owned());
        Self {
            name: format!("{name} ({id})"),
            kind,
            code: None,
            instance,
            work: Work::None,
            running: None,
            seen: None,
            since: now,
            failures: 0,
            stop: None,
            renew_at: None,
            look_again: false,
            start: None,
            touched,
        }
    }

    /// Whether there is, or will be, a container.
    pub fn is_live(&self) -> bool {
        self.running.is_some() || !matches!(self.work, Work::None)
    }

    /// What its supervisor may take to end.
    pub fn patience(&self) -> Duration {
        let running = self.running.as_ref();
        running.map_or(container::STOP, |running| running.patience)
    }

    /// The signal that its container has to be sent now.
    pub fn due_signal(&mut self, now: Duration) -> Option<&'static str> {
        let patience = self.patience();
        // One that is not there yet, or not any more, is told when it is.
        self.running.as_ref()?;
        let stop = self.stop.as_mut()?;
        if now >= stop.deadline {
            stop.deadline = now + patience;
            stop.again_at = now + SIGNAL_AGAIN;
            return Some("SIGKILL");
        }
        if stop.told == Word::Unsaid && now >= stop.again_at {
            stop.again_at = now + SIGNAL_AGAIN;
            return Some("SIGTERM");
        }
        None
    }

    /// It runs.
    pub fn runs(&mut self, running: Running, now: Duration) {
        if let Ok(launch) = running.launch.parse() {
            self.instance.actual.digest = launch;
        }
        if self.stop.is_none() {
            self.instance.actual.phase = Phase::Running;
        }
        self.instance.reason = None;
        // The supervisor's number in its container.
        self.instance.pid = Some(1);
        self.instance.container = Some(running.id.clone());
        self.instance.image = Some(running.image.clone());
        self.instance.birth = Some((*running.birth).clone());
        self.start = None;
        if self
            .running
            .as_ref()
            .is_none_or(|before| before.id != running.id)
        {
            self.since = now;
            self.instance.since = Some(now);
        }
        self.running = Some(running);
    }

    /// It does not run any more, or never did.
    pub fn ended(&mut self, outcome: Outcome, reason: String, now: Duration) {
        let lived = now.saturating_sub(self.since);
        self.failures = match outcome {
            Outcome::Failed if self.running.is_some() && lived >= STABLE => 1,
            Outcome::Failed => self.failures + 1,
            _ => 0,
        };
        self.running = None;
        self.seen = None;
        self.stop = None;
        self.renew_at = None;
        self.look_again = false;
        self.work = Work::None;
        self.instance.pid = None;
        self.instance.failures = self.failures;
        self.instance.reason = Some(reason);
        self.instance.actual.phase = Phase::Ended(Ended {
            at: now,
            failures: self.failures,
            outcome,
        });
    }

    /// What the end of its container means.
    pub fn judge(&self, over: &Over) -> Verdict {
        let facts = Facts {
            code: over.code,
            signal: None,
            record: over.records.done.clone(),
            has_run: has_run(&over.records, over.made),
            kind: self.kind,
            asked: self.stop.is_some(),
        };
        let mut verdict = ending::judge(&facts);
        if over.is_oom && facts.record.is_none() {
            verdict.reason +=
                ": the kernel killed it for want of memory: raise config.memory_limit";
        }
        if let Some(error) = &over.error {
            verdict.reason = format!("{}: {error}", verdict.reason);
        }
        verdict
    }
}
