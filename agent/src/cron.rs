//! When a schedule is due: the dialect of users' expressions, as specified in the README.
//!
//! [`Schedule::parse`] refuses what it does not understand, with the field and the reason, and what never comes
//! (`0 0 30 2 *`): a schedule that exists has a next time. [`Schedule::next`] is a pure function of the expression and
//! an instant, its answer is later than that instant, and its work is bounded by 400 years of days.
//!
//! `@every` counts from the instant it is given, as robfig's does: a schedule that is asked with its last tick keeps the
//! phase it was registered with, and a thousand of them do not come at once on the full hour.
//!
//! **Why not croner.** jiff (with its own zones, the same on every machine) has the calendar and the clocks. croner 4.0.3
//! over it was measured with the rows of `tests.rs`: it does not say which field is wrong; refuses `L-3`, `5/15`,
//! descriptors, `@every` and zones; takes seven fields; searches 0.1 s for `0 0 30 2 *` and 0.3 s for a bare `L` on
//! each call instead of refusing them; lets `*/2` with a day of the week mean "or"; loses `0,30 2 * * *` on the night
//! the clock goes forward; and finds nothing ever again behind the day that Apia left out. To correct that takes
//! reading every field anyway; what is then left of it is the search for a day, which is a few lines over jiff.

mod calendar;
mod command;
mod error;
mod every;
mod explain;
mod field;
mod walk;

use std::fmt;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use calendar::Calendar;
pub use command::{Cron, run};
pub use error::{Error, Part};

/// A schedule that was understood. Two are equal when they are written alike, but for blanks, case and descriptors.
#[derive(Debug, Clone)]
pub struct Schedule {
    text: String,
    zone: TimeZone,
    rule: Rule,
}

#[derive(Debug, Clone)]
enum Rule {
    Every(i64),
    At(Box<Calendar>),
}

/// Longer than any list of all numbers in all fields.
const LONGEST: usize = 1000;
const DESCRIPTORS: [(&str, &str); 7] = [
    ("@YEARLY", "0 0 1 1 *"),
    ("@ANNUALLY", "0 0 1 1 *"),
    ("@MONTHLY", "0 0 1 * *"),
    ("@WEEKLY", "0 0 * * 0"),
    ("@DAILY", "0 0 * * *"),
    ("@MIDNIGHT", "0 0 * * *"),
    ("@HOURLY", "0 * * * *"),
];

impl Schedule {
    /// Reads an expression; `timezone` is the zone that stands beside it, none or blank for UTC.
    ///
    /// # Errors
    /// The part that cannot be, and why.
    pub fn parse(expr: &str, timezone: Option<&str>) -> Result<Self, Error> {
        if expr.len() > LONGEST {
            let reason = format!("longer than {LONGEST} bytes");
            return Err(Error::new(Part::Expression, expr, reason));
        }
        let (prefix, expr) = prefix(expr.trim())?;
        let zone = zone(prefix, timezone)?;
        let (rule, text) = rule(expr)?;
        let text = match zone.iana_name() {
            Some("UTC") | None => text,
            Some(name) => format!("CRON_TZ={name} {text}"),
        };
        Ok(Self { text, zone, rule })
    }

    /// The first time strictly after `after`; none only past the year 9999.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let after = whole(after)?;
        match &self.rule {
            Rule::Every(seconds) => after.checked_add(SignedDuration::from_secs(*seconds)).ok(),
            Rule::At(calendar) => walk::next(calendar, &self.zone, after),
        }
    }

    /// The five fields, where any cron reads them alike: in UTC, numbers, lists, ranges and steps of these, and of the days
    /// of month and week at most one is told.
    pub fn plain(&self) -> Option<&str> {
        let fields: Vec<&str> = self.text.split(' ').collect();
        let [.., day, _, weekday] = fields[..] else {
            return None;
        };
        let is_plain = self.zone.iana_name().is_none_or(|name| name == "UTC")
            && fields.len() == 5
            && (day == "*" || weekday == "*")
            && !weekday.contains('7')
            && fields.iter().all(|field| field.split(',').all(is_plain));
        is_plain.then_some(&self.text)
    }

    /// The zone its times are told in.
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// What a person would say.
    pub fn explain(&self) -> String {
        match &self.rule {
            Rule::Every(seconds) => format!("Every {}.", every::words(*seconds)),
            Rule::At(calendar) => explain::sentence(calendar, &self.zone),
        }
    }
}

