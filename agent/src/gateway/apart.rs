//! Who answers for a bot that does not run: an instance for this one question, on a copy of the bot's last state.

use std::time::Duration;

use hyper::body::Bytes;

use crate::ask::Question;
use crate::document::Bot;
use crate::engine::{docker, kubernetes};

/// Time between two looks for what nobody waits for.
const SWEEP: Duration = Duration::from_secs(60);
/// The same where each is a request to an API server that many share, and the last has found nothing.
const SELDOM: Duration = Duration::from_mins(10);

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoAnswer {
    /// There are as many instances as may be.
    Busy,
    /// The question's time is over, and what it was waited for, if that is known.
    Late(Option<String>),
    /// For a person.
    Failed(String),
}

impl From<String> for NoAnswer {
    fn from(why: String) -> Self {
        Self::Failed(why)
    }
}

/// Asks bots that do not run; clones share what is known.
#[derive(Debug, Clone)]
pub enum Apart {
    /// In a container.
    Docker(docker::question::Questions),
    /// In a Pod.
    Kubernetes(kubernetes::question::Questions),
}

impl Apart {
    /// Puts a question; `left` is how long that may take. Gives what the query program has left as its result.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn put(
        &self,
        bot: &Bot,
        question: &Question,
        left: Duration,
    ) -> Result<Bytes, NoAnswer> {
        match self {
            Self::Docker(questions) => questions.put(bot, question, left).await,
            Self::Kubernetes(questions) => questions.put(bot, question, left).await,
        }
    }

    /// Keeps instances waiting for questions, where that is wanted; it does not end then.
    pub async fn keep_warm(&self) {
        match self {
            Self::Docker(questions) => questions.keep_warm().await,
            Self::Kubernetes(_) => {}
        }
    }

    /// Removes what nobody waits for: an agent was killed that had made it. Gives when to look again.
    ///
    /// # Errors
    /// What the engine says.
    pub async fn sweep(&self) -> Result<Duration, String> {
        match self {
            Self::Docker(questions) => questions.sweep().await.map(|()| SWEEP),
            Self::Kubernetes(questions) => match questions.sweep().await? {
                0 => Ok(SELDOM),
                _ => Ok(SWEEP),
            },
        }
    }

    /// Whether something could not be removed since the last look.
    pub fn owes(&self) -> bool {
        match self {
            Self::Docker(_) => false,
            Self::Kubernetes(questions) => questions.owes(),
        }
    }

    /// Waits until all that was made is removed, as far as that goes.
    pub async fn end(&self) {
        match self {
            Self::Docker(questions) => questions.end().await,
            Self::Kubernetes(questions) => questions.end().await,
        }
    }
}
