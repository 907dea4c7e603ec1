//! Why something was not done, for the plan and for a person.

use bollard::errors::Error;

use super::container::Refused;
use super::image::NoImage;
use crate::plan::Outcome;

/// Why a bot does not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotStarted {
    /// For the plan.
    pub outcome: Outcome,
    /// For a person.
    pub why: String,
}

impl NotStarted {
    /// This one.
    pub fn new(outcome: Outcome, why: impl Into<String>) -> Self {
        let why = why.into();
        Self { outcome, why }
    }

    /// What the daemon would not do: `what`, and its own words.
    pub fn by_engine(what: &str, err: &Error) -> Self {
        // What it calls a bad request it will call so again.
        let outcome = if has_status(err, 400) {
            Outcome::Refused
        } else {
            Outcome::Failed
        };
        Self::new(outcome, format!("{what}: {}", said(err)))
    }
}

impl From<NoImage> for NotStarted {
    fn from(why: NoImage) -> Self {
        Self::new(Outcome::Failed, why.to_string())
    }
}

impl From<Refused> for NotStarted {
    fn from(why: Refused) -> Self {
        Self::new(Outcome::Refused, why.to_string())
    }
}

/// The daemon's own words.
pub fn said(err: &Error) -> String {
    match err {
        Error::DockerResponseServerError { message, .. } => message.trim().to_owned(),
        Error::RequestTimeoutError => "the Docker daemon did not answer in time".to_owned(),
        other => format!("the Docker daemon: {other}"),
    }
}

/// Whether the daemon answered with this status.
pub fn has_status(err: &Error, code: u16) -> bool {
    matches!(err, Error::DockerResponseServerError { status_code, .. } if *status_code == code)
}
