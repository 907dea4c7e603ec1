//! When a program that ended is started again: at once, then after 1, 2, 4 .. 30 s; from the beginning once it
//! has run for a stable minute.

use std::time::Duration;

/// A run at least this long ends a row of failures.
const STABLE: Duration = Duration::from_secs(60);
/// The longest pause.
const LONGEST: Duration = Duration::from_secs(30);

/// How often in a row the program has ended.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The pause before the next start, after a run that lasted `ran`.
    pub fn pause(&mut self, ran: Duration) -> Duration {
        if ran >= STABLE {
            self.failures = 0;
        }
        self.failures = self.failures.saturating_add(1);
        match self.failures {
            1 => Duration::ZERO,
            more => Duration::from_secs(1 << (more - 2).min(5)).min(LONGEST),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_pauses_are_those_of_the_documentation() {
        let mut backoff = Backoff::default();
        let pauses: Vec<_> = (0..9)
            .map(|_| backoff.pause(Duration::ZERO).as_secs())
            .collect();
        assert_eq!(pauses, [0, 1, 2, 4, 8, 16, 30, 30, 30]);
        assert_eq!(backoff.pause(STABLE).as_secs(), 0);
        assert_eq!(backoff.pause(Duration::ZERO).as_secs(), 1);
    }

    proptest! {
        #[test]
        fn a_pause_never_shrinks_without_a_stable_minute_nor_passes_the_longest(
            runs in proptest::collection::vec(0..120_000u64, 1..80)
        ) {
            let mut backoff = Backoff::default();
            let mut last = Duration::ZERO;
            for ran in runs.into_iter().map(Duration::from_millis) {
                let pause = backoff.pause(ran);
                prop_assert!(pause <= LONGEST);
                if ran >= STABLE {
                    prop_assert_eq!(pause, Duration::ZERO);
                } else {
                    prop_assert!(pause >= last);
                }
                last = pause;
            }
        }
    }
}
