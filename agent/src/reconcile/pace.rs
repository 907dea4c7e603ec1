//! How soon the whole may be looked at again. A look costs as much as there are bots, and what happens to many comes as a
//! word each: looks take a bounded share of the time, and words that come meanwhile share the next one.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

/// How many times as long as a look worked there is none.
const REST: u32 = 8;
/// For how long there is none at most.
const LONGEST: Duration = Duration::from_millis(400);

/// Until when there is no look.
#[derive(Debug, Default)]
pub struct Pace(Option<Instant>);

/// The processor's time that this thread has had. While others have the processor no time of it goes on, so a loaded machine
/// makes no look wait.
pub fn worked() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

impl Pace {
    /// Until when the next look must wait, if it must.
    pub fn rest(&self, now: Instant) -> Option<Instant> {
        self.0.filter(|until| *until > now)
    }

    /// Notes a look that worked so long and is over `now`.
    pub fn looked(&mut self, worked: Duration, now: Instant) {
        self.0 = Some(now + (worked * REST).min(LONGEST));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_take_a_bounded_share_and_wait_a_bounded_time() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        assert_eq!(pace.rest(now), None, "the first comes at once");
        for (worked, rests) in [(1, 8), (20, 160), (5000, 400)] {
            pace.looked(Duration::from_millis(worked), now);
            let until = now + Duration::from_millis(rests);
            assert_eq!(pace.rest(now), Some(until));
            assert_eq!(pace.rest(until), None);
        }
    }
}
