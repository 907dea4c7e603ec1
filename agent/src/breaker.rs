//! When something that does not answer is asked again: one breaker for each dependency, and one try at a time.
//!
//! ```text
//!                failure                        its time has come
//!   Closed ─────────────────▶ Open { until } ─────────────────────▶ HalfOpen { until }: one try
//!     ▲                            ▲        failure: a longer pause          │
//!     │                            └─────────────────────────────────────────┤
//!     └──────────────────────────────── an answer ◀──────────────────────────┘
//! ```
//!
//! It ensures: while something is away nobody asks it but one, and that one ever more seldom, up to a bound; pauses
//! are up to a fifth shorter or longer by chance, so that many agents do not come back in step; whatever becomes of a
//! try, another one is let through in time; and one answer opens the way for all.
//!
//! A [`Breaker`] is a value that reads no clock. A [`Gate`] is the one that the tasks and threads of an agent share.

mod gate;

use std::time::{Duration, Instant};

pub use gate::{Gate, Sight};

/// How long is waited between tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// After the first failure; it doubles with each further one.
    pub first: Duration,
    /// The longest, but for chance.
    pub longest: Duration,
    /// A try that has said nothing for so long keeps nobody else from trying.
    pub patience: Duration,
}

/// Whether something may be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It answers: everybody may.
    Closed,
    /// It does not: nobody before then.
    Open(Instant),
    /// One tries: nobody else before then.
    HalfOpen(Instant),
}

impl State {
    /// All of their names.
    pub const NAMES: [&'static str; 3] = ["closed", "half_open", "open"];

    /// Its name for programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed => Self::NAMES[0],
            Self::HalfOpen(_) => Self::NAMES[1],
            Self::Open(_) => Self::NAMES[2],
        }
    }
}

/// What is known of something that may not answer.
#[derive(Debug, Clone, Copy)]
pub struct Breaker {
    pace: Pace,
    state: State,
    failures: u32,
}

impl Breaker {
    /// Of something that is taken to answer.
    pub const fn new(pace: Pace) -> Self {
        Self {
            pace,
            state: State::Closed,
            failures: 0,
        }
    }

    /// Whether it may be asked. While it is away that is true for one, which has to tell what came of it.
    pub fn may_try(&mut self, now: Instant) -> bool {
        match self.state {
            State::Closed => true,
            State::Open(until) | State::HalfOpen(until) if now < until => false,
            State::Open(_) | State::HalfOpen(_) => {
                self.state = State::HalfOpen(now + self.pace.patience);
                true
            }
        }
    }

    /// It has answered.
    pub fn on_success(&mut self) {
        self.state = State::Closed;
        self.failures = 0;
    }

    /// It has not. `chance` is any number, another one each time. What was asked before it was known to be away says
    /// nothing new.
    pub fn on_failure(&mut self, now: Instant, chance: u32) {
        if let State::Open(until) = self.state
            && now < until
        {
            return;
        }
        self.failures = self.failures.saturating_add(1);
        let doubled = 1 << (self.failures - 1).min(16);
        let pause = self.pace.first.saturating_mul(doubled);
        let pause = pause.min(self.pace.longest);
        self.state = State::Open(now + pause * (800 + chance % 401) / 1000);
    }

    /// How long nobody may ask it.
    pub fn wait(&self, now: Instant) -> Duration {
        match self.state {
            State::Closed => Duration::ZERO,
            State::Open(until) | State::HalfOpen(until) => until.saturating_duration_since(now),
        }
    }

    /// Whether it may be asked.
    pub fn state(&self) -> State {
        self.state
    }

    /// Failures in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
#[path = "breaker/tests.rs"]
mod tests;
