//! The command line.

use std::ffi::OsString;
use std::time::Duration;

use contract::stage::{BadStage, Stage};
use lexopt::prelude::*;
use thiserror::Error;

use crate::machine::{Restart, Sides};
use crate::stage::Inside;
use crate::words::{self, Beside};

/// What `--help` prints.
pub const HELP: &str = "\
PID 1 of a bot's container: fetches, runs, restarts, stops and records one bot.

Usage:
  supervisor [OPTIONS]                                 run the bot of the launch (variables, or THE0_LAUNCH=stdin)
  supervisor run [--group] [--grace 20s] -- CMD ARG..  an init for any command
  supervisor health                                    whether the container does its work: 0, or 1 and why not
  supervisor execute|daemon|version ..                 the words of the platform's first runtime
  supervisor exec ..                                   the second stage; started by our own programs

Options:
  --restart always|once|never  start a bot that has ended again [default: always; a scheduled bot: once]
  --no-side-processes          no fetch, no sync, no query: others do that (Kubernetes)
  --die-with-parent=PID        stop when the parent, which is PID, goes away
  --group                      run: hand signals on to the whole process group
  --grace DURATION             run: time between TERM and KILL [default: 20s]
  --version
  --help
";

/// What we are asked to do.
#[derive(Debug)]
pub enum Command {
    /// The contract's run.
    Bot(BotOptions),
    /// An init for any command.
    Run(RunOptions),
    /// The second stage.
    Exec(Stage, Inside),
    /// Whether the container does its work.
    Health,
    /// `sync` in our place.
    Sync(Beside),
    /// `query` alone.
    Queries,
    /// Print this and exit.
    Print(String),
}

/// Options of the contract's run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BotOptions {
    /// When to start again; `None`: by the bot's type.
    pub restart: Option<Restart>,
    /// Who fetches and saves.
    pub sides: Sides,
    /// Who answers questions.
    pub query: QueryServer,
    /// Whose end is ours as well.
    pub die_with_parent: Option<i32>,
    /// The path of a question that is answered instead.
    pub question: Option<String>,
}

/// Who runs `query`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum QueryServer {
    /// We do, for a bot that has a query program.
    #[default]
    Ours,
    /// Somebody else, or nobody.
    Elsewhere,
}

/// Who gets a signal that is handed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The main process.
    Main,
    /// Its process group.
    Group,
}

/// Options of `run`.
#[derive(Debug, PartialEq, Eq)]
pub struct RunOptions {
    /// Who gets signals.
    pub target: Target,
    /// From TERM to KILL.
    pub grace: Duration,
    /// The command.
    pub command: Vec<OsString>,
}

/// The command line is not understood.
#[derive(Debug, Error)]
pub enum UsageError {
    /// An option.
    #[error("{0}; see --help")]
    Option(#[from] lexopt::Error),
    /// `run` without a command.
    #[error("run: no command after --, as in: supervisor run -- sleep 10")]
    NoCommand,
    /// The second stage's arguments.
    #[error(transparent)]
    Stage(#[from] BadStage),
}

/// Reads the arguments after the program's name.
///
/// # Errors
/// What is not understood.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, UsageError> {
    let mut args = args.into_iter().peekable();
    let word = args.peek().and_then(|arg| arg.to_str().map(str::to_owned));
    match word.as_deref() {
        Some("run") => run(lexopt::Parser::from_args(args.skip(1))),
        Some("health") => alone(args, Command::Health),
        Some("version") => alone(args, version()),
        Some("execute") => words::execute(lexopt::Parser::from_args(args.skip(1))),
        Some("daemon") => words::daemon(lexopt::Parser::from_args(args.skip(1))),
        Some("exec") => {
            let (inside, rest) = Inside::take(args.skip(1));
            Ok(Command::Exec(Stage::from_args(rest)?, inside))
        }
        _ => bot(lexopt::Parser::from_args(args)),
    }
}

/// A word that takes nothing after it.
fn alone(args: impl Iterator<Item = OsString>, command: Command) -> Result<Command, UsageError> {
    let mut parser = lexopt::Parser::from_args(args.skip(1));
    match parser.next()? {
        None => Ok(command),
        Some(other) => Err(other.unexpected().into()),
    }
}

fn version() -> Command {
    Command::Print(format!("supervisor {}\n", env!("CARGO_PKG_VERSION")))
}

fn bot(mut parser: lexopt::Parser) -> Result<Command, UsageError> {
    let mut options = BotOptions::default();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("restart") => options.restart = Some(restart(&parser.value()?.string()?)?),
            Long("no-side-processes") => {
                options.sides = Sides::Elsewhere;
                options.query = QueryServer::Elsewhere;
            }
            Long("die-with-parent") => options.die_with_parent = Some(parser.value()?.parse()?),
            Long("version") | Short('V') => return Ok(version()),
            Long("help") | Short('h') => return Ok(Command::Print(HELP.to_owned())),
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(Command::Bot(options))
}

fn restart(word: &str) -> Result<Restart, UsageError> {
    match word {
        "always" => Ok(Restart::Always),
        "once" | "never" => Ok(Restart::Never),
        _ => Err(lexopt::Error::from("--restart takes always, once or never").into()),
    }
}

fn run(mut parser: lexopt::Parser) -> Result<Command, UsageError> {
    let mut options = RunOptions {
        target: Target::Main,
        grace: Duration::from_secs(20),
        command: Vec::new(),
    };
    while let Some(arg) = parser.next()? {
        match arg {
            Long("group") => options.target = Target::Group,
            Long("grace") => options.grace = grace(&parser.value()?.string()?)?,
            Long("help") | Short('h') => return Ok(Command::Print(HELP.to_owned())),
            Value(program) => {
                options.command.push(program);
                options.command.extend(parser.raw_args()?);
            }
            other => return Err(other.unexpected().into()),
        }
    }
    if options.command.is_empty() {
        return Err(UsageError::NoCommand);
    }
    Ok(Command::Run(options))
}

fn grace(text: &str) -> Result<Duration, UsageError> {
    humantime::parse_duration(text)
        .map_err(|_| lexopt::Error::from("--grace takes a duration, as in 20s or 2m").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Command, UsageError> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn run_takes_a_command_with_options_of_its_own() {
        for line in [
            "run --group --grace 5s -- ls -l --group",
            "run --group --grace=5s ls -l --group",
        ] {
            let Ok(Command::Run(options)) = read(line) else {
                panic!("{line}");
            };
            assert_eq!(options.target, Target::Group);
            assert_eq!(options.grace, Duration::from_secs(5));
            assert_eq!(options.command, ["ls", "-l", "--group"]);
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for line in [
            "run",
            "run --",
            "run --grace x -- ls",
            "--restart maybe",
            "--nope",
            "exec",
            "stray",
            "health now",
            "version --long",
        ] {
            assert!(read(line).is_err(), "{line}");
        }
    }

    #[test]
    fn the_contracts_run_has_defaults() {
        let Ok(Command::Bot(options)) = read("") else {
            panic!("no options are fine");
        };
        assert_eq!((options.restart, options.sides), (None, Sides::Ours));
        let Ok(Command::Bot(options)) =
            read("--restart never --no-side-processes --die-with-parent=7")
        else {
            panic!("all options are fine");
        };
        assert_eq!(options.restart, Some(Restart::Never));
        assert_eq!(options.sides, Sides::Elsewhere);
        assert_eq!(options.die_with_parent, Some(7));
    }
}
