//! When a pass is due: decided from times alone, as durations since the start of `sync watch`.
//!
//! A change is pushed [`QUIET`] after the last hint of it, [`MOST`] after the first at the latest, and not before the
//! pause after the last push is over: that is [`REST`] times the push, so that a state that never rests costs a
//! twentieth of the time. What counts is the time it took, but no more than a [`MINUTE`] of pause comes of that: a push
//! that waited for a slow store cost nothing. The processor's time it took has no such limit, and large states have
//! longer pauses. A full pass comes each minute whatever the hints say. After a failure, only the retry counts.
//!
//! The log has a rhythm of its own, which the state's does not slow down: it goes out when [`LOG_BYTES`] wait or the
//! first of it has waited a [`MINUTE`]. What it costs spaces it out in the same way, but never beyond that minute.

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
    /// The state.
    Pass,
    /// The log.
    Log,
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
    /// Something was pushed, with so much of the processor's time.
    Pushed(Duration),
    /// The store did not take it.
    Failed,
}

/// When what failed is tried again.
#[derive(Debug, Clone, Copy, Default)]
struct Retry {
    at: Option<At>,
    failures: u32,
}

impl Retry {
    fn after(self, now: At) -> Self {
        let (first, most) = (Duration::from_secs(1), Duration::from_secs(30));
        let pause = retry::backoff(self.failures, first, most);
        Self {
            at: Some(now + pause),
            failures: self.failures + 1,
        }
    }
}

/// The clockwork.
#[derive(Debug, Clone)]
pub struct Pace {
    hints: Hints,
    changed: Option<(At, At)>,
    rest_until: At,
    pass_at: At,
    look_at: At,
    retry: Retry,
    log_at: Option<At>,
    log_look_at: Option<At>,
    log_rest_until: At,
    log_retry: Retry,
}

