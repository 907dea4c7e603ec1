//! When a pass is due: decided from times alone, as durations since the start of `sync watch`.
//!
//! A change is pushed [`QUIET`] after the last hint of it, [`MOST`] after the first at the latest, and not before the
//! pause after the last push is over: that is [`REST`] times what the push took, so that a state that never rests costs
//! a twentieth of the time. A full pass comes each minute whatever the hints say. After a failure, only the retry counts.

use std::time::Duration;

use crate::retry;

/// A time, since the start.
pub type At = Duration;

/// How long it must be quiet.
pub const QUIET: Duration = Duration::from_millis(200);
/// How long a change waits for quiet.
pub const MOST: Duration = Duration::from_millis(700);
/// A full pass at the latest.
pub const MINUTE: Duration = Duration::from_secs(60);
/// The claim is looked at this often.
pub const LOOK: Duration = Duration::from_secs(15);
/// Pause after a push, in durations of the push.
pub const REST: u32 = 20;
/// The log is shipped when so many bytes wait.
pub const LOG_BYTES: u64 = 256 << 10;
/// How long after a hint the log's size is looked at.
const LOG_LOOK: Duration = Duration::from_secs(1);
/// Scans without a watch: from one a second to one in five.
const SCANS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Work {
    /// State and, if it is time, log.
    Pass,
    /// The claim, and whose the object in the store is.
    Look,
    /// How much log there is.
    LogSize,
}

/// Whether changes are told or must be looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hints {
    /// Something watches.
    Come,
    /// Nothing does: the tree is scanned, after this pause the next time.
    Missing(Duration),
}

/// How a pass went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Went {
    /// Nothing to do.
    Same,
    /// Something was pushed.
    Pushed,
    /// The store did not take it.
    Failed,
}

/// The clockwork.
#[derive(Debug, Clone)]
pub struct Pace {
    hints: Hints,
    changed: Option<(At, At)>,
    rest_until: At,
    pass_at: At,
    look_at: At,
    log_at: Option<At>,
    log_look_at: Option<At>,
    retry_at: Option<At>,
    failures: u32,
}

impl Pace {
    /// Begins with a pass at once.
    pub fn new(hints: Hints) -> Self {
        Self {
            hints,
            changed: None,
            rest_until: At::ZERO,
            pass_at: At::ZERO,
            look_at: LOOK,
            log_at: None,
            log_look_at: None,
            retry_at: None,
            failures: 0,
        }
    }

    /// No hints come without a watch.
    pub fn without_hints() -> Hints {
        Hints::Missing(SCANS.0)
    }

    /// Something may have changed in the state.
    pub fn state_changed(&mut self, now: At) {
        let first = self.changed.map_or(now, |(first, _)| first);
        self.changed = Some((first, now));
    }

    /// Something may have been logged.
    pub fn log_changed(&mut self, now: At) {
        self.log_look_at.get_or_insert(now + LOG_LOOK);
    }

    /// The log's size was looked at.
    pub fn log_seen(&mut self, now: At, waiting: u64) {
        self.log_look_at = None;
        match waiting {
            0 => self.log_at = None,
            n if n >= LOG_BYTES => self.log_at = Some(now),
            _ => {
                self.log_at.get_or_insert(now + MINUTE);
            }
        }
    }

    /// The log was shipped as far as it goes; what there is now is looked at in a while.
    pub fn log_shipped(&mut self, now: At, waiting: u64) {
        self.log_at = None;
        self.log_look_at = (waiting > 0).then_some(now + LOG_LOOK);
    }

    /// Whether the log is to be shipped with the pass that is due now.
    pub fn log_due(&self, now: At) -> bool {
        self.retry_at.is_some() || self.log_at.is_some_and(|at| at <= now)
    }

    /// What is due next, and when.
    pub fn next(&self) -> (At, Work) {
        let look = (self.look_at, Work::Look);
        let log_look = self.log_look_at.map(|at| (at, Work::LogSize));
        let pass = (self.next_pass(), Work::Pass);
        [Some(pass), Some(look), log_look]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(pass)
    }

    fn next_pass(&self) -> At {
        if let Some(retry) = self.retry_at {
            return retry;
        }
        let changed = self
            .changed
            .map(|(first, last)| (last + QUIET).min(first + MOST));
        let soonest = changed.into_iter().chain(self.log_at).min();
        soonest.map_or(self.pass_at, |at| {
            at.max(self.rest_until)
                .min(self.pass_at.max(self.rest_until))
        })
    }

    /// A look was had.
    pub fn looked(&mut self, now: At) {
        self.look_at = now + LOOK;
    }

    /// A pass ended at `now` that began at `began`.
    pub fn passed(&mut self, began: At, now: At, went: Went) {
        self.look_at = now + LOOK;
        if went == Went::Failed {
            let pause = retry::backoff(
                self.failures,
                Duration::from_secs(1),
                Duration::from_secs(30),
            );
            self.failures += 1;
            self.retry_at = Some(now + pause);
            return;
        }
        self.failures = 0;
        self.retry_at = None;
        // What was hinted while the pass was under way is looked at again.
        self.changed = self.changed.filter(|(_, last)| *last > began);
        let rest = now.saturating_sub(began) * REST;
        self.rest_until = now
            + match went {
                Went::Pushed => rest.max(Duration::from_secs(1)),
                // Looking costs too, where much is looked at for nothing.
                _ => rest.min(SCANS.1),
            };
        self.pass_at = now + self.pause(went);
    }

