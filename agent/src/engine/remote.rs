//! What an engine knows of who keeps its bots, the daemon or the API server: whether it answers, which of its listings are
//! older than a change, and whether it has taken a word.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Whether it answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// It has not been listed yet.
    Unknown,
    /// It does.
    Up,
    /// It does not, and why.
    Down(String),
}

impl Link {
    /// Whether it does, or why not.
    ///
    /// # Errors
    /// It does not, or is not known to.
    pub fn answers(&self) -> Result<(), String> {
        match self {
            Self::Up => Ok(()),
            Self::Unknown => Err("it has not answered yet".to_owned()),
            Self::Down(why) => Err(why.clone()),
        }
    }
}

/// Counts what is begun, so that a listing can be told to be older than a change.
#[derive(Debug, Clone, Default)]
pub struct Clock(Arc<AtomicU64>);

impl Clock {
    /// A number greater than all before.
    pub fn tick(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The last number.
    pub fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Whether it has taken a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// It has not.
    Unsaid,
    /// It is being told.
    Telling,
    /// It has.
    Taken,
}
