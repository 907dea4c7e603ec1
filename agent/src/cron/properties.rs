//! What holds for every expression, in every zone: against a walk second by second that knows nothing of fields.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use jiff::civil::DateTime;
use jiff::tz::Offset;
use proptest::prelude::*;

use super::*;

/// Zones, and an instant at which the clock of each changes, or nothing special happens.
const MOMENTS: [(&str, &str); 14] = [
    ("UTC", "2028-02-28T23:00:00Z"),
    ("Europe/Berlin", "2026-03-29T01:00:00Z"),
    ("Europe/Berlin", "2026-10-25T01:00:00Z"),
    ("Europe/Berlin", "2026-12-31T23:00:00Z"),
    ("America/New_York", "2026-03-08T07:00:00Z"),
    ("America/New_York", "2026-11-01T06:00:00Z"),
    ("Australia/Lord_Howe", "2026-10-03T15:30:00Z"),
    ("Australia/Lord_Howe", "2026-04-04T15:00:00Z"),
    ("America/St_Johns", "2026-03-08T05:30:00Z"),
    ("America/St_Johns", "2026-11-01T04:30:00Z"),
    ("America/Havana", "2026-03-08T05:00:00Z"),
    ("America/Havana", "2026-11-01T05:00:00Z"),
    ("Pacific/Apia", "2011-12-30T10:00:00Z"),
    ("Asia/Kathmandu", "2026-06-30T18:15:00Z"),
];

/// One field, as numbers and as it is written.
#[derive(Debug, Clone)]
struct Written {
    text: String,
    numbers: BTreeSet<i8>,
}

fn field(most: i8) -> impl Strategy<Value = Written> {
    let all = (0..=most).collect::<BTreeSet<i8>>();
    let stepped = (2..=most.min(30)).prop_map(move |step| Written {
        text: format!("*/{step}"),
        numbers: (0..=most).filter(|n| n % step == 0).collect(),
    });
    let list = prop::collection::btree_set(0..=most, 1..4).prop_map(|numbers| Written {
        text: numbers
            .iter()
            .map(i8::to_string)
            .collect::<Vec<_>>()
            .join(","),
        numbers,
    });
    let range = (0..=most, 0..=most, 1_i8..5).prop_map(|(a, b, step)| Written {
        text: format!("{}-{}/{step}", a.min(b), a.max(b)),
        numbers: (a.min(b)..=a.max(b))
            .filter(|n| (n - a.min(b)) % step == 0)
            .collect(),
    });
    let star = Just(Written {
        text: "*".to_owned(),
        numbers: all,
    });
    prop_oneof![2 => star, 1 => stepped, 4 => list, 2 => range]
}

/// The hours in which clocks are changed, more often than others.
fn hour() -> impl Strategy<Value = Written> {
    let night = prop::collection::btree_set(0_i8..=3, 1..4).prop_map(|numbers| Written {
        text: numbers
            .iter()
            .map(i8::to_string)
            .collect::<Vec<_>>()
            .join(","),
        numbers,
    });
    prop_oneof![3 => night, 1 => field(23)]
}

fn weekday() -> impl Strategy<Value = Written> {
    let star = Just(Written {
        text: "*".to_owned(),
        numbers: (0..=6).collect(),
    });
    prop_oneof![2 => star, 1 => field(6)]
}

/// The hour, the minute and the day of the week; the second is 0.
fn fields() -> impl Strategy<Value = [Written; 3]> {
    (field(59), hour(), weekday()).prop_map(|(minute, hour, weekday)| [minute, hour, weekday])
}

fn allowed([minute, hour, weekday]: &[Written; 3], at: DateTime) -> bool {
    at.second() == 0
        && minute.numbers.contains(&at.minute())
        && hour.numbers.contains(&at.hour())
        && weekday
            .numbers
            .contains(&at.weekday().to_sunday_zero_offset())
}

/// Vixie's policy, said minute by minute.
fn due(fields: &[Written; 3], zone: &TimeZone, at: Timestamp) -> bool {
    let back = |seconds| at - SignedDuration::from_secs(seconds);
    let (offset, before) = (zone.to_offset(at), zone.to_offset(back(1)));
    let local = offset.to_datetime(at);
    let interval = fields[..2].iter().any(|field| field.text.starts_with('*'));
    if interval {
        return allowed(fields, local);
    }
    let shown = |earlier: &i64| local_at(zone, back(60 * earlier)) == local;
    if allowed(fields, local) && !(1..=3 * 60 + 180).any(|n| shown(&n)) {
        return true;
    }
    let gap = i64::from(offset.seconds() - before.seconds());
    (1..=3 * 3600).contains(&gap) && skipped(before, at, gap).any(|time| allowed(fields, time))
}

fn local_at(zone: &TimeZone, at: Timestamp) -> DateTime {
    zone.to_offset(at).to_datetime(at)
}

