//! Why a run was started.
//!
//! What can be observed is not remembered: the cause of a container's start is a label of the container, that of a
//! process's start is in a file beside its bot, and that of a restart in place is how the run before ended.

use std::fmt;
use std::str::FromStr;

use contract::exit;
use contract::record::{Reason, RunRecord, Time};
use serde::{Deserialize, Serialize};

use crate::schedule::ledger::Key;
use crate::schedule::timetable::shown;

/// Why a run was started, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The bot is new here.
    Created,
    /// Its parameters or limits have changed.
    Config,
    /// Its code has changed.
    Code,
    /// It was disabled before.
    Enabled,
    /// A person asked.
    Asked,
    /// It was to run in a container as the operator now wants it.
    Rolled,
    /// The run before ended by itself, or was killed.
    Crashed,
    /// The start before failed.
    Retried,
    /// Its state was edited outside.
    Edited,
    /// Another instance had claimed it.
    Fenced,
    /// Its time had come.
    Tick,
    /// The host or its agent were away, or all bots were stopped.
    Host,
    /// It was found running, started by somebody who left no word.
    Found,
}

/// Characters of the detail of a cause.
const DETAIL: usize = 200;

const NAMES: [(Cause, &str, &str); 13] = [
    (Cause::Created, "created", "created"),
    (Cause::Config, "config", "config changed"),
    (Cause::Code, "code", "code changed"),
    (Cause::Enabled, "enabled", "enabled"),
    (Cause::Asked, "asked", "asked"),
    (Cause::Rolled, "rolled", "rolled"),
    (Cause::Crashed, "crashed", "crashed"),
    (Cause::Retried, "retried", "tried again"),
    (Cause::Edited, "edited", "state edited outside"),
    (Cause::Fenced, "fenced", "fenced"),
    (Cause::Tick, "tick", "tick"),
    (Cause::Host, "host", "host"),
    (Cause::Found, "found", "found running"),
];

impl Cause {
    /// The name in records and labels.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// For a person.
    pub fn text(self) -> &'static str {
        self.row().2
    }

    fn row(self) -> (Cause, &'static str, &'static str) {
        let row = NAMES.iter().find(|(cause, ..)| *cause == self);
        row.copied().unwrap_or((self, "found", "found running"))
    }
}

/// A start and why it is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// Why.
    pub cause: Cause,
    /// With what it crashed, or more that a person should know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
    /// When; nothing of an earlier start is younger.
    pub at: Time,
    /// Which try of which tick of a schedule it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tick: Option<Key>,
}

impl Start {
    /// One that is made now.
    pub fn now(cause: Cause, because: Option<String>) -> Self {
        let cut = |text: String| text.chars().take(DETAIL).collect();
        Self {
            cause,
            because: because.map(cut),
            at: Time::now(),
            tick: None,
        }
    }

    /// The same, of a tick.
    pub fn of_tick(self, tick: Key) -> Self {
        let due = shown(tick.at);
        let because = match tick.attempt {
            1 | Key::CLUSTERS => due,
            n => format!("{due}, try {n}"),
        };
        Self {
            cause: Cause::Tick,
            because: Some(because),
            tick: Some(tick),
            ..self
        }
    }
}

/// The value of a label.
impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.because {
            Some(because) => write!(f, "{}: {because}", self.cause.name()),
            None => f.write_str(self.cause.name()),
        }
    }
}

/// A cause and its detail, as a label has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told(pub Cause, pub Option<String>);

impl FromStr for Told {
    type Err = ();

    fn from_str(label: &str) -> Result<Self, ()> {
        let (name, because) = match label.split_once(": ") {
            Some((name, because)) => (name, Some(because.to_owned())),
            None => (label, None),
        };
        let row = NAMES
            .iter()
            .find(|(_, known, _)| *known == name)
            .ok_or(())?;
        Ok(Self(row.0, because))
    }
}

/// What is known of a start beside its runs: what it was made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Birth {
    /// The start.
    #[serde(flatten)]
    pub start: Start,
    /// The bot's name then.
    pub name: String,
    /// The code's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The code's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Digest of the parameters, where the code's key may change with them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
    /// The launch digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch: Option<String>,
    /// The image's digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The container's id, short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
}

/// Why the supervisor started a run itself, after `last`.
pub fn in_place(last: &RunRecord) -> Told {
    match last.reason {
        Reason::Edited => Told(Cause::Edited, None),
        Reason::Fenced => Told(Cause::Fenced, None),
        Reason::StartFailed => Told(Cause::Retried, last.message.clone()),
        Reason::Stopped => Told(Cause::Host, Some("it was stopped from outside".to_owned())),
        _ => Told(Cause::Crashed, Some(crash(last))),
    }
}

/// How a run ended that nobody stopped, in a few words.
pub fn crash(last: &RunRecord) -> String {
    let code = i32::from(last.code);
    ended_with(Some(last.reason), Some(code), last.signal)
}

/// The same from its parts.
pub fn ended_with(reason: Option<Reason>, code: Option<i32>, signal: Option<i32>) -> String {
    match (reason, signal, code) {
        (Some(Reason::Oom), ..) => "out of memory".to_owned(),
        (Some(Reason::Disk), ..) => "over its limit of disk".to_owned(),
        (Some(Reason::Lost), ..) => "its supervisor was killed with it".to_owned(),
        (_, Some(signal), _) => format!("signal {signal}"),
        (_, None, Some(code)) => match u8::try_from(code).ok().and_then(exit::meaning) {
            Some(meaning) if reason != Some(Reason::Exited) => format!("exit {code}, {meaning}"),
            _ => format!("exit {code}"),
        },
        (_, None, None) => "its end was not seen".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_goes_through_a_label() {
        for (cause, ..) in NAMES {
            for because in [None, Some("exit 1: x".to_owned())] {
                let label = Start::now(cause, because.clone()).to_string();
                assert_eq!(label.parse(), Ok(Told(cause, because)), "{label}");
            }
            let json = serde_json::to_string(&cause).unwrap();
            assert_eq!(json, format!("{:?}", cause.name()));
        }
        assert_eq!("".parse::<Told>(), Err(()));
        assert_eq!("later: x".parse::<Told>(), Err(()));
    }

    #[test]
    fn what_a_run_crashed_with_is_said_in_a_few_words() {
        let of = |reason, code, signal| ended_with(Some(reason), code, signal);
        assert_eq!(of(Reason::Exited, Some(1), None), "exit 1");
        assert_eq!(of(Reason::Exited, Some(112), None), "exit 112");
        assert_eq!(of(Reason::Killed, Some(139), Some(11)), "signal 11");
        assert_eq!(of(Reason::Oom, Some(137), Some(9)), "out of memory");
        assert_eq!(
            of(Reason::StartFailed, Some(112), None),
            "exit 112, the code could not be fetched"
        );
    }
}
