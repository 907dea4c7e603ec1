//! History for a person: a line a run, that answers why it was started and what was lost.

use contract::record::{Outcome, Reason};

use super::cause::Cause;
use super::entry::Entry;
use crate::report::brief;

const HEAD: [&str; 7] = [
    "STARTED", "RUN", "VERSION", "WHY", "LASTED", "ENDED", "SAVED",
];

/// The table of `agent history`, newest last.
pub fn table(entries: &[Entry]) -> String {
    let rows: Vec<[String; 7]> = entries
        .iter()
        .enumerate()
        .map(|(n, entry)| cells(entry, n + 1 < entries.len()))
        .collect();
    let mut widths = HEAD.map(str::len);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |row: &[String; 7]| {
        let padded = row.iter().zip(widths);
        let padded: Vec<String> = padded
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        padded.join("  ").trim_end().to_owned()
    };
    let head = line(&HEAD.map(str::to_owned));
    let lines = std::iter::once(head).chain(rows.iter().map(line));
    lines.collect::<Vec<_>>().join("\n")
}

fn cells(entry: &Entry, has_later: bool) -> [String; 7] {
    let started = String::from(entry.started_at);
    let started = started.get(..19).unwrap_or(&started).replace('T', " ");
    [
        started,
        if entry.run == 0 {
            "-".to_owned()
        } else {
            entry.run.to_string()
        },
        entry.version.clone().unwrap_or_else(|| "-".to_owned()),
        why(entry),
        lasted(entry),
        ended(entry, has_later),
        saved(entry),
    ]
}

fn why(entry: &Entry) -> String {
    match &entry.because {
        Some(because) if entry.cause == Cause::Crashed => {
            format!("crashed: {}", one_line(because))
        }
        Some(because) => format!("{}: {}", entry.cause.text(), one_line(because)),
        None => entry.cause.text().to_owned(),
    }
}

fn lasted(entry: &Entry) -> String {
    let duration = entry.duration_ms.map(std::time::Duration::from_millis);
    match duration {
        Some(duration) if entry.count == 1 => brief(duration),
        Some(_) => "-".to_owned(),
        None => brief(entry.started_at.age()),
    }
}

fn ended(entry: &Entry, has_later: bool) -> String {
    let Some(reason) = entry.reason else {
        let text = if has_later {
            "its end was not seen"
        } else {
            "runs"
        };
        return text.to_owned();
    };
    let code = entry
        .exit
        .map_or(String::new(), |code| format!("exit {code}"));
    let how = match (reason, entry.signal) {
        (Reason::Exited, _) => code,
        (Reason::Killed, Some(signal)) => format!("signal {signal}"),
        (Reason::Stopped, _) => match &entry.stopped {
            Some(why) => format!("stopped: {why}"),
            None => "stopped from outside".to_owned(),
        },
        (Reason::StartFailed, _) => "not started".to_owned(),
        (Reason::Oom, _) => "out of memory".to_owned(),
        (Reason::Lost, _) => "killed with its supervisor".to_owned(),
        (other, _) => format!("{} {code}", other.name()).trim_end().to_owned(),
    };
    let times = match entry.count {
        1 => String::new(),
        count => format!(
            " {count} times until {}",
            entry.ended_at.map_or(String::new(), clock)
        ),
    };
    let said = entry.result.as_ref().and_then(|result| {
        let word = result.is_error().then_some("error")?;
        Some(format!(
            "{word}: {}",
            result.message.as_deref().unwrap_or("no message")
        ))
    });
    let more = said.or_else(|| entry.message.clone());
    let more = more.map_or(String::new(), |more| format!(" ({})", one_line(&more)));
    format!("{how}{times}{more}")
}

/// What of it is in the store, and what is lost.
fn saved(entry: &Entry) -> String {
    let mut parts = Vec::new();
    match &entry.saved {
        None => parts.push("-".to_owned()),
        Some(saved) => {
            let generation = saved
                .generation
                .map_or(String::new(), |n| format!(", generation {n}"));
            match (saved.all, saved.ok_at) {
                (true, _) => parts.push(format!("all{generation}")),
                (false, _) if saved.outcome == Some(Outcome::Ok) && saved.left_out > 0 => {
                    parts.push(format!("all but {} files{generation}", saved.left_out));
                }
                (false, Some(at)) => parts.push(format!("not since {}{generation}", clock(at))),
                (false, None) => parts.push("nothing".to_owned()),
            }
        }
    }
    if entry.log_lines_dropped > 0 {
        parts.push(format!("{} log lines lost", entry.log_lines_dropped));
    }
    parts.join("; ")
}

fn clock(time: contract::record::Time) -> String {
    let text = String::from(time);
    text.get(11..19).unwrap_or(&text).to_owned()
}

/// A text as part of a line, not too long.
fn one_line(text: &str) -> String {
    const MOST: usize = 160;
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if flat.chars().count() <= MOST {
        return flat;
    }
    flat.chars().take(MOST).chain("..".chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::entry::Saved;
    use crate::history::tests::{birth, bot, time};

    #[test]
    fn a_line_says_why_it_was_restarted_and_what_it_lost() {
        let mut one = Entry::open(&bot(), &birth(time(0)), 1, time(0));
        one.end(time(61));
        one.reason = Some(Reason::Exited);
        one.exit = Some(1);
        one.saved = Some(Saved {
            outcome: Some(Outcome::Ok),
            generation: Some(3),
            ok_at: Some(time(61)),
            all: true,
            left_out: 0,
        });
        let mut two = Entry::open(&bot(), &birth(time(0)), 2, time(61));
        (two.cause, two.because) = (Cause::Crashed, Some("exit 1".into()));
        two.end(time(200));
        two.reason = Some(Reason::Stopped);
        two.stopped = Some("changed".into());
        two.saved = Some(Saved {
            outcome: Some(Outcome::Failed),
            generation: Some(3),
            ok_at: Some(time(100)),
            all: false,
            left_out: 0,
        });
        two.log_lines_dropped = 7;
        let expected = "\
STARTED              RUN  VERSION  WHY              LASTED  ENDED             SAVED
1970-01-01 00:00:00  1    1.0.0    created          61s     exit 1            all, generation 3
1970-01-01 00:01:01  2    1.0.0    crashed: exit 1  2m      stopped: changed  not since 00:01:40, generation 3; 7 log lines lost";
        assert_eq!(table(&[one, two]), expected);
    }

    #[test]
    fn starts_that_failed_in_one_way_are_one_line() {
        let mut failed = Entry::open(&bot(), &birth(time(0)), 0, time(0));
        failed.end(time(60));
        failed.reason = Some(Reason::StartFailed);
        failed.message = Some("there is no image\nx".into());
        failed.count = 4;
        let text = table(&[failed]);
        assert!(
            text.contains("not started 4 times until 00:01:00 (there is no image x)"),
            "{text}"
        );
    }
}
