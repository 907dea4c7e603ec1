//! Why a bot does not run, whichever engine should run it.

use super::bounds::Refused;
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
}

impl From<Refused> for NotStarted {
    fn from(why: Refused) -> Self {
        Self::new(Outcome::Refused, why.to_string())
    }
}
