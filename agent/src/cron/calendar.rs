//! The fields together, on a calendar without zones.

use jiff::civil::{Date, DateTime, Time};

use super::error::{Error, Part};
use super::field::{Field, Item};

/// The fields of an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Calendar {
    /// Seconds; 0 alone when there are five fields.
    pub second: Field,
    /// Minutes.
    pub minute: Field,
    /// Hours.
    pub hour: Field,
    /// Days of the month.
    pub day: Field,
    /// Months.
    pub month: Field,
    /// Days of the week.
    pub weekday: Field,
}

/// The calendar repeats itself after 400 years: what is not found until then is never found.
const DAYS: u32 = 400 * 366;

impl Calendar {
    /// Reads five or six fields, and refuses what never comes.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let refuse = |reason| Error::new(Part::Expression, text, reason);
        let mut words: Vec<&str> = text.split_whitespace().collect();
        match words.len() {
            5 => words.insert(0, "0"),
            6 => {}
            0 => return Err(refuse("is empty".to_owned())),
            n => {
                return Err(refuse(format!(
                    "{n} field{}: give five (minute hour day-of-month month day-of-week), or six with seconds in front",
                    if n == 1 { "" } else { "s" }
                )));
            }
        }
        let calendar = Self {
            second: Field::parse(Part::Second, words[0])?,
            minute: Field::parse(Part::Minute, words[1])?,
            hour: Field::parse(Part::Hour, words[2])?,
            day: Field::parse(Part::Day, words[3])?,
            month: Field::parse(Part::Month, words[4])?,
            weekday: Field::parse(Part::Weekday, words[5])?,
        };
        match calendar.at_or_after(Date::constant(2000, 1, 1).at(0, 0, 0, 0)) {
            Some(_) => Ok(calendar),
            None => Err(Error::new(
                Part::Day,
                words[3],
                format!("no such day ever comes with month `{}`", words[4]),
            )),
        }
    }

    /// Whether it runs at fixed times of the day, by Vixie's rule: neither hour nor minute begins with `*`.
    pub fn is_fixed(&self) -> bool {
        !self.hour.star && !self.minute.star
    }

    /// The first match that is not before `from`.
    pub fn at_or_after(&self, from: DateTime) -> Option<DateTime> {
        let today = self.has(from.date()).then(|| self.time(from.time()));
        if let Some(time) = today.flatten() {
            return Some(from.date().to_datetime(time));
        }
        let date = self.date(from.date().tomorrow().ok()?)?;
        Some(date.to_datetime(self.time(Time::midnight())?))
    }

    fn time(&self, from: Time) -> Option<Time> {
        let (mut hour, mut minute, mut second) = (from.hour(), from.minute(), from.second());
        loop {
            let (h, m) = (self.hour.from(hour)?, self.minute.from(minute));
            let (m, s) = match m {
                _ if h > hour => (self.minute.from(0), self.second.from(0)),
                Some(m) if m > minute => (Some(m), self.second.from(0)),
                m => (m, self.second.from(second)),
            };
            if let (Some(m), Some(s)) = (m, s) {
                return Time::new(h, m, s, 0).ok();
            }
            (hour, minute) = if m.is_some() {
                (h, minute + 1)
            } else {
                (h + 1, 0)
            };
            second = 0;
        }
    }

    fn date(&self, mut date: Date) -> Option<Date> {
        for _ in 0..DAYS {
            if !self.month.has(date.month()) {
                date = date.last_of_month();
            } else if self.has(date) {
                return Some(date);
            }
            date = date.tomorrow().ok()?;
        }
        None
    }

    /// Whether the date is one of its: with both day fields set, either is enough.
    fn has(&self, date: Date) -> bool {
        let (day, weekday) = (allows(&self.day, date), allows_weekday(&self.weekday, date));
        let days = if self.day.star || self.weekday.star {
            day && weekday
        } else {
            day || weekday
        };
        days && self.month.has(date.month())
    }
}

fn allows(field: &Field, date: Date) -> bool {
    let last = date.days_in_month();
    let special = |item: &Item| match *item {
        Item::Last(back) => date.day() == last - back.cast_signed(),
        Item::LastWorkday => workday(date, last) == Some(date.day()),
        Item::Workday(day) => workday(date, day.cast_signed()) == Some(date.day()),
        _ => false,
    };
    field.has(date.day()) || field.items.iter().any(special)
}

fn allows_weekday(field: &Field, date: Date) -> bool {
    let today = date.weekday().to_sunday_zero_offset();
    let special = |item: &Item| match *item {
        Item::Nth(day, nth) => {
            day.cast_signed() == today && (date.day() - 1) / 7 + 1 == nth.cast_signed()
        }
        Item::LastOf(day) => day.cast_signed() == today && date.day() + 7 > date.days_in_month(),
        _ => false,
    };
    field.has(today) || field.items.iter().any(special)
}

/// The day from Monday to Friday nearest to that day of the date's month, within it; none if there is no such day.
fn workday(month: Date, day: i8) -> Option<i8> {
    let last = month.days_in_month();
    let date = Date::new(month.year(), month.month(), day).ok()?;
    Some(match date.weekday().to_sunday_zero_offset() {
        6 if day == 1 => 3,
        6 => day - 1,
        0 if day == last => day - 2,
        0 => day + 1,
        _ => day,
    })
}
