//! What a command can fail with, and the exit code that tells it.

use std::path::PathBuf;

use thiserror::Error;

use crate::id::Unclear;

/// A failure that has its own exit code.
#[derive(Debug, Error)]
pub enum Failure {
    /// The agent or the bot answered with an error.
    #[error("{0}")]
    Answer(String),
    /// No agent runs on the data folder.
    #[error(
        "no agent runs on {}: start one (`agent dev DIR --data {}`, or `agent run`), or name its folder with --data",
        .0.display(), .0.display()
    )]
    NoAgent(PathBuf),
    /// Nobody answers where an agent was said to be.
    #[error("the agent at {0} does not answer: {1}")]
    NoAnswer(String, String),
    /// A word does not tell a bot.
    #[error(transparent)]
    Bot(#[from] Unclear),
    /// The same, told by the agent.
    #[error("{0}")]
    NoBot(String),
    /// A program of ours failed with this code and has said why.
    #[error("see above")]
    Told(u8),
    /// What the command was given is not understood.
    #[error("{0}")]
    Words(String),
    /// The session was aborted.
    #[error("aborted")]
    Aborted,
}

/// The exit codes, for `--help`.
pub const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    failed, as the message says; an error answer to a query
  2    the command line, or a schedule's expression, is not understood
  3    no agent runs on the data folder, or answers at --host
  4    no bot, or more than one, is called so
  113  `agent state`: no such state, or the store does not do it
  116  `agent state`: the archive is refused
  130  `agent dev` was aborted by a second Ctrl-C";

/// The exit code for an error.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    match error.downcast_ref::<Failure>() {
        Some(Failure::NoAgent(_) | Failure::NoAnswer(..)) => 3,
        Some(Failure::Bot(_) | Failure::NoBot(_)) => 4,
        Some(Failure::Aborted) => 130,
        Some(Failure::Words(_)) => 2,
        Some(Failure::Told(code)) => *code,
        Some(Failure::Answer(_)) | None => 1,
    }
}
