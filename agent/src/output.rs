//! How answers are printed: tables for people, JSON for scripts.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use contract::record::{Reason, RunRecord};

use crate::engine::usage::{self, Usage};
use crate::report::{self, Row};
use crate::show::Colours;

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For scripts.
    Json,
}

/// Prints to standard output. That nobody reads any more (`agent ps | head -1`) is not an error.
///
/// # Errors
/// Whatever else writing fails with.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    unbroken(writeln!(out, "{text}").and_then(|()| out.flush()))
}

/// A broken pipe is the reader's way to say that it has enough.
///
/// # Errors
/// Any other.
pub fn unbroken(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(err) if err.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

const HEAD: [&str; 11] = [
    "NAME",
    "ID",
    "STATE",
    "SINCE",
    "RUN",
    "RESTARTS",
    "LAST-EXIT",
    "SYNCED",
    "CPU",
    "MEMORY",
    "QUERY",
];

/// The table of `agent ps`, with the reasons of what is not well below it.
pub fn table(rows: &[Row], colours: Colours) -> String {
    let cells: Vec<[String; 11]> = rows.iter().map(cells).collect();
    let width = |n: usize| {
        let widths = cells.iter().map(|row| row[n].chars().count());
        widths.chain([HEAD[n].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
    let mut text = line(&HEAD.map(str::to_owned), &widths, |_, cell| cell.to_owned());
    for cells in &cells {
        let paint = |n: usize, cell: &str| match n {
            2 => colours.paint(style(cells[2].trim()), cell),
            _ => cell.to_owned(),
        };
        text += "\n";
        text += &line(cells, &widths, paint);
    }
    for row in rows {
        if let Some(reason) = &row.reason {
            text += "\n";
            text += &row.name;
            text += ": ";
            text += reason;
        }
    }
    text
}

fn line(cells: &[String; 11], widths: &[usize], paint: impl Fn(usize, &str) -> String) -> String {
    let padded = cells
        .iter()
        .zip(widths)
        .enumerate()
        .map(|(n, (cell, width))| paint(n, &format!("{cell:width$}")));
    padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
}

fn cells(row: &Row) -> [String; 11] {
    let none = || "-".to_owned();
    [
        row.name.clone(),
        row.id.to_string(),
        row.state.clone(),
        row.since
            .map_or_else(none, |since| report::brief(since.age())),
        row.run.to_string(),
        row.restarts.to_string(),
        row.last_exit.as_ref().map_or_else(none, exit),
        match &row.synced {
            _ if row.unsaved => "not all: see volumes".to_owned(),
            _ if row.lost => "not all: see history".to_owned(),
            synced => synced.as_ref().map_or_else(none, report::saved),
        },
        row.usage
            .and_then(|usage| usage.cpu)
            .map_or_else(none, |cpu| format!("{cpu:.1}%")),
        row.usage.map_or_else(none, memory),
        row.query.clone().unwrap_or_else(none),
    ]
}

fn memory(usage: Usage) -> String {
    let used = usage::brief(usage.memory);
    match usage.memory_limit {
        Some(limit) => format!("{used}/{}", usage::brief(limit)),
        None => used,
    }
}

/// How a run ended, in a few words.
fn exit(record: &RunRecord) -> String {
    let age = report::brief(record.ended_at.age());
    match (record.reason, record.signal) {
        (Reason::Exited, _) => format!("{} {age} ago", record.code),
        (Reason::Killed, Some(signal)) => format!("signal {signal} {age} ago"),
        (reason, _) => format!("{} {} {age} ago", record.code, reason.name()),
    }
}

fn style(state: &str) -> Style {
    match state {
        "running" => AnsiColor::Green.on_default(),
        "failed" | "invalid" => AnsiColor::Red.on_default(),
        "waiting" | "held" | "stopping" | "starting" => AnsiColor::Yellow.on_default(),
        _ => Style::new().dimmed(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, state: &str, reason: Option<&str>) -> Row {
        serde_json::from_value(serde_json::json!({
            "id": "abc", "name": name, "source": "s", "state": state, "reason": reason,
            "run": 3, "restarts": 1,
        }))
        .unwrap()
    }

    #[test]
    fn the_table_lines_up_and_reasons_stand_below() {
        let mut watcher = row("watcher", "running", None);
        watcher.usage = Some(Usage {
            cpu: Some(12.5),
            memory: 20 << 20,
            memory_limit: Some(512 << 20),
        });
        let rows = [watcher, row("g", "failed", Some("no node"))];
        let expected = "\
NAME     ID   STATE    SINCE  RUN  RESTARTS  LAST-EXIT  SYNCED  CPU    MEMORY    QUERY
watcher  abc  running  -      3    1         -          -       12.5%  20M/512M  -
g        abc  failed   -      3    1         -          -       -      -         -
g: no node";
        assert_eq!(table(&rows, Colours::Off), expected);
        assert!(table(&rows, Colours::On).contains("\u{1b}["));
    }
}