/// The normal form: the zone unless it is UTC, and the fields with one blank between them.
impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PartialEq for Schedule {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Schedule {}

/// Whether a part of a field is `*`, a number or a range, the first and the last with a step or without.
fn is_plain(part: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let (base, step) = part
        .split_once('/')
        .map_or((part, None), |(base, step)| (base, Some(step)));
    let is_range = base
        .split_once('-')
        .is_some_and(|(from, to)| is_number(from) && is_number(to));
    match step {
        Some(step) => is_number(step) && (base == "*" || is_range),
        None => base == "*" || is_range || is_number(base),
    }
}

/// The second an instant is in.
fn whole(at: Timestamp) -> Option<Timestamp> {
    let early = i64::from(at.subsec_nanosecond() < 0);
    Timestamp::from_second(at.as_second() - early).ok()
}

fn prefix(expr: &str) -> Result<(Option<&str>, &str), Error> {
    let stripped = expr.strip_prefix("CRON_TZ=");
    let Some(rest) = stripped.or_else(|| expr.strip_prefix("TZ=")) else {
        return Ok((None, expr));
    };
    match rest.split_once(char::is_whitespace) {
        Some((zone, rest)) if !zone.is_empty() => Ok((Some(zone), rest.trim())),
        _ => Err(Error::new(
            Part::Timezone,
            expr,
            "give a zone and then the fields, as in CRON_TZ=Europe/Berlin 0 9 * * *",
        )),
    }
}

fn zone(prefix: Option<&str>, beside: Option<&str>) -> Result<TimeZone, Error> {
    let beside = beside.map(str::trim).filter(|name| !name.is_empty());
    if let (Some(prefix), Some(beside)) = (prefix, beside)
        && !prefix.eq_ignore_ascii_case(beside)
    {
        let reason = format!("the expression itself says {prefix}: give one of the two");
        return Err(Error::new(Part::Timezone, beside, reason));
    }
    let Some(name) = prefix.or(beside) else {
        return Ok(TimeZone::UTC);
    };
    match TimeZone::get(name) {
        Ok(zone) if !zone.is_unknown() => Ok(zone),
        _ => Err(Error::new(
            Part::Timezone,
            name,
            "no such zone: give a name of the IANA's, as in Europe/Berlin",
        )),
    }
}

fn rule(expr: &str) -> Result<(Rule, String), Error> {
    let words: Vec<&str> = expr.split_whitespace().collect();
    let normal = words.join(" ").to_ascii_uppercase().replace('?', "*");
    if words
        .first()
        .is_some_and(|word| word.eq_ignore_ascii_case("@every"))
    {
        let seconds = every::parse(&words[1..].join(" ").to_ascii_lowercase())?;
        return Ok((Rule::Every(seconds), format!("@every {seconds}s")));
    }
    let fields = match DESCRIPTORS.iter().find(|(name, _)| *name == normal) {
        Some((_, fields)) => (*fields).to_owned(),
        None if normal.starts_with('@') => return Err(unknown(expr)),
        None => normal,
    };
    let calendar = Calendar::parse(&fields)?;
    let fields = match fields.split(' ').count() {
        6 => fields.strip_prefix("0 ").unwrap_or(&fields).to_owned(),
        _ => fields,
    };
    Ok((Rule::At(Box::new(calendar)), fields))
}

fn unknown(expr: &str) -> Error {
    let reason = if expr.eq_ignore_ascii_case("@reboot") {
        "a bot has no reboot to wait for: a realtime bot starts with its host"
    } else {
        "not one of @hourly @daily @midnight @weekly @monthly @yearly @annually, @every 90s"
    };
    Error::new(Part::Expression, expr, reason)
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