fn skipped(before: Offset, at: Timestamp, seconds: i64) -> impl Iterator<Item = DateTime> {
    let minutes = 0..seconds / 60;
    minutes.map(move |n| before.to_datetime(at + SignedDuration::from_secs(60 * n)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_is_due_is_what_a_walk_minute_by_minute_finds(
        fields in fields(),
        (zone, moment) in prop::sample::select(&MOMENTS[..]),
        early in 0_i64..5 * 60,
    ) {
        let expr = format!("{} {} * * {}", fields[0].text, fields[1].text, fields[2].text);
        let schedule = Schedule::parse(&expr, Some(zone)).unwrap();
        let begin = moment.parse::<Timestamp>().unwrap() - SignedDuration::from_mins(early);
        let minutes = (1..=28 * 60).map(|n| begin + SignedDuration::from_mins(n));
        let walked: Vec<Timestamp> = minutes.filter(|at| due(&fields, schedule.zone(), *at)).collect();
        let end = begin + SignedDuration::from_mins(28 * 60);
        let mut found = Vec::new();
        let mut at = begin;
        while let Some(next) = schedule.next(at).filter(|next| *next <= end) {
            prop_assert!(next > at, "{expr} goes back at {at}");
            found.push(next);
            at = next;
        }
        prop_assert_eq!(found, walked, "{} in {}", expr, zone);
    }

    #[test]
    fn where_one_looks_from_changes_nothing(
        fields in fields(),
        (zone, moment) in prop::sample::select(&MOMENTS[..]),
        ahead in 1_i64..200_000,
    ) {
        let expr = format!("*/7 {} {} * * {}", fields[0].text, fields[1].text, fields[2].text);
        let schedule = Schedule::parse(&expr, Some(zone)).unwrap();
        let from = moment.parse::<Timestamp>().unwrap() - SignedDuration::from_hours(12);
        let next = schedule.next(from).unwrap();
        let between = from + SignedDuration::from_secs(ahead % (next.as_second() - from.as_second()));
        prop_assert_eq!(schedule.next(between), Some(next), "{} after {}", expr, between);
    }

    #[test]
    fn the_normal_form_is_the_same_schedule(fields in fields(), (zone, _) in prop::sample::select(&MOMENTS[..])) {
        let expr = format!("{} {} * * {}", fields[0].text, fields[1].text, fields[2].text);
        let schedule = Schedule::parse(&expr, Some(zone)).unwrap();
        let again = Schedule::parse(&schedule.to_string(), None).unwrap();
        prop_assert_eq!(&again, &schedule);
        let from = Timestamp::from_second(1_790_000_000).unwrap();
        prop_assert_eq!(again.next(from), schedule.next(from));
    }

    #[test]
    fn no_text_makes_it_panic_or_think_for_long(
        text in "(CRON_TZ=[A-Za-z/]{0,9} )?([-0-9*/,?LW#@ ]|MON|FEB|@every |[0-9]+[smh]){0,24}",
        any in ".{0,80}",
        seconds in -377_705_023_201_i64..253_402_207_200,
    ) {
        let begin = Instant::now();
        let from = Timestamp::from_second(seconds).unwrap();
        for text in [text, any] {
            if let Ok(schedule) = Schedule::parse(&text, None) {
                let next = schedule.next(from);
                prop_assert!(next.is_none_or(|next| next > from));
                prop_assert!(!schedule.explain().is_empty());
            }
        }
        prop_assert!(begin.elapsed() < Duration::from_secs(2));
    }

    #[test]
    fn days_are_found_or_refused_for_every_combination(
        day in "(\\*|[1-9]|[12][0-9]|3[01]|L|LW|L-[1-9]|\\*/(7|30)|(1|15|29|30|31)W)",
        month in "(\\*|[1-9]|1[0-2]|2,4)",
        weekday in "(\\*|[0-7]|[0-7]L|[0-7]#[1-5]|\\*/3)",
        year in 1990_i16..2090,
    ) {
        let expr = format!("30 12 {day} {month} {weekday}");
        let from = DateTime::constant(year, 2, 27, 0, 0, 0, 0).to_zoned(TimeZone::UTC).unwrap().timestamp();
        match Schedule::parse(&expr, None) {
            Ok(schedule) => prop_assert!(schedule.next(from).unwrap() > from),
            Err(err) => prop_assert!(err.to_string().contains("ever comes"), "{expr}: {err}"),
        }
    }
}

#[test]
fn the_longest_search_is_short() {
    let begin = Instant::now();
    let schedule = Schedule::parse("0 0 29 2 */7", Some("Africa/Casablanca")).unwrap();
    let mut at: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    for _ in 0..20 {
        at = schedule.next(at).unwrap();
    }
    assert!(Schedule::parse("* * 30 2 *", None).is_err());
    assert!(
        begin.elapsed() < Duration::from_secs(5),
        "{:?}",
        begin.elapsed()
    );
}
