//! What is written down about a schedule: the next time it is due, and what has become of the last one.
//!
//! ```text
//!  nothing ──▶ claimed ──▶ started ──▶ over (completed, failed, limit, stopped, replaced, lost)
//!     │         ▲  │          │
//!     │         │  └──────────┼──▶ over (missed)
//!     │         └─ again ─────┘
//!     └──▶ over (missed)
//! ```
//!
//! Every step is a write on condition that the last one (`rev`) is still the last: of two that make it, one wins.

use contract::record::Time;
use serde::{Deserialize, Serialize};

use super::timetable::Seconds;

/// A schedule's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// When it is due next; `None`: nobody has worked that out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Seconds>,
    /// The number of the last event that changed the document.
    #[serde(skip)]
    pub seq: Option<i64>,
    /// What has become of the last tick.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tick: Option<Tick>,
}

/// A tick.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tick {
    /// Which: when it was due.
    pub at: Seconds,
    /// Which try it is, from 1.
    pub attempt: u32,
    /// How far it is.
    pub state: State,
    /// How it came out, once it is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// More about that, for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The agent that wrote this.
    #[serde(default)]
    pub by: String,
    /// When.
    pub since: Seconds,
    /// Ticks before it that were passed over when it was claimed.
    #[serde(default, skip_serializing_if = "is_none")]
    pub missed: u32,
    /// It is not started before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Seconds>,
    /// How many such words were written, this one included.
    #[serde(default)]
    pub rev: i64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_none(n: &u32) -> bool {
    *n == 0
}

/// How far a tick is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Somebody is about to start it; it does not run.
    Claimed,
    /// It runs, or was about to.
    Started,
    /// It is over.
    Over,
}

/// How a tick came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The bot ran and ended well.
    Completed,
    /// It failed, or could not be started.
    Failed,
    /// It was stopped because it took too long.
    Limit,
    /// It was stopped.
    Stopped,
    /// It was stopped because the next one was due.
    Replaced,
    /// It was started, and what became of it is not known.
    Lost,
    /// It never ran.
    Missed,
}

impl Outcome {
    /// For a person, and in the database.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Completed => "completed",
            Outcome::Failed => "failed",
            Outcome::Limit => "limit",
            Outcome::Stopped => "stopped",
            Outcome::Replaced => "replaced",
            Outcome::Lost => "lost",
            Outcome::Missed => "missed",
        }
    }
}

/// Which try of which tick a container was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Key {
    /// When it was due.
    pub at: Seconds,
    /// Which try: from 1, or [`Self::CLUSTERS`].
    pub attempt: u32,
}

impl Key {
    /// The try that the cluster's own clock has started.
    pub const CLUSTERS: u32 = 0;
}

/// The value of a label: `1764122400`, or of a later try `1764122400/2`.
impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.attempt {
            1 => write!(f, "{}", self.at),
            n => write!(f, "{}/{n}", self.at),
        }
    }
}

impl std::str::FromStr for Key {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (at, attempt) = text.split_once('/').unwrap_or((text, "1"));
        Ok(Self {
            at: at.parse()?,
            attempt: attempt.parse()?,
        })
    }
}

impl Tick {
    /// Which try of which tick.
    pub fn key(&self) -> Key {
        Key {
            at: self.at,
            attempt: self.attempt,
        }
    }

    /// How far it is, or how it came out, in a word.
    pub fn word(&self) -> &'static str {
        match (self.state, self.outcome) {
            (State::Claimed, _) => "claimed",
            (State::Started, _) => "started",
            (State::Over, Some(outcome)) => outcome.name(),
            (State::Over, None) => "over",
        }
    }
}

impl Ledger {
    /// The number of the last word.
    pub fn rev(&self) -> i64 {
        self.tick.as_ref().map_or(0, |tick| tick.rev)
    }

    /// Whether a tick is under way.
    pub fn is_open(&self) -> bool {
        let tick = self.tick.as_ref();
        tick.is_some_and(|tick| tick.state != State::Over)
    }

    /// Whether it says more about ticks than when the next one is.
    pub fn claims(&self, before: &Ledger) -> bool {
        self.next != before.next
    }
}

/// Seconds since 1970 as a time.
pub fn time(at: Seconds) -> Time {
    let since = std::time::Duration::from_secs(u64::try_from(at).unwrap_or(0));
    Time::from(std::time::UNIX_EPOCH + since)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_try_of_a_tick_goes_through_a_label() {
        for attempt in [1, 2, 40] {
            let key = Key {
                at: 1_764_122_400,
                attempt,
            };
            assert_eq!(key.to_string().parse(), Ok(key));
        }
        assert!("".parse::<Key>().is_err() && "soon".parse::<Key>().is_err());
    }
}
