//! Whether the agent knows enough of the events to act, worked out from values alone.
//!
//! What was said while the agent was away is written into the database first, and the bots are listed after that:
//! before, nothing is started or stopped. When that does not come forward for [`PATIENCE`], because NATS is away or
//! nothing can be written, bots are started from what the database has, and what is missing there stays.

use std::time::{Duration, Instant, SystemTime};

/// How long nothing needs to come forward before it is acted without.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How far the events are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Whether NATS is reached now, and since when it is so.
    pub link: (Link, Instant),
    /// When something last came forward: the start, a connection, an event.
    pub moved: Instant,
    /// When all that was waiting at the start had been taken in.
    pub drained: Option<Instant>,
    /// Events whose change is in the database.
    pub applied: u64,
    /// Events that could not be kept.
    pub refused: u64,
    /// Events known to wait.
    pub waiting: u64,
    /// When the oldest one that is not taken in was said, or one before it.
    pub oldest: Option<SystemTime>,
}

/// Whether NATS is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// It is.
    Up,
    /// It is not.
    Down,
}

/// What may be acted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// Nothing yet.
    Closed,
    /// What is listed; what is missing may be missing because it is not known yet.
    Partial,
    /// Everything.
    Full,
}

impl Progress {
    /// At the start.
    pub fn new(now: Instant) -> Self {
        Self {
            link: (Link::Down, now),
            moved: now,
            drained: None,
            applied: 0,
            refused: 0,
            waiting: 0,
            oldest: None,
        }
    }

    /// What may be acted on with a listing begun at `listed`.
    pub fn sight(&self, listed: Instant, now: Instant) -> Sight {
        if self.drained.is_some_and(|drained| drained <= listed) {
            Sight::Full
        } else if now.saturating_duration_since(self.moved) >= PATIENCE {
            Sight::Partial
        } else {
            Sight::Closed
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn nothing_is_acted_on_before_the_backlog_is_in_a_listing() {
        let start = Instant::now();
        let mut progress = Progress::new(start);
        assert_eq!(progress.sight(start, start + SECOND), Sight::Closed);
        progress.drained = Some(start + SECOND * 2);
        assert_eq!(
            progress.sight(start + SECOND, start + SECOND * 3),
            Sight::Closed
        );
        let fresh = start + SECOND * 2;
        assert_eq!(progress.sight(fresh, start + SECOND * 3), Sight::Full);
        assert_eq!(progress.sight(fresh, start + PATIENCE * 9), Sight::Full);
    }

    #[test]
    fn what_does_not_come_forward_is_not_waited_for_and_nothing_missing_counts() {
        let start = Instant::now();
        let mut progress = Progress::new(start);
        let late = start + PATIENCE;
        assert_eq!(progress.sight(late, late), Sight::Partial);
        progress.moved = late;
        assert_eq!(progress.sight(late, late + SECOND), Sight::Closed);
        assert_eq!(progress.sight(late, late + PATIENCE), Sight::Partial);
    }
}
