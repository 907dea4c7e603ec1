//! The dialect as a table: what each expression means, in zones whose clocks do odd things.

use super::*;

mod clocks;

fn schedule(expr: &str, zone: &str) -> Schedule {
    Schedule::parse(expr, Some(zone)).unwrap_or_else(|err| panic!("{expr}: {err}"))
}

/// The next times, as long as `expected` has some, in the form of `agent cron next`.
fn check(expr: &str, zone: &str, from: &str, expected: &[&str]) {
    let schedule = schedule(expr, zone);
    let mut at: Timestamp = from.parse().unwrap();
    for (n, expected) in expected.iter().enumerate() {
        at = schedule
            .next(at)
            .unwrap_or_else(|| panic!("{expr}: nothing after {at}"));
        let told = at.to_zoned(schedule.zone().clone());
        let told = told.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
        assert_eq!(told, *expected, "{expr} in {zone} after {from}, number {n}");
    }
}

fn utc(expr: &str, expected: &[&str]) {
    let whole: Vec<String> = expected
        .iter()
        .map(|day| format!("{day}:00+00:00"))
        .collect();
    let whole: Vec<&str> = whole.iter().map(String::as_str).collect();
    check(expr, "", "2026-01-30T12:34:56Z", &whole);
}

#[test]
fn fields_mean_what_vixies_mean() {
    utc("* * * * *", &["2026-01-30T12:35", "2026-01-30T12:36"]);
    utc("*/15 * * * *", &["2026-01-30T12:45", "2026-01-30T13:00"]);
    utc(
        "5/15 * * * *",
        &["2026-01-30T12:35", "2026-01-30T12:50", "2026-01-30T13:05"],
    );
    utc("*/90 * * * *", &["2026-01-30T13:00", "2026-01-30T14:00"]);
    utc(
        "10-30/10 3 * * *",
        &[
            "2026-01-31T03:10",
            "2026-01-31T03:20",
            "2026-01-31T03:30",
            "2026-02-01T03:10",
        ],
    );
    utc("59 23 31 12 *", &["2026-12-31T23:59", "2027-12-31T23:59"]);
    utc("0 0 1 1 *", &["2027-01-01T00:00", "2028-01-01T00:00"]);
    utc("0 0 29 2 *", &["2028-02-29T00:00", "2032-02-29T00:00"]);
    utc(
        "0 0 31 * *",
        &["2026-01-31T00:00", "2026-03-31T00:00", "2026-05-31T00:00"],
    );
    utc(
        "0 0 * JAN,jul Mon",
        &["2026-07-06T00:00", "2026-07-13T00:00"],
    );
    utc("0 0 * * 7", &["2026-02-01T00:00", "2026-02-08T00:00"]);
    utc("0 0 * * 0", &["2026-02-01T00:00", "2026-02-08T00:00"]);
    utc(
        "0 0 * * 5-7",
        &["2026-01-31T00:00", "2026-02-01T00:00", "2026-02-06T00:00"],
    );
    utc(
        "0 0 * * FRI-SUN",
        &["2026-01-31T00:00", "2026-02-01T00:00", "2026-02-06T00:00"],
    );
    utc("0 0 ? * MON-FRI", &["2026-02-02T00:00", "2026-02-03T00:00"]);
    utc("  0\t9   * * *  ", &["2026-01-31T09:00"]);
    check(
        "*/20 * * * * *",
        "",
        "2026-12-31T23:59:30Z",
        &["2026-12-31T23:59:40+00:00", "2027-01-01T00:00:00+00:00"],
    );
    check(
        "30 0 12 * * *",
        "",
        "2026-01-01T12:00:30Z",
        &["2026-01-02T12:00:30+00:00"],
    );
}

#[test]
fn either_day_is_enough_when_both_are_set_and_a_star_is_not_set() {
    utc(
        "0 0 1,15 * 1",
        &[
            "2026-02-01T00:00",
            "2026-02-02T00:00",
            "2026-02-09T00:00",
            "2026-02-15T00:00",
            "2026-02-16T00:00",
        ],
    );
    utc(
        "0 0 13 * FRI",
        &["2026-02-06T00:00", "2026-02-13T00:00", "2026-02-20T00:00"],
    );
    utc("0 0 30 2 1", &["2026-02-02T00:00", "2026-02-09T00:00"]);
    utc(
        "0 0 */2 * 1",
        &["2026-02-09T00:00", "2026-02-23T00:00", "2026-03-09T00:00"],
    );
    utc(
        "0 0 13 * */5",
        &["2026-02-13T00:00", "2026-03-13T00:00", "2026-09-13T00:00"],
    );
    utc(
        "0 0 29 2 */7",
        &[
            "2032-02-29T00:00",
            "2060-02-29T00:00",
            "2088-02-29T00:00",
            "2128-02-29T00:00",
        ],
    );
}

