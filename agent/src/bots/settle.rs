//! A value counts when it has been the same for a while: a folder that is being copied is not yet a bot.

use std::time::{Duration, Instant};

/// How long a new value must stay the same.
pub const QUIET: Duration = Duration::from_millis(500);

/// A value that changes seldom, seen through looks that may catch it half-way.
#[derive(Debug, Clone)]
pub struct Settled<T> {
    counts: T,
    next: Option<(T, Instant)>,
}

impl<T: PartialEq + Clone> Settled<T> {
    /// The first value seen counts at once.
    pub fn new(first: T) -> Self {
        Self {
            counts: first,
            next: None,
        }
    }

    /// Takes a look and gives the value that counts.
    pub fn see(&mut self, value: T, now: Instant) -> &T {
        if value == self.counts {
            self.next = None;
            return &self.counts;
        }
        match self.next.take() {
            Some((next, since)) if next == value => {
                if now.duration_since(since) >= QUIET {
                    self.counts = next;
                } else {
                    self.next = Some((next, since));
                }
            }
            _ => self.next = Some((value, now)),
        }
        &self.counts
    }

    /// Whether a value was seen that does not count yet.
    pub fn is_moving(&self) -> bool {
        self.next.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_value_counts_only_after_it_stood_still_and_then_always(
            looks in prop::collection::vec((0u8..3, 0u64..400), 1..60)
        ) {
            let start = Instant::now();
            let mut now = start;
            let mut settled = Settled::new(0u8);
            let mut same_since = (0u8, start);
            for (value, pause) in looks {
                now += Duration::from_millis(pause);
                if value != same_since.0 { same_since = (value, now); }
                let before = settled.counts;
                let counts = *settled.see(value, now);
                let still = now - same_since.1 >= QUIET;
                if counts != before { prop_assert!(still && counts == value); }
                if still { prop_assert_eq!(counts, value); }
                prop_assert_eq!(settled.is_moving(), counts != value);
            }
        }
    }
}
