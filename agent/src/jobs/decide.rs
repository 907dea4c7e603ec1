//! What is to be done about a job next, worked out from its document and its container alone.
//!
//! ```text
//!   queued ── claimed ──▶ running ── made, begun, started ──▶ over ── judged ──▶ completed | failed | cancelled
//!     │                     │                                                        │
//!     └─ cancelled          └─ gone after it had begun: failed                       └─ told, container removed
//! ```
//!
//! Each step is made of writes that hold by themselves, so an agent that ends between two of them leaves something from
//! which the next one decides anew. A job is started at most once: its document says that it has *begun* before its
//! container is started, and which container that is; one that has begun and does not have it any more is never started
//! again.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How far a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It waits for its turn.
    Queued,
    /// It has its turn.
    Running,
    /// It has ended well.
    Completed,
    /// It has not.
    Failed,
    /// Somebody did not want it any more.
    Cancelled,
}

impl Status {
    /// The name in documents.
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether it stays so.
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }
}

/// Why a job is made to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Halt {
    /// A person wants it.
    Cancelled,
    /// It has had its time.
    Limit,
}

/// What a job's document says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// How far it is.
    pub status: Status,
    /// Whether somebody wants it to end.
    pub is_unwanted: bool,
    /// How long ago it was noted that its container is started now.
    pub begun: Option<Duration>,
    /// How often that was noted: of two agents only one notes it again.
    pub starts: i32,
    /// Why it is made to end, and since when.
    pub halt: Option<(Halt, Duration)>,
    /// Whether it was told that it has ended.
    pub is_told: bool,
}

/// What there is of its container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Container {
    /// Nobody knows: the daemon does not answer.
    Unknown,
    /// Nothing.
    Absent,
    /// It was made and not started.
    Made,
    /// One was made and not started that is not the one that was noted when it began: that one has gone.
    Other,
    /// It runs.
    Running,
    /// Its program has ended, and what that left is on its way into the store.
    Saving,
    /// It has ended.
    Over,
}

/// What holds for all jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// How long one may run.
    pub time: Duration,
    /// How long one has between TERM and KILL.
    pub patience: Duration,
    /// Starts of one that come to nothing before it counts as failed.
    pub tries: u32,
}

/// What this agent alone knows, and may forget.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// Starts that came to nothing.
    pub tries: u32,
    /// Whether it has sent TERM.
    pub has_asked: bool,
}

/// What is done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing now.
    Wait,
    /// It gets its turn.
    Claim,
    /// Its container is made anew and started.
    Start,
    /// It is noted why it must end.
    Halt(Halt),
    /// It is asked to end.
    Ask,
    /// It is ended.
    Kill,
    /// What it left is looked at, and decides.
    Judge,
    /// It ends without having run.
    Drop,
    /// It has failed, because its container has gone.
    Lost,
    /// It has failed, because it cannot be started.
    GiveUp,
    /// It is told that it has ended.
    Tell,
    /// Its container goes.
    Remove,
}

/// What is done next about a job; `has_room` tells whether one more may have its turn.
pub fn decide(
    facts: &Facts,
    container: Container,
    memory: Memory,
    rules: &Rules,
    has_room: bool,
) -> Step {
    match facts.status {
        Status::Queued if facts.is_unwanted => Step::Drop,
        Status::Queued if has_room => Step::Claim,
        Status::Queued => Step::Wait,
        Status::Running => turn(facts, container, memory, rules),
        _ => match (container, facts.is_told) {
            (Container::Unknown | Container::Absent, false) => Step::Tell,
            (Container::Unknown | Container::Absent, true) => Step::Wait,
            _ => Step::Remove,
        },
    }
}

fn turn(facts: &Facts, container: Container, memory: Memory, rules: &Rules) -> Step {
    match container {
        Container::Unknown => Step::Wait,
        Container::Absent if facts.begun.is_some() => Step::Lost,
        Container::Other => Step::Lost,
        Container::Absent | Container::Made if facts.is_unwanted => Step::Drop,
        Container::Absent | Container::Made if memory.tries >= rules.tries => Step::GiveUp,
        Container::Absent | Container::Made => Step::Start,
        Container::Running => watch(facts, memory, rules),
        Container::Saving => save(facts, memory, rules),
        Container::Over => Step::Judge,
    }
}

fn watch(facts: &Facts, memory: Memory, rules: &Rules) -> Step {
    match facts.halt {
        Some((_, since)) if since >= rules.patience => Step::Kill,
        Some(_) if memory.has_asked => Step::Wait,
        Some(_) => Step::Ask,
        None if facts.is_unwanted => Step::Halt(Halt::Cancelled),
        None if facts.begun.is_some_and(|begun| begun >= rules.time) => Step::Halt(Halt::Limit),
        None => Step::Wait,
    }
}

/// How its program ended is known: time makes no other end of it, however long a store is away.
fn save(facts: &Facts, memory: Memory, rules: &Rules) -> Step {
    let most = rules.time.saturating_add(rules.patience);
    let is_late = facts.begun.is_some_and(|begun| begun >= most);
    match facts.halt {
        None if is_late => Step::Kill,
        None if !facts.is_unwanted => Step::Wait,
        _ => watch(facts, memory, rules),
    }
}

#[cfg(test)]
#[path = "decide/tests.rs"]
mod tests;
