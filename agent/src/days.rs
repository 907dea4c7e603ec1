//! `agent logs --day`: the end of a day's log, from the store.

use std::io::Write;

use contract::{BotId, ObjectKey};
use serde_json::Value;

use crate::logs::{Stamps, Tail};
use crate::store::{Store, StoreError};

/// How much of a day is shown, as the platform's API does it.
const MOST: u64 = 512 << 10;

/// What there is of a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Day {
    /// Nothing.
    Absent,
    /// All of it was looked at.
    Whole,
    /// Its end was.
    End,
}

/// A day as people write it, `2026-11-21` or `20261121`.
///
/// # Errors
/// The form that is understood.
pub fn day(text: &str) -> Result<String, String> {
    let digits = text.replace('-', "");
    let is_day = digits.len() == 8 && digits.bytes().all(|b| b.is_ascii_digit());
    if is_day {
        Ok(digits)
    } else {
        Err("give a day of UTC as in 2026-11-21".into())
    }
}

/// Writes the last lines of the log of `bot` on `day`.
///
/// # Errors
/// What the store answers, or `out` cannot be written.
pub fn show(
    store: &Store,
    bot: &BotId,
    day: &str,
    (tail, stamps): (Tail, Stamps),
    out: &mut impl Write,
) -> anyhow::Result<Day> {
    let key = ObjectKey::log(bot, day)?;
    let Some(bytes) = fetch(store, &key)? else {
        return Ok(Day::Absent);
    };
    let (lines, day) = whole_lines(&bytes);
    let skip = match tail {
        Tail::All => 0,
        Tail::Lines(count) => lines.len().saturating_sub(count),
    };
    let mut text = Vec::new();
    for line in &lines[skip..] {
        push_line(line, stamps, &mut text);
    }
    crate::output::unbroken(out.write_all(&text))?;
    Ok(if skip > 0 { Day::Whole } else { day })
}

fn fetch(store: &Store, key: &ObjectKey) -> Result<Option<Vec<u8>>, StoreError> {
    // One byte more tells whether there is more.
    store.log_tail(key, MOST + 1)
}

/// Where the beginning is cut off, the first line may be half of one.
fn whole_lines(bytes: &[u8]) -> (Vec<&[u8]>, Day) {
    let is_cut = bytes.len() as u64 > MOST;
    let mut lines: Vec<_> = bytes.split(|b| *b == b'\n').collect();
    if lines.last().is_some_and(|last| last.is_empty()) {
        lines.pop();
    }
    if is_cut {
        lines.remove(0);
    }
    (lines, if is_cut { Day::End } else { Day::Whole })
}

/// What the store made of a line of text is text again; what a bot wrote as JSON stays as it is.
fn push_line(line: &[u8], stamps: Stamps, out: &mut Vec<u8>) {
    let parsed = serde_json::from_slice::<Value>(line).ok();
    let text = parsed.as_ref().and_then(|value| {
        let fields = value.as_object().filter(|fields| fields.len() == 2)?;
        Some((
            fields.get("timestamp")?.as_str()?,
            fields.get("message")?.as_str()?,
        ))
    });
    match (text, stamps) {
        (None, _) => out.extend(line),
        (Some((_, message)), Stamps::Hidden) => out.extend(message.as_bytes()),
        (Some((time, message)), Stamps::Shown) => out.extend(format!("{time} {message}").bytes()),
    }
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_text_is_shown_as_the_bot_wrote_it() {
        let shown = |line: &str, stamps| {
            let mut out = Vec::new();
            push_line(line.as_bytes(), stamps, &mut out);
            String::from_utf8(out).unwrap()
        };
        let text = r#"{"timestamp":"2026-11-21T08:21:01.123Z","message":"a \"b\""}"#;
        assert_eq!(shown(text, Stamps::Hidden), "a \"b\"\n");
        assert_eq!(
            shown(text, Stamps::Shown),
            "2026-11-21T08:21:01.123Z a \"b\"\n"
        );
        let own = r#"{"timestamp":"t","message":"m","level":"info"}"#;
        assert_eq!(shown(own, Stamps::Hidden), format!("{own}\n"));
    }

    #[test]
    fn of_a_long_day_the_end_is_shown_from_a_whole_line_on() {
        let line = "x".repeat(1023) + "\n";
        let whole = line.repeat(512);
        assert_eq!(whole_lines(whole.as_bytes()).0.len(), 512);
        assert_eq!(whole_lines(whole.as_bytes()).1, Day::Whole);
        let cut = format!("y{whole}");
        let (lines, day) = whole_lines(cut.as_bytes());
        assert_eq!((lines.len(), day), (511, Day::End));
        assert!(lines.iter().all(|line| line.len() == 1023));
    }

    #[test]
    fn a_day_is_given_with_or_without_dashes() {
        assert_eq!(day("2026-11-21"), Ok("20261121".into()));
        assert_eq!(day("20261121"), Ok("20261121".into()));
        assert!(day("yesterday").is_err() && day("2026-11").is_err());
    }
}
