//! What the in-container programs say to a person: one line on standard error.
//!
//! `2026-11-21T07:52:48.123Z supervisor warn: sync ended with code 3, starting it again in 2s`
//!
//! A line is one write, so lines of several programs on one pipe do not mix, and a standard error that is
//! closed or broken never ends a program. `LOG_LEVEL` (debug, info, warn, error) sets what is said.

use std::fmt::{self, Display};
use std::io::Write;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::SystemTime;

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
    fn name(self) -> &'static str {
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

/// Names the program and reads the level from `LOG_LEVEL`'s value; called once, first thing in `main`.
pub fn open(program: &'static str, level: Option<&str>) {
    let _ = PROGRAM.set(program);
    set_level(level);
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

/// Writes one line if `level` is said; line breaks in the text become spaces.
pub fn say(level: Level, text: fmt::Arguments<'_>) {
    if (level as u8) < LEAST.load(Ordering::Relaxed) {
        return;
    }
    let program = PROGRAM.get().copied().unwrap_or("the0");
    let now = humantime::format_rfc3339_millis(SystemTime::now());
    let line =
        format!("{now} {program} {}: {text}", level.name()).replace(['\n', '\r'], " ") + "\n";
    let _ = std::io::stderr().write_all(line.as_bytes());
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
