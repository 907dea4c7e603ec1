//! What our programs say to a person: one line on standard error.
//!
//! `2026-11-21T07:52:48.123Z supervisor warn: sync ended with code 3, starting it again in 2s`
//!
//! or, for programs that read it, with `LOG_FORMAT=json`, the same as one JSON object a line, with the bot, its run and
//! the generation of its claim where the line is about these:
//!
//! `{"ts":"..","level":"warn","program":"supervisor","bot":"abc","run":7,"msg":"sync ended with code 3, .."}`
//!
//! A line is one write, so lines of several programs on one pipe do not mix, and a standard error that is
//! closed or broken never ends a program. `LOG_LEVEL` (debug, info, warn, error) sets what is said.

use std::fmt::{self, Display};
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{OnceLock, RwLock};
use std::time::SystemTime;

use serde::Serialize;

use crate::vars;

/// How important a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For the person who looks for a fault in these programs.
    Debug,
    /// What happened.
    Info,
    /// Something is wrong and is being dealt with.
    Warn,
    /// Something is wrong and a person must act.
    Error,
}

impl Level {
    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        }
    }
}

static PROGRAM: OnceLock<&'static str> = OnceLock::new();
static LEAST: AtomicU8 = AtomicU8::new(Level::Info as u8);
static JSON: AtomicBool = AtomicBool::new(false);
static BOT: RwLock<Option<String>> = RwLock::new(None);
/// 0: there is none.
static RUN: AtomicU64 = AtomicU64::new(0);
static GENERATION: AtomicU64 = AtomicU64::new(0);

/// One line as JSON. No field ever holds a value of a bot's parameters.
#[derive(Debug, Clone, Serialize)]
pub struct Line<'a> {
    /// When it was said, RFC 3339 in UTC with milliseconds.
    pub ts: String,
    /// debug, info, warn or error.
    pub level: &'a str,
    /// Who says it.
    pub program: &'a str,
    /// The bot it is about, by its id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bot: Option<&'a str>,
    /// The bot's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<&'a str>,
    /// The number of the bot's run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<u64>,
    /// The generation of the claim on its state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// What is said.
    pub msg: &'a str,
}

impl Line<'_> {
    /// As text, with the line's end.
    pub fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default() + "\n"
    }
}

/// The time of a line said now.
pub fn now() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}

/// Names the program and reads the level from `LOG_LEVEL`'s value; called once, first thing in `main`. The form, and
/// whose lines these are, come from the environment ([`vars::LOG_FORMAT`], [`vars::BOT_ID`]).
pub fn open(program: &'static str, level: Option<&str>) {
    let _ = PROGRAM.set(program);
    set_level(level);
    set_format(std::env::var(vars::LOG_FORMAT).ok().as_deref());
    if let Ok(bot) = std::env::var(vars::BOT_ID) {
        about(&bot);
    }
}

/// Says from now on what `LOG_LEVEL`'s value asks for, for a program that learns it only when it has begun.
pub fn set_level(level: Option<&str>) {
    let level = match level.map(str::to_ascii_lowercase).as_deref() {
        Some("debug" | "trace") => Level::Debug,
        Some("warn" | "warning") => Level::Warn,
        Some("error") => Level::Error,
        _ => Level::Info,
    };
    LEAST.store(level as u8, Ordering::Relaxed);
}

/// Whether lines of `level` are said.
pub fn is_told(level: Level) -> bool {
    level as u8 >= LEAST.load(Ordering::Relaxed)
}

/// Says it from now on in the form that `LOG_FORMAT`'s value asks for: `json`, or else text.
pub fn set_format(format: Option<&str>) {
    let json = format.is_some_and(|format| format.eq_ignore_ascii_case("json"));
    JSON.store(json, Ordering::Relaxed);
}

/// Whether lines are JSON.
pub fn is_json() -> bool {
    JSON.load(Ordering::Relaxed)
}

/// Lines are about this bot from now on.
pub fn about(bot: &str) {
    if let (Ok(mut known), false) = (BOT.write(), bot.is_empty()) {
        *known = Some(bot.to_owned());
    }
}

/// Lines are about this run from now on.
pub fn in_run(run: u64) {
    RUN.store(run, Ordering::Relaxed);
}

/// The bot's state is claimed with this generation from now on.
pub fn as_generation(generation: u64) {
    GENERATION.store(generation, Ordering::Relaxed);
}

