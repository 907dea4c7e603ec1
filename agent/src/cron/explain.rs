//! The sentence a person would say.

use jiff::tz::TimeZone;

use super::calendar::Calendar;
use super::error::Part;
use super::field::{Field, Item};

/// The most times of day that are told one by one.
const TIMES: usize = 6;

/// The sentence.
pub fn sentence(calendar: &Calendar, zone: &TimeZone) -> String {
    let (times, daily) = match times(calendar) {
        Some(times) => (format!("at {}", list(&times)), true),
        None => (rhythm(calendar), false),
    };
    let mut said = vec![times];
    let days = days(calendar);
    if days.is_none() && daily {
        said.push("every day".to_owned());
    }
    said.extend(days);
    said.extend(months(&calendar.month));
    let mut text = said.join(", ");
    if let Some(first) = text.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    format!("{text} ({}).", zone.iana_name().unwrap_or("UTC"))
}

fn list(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [only] => only.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

fn values(field: &Field) -> Vec<u32> {
    (0..64).filter(|n| field.bits >> n & 1 == 1).collect()
}

fn numbers(field: &Field) -> String {
    let told: Vec<String> = values(field).iter().map(u32::to_string).collect();
    list(&told)
}

/// The times of a day, if they are few.
fn times(calendar: &Calendar) -> Option<Vec<String>> {
    let fields = [&calendar.hour, &calendar.minute, &calendar.second];
    let count: usize = fields.iter().map(|field| values(field).len()).product();
    if calendar.hour.star || calendar.minute.star || count > TIMES {
        return None;
    }
    let mut all = Vec::new();
    for hour in values(&calendar.hour) {
        for minute in values(&calendar.minute) {
            for second in values(&calendar.second) {
                let seconds = match calendar.second.bits {
                    1 => String::new(),
                    _ => format!(":{second:02}"),
                };
                all.push(format!("{hour:02}:{minute:02}{seconds}"));
            }
        }
    }
    Some(all)
}

/// What comes more often, from the smallest unit up: "every 10 seconds of minute 5 of every hour".
fn rhythm(calendar: &Calendar) -> String {
    if calendar.second.bits == 1 && calendar.minute.bits == 1 {
        let hours = within(&calendar.hour, 24, "hour");
        return match hours.strip_prefix("of every ") {
            Some(rest) => format!("every {rest}, on the hour"),
            None => format!("on the hour {hours}"),
        };
    }
    let mut said = String::new();
    if calendar.second.bits != 1 {
        said = beginning(&calendar.second, 60, "second");
    }
    let units = [
        (&calendar.minute, 60, "minute"),
        (&calendar.hour, 24, "hour"),
    ];
    for (field, of, unit) in units {
        if said.is_empty() {
            said = beginning(field, of, unit);
        } else if !(said.starts_with("every ") && is_all(field, of)) {
            said = format!("{said} {}", within(field, of, unit));
        }
    }
    said
}

fn is_all(field: &Field, of: u32) -> bool {
    field.bits.count_ones() == of
}

/// The step of a field that goes around evenly.
fn even_step(field: &Field, of: u32) -> Option<u32> {
    let step = of.checked_div(field.bits.count_ones())?;
    let stepped = (0..of).step_by(step as usize);
    (stepped.fold(0, |bits, n| bits | 1 << n) == field.bits && step < of).then_some(step)
}

fn beginning(field: &Field, of: u32, unit: &str) -> String {
    match even_step(field, of) {
        Some(1) => format!("every {unit}"),
        Some(step) => format!("every {step} {unit}s"),
        None if field.bits.is_power_of_two() => format!("at {unit} {}", numbers(field)),
        None => format!("at {unit}s {}", runs(field)),
    }
}

fn within(field: &Field, of: u32, unit: &str) -> String {
    match even_step(field, of) {
        Some(1) => format!("of every {unit}"),
        Some(step) => format!("of every {} {unit}", ordinal(step)),
        None if field.bits.is_power_of_two() => format!("of {unit} {}", numbers(field)),
        None => match field.items[..] {
            [Item::Range(low, high, 1)] => format!("of every {unit} from {low} to {high}"),
            _ => format!("of {unit}s {}", runs(field)),
        },
    }
}

fn runs(field: &Field) -> String {
    match field.items[..] {
        [Item::Range(low, high, 1)] => format!("{low} to {high}"),
        _ => numbers(field),
    }
}

fn days(calendar: &Calendar) -> Option<String> {
    let (day, weekday) = (&calendar.day, &calendar.weekday);
    let unset = |field: &Field| matches!(field.items[..], [Item::All(1)]);
    match (unset(day), unset(weekday)) {
        (true, true) => None,
        (false, true) => Some(format!("on {}", month_days(day))),
        (true, false) => Some(match weekday.items[..] {
            [Item::Range(low, high, 1)] => {
                format!("from {} to {}", weekday_name(low), weekday_name(high))
            }
            _ => format!("on {}", week_days(weekday)),
        }),
        (false, false) => {
            let either = !day.star && !weekday.star;
            let link = if either { "or on" } else { "if it is also" };
            Some(format!(
                "on {} {link} {}",
                month_days(day),
                week_days(weekday)
            ))
        }
    }
}

fn month_days(field: &Field) -> String {
    let told = field.items.iter().flat_map(|item| match *item {
        Item::Last(0) => vec!["the last day of the month".to_owned()],
        Item::Last(1) => vec!["the day before the last of the month".to_owned()],
        Item::Last(back) => vec![format!("the day {back} days before the last of the month")],
        Item::LastWorkday => vec!["the last weekday of the month".to_owned()],
        Item::Workday(day) => vec![format!("the weekday nearest the {}", ordinal(day.into()))],
        Item::Range(low, high, 1) => {
            let (low, high) = (ordinal(low.into()), ordinal(high.into()));
            vec![format!("the {low} to the {high}")]
        }
        item => each(item, Part::Day, |day| {
            format!("the {}", ordinal(day.into()))
        }),
    });
    list(&told.collect::<Vec<_>>())
}

fn week_days(field: &Field) -> String {
    let told = field.items.iter().flat_map(|item| match *item {
        Item::Nth(day, nth) => {
            let nth = ordinal(nth.into());
            vec![format!("the {nth} {} of the month", weekday_name(day))]
        }
        Item::LastOf(day) => vec![format!("the last {} of the month", weekday_name(day))],
        item => span(item, Part::Weekday, weekday_name),
    });
    list(&told.collect::<Vec<_>>())
}

fn months(field: &Field) -> Option<String> {
    match field.items[..] {
        [Item::All(1)] => None,
        [Item::Range(low, high, 1)] => {
            Some(format!("from {} to {}", month_name(low), month_name(high)))
        }
        _ => {
            let told = field.items.iter();
            let told = told.flat_map(|item| span(*item, Part::Month, month_name));
            Some(format!("in {}", list(&told.collect::<Vec<_>>())))
        }
    }
}

fn span(item: Item, part: Part, name: fn(u8) -> String) -> Vec<String> {
    match item {
        Item::Range(low, high, 1) => vec![format!("{} to {}", name(low), name(high))],
        item => each(item, part, name),
    }
}

fn each(item: Item, part: Part, name: impl Fn(u8) -> String) -> Vec<String> {
    let bits = item.bits(part);
    let numbers = (0..64).filter(|n| bits >> n & 1 == 1);
    numbers.map(name).collect()
}

fn ordinal(number: u32) -> String {
    let suffix = match (number % 10, number % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{number}{suffix}")
}

fn weekday_name(day: u8) -> String {
    let names = [
        "Sunday",
        "Monday",
        "Tuesday",
        "Wednesday",
        "Thursday",
        "Friday",
        "Saturday",
    ];
    names[usize::from(day % 7)].to_owned()
}

fn month_name(month: u8) -> String {
    let names = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    let month = usize::from(month.saturating_sub(1)).min(11);
    names[month].to_owned()
}

#[cfg(test)]
mod tests {
    use crate::cron::Schedule;

    #[test]
    fn a_person_would_say_it_so() {
        for (expr, zone, said) in [
            (
                "30 9 * * MON-FRI",
                "Europe/Berlin",
                "At 09:30, from Monday to Friday (Europe/Berlin).",
            ),
            ("0 9,17 * * *", "", "At 09:00 and 17:00, every day (UTC)."),
            ("15 30 9 * * *", "", "At 09:30:15, every day (UTC)."),
            ("* * * * *", "", "Every minute (UTC)."),
            ("*/15 * * * *", "", "Every 15 minutes (UTC)."),
            ("*/10 * * * * *", "", "Every 10 seconds (UTC)."),
            ("@hourly", "", "Every hour, on the hour (UTC)."),
            ("0 */2 * * *", "", "Every 2nd hour, on the hour (UTC)."),
            (
                "5,35 */2 * * *",
                "",
                "At minutes 5 and 35 of every 2nd hour (UTC).",
            ),
            (
                "*/15 9-17 * 1-3 *",
                "",
                "Every 15 minutes of every hour from 9 to 17, from January to March (UTC).",
            ),
            (
                "30 5 * * * *",
                "",
                "At second 30 of minute 5 of every hour (UTC).",
            ),
            (
                "0 0 1,15 * 1",
                "",
                "At 00:00, on the 1st and the 15th or on Monday (UTC).",
            ),
            (
                "0 0 29 2 */7",
                "",
                "At 00:00, on the 29th if it is also Sunday, in February (UTC).",
            ),
            (
                "0 0 LW * *",
                "",
                "At 00:00, on the last weekday of the month (UTC).",
            ),
            (
                "0 0 L-3,22W * *",
                "",
                "At 00:00, on the day 3 days before the last of the month and the weekday nearest the 22nd (UTC).",
            ),
            (
                "0 0 * * 5#2",
                "",
                "At 00:00, on the 2nd Friday of the month (UTC).",
            ),
            (
                "0 0 * * 5L",
                "",
                "At 00:00, on the last Friday of the month (UTC).",
            ),
            ("@every 90s", "", "Every 1 minute 30 seconds."),
            ("@every 1h", "", "Every hour."),
        ] {
            assert_eq!(
                Schedule::parse(expr, Some(zone)).unwrap().explain(),
                said,
                "{expr}"
            );
        }
    }
}