impl Pace {
    /// Begins with a pass at once.
    pub fn new(hints: Hints) -> Self {
        Self {
            hints,
            changed: None,
            rest_until: At::ZERO,
            pass_at: At::ZERO,
            look_at: At::ZERO,
            retry: Retry::default(),
            log_at: None,
            log_look_at: None,
            log_rest_until: At::ZERO,
            log_retry: Retry::default(),
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

    /// The log was shipped as far as it goes, from `began` to `now`; what there is now is looked at in a while.
    pub fn log_shipped(&mut self, began: At, now: At, waiting: u64) {
        self.log_at = None;
        self.log_look_at = (waiting > 0).then_some(now + LOG_LOOK);
        self.log_rest_until = now + (now.saturating_sub(began) * REST).min(MINUTE);
        self.log_retry = Retry::default();
    }

    /// The store did not take the log.
    pub fn log_failed(&mut self, now: At) {
        self.log_retry = self.log_retry.after(now);
    }

    /// What is due next, and when.
    pub fn next(&self) -> (At, Work) {
        let look = (self.look_at, Work::Look);
        let log = self.next_log().map(|at| (at, Work::Log));
        let log_look = self.log_look_at.map(|at| (at, Work::LogSize));
        let pass = (self.next_pass(), Work::Pass);
        [Some(pass), Some(look), log, log_look]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(pass)
    }

    fn next_pass(&self) -> At {
        if let Some(retry) = self.retry.at {
            return retry;
        }
        let changed = self
            .changed
            .map(|(first, last)| (last + QUIET).min(first + MOST));
        let due = changed.map_or(self.pass_at, |at| at.min(self.pass_at));
        due.max(self.rest_until)
    }

    fn next_log(&self) -> Option<At> {
        let due = self.log_at.map(|at| at.max(self.log_rest_until));
        self.log_retry.at.or(due)
    }

    /// Whether the store is to be looked at with whatever else is done now.
    pub fn is_look_due(&self, now: At) -> bool {
        now >= self.look_at
    }

    /// A look was had.
    pub fn looked(&mut self, now: At) {
        self.look_at = now + LOOK;
    }

    /// A pass ended at `now` that began at `began`.
    pub fn passed(&mut self, began: At, now: At, went: Went) {
        if went == Went::Failed {
            self.retry = self.retry.after(now);
            return;
        }
        self.retry = Retry::default();
        // What was hinted while the pass was under way is looked at again.
        self.changed = self.changed.filter(|(_, last)| *last > began);
        let rest = (now.saturating_sub(began) * REST).min(MINUTE);
        self.rest_until = now
            + match went {
                Went::Pushed(work) => rest.max(work * REST).max(Duration::from_secs(1)),
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
        pace.looked(ms(1));
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
        fn a_state_that_never_rests_costs_a_twentieth(
            work in 1u64..5000, waited in 0u64..60_000, hinted: bool,
        ) {
            let took = work + waited;
            let mut pace = if hinted { started() } else { Pace::new(Pace::without_hints()) };
            pace.state_changed(ms(1000));
            pace.passed(ms(2000), ms(2000 + took), Went::Pushed(ms(work)));
            if hinted {
                pace.state_changed(ms(2000 + took));
            }
            let pause = pace.next_pass().saturating_sub(ms(2000 + took));
            prop_assert!(pause >= ms(1000) && pause >= ms(work * 20));
            prop_assert!(pause >= ms(took * 20).min(MINUTE));
            prop_assert!(pause <= MINUTE.max(ms(work * 20)), "waiting is no work");
        }
    }

    /// A bot that writes, a driver that does what is due, and how long each takes.
    struct World {
        pace: Pace,
        now: At,
        waiting: u64,
        oldest: Option<At>,
        shipped: Option<(At, At)>,
        push: At,
        ship: At,
    }

    impl World {
        fn write(&mut self, bytes: u64) {
            self.waiting += bytes;
            self.oldest.get_or_insert(self.now);
            self.pace.state_changed(self.now);
            self.pace.log_changed(self.now);
        }

        fn work(&mut self, work: Work) {
            let began = self.now;
            match work {
                Work::Look => self.pace.looked(began),
                Work::LogSize => self.pace.log_seen(began, self.waiting),
                Work::Pass => {
                    self.now += self.push;
                    self.pace.passed(began, self.now, Went::Pushed(self.push));
                }
                Work::Log => {
                    let pause = self.shipped.map(|(_, ended)| began.saturating_sub(ended));
                    assert!(pause.is_none_or(|pause| pause >= (self.ship * REST).min(MINUTE)));
                    // Whatever is under way when it is due is waited for, no more.
                    let waited = began.saturating_sub(self.oldest.take().unwrap());
                    assert!(
                        waited <= LOG_LOOK + MINUTE + (self.push + self.ship) * 2,
                        "{waited:?}"
                    );
                    (self.now, self.waiting) = (began + self.ship, 0);
                    self.shipped = Some((began, self.now));
                    self.pace.log_shipped(began, self.now, 0);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn the_log_goes_out_in_its_own_time_whatever_the_state_costs(
            writes in prop::collection::vec((0u64..90_000, 1u64..LOG_BYTES * 2), 1..40),
            push in 0u64..40_000, ship in 0u64..5000,
        ) {
            let (pace, now) = (started(), ms(1000));
            let (push, ship) = (ms(push), ms(ship));
            let mut world = World { pace, now, waiting: 0, oldest: None, shipped: None, push, ship };
            for (gap, bytes) in writes {
                let until = world.now + ms(gap);
                while world.pace.next().0 <= until && world.now <= until {
                    let (at, work) = world.pace.next();
                    world.now = world.now.max(at);
                    world.work(work);
                }
                world.now = world.now.max(until);
                world.write(bytes);
            }
            let end = world.now + MINUTE * 60;
            while world.waiting > 0 && world.now < end {
                let (at, work) = world.pace.next();
                world.now = world.now.max(at);
                world.work(work);
            }
            prop_assert_eq!(world.waiting, 0);
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
        pace.passed(ms(2300), ms(2600), Went::Pushed(ms(300)));
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
    }

    #[test]
    fn the_log_waits_a_minute_or_for_its_size() {
        let mut pace = started();
        pace.log_changed(ms(1000));
        pace.log_changed(ms(1900));
        assert_eq!(pace.next(), (ms(2000), Work::LogSize));
        pace.log_seen(ms(2000), 10);
        assert_eq!(pace.next_log(), Some(ms(2000) + MINUTE));
        pace.log_seen(ms(3000), LOG_BYTES);
        assert_eq!(pace.next(), (ms(3000), Work::Log));
    }

    #[test]
    fn a_state_that_takes_long_to_push_does_not_hold_the_log_back() {
        let mut pace = started();
        pace.log_seen(ms(1000), 10);
        pace.state_changed(ms(1000));
        pace.passed(ms(2000), ms(32_000), Went::Pushed(ms(30_000)));
        assert_eq!(pace.next().1, Work::Look);
        pace.looked(ms(32_000));
        assert!(pace.next_pass() >= ms(632_000));
        assert_eq!(pace.next_log(), Some(ms(1000) + MINUTE));
        pace.log_seen(ms(33_000), LOG_BYTES);
        assert_eq!(pace.next(), (ms(33_000), Work::Log));
    }

    #[test]
    fn a_push_that_waited_for_a_slow_store_is_followed_by_the_next_within_a_minute() {
        let mut pace = started();
        pace.passed(ms(2000), ms(35_000), Went::Pushed(ms(5)));
        pace.state_changed(ms(35_001));
        assert_eq!(pace.next_pass(), ms(35_000) + MINUTE);
    }

    #[test]
    fn a_log_that_takes_long_holds_back_neither_the_state_nor_itself_for_more_than_a_minute() {
        for (took, rest) in [(100, ms(2000)), (30_000, MINUTE)] {
            let mut pace = started();
            let now = ms(1000 + took);
            pace.log_shipped(ms(1000), now, LOG_BYTES);
            pace.log_seen(now, LOG_BYTES);
            assert_eq!(pace.next_log(), Some(now + rest));
            pace.state_changed(now);
            assert_eq!(pace.next_pass(), now + QUIET);
        }
    }

    #[test]
    fn a_log_that_fails_is_retried_and_the_state_keeps_its_own_time() {
        let mut pace = started();
        pace.log_seen(ms(1000), LOG_BYTES);
        pace.log_failed(ms(1000));
        pace.log_seen(ms(1100), LOG_BYTES);
        let retry = pace.next_log().unwrap();
        assert!(retry >= ms(2000) && retry <= ms(2250), "{retry:?}");
        assert_eq!(pace.next_pass(), ms(1) + MINUTE);
        pace.log_shipped(retry, retry, 0);
        assert_eq!(pace.next_log(), None);
    }

    #[test]
    fn a_log_that_cannot_be_shipped_to_its_end_does_not_hurry() {
        let mut pace = started();
        pace.log_seen(ms(2000), LOG_BYTES);
        pace.log_shipped(ms(2000), ms(2001), LOG_BYTES);
        assert_eq!(pace.next(), (ms(2001) + LOG_LOOK, Work::LogSize));
        pace.log_shipped(ms(2000), ms(2001), 0);
        assert_eq!(pace.next().1, Work::Look);
    }

    #[test]
    fn pushes_do_not_put_off_the_look_at_whose_the_state_is() {
        let mut pace = started();
        let mut now = ms(1000);
        while !pace.is_look_due(now) {
            assert!(now <= ms(1) + LOOK);
            pace.state_changed(now);
            pace.passed(now, now + ms(10), Went::Pushed(ms(10)));
            now += ms(1000);
        }
        assert!(now >= ms(1) + LOOK && pace.next().1 == Work::Look);
    }

    #[test]
    fn looking_for_nothing_costs_a_twentieth_up_to_a_limit() {
        for (took, rest) in [(100, 2000), (10_000, 5000)] {
            let mut pace = started();
            pace.passed(ms(1000), ms(1000 + took), Went::Same);
            pace.looked(ms(1000 + took));
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