/// Writes one line if `level` is said; in a line of text, breaks become spaces.
pub fn say(level: Level, text: fmt::Arguments<'_>) {
    if !is_told(level) {
        return;
    }
    let program = PROGRAM.get().copied().unwrap_or("the0");
    let line = if is_json() {
        json(program, level, &text.to_string())
    } else {
        let (now, level) = (now(), level.name());
        format!("{now} {program} {level}: {text}").replace(['\n', '\r'], " ") + "\n"
    };
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// Whether a line, without its end, is one that a program in a bot's container has said here, and not the bot.
pub fn is_ours(line: &[u8]) -> bool {
    const PROGRAMS: [&str; 3] = ["supervisor", "sync", "query"];
    const LEVELS: [&str; 4] = ["debug:", "info:", "warn:", "error:"];
    let Some(head) = line.get(..line.len().min(200)) else {
        return false;
    };
    let head = String::from_utf8_lossy(head);
    if head.starts_with("{\"ts\":\"") {
        let is_in = |program: &str| head.contains(&format!("\"program\":\"{program}\""));
        return PROGRAMS.iter().any(|program| is_in(program));
    }
    let mut words = head.split(' ');
    let is_time = words
        .next()
        .is_some_and(|time| time.len() == 24 && time.ends_with('Z'));
    let is_program = words
        .next()
        .is_some_and(|program| PROGRAMS.contains(&program));
    is_time && is_program && words.next().is_some_and(|level| LEVELS.contains(&level))
}

fn json(program: &str, level: Level, msg: &str) -> String {
    let some = |number: &AtomicU64| Some(number.load(Ordering::Relaxed)).filter(|n| *n > 0);
    let bot = BOT.read().ok().and_then(|bot| bot.clone());
    let line = Line {
        ts: now(),
        level: level.name(),
        program,
        bot: bot.as_deref(),
        name: None,
        run: some(&RUN),
        generation: some(&GENERATION),
        msg,
    };
    line.text()
}

/// An error with all its causes, separated by `: `.
pub fn chain(error: &dyn std::error::Error) -> impl Display {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

/// Says a line at the level `debug`.
#[macro_export]
macro_rules! debug { ($($arg:tt)*) => { $crate::journal::say($crate::journal::Level::Debug, format_args!($($arg)*)) } }
/// Says a line at the level `info`.
#[macro_export]
macro_rules! info { ($($arg:tt)*) => { $crate::journal::say($crate::journal::Level::Info, format_args!($($arg)*)) } }
/// Says a line at the level `warn`.
#[macro_export]
macro_rules! warn { ($($arg:tt)*) => { $crate::journal::say($crate::journal::Level::Warn, format_args!($($arg)*)) } }
/// Says a line at the level `error`.
#[macro_export]
macro_rules! error { ($($arg:tt)*) => { $crate::journal::say($crate::journal::Level::Error, format_args!($($arg)*)) } }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_lines_are_told_from_a_bots() {
        let ours = [
            "2026-11-21T07:52:48.123Z supervisor warn: sync ended",
            "2026-11-21T07:52:48.123Z sync info: ",
            r#"{"ts":"2026-11-21T07:52:48.123Z","level":"info","program":"query","msg":"m"}"#,
        ];
        let bots = [
            "",
            "Traceback (most recent call last):",
            "2026-11-21T07:52:48.123Z bot warn: sync ended",
            "2026-11-21T07:52:48.123Z supervisor says: no",
            r#"{"ts":"2026-11-21T07:52:48.123Z","price":1}"#,
        ];
        assert!(ours.iter().all(|line| is_ours(line.as_bytes())));
        assert!(!bots.iter().any(|line| is_ours(line.as_bytes())));
        assert!(!is_ours(&[0xff, b' ', 0xfe]));
    }

    /// Readers of logs rely on these names and on their order.
    #[test]
    fn a_line_as_json_is_the_one_promised() {
        let line = Line {
            ts: "2026-11-21T07:52:48.123Z".into(),
            level: Level::Warn.name(),
            program: "supervisor",
            bot: Some("abc"),
            name: Some("grid"),
            run: Some(7),
            generation: Some(3),
            msg: "it said \"no\"\nand ended",
        };
        let bare = Line {
            bot: None,
            name: None,
            run: None,
            generation: None,
            ..line.clone()
        };
        let text = line.text() + &bare.text();
        let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/golden/log.ndjson");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(golden, &text).unwrap();
        }
        assert_eq!(text, std::fs::read_to_string(golden).unwrap());
    }
}
