//! `@every`: an interval as Go writes durations.

use super::error::{Error, Part};

/// Reads `1h30m`, `90s`, `1.5h`: whole seconds, at least one.
pub fn parse(text: &str) -> Result<i64, Error> {
    let refuse = |reason: &str| Error::new(Part::Interval, text, reason);
    if text.starts_with('-') {
        return Err(refuse("an interval does not go back"));
    }
    let nanos = nanoseconds(text.strip_prefix('+').unwrap_or(text))
        .ok_or_else(|| refuse("not a duration: write it as in 90s, 1h30m or 1.5h"))?;
    if nanos == 0 {
        return Err(refuse("an interval of 0 never comes forward"));
    }
    let nanos = i64::try_from(nanos).map_err(|_| refuse("longer than 292 years"))?;
    Ok((nanos / 1_000_000_000).max(1))
}

fn nanoseconds(mut rest: &str) -> Option<u128> {
    let mut sum = 0_u128;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(end);
        let end = tail.find(|c: char| c.is_ascii_digit() || c == '.');
        let (unit, tail) = tail.split_at(end.unwrap_or(tail.len()));
        sum = sum.checked_add(scaled(number, nanoseconds_of(unit)?)?)?;
        rest = tail;
    }
    Some(sum)
}

fn nanoseconds_of(unit: &str) -> Option<u128> {
    Some(match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// A decimal number of a unit; digits past the eighteenth are below a nanosecond.
fn scaled(number: &str, unit: u128) -> Option<u128> {
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if whole.len() + part.len() == 0 || part.contains('.') {
        return None;
    }
    let mut value = match whole {
        "" => 0,
        digits => u128::from(digits.parse::<u64>().ok()?) * unit,
    };
    let mut place = unit;
    for digit in part.bytes().take(18) {
        place /= 10;
        value += u128::from(digit - b'0') * place;
    }
    Some(value)
}

/// The interval in words: `90 seconds`, `1 hour 30 minutes`.
pub fn words(seconds: i64) -> String {
    let units = [
        (seconds / 86_400, "day"),
        (seconds / 3_600 % 24, "hour"),
        (seconds / 60 % 60, "minute"),
        (seconds % 60, "second"),
    ];
    let set: Vec<_> = units.into_iter().filter(|(count, _)| *count > 0).collect();
    if let [(1, unit)] = set[..] {
        return unit.to_owned();
    }
    let told = set.iter().map(|(count, unit)| {
        let s = if *count == 1 { "" } else { "s" };
        format!("{count} {unit}{s}")
    });
    told.collect::<Vec<_>>().join(" ")
}