#[test]
fn days_that_depend_on_the_month() {
    utc(
        "0 0 L * *",
        &["2026-01-31T00:00", "2026-02-28T00:00", "2026-03-31T00:00"],
    );
    utc(
        "0 0 L 2 *",
        &["2026-02-28T00:00", "2027-02-28T00:00", "2028-02-29T00:00"],
    );
    utc(
        "0 0 L-3 * *",
        &["2026-02-25T00:00", "2026-03-28T00:00", "2026-04-27T00:00"],
    );
    utc("0 0 L-30 * *", &["2026-03-01T00:00", "2026-05-01T00:00"]);
    utc(
        "0 0 1,L * *",
        &["2026-01-31T00:00", "2026-02-01T00:00", "2026-02-28T00:00"],
    );
    utc(
        "0 0 LW * *",
        &[
            "2026-02-27T00:00",
            "2026-03-31T00:00",
            "2026-04-30T00:00",
            "2026-05-29T00:00",
        ],
    );
    utc(
        "0 0 15W * *",
        &[
            "2026-02-16T00:00",
            "2026-03-16T00:00",
            "2026-04-15T00:00",
            "2026-05-15T00:00",
        ],
    );
    utc("0 0 14w 2,3 *", &["2026-02-13T00:00", "2026-03-13T00:00"]);
    utc(
        "0 0 1W * *",
        &[
            "2026-02-02T00:00",
            "2026-03-02T00:00",
            "2026-04-01T00:00",
            "2026-05-01T00:00",
            "2026-06-01T00:00",
            "2026-07-01T00:00",
            "2026-08-03T00:00",
        ],
    );
    utc(
        "0 0 31W * *",
        &["2026-03-31T00:00", "2026-05-29T00:00", "2026-07-31T00:00"],
    );
    utc(
        "0 0 * * 5#2",
        &["2026-02-13T00:00", "2026-03-13T00:00", "2026-04-10T00:00"],
    );
    utc(
        "0 0 * * SUN#5",
        &["2026-03-29T00:00", "2026-05-31T00:00", "2026-08-30T00:00"],
    );
    utc(
        "0 0 * * 5L",
        &["2026-02-27T00:00", "2026-03-27T00:00", "2026-04-24T00:00"],
    );
    utc("0 0 * * 7L", &["2026-02-22T00:00", "2026-03-29T00:00"]);
    utc(
        "0 0 * * MON#1,FRIL",
        &["2026-02-02T00:00", "2026-02-27T00:00", "2026-03-02T00:00"],
    );
}

#[test]
fn descriptors_are_the_fields_they_stand_for() {
    for (word, fields) in [
        ("@hourly", "0 * * * *"),
        ("@daily", "0 0 * * *"),
        ("@midnight", "0 0 * * *"),
        ("@weekly", "0 0 * * 0"),
        ("@monthly", "0 0 1 * *"),
        ("@yearly", "0 0 1 1 *"),
        ("@annually", "0 0 1 1 *"),
    ] {
        assert_eq!(schedule(word, ""), schedule(fields, ""), "{word}");
    }
}

#[test]
fn an_interval_counts_from_what_it_is_given() {
    check(
        "@every 90s",
        "",
        "2026-01-01T00:00:05.7Z",
        &["2026-01-01T00:01:35+00:00", "2026-01-01T00:03:05+00:00"],
    );
    check(
        "@every 1h30m",
        "",
        "2026-01-01T00:00:00Z",
        &["2026-01-01T01:30:00+00:00"],
    );
    check(
        "@every 1.5h",
        "",
        "2026-01-01T00:00:00Z",
        &["2026-01-01T01:30:00+00:00"],
    );
    check(
        "@every 300ms",
        "",
        "2026-01-01T00:00:00Z",
        &["2026-01-01T00:00:01+00:00"],
    );
    check(
        "@every 2500ms",
        "",
        "2026-01-01T00:00:00Z",
        &["2026-01-01T00:00:02+00:00"],
    );
    check(
        "@every 24h",
        "Europe/Berlin",
        "2026-03-28T11:00:00Z",
        &["2026-03-29T13:00:00+02:00"],
    );
}

const BERLIN: &str = "Europe/Berlin";

