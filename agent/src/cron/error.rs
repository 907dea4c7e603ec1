//! Why an expression is refused, and where.

use std::fmt;

use thiserror::Error;

/// An expression that is refused: the part at fault, what stands there, and why it cannot be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{part} `{text}`: {reason}")]
pub struct Error {
    /// The part at fault.
    pub part: Part,
    text: String,
    reason: String,
}

impl Error {
    /// A refusal; of a long text only the beginning is told.
    pub fn new(part: Part, text: &str, reason: impl Into<String>) -> Self {
        const TOLD: usize = 60;
        let mut told: String = text.chars().take(TOLD).collect();
        if told.len() < text.len() {
            told.push('…');
        }
        Self {
            part,
            text: told.escape_debug().to_string(),
            reason: reason.into(),
        }
    }
}

/// A part of what a schedule is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The expression as a whole.
    Expression,
    /// The zone, before the expression or beside it.
    Timezone,
    /// What stands after `@every`.
    Interval,
    /// The seconds of six fields.
    Second,
    /// The minutes.
    Minute,
    /// The hours.
    Hour,
    /// The days of the month.
    Day,
    /// The months.
    Month,
    /// The days of the week.
    Weekday,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expression => "expression",
            Self::Timezone => "timezone",
            Self::Interval => "interval",
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day of month",
            Self::Month => "month",
            Self::Weekday => "day of week",
        })
    }
}
