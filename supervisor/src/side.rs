//! A side process: `sync watch` or `query`. It is kept up, with pauses that grow to a minute, until it is stopped.

use std::os::fd::OwnedFd;
use std::time::Duration;

use crate::machine::{Exit, pause};

/// A side that was up this long has recovered.
const STABLE: Duration = Duration::from_secs(60);

/// One of them.
#[derive(Debug)]
pub struct Side {
    /// The name of its program.
    pub name: &'static str,
    life: Life,
    failures: u32,
    aim: Aim,
}

#[derive(Debug)]
enum Life {
    Down,
    Up {
        pid: i32,
        since: Duration,
        input: Option<OwnedFd>,
    },
    Pausing {
        until: Duration,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Aim {
    Up,
    Down,
}

impl Side {
    /// One that is not to run yet.
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            life: Life::Down,
            failures: 0,
            aim: Aim::Down,
        }
    }

    /// It shall run from now on.
    pub fn want(&mut self) {
        self.aim = Aim::Up;
        self.failures = 0;
    }

    /// It shall run no more; gives the process that has to be told.
    pub fn unwant(&mut self) -> Option<i32> {
        self.aim = Aim::Down;
        if let Life::Pausing { .. } = self.life {
            self.life = Life::Down;
        }
        self.pid()
    }

    /// Its process while it runs.
    pub fn pid(&self) -> Option<i32> {
        match self.life {
            Life::Up { pid, .. } => Some(pid),
            _ => None,
        }
    }

    /// Where it reads keys from.
    pub fn input(&self) -> Option<&OwnedFd> {
        match &self.life {
            Life::Up { input, .. } => input.as_ref(),
            _ => None,
        }
    }

    /// Whether it has to be started now.
    pub fn is_due(&self, now: Duration) -> bool {
        self.aim == Aim::Up
            && match self.life {
                Life::Down => true,
                Life::Up { .. } => false,
                Life::Pausing { until } => until <= now,
            }
    }

    /// When it has to be started, if it is in a pause.
    pub fn deadline(&self) -> Option<Duration> {
        match self.life {
            Life::Pausing { until } => Some(until),
            _ => None,
        }
    }

    /// It was started.
    pub fn started(&mut self, pid: i32, input: Option<OwnedFd>, now: Duration) {
        self.life = Life::Up {
            pid,
            since: now,
            input,
        };
    }

    /// It could not be started.
    pub fn failed(&mut self, why: &str, now: Duration) {
        let pause = self.fall(now);
        contract::warn!(
            "{} could not be started: {why}; again in {} s",
            self.name,
            pause.as_secs()
        );
    }

    /// It has ended.
    pub fn ended(&mut self, exit: Exit, now: Duration) {
        let was_stable =
            matches!(self.life, Life::Up { since, .. } if now.saturating_sub(since) >= STABLE);
        if was_stable {
            self.failures = 0;
        }
        if self.aim == Aim::Down {
            self.life = Life::Down;
            contract::debug!("{} has ended with {exit}", self.name);
            return;
        }
        let pause = self.fall(now);
        contract::warn!(
            "{} ended with {exit}, starting it again in {} s",
            self.name,
            pause.as_secs()
        );
    }

    fn fall(&mut self, now: Duration) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let pause = pause(self.failures);
        self.life = Life::Pausing { until: now + pause };
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn one_that_dies_comes_back_after_pauses_that_grow_and_reset() {
        let mut side = Side::new("sync");
        assert!(!side.is_due(secs(0)));
        side.want();
        let mut now = secs(0);
        let mut pauses = Vec::new();
        for lasted in [0, 0, 0, 61, 0] {
            assert!(side.is_due(now));
            side.started(7, None, now);
            assert!(!side.is_due(now) && side.deadline().is_none());
            now += secs(lasted);
            side.ended(Exit::Signal(9), now);
            let due = side.deadline().unwrap();
            pauses.push(due.saturating_sub(now).as_secs());
            now = due;
        }
        assert_eq!(pauses, [1, 2, 4, 1, 2]);
    }

    #[test]
    fn one_that_is_stopped_stays_down() {
        let mut side = Side::new("query");
        side.want();
        side.started(7, None, secs(0));
        assert_eq!(side.unwant(), Some(7));
        side.ended(Exit::Code(0), secs(1));
        assert!(!side.is_due(secs(100)) && side.deadline().is_none());
    }
}
