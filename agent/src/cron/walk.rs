//! From the calendar to instants, through the changes of a zone's clock.
//!
//! Between two changes a zone's clock is the calendar at one distance from UTC. A walk goes from stretch to stretch;
//! at each change Vixie's policy decides:
//!
//! ```text
//!                          interval (hour or minute begins with `*`)   fixed time
//!   the clock skips        what is skipped does not come               comes at the first instant after it, once
//!   the clock repeats      comes both times                            comes the first time only
//!   by more than 3 hours   as an interval: such a change is a correction, not a season
//! ```

use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};

use super::calendar::Calendar;

const CORRECTION: i32 = 3 * 3600;
/// More changes than any zone has in the 400 years in which something must come.
const STRETCHES: usize = 5000;

/// The first instant strictly after `after`.
pub fn next(calendar: &Calendar, zone: &TimeZone, after: Timestamp) -> Option<Timestamp> {
    let mut stretch = Stretch::around(zone, after);
    let second = SignedDuration::from_secs(1);
    let mut from = stretch.offset.to_datetime(after).checked_add(second).ok()?;
    if calendar.is_fixed() {
        from = stretch.fresh().map_or(from, |fresh| from.max(fresh));
    }
    let mut at = calendar.at_or_after(from)?;
    for _ in 0..STRETCHES {
        let instant = stretch.offset.to_timestamp(at).ok()?;
        let Some(change) = stretch.ends.filter(|change| change.at <= instant) else {
            return Some(instant);
        };
        if calendar.is_fixed() && change.skips(at) {
            return Some(change.at);
        }
        stretch = Stretch::around(zone, change.at);
        let begin = change.to.to_datetime(change.at);
        let fresh = stretch.fresh().filter(|_| calendar.is_fixed());
        let begin = fresh.unwrap_or(begin);
        if begin < from || begin > at {
            at = calendar.at_or_after(begin)?;
        }
        from = begin;
    }
    None
}

/// A change of the clock.
#[derive(Debug, Clone, Copy)]
struct Change {
    at: Timestamp,
    from: Offset,
    to: Offset,
}

impl Change {
    fn of(zone: &TimeZone, at: Timestamp) -> Option<Self> {
        let before = at.checked_sub(SignedDuration::from_secs(1)).ok()?;
        Some(Self {
            at,
            from: zone.to_offset(before),
            to: zone.to_offset(at),
        })
    }

    /// Seconds that are skipped, or (negative) repeated.
    fn seconds(self) -> i32 {
        self.to.seconds() - self.from.seconds()
    }

    /// Whether a fixed time is among those that are skipped and come later.
    fn skips(self, time: DateTime) -> bool {
        self.seconds() <= CORRECTION && time < self.to.to_datetime(self.at)
    }
}

/// The time between two changes.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    begins: Option<Change>,
    offset: Offset,
    ends: Option<Change>,
}

impl Stretch {
    fn around(zone: &TimeZone, at: Timestamp) -> Self {
        let soon = at.checked_add(SignedDuration::from_secs(1)).unwrap_or(at);
        let before = zone.preceding(soon).next();
        let after = zone.following(at).next();
        Self {
            begins: before.and_then(|change| Change::of(zone, change.timestamp())),
            offset: zone.to_offset(at),
            ends: after.and_then(|change| Change::of(zone, change.timestamp())),
        }
    }

    /// From when on the clock shows what it has not shown before, if it began with a repetition.
    fn fresh(&self) -> Option<DateTime> {
        let change = self.begins?;
        let season = (-CORRECTION..0).contains(&change.seconds());
        season.then(|| change.from.to_datetime(change.at))
    }
}