#[test]
fn what_cannot_be_is_refused_with_the_field_and_the_reason() {
    for (expr, zone, part, reason) in [
        (
            "60 * * * *",
            "",
            Part::Minute,
            "minute `60`: 60 is not in 0-59",
        ),
        ("5-1 * * * *", "", Part::Minute, "5-1 ends before it begins"),
        ("*/0 * * * *", "", Part::Minute, "step of 0"),
        ("*/x * * * *", "", Part::Minute, "not a number"),
        ("1,,2 * * * *", "", Part::Minute, "a number is missing"),
        ("+5 * * * *", "", Part::Minute, "not a number"),
        ("* 24 * * *", "", Part::Hour, "not in 0-23"),
        (
            "99999999999999999999 * * * * *",
            "",
            Part::Second,
            "not in 0-59",
        ),
        ("0 0 0 * *", "", Part::Day, "not in 1-31"),
        ("0 0 32 * *", "", Part::Day, "not in 1-31"),
        ("0 0 L-31 * *", "", Part::Day, "1-30"),
        ("0 0 1-15W * *", "", Part::Day, "not a number"),
        ("0 0 W * *", "", Part::Day, "a number is missing"),
        ("0 0 * 13 *", "", Part::Month, "not in 1-12"),
        ("0 0 * January *", "", Part::Month, "JAN-DEC"),
        ("0 0 * * 8", "", Part::Weekday, "not in 0-7"),
        ("0 0 * * L", "", Part::Weekday, "as in 5L"),
        ("0 0 * * 5#6", "", Part::Weekday, "1-5"),
        ("0 0 * * 5#0", "", Part::Weekday, "1-5"),
        ("@reboot", "", Part::Expression, "no reboot"),
        ("@dayly", "", Part::Expression, "not one of"),
        ("", "", Part::Expression, "is empty"),
        ("* * * *", "", Part::Expression, "4 fields"),
        ("* * * * * * *", "", Part::Expression, "7 fields"),
        ("0 0 30 2 *", "", Part::Day, "no such day ever comes"),
        ("0 0 31 4,6,9,11 *", "", Part::Day, "no such day ever comes"),
        ("0 0 31W 2 *", "", Part::Day, "no such day ever comes"),
        ("@every", "", Part::Interval, "not a duration"),
        ("@every 5", "", Part::Interval, "not a duration"),
        ("@every 1d", "", Part::Interval, "not a duration"),
        ("@every 1h 30m", "", Part::Interval, "not a duration"),
        ("@every -5s", "", Part::Interval, "does not go back"),
        ("@every 0s", "", Part::Interval, "interval of 0"),
        ("@every 9999999h", "", Part::Interval, "292 years"),
        ("* * * * *", "Mars/Olympus", Part::Timezone, "no such zone"),
        ("* * * * *", "Etc/Unknown", Part::Timezone, "no such zone"),
        (
            "TZ=Europe/Berlin",
            "",
            Part::Timezone,
            "and then the fields",
        ),
        ("TZ= * * * * *", "", Part::Timezone, "and then the fields"),
        (
            "CRON_TZ=Europe/Berlin * * * * *",
            "UTC",
            Part::Timezone,
            "give one of the two",
        ),
    ] {
        let err = Schedule::parse(expr, Some(zone)).expect_err(expr);
        assert_eq!(err.part, part, "{expr}: {err}");
        assert!(err.to_string().contains(reason), "{expr}: {err}");
    }
}

#[test]
fn schedules_written_alike_are_equal() {
    assert_eq!(
        schedule(" 0  9 * * mon ", ""),
        schedule("0 0 9 ? * MON", "UTC")
    );
    assert_eq!(
        schedule("TZ=europe/berlin 0 9 * * *", ""),
        schedule("0 9 * * *", BERLIN)
    );
    assert_eq!(schedule("@every 90s", ""), schedule("@every 1m30s", ""));
    assert_ne!(schedule("0 9 * * *", ""), schedule("0 9 * * *", BERLIN));
    assert_ne!(schedule("0 9 * * *", ""), schedule("0 10 * * *", ""));
    assert_eq!(
        schedule("@daily", BERLIN).to_string(),
        "CRON_TZ=Europe/Berlin 0 0 * * *"
    );
}

#[test]
fn what_any_cron_reads_alike_is_plain() {
    for (text, zone, plain) in [
        ("*/5 * * * *", None, Some("*/5 * * * *")),
        ("0 9-17/2 * * 1-5", Some("UTC"), Some("0 9-17/2 * * 1-5")),
        ("@daily", None, Some("0 0 * * *")),
        ("0 0 3 1,2 * *", None, Some("0 3 1,2 * *")),
        ("30 0 3 * * *", None, None),
        ("0 9 * * *", Some("America/New_York"), None),
        ("0 9 * * 7", None, None),
        ("0 9 * * MON", None, None),
        ("0 9 L * *", None, None),
        ("0 9 15W * *", None, None),
        ("0 9 * * 1#2", None, None),
        ("5/15 * * * *", None, None),
        ("0 0 1 * 1", None, None),
        ("@every 90s", None, None),
    ] {
        let schedule = Schedule::parse(text, zone).unwrap();
        assert_eq!(schedule.plain(), plain, "{text}");
    }
}
