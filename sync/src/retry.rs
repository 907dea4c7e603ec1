//! Trying again: when, and for how long.

use std::time::{Duration, Instant, SystemTime};

use crate::store::Error;

/// Calls `act` until it gives something else than an unavailable store, with growing pauses, for `deadline`.
pub fn until<T>(deadline: Duration, mut act: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
    let end = Instant::now() + deadline;
    let mut failures = 0;
    loop {
        match act() {
            Err(error @ Error::Unavailable { .. }) => {
                let pause = backoff(failures, Duration::from_millis(200), Duration::from_secs(5));
                if Instant::now() + pause > end {
                    return Err(error);
                }
                contract::warn!("{error}, trying again in {pause:?}");
                failures += 1;
                std::thread::sleep(pause);
            }
            other => return other,
        }
    }
}

/// The pause after `failures` in a row: doubled each time up to `most`, and up to a quarter longer by chance, so that
/// many who failed together do not come back together.
pub fn backoff(failures: u32, first: Duration, most: Duration) -> Duration {
    let pause = first.saturating_mul(1 << failures.min(16)).min(most);
    let chance = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    pause + pause.mul_f64(f64::from(chance.subsec_micros() % 1000) / 4000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit() {
        let (first, most) = (Duration::from_secs(1), Duration::from_secs(30));
        for (failures, least) in [(0, 1), (1, 2), (4, 16), (5, 30), (60, 30)] {
            let pause = backoff(failures, first, most);
            let least = Duration::from_secs(least);
            assert!(
                pause >= least && pause <= least.mul_f64(1.25),
                "{failures}: {pause:?}"
            );
        }
    }

    #[test]
    fn only_an_unavailable_store_is_asked_again() {
        let mut calls = 0;
        let result: Result<(), _> = until(Duration::from_secs(9), || {
            calls += 1;
            match calls {
                1 => Err(Error::Unavailable {
                    what: String::new(),
                    cause: std::io::ErrorKind::TimedOut.into(),
                }),
                _ => Err(Error::Other {
                    what: String::new(),
                    why: String::new(),
                }),
            }
        });
        assert!(matches!(result, Err(Error::Other { .. })));
        assert_eq!(calls, 2);
    }
}