    fn pause(&mut self, went: Went) -> Duration {
        let Hints::Missing(pause) = &mut self.hints else {
            return MINUTE;
        };
        *pause = match went {
            Went::Same => (*pause * 3 / 2).min(SCANS.1),
            _ => SCANS.0,
        };
        *pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ms(n: u64) -> At {
        At::from_millis(n)
    }

    fn started() -> Pace {
        let mut pace = Pace::new(Hints::Come);
        assert_eq!(pace.next(), (At::ZERO, Work::Pass));
        pace.passed(At::ZERO, ms(1), Went::Same);
        pace
    }

    proptest! {
        #[test]
        fn a_change_is_pushed_when_quiet_and_never_later_than_promised(
            hints in prop::collection::vec(0u64..2000, 1..20)
        ) {
            let mut pace = started();
            let mut times = hints;
            times.sort_unstable();
            let mut first = None;
            for t in times {
                let now = ms(1000 + t);
                if pace.next().0 <= now { break; }
                first.get_or_insert(now);
                pace.state_changed(now);
                let (at, work) = pace.next();
                prop_assert_eq!(work, Work::Pass);
                prop_assert!(at <= first.unwrap() + MOST && at >= now.min(at));
                prop_assert!(at == now + QUIET || at == first.unwrap() + MOST);
            }
        }

        #[test]
        fn a_state_that_never_rests_costs_a_twentieth(took in 1u64..5000) {
            let mut pace = started();
            pace.state_changed(ms(1000));
            pace.passed(ms(2000), ms(2000 + took), Went::Pushed);
            pace.state_changed(ms(2000 + took));
            let pause = pace.next_pass().saturating_sub(ms(2000 + took));
            prop_assert!(pause >= ms(1000) && pause >= ms(took * 20));
        }
    }

    #[test]
    fn idle_means_a_minute_and_the_claim() {
        let mut pace = started();
        assert_eq!(pace.next(), (ms(1) + LOOK, Work::Look));
        pace.looked(ms(1) + LOOK * 4);
        assert_eq!(pace.next(), (ms(1) + MINUTE, Work::Pass));
    }

    #[test]
    fn what_changes_during_a_pass_is_looked_at_again() {
        let mut pace = started();
        pace.state_changed(ms(2000));
        pace.state_changed(ms(2500));
        pace.passed(ms(2300), ms(2600), Went::Pushed);
        assert_eq!(pace.next().1, Work::Pass);
        assert_eq!(pace.next().0, pace.rest_until);
    }

    #[test]
    fn a_failure_is_retried_and_hints_do_not_hurry_it() {
        let mut pace = started();
        pace.passed(ms(100), ms(200), Went::Failed);
        let retry = pace.next().0;
        assert!(retry >= ms(1200) && retry <= ms(1500));
        pace.state_changed(ms(300));
        assert_eq!(pace.next(), (retry, Work::Pass));
        assert!(pace.log_due(retry));
    }

    #[test]
    fn the_log_waits_a_minute_or_for_its_size() {
        let mut pace = started();
        pace.log_changed(ms(1000));
        pace.log_changed(ms(1900));
        assert_eq!(pace.next(), (ms(2000), Work::LogSize));
        pace.log_seen(ms(2000), 10);
        assert!(!pace.log_due(ms(3000)) && pace.log_due(ms(2000) + MINUTE));
        pace.log_seen(ms(3000), LOG_BYTES);
        assert!(pace.log_due(ms(3000)));
        assert_eq!(pace.next().1, Work::Pass);
    }

    #[test]
    fn a_log_that_cannot_be_shipped_to_its_end_does_not_hurry() {
        let mut pace = started();
        pace.log_seen(ms(2000), LOG_BYTES);
        pace.passed(ms(2000), ms(2001), Went::Same);
        pace.log_shipped(ms(2001), LOG_BYTES);
        assert_eq!(pace.next(), (ms(2001) + LOG_LOOK, Work::LogSize));
        pace.log_shipped(ms(2001), 0);
        assert_eq!(pace.next().1, Work::Look);
    }

    #[test]
    fn looking_for_nothing_costs_a_twentieth_up_to_a_limit() {
        for (took, rest) in [(100, 2000), (10_000, 5000)] {
            let mut pace = started();
            pace.passed(ms(1000), ms(1000 + took), Went::Same);
            pace.state_changed(ms(1000 + took));
            assert_eq!(pace.next(), (ms(1000 + took + rest), Work::Pass));
        }
    }

    #[test]
    fn without_a_watch_it_scans_and_backs_off() {
        let mut pace = Pace::new(Pace::without_hints());
        let mut now = At::ZERO;
        let mut pauses = Vec::new();
        for _ in 0..8 {
            pace.passed(now, now, Went::Same);
            pauses.push(pace.pass_at.saturating_sub(now));
            now = pace.pass_at;
        }
        assert!(pauses[0] <= ms(1500) && pauses[7] == SCANS.1);
    }
}
