//! One breaker for all who ask.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Breaker, Pace, State};

/// A breaker that is shared; clones are the same one.
#[derive(Debug, Clone)]
pub struct Gate(Arc<Inside>);

#[derive(Debug)]
struct Inside {
    known: Mutex<Known>,
    failed: Condvar,
}

#[derive(Debug)]
struct Known {
    breaker: Breaker,
    why: String,
}

/// How a gate is, for those who look at it from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sight {
    /// Whether something may be asked.
    pub state: State,
    /// Failures in a row.
    pub failures: u32,
    /// In what time it may be asked again.
    pub wait: Duration,
}

impl Gate {
    /// One with this pace, and open to all.
    pub fn new(pace: Pace) -> Self {
        let known = Known {
            breaker: Breaker::new(pace),
            why: String::new(),
        };
        Self(Arc::new(Inside {
            known: Mutex::new(known),
            failed: Condvar::new(),
        }))
    }

    /// Lets the caller ask, who then tells what came of it.
    ///
    /// # Errors
    /// Somebody else found that there is no answer, and why; it is tried again in time.
    pub fn enter(&self) -> Result<(), String> {
        let mut known = self.known();
        if known.breaker.may_try(Instant::now()) {
            return Ok(());
        }
        Err(known.why.clone())
    }

    /// Whether somebody who would enter now would be let in; nothing is promised.
    pub fn is_passable(&self) -> bool {
        self.known().breaker.wait(Instant::now()).is_zero()
    }

    /// There was an answer.
    pub fn succeeded(&self) {
        self.known().breaker.on_success();
    }

    /// There was none. Gives the time after which it may be asked again.
    pub fn failed(&self, why: &str) -> Duration {
        let wait = {
            let mut known = self.known();
            let now = Instant::now();
            known.breaker.on_failure(now, chance());
            why.clone_into(&mut known.why);
            known.breaker.wait(now)
        };
        self.0.failed.notify_all();
        wait
    }

    /// Sleeps for `most`, or until somebody finds that there is no answer, and then gives why. One that is known to be
    /// away already is not told anew.
    pub fn sleep(&self, most: Duration) -> Option<String> {
        let known = self.known();
        let before = known.breaker.failures();
        let same = |known: &mut Known| known.breaker.failures() <= before;
        let waited = self.0.failed.wait_timeout_while(known, most, same);
        let (known, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        (!waited.timed_out()).then(|| known.why.clone())
    }

    /// How it is.
    pub fn sight(&self) -> Sight {
        let breaker = self.known().breaker;
        Sight {
            state: breaker.state(),
            failures: breaker.failures(),
            wait: breaker.wait(Instant::now()),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        let known = self.0.known.lock();
        known.unwrap_or_else(PoisonError::into_inner)
    }
}

/// Any number, another one each time.
fn chance() -> u32 {
    let random = RandomState::new().build_hasher().finish();
    u32::try_from(random >> 32).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace {
        first: Duration::from_secs(60),
        longest: Duration::from_secs(60),
        patience: Duration::from_secs(60),
    };

    #[test]
    fn what_one_has_found_out_all_are_told() {
        let (gate, other) = (Gate::new(PACE), Gate::new(PACE));
        let clone = gate.clone();
        assert_eq!(clone.enter(), Ok(()));
        assert!(gate.failed("gone") > PACE.first / 2);
        assert_eq!(clone.enter(), Err("gone".to_owned()));
        assert!(!clone.is_passable() && other.is_passable());
        assert_eq!(clone.sight().failures, 1);
        gate.succeeded();
        assert_eq!(clone.enter(), Ok(()));
    }

    #[test]
    fn a_sleeper_is_woken_by_a_failure_and_only_by_a_new_one() {
        let gate = Gate::new(Pace {
            first: Duration::ZERO,
            ..PACE
        });
        assert_eq!(gate.sleep(Duration::from_millis(1)), None);
        let other = gate.clone();
        let sleeper = std::thread::spawn(move || other.sleep(PACE.longest));
        while !sleeper.is_finished() {
            gate.failed("gone");
        }
        assert_eq!(sleeper.join().unwrap(), Some("gone".to_owned()));
        assert_eq!(gate.sleep(Duration::from_millis(1)), None, "it is known");
    }
}
