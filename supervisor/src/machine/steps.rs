//! The steps of a stop by the clock: TERM to what is left at half the grace, KILL at its end, and the moment at
//! which what cannot be killed is waited for no more.

use std::time::Duration;

/// After a KILL, what cannot be killed (a process stuck in the kernel) is waited for this long.
const AFTER_KILL: Duration = Duration::from_secs(10);

/// The steps of a stop that are still to come.
#[derive(Debug, Clone, Copy, Default)]
pub struct Steps {
    /// TERM to the leftovers.
    pub end: Option<Duration>,
    /// KILL to all.
    pub kill: Option<Duration>,
    /// No more waiting.
    pub give_up: Option<Duration>,
}

/// A step that is due.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    /// TERM to the leftovers.
    End,
    /// KILL to all.
    Kill,
    /// No more waiting.
    GiveUp,
}

impl Steps {
    /// Plans the steps of a stop that begins at `now`, unless one is under way; says whether it was the first.
    pub fn begin(&mut self, now: Duration, grace: Duration) -> bool {
        if self.is_begun() {
            return false;
        }
        let kill = now.saturating_add(grace);
        self.end = Some(now.saturating_add(grace / 2));
        self.kill = Some(kill);
        self.give_up = Some(kill.saturating_add(AFTER_KILL));
        true
    }

    /// Whether a stop is under way.
    pub fn is_begun(&self) -> bool {
        self.give_up.is_some()
    }

    /// When the next step is due.
    pub fn next(&self) -> Option<Duration> {
        self.end.or(self.kill).or(self.give_up)
    }

    /// Takes the first step that is due.
    pub fn due(&mut self, now: Duration) -> Option<Step> {
        if self.next()? > now {
            return None;
        }
        if self.end.take().is_some() {
            return Some(Step::End);
        }
        if self.kill.take().is_some() {
            return Some(Step::Kill);
        }
        Some(Step::GiveUp)
    }
}
