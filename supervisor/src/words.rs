//! The command line of the runtime that this one replaces, so that what starts its containers needs another image only:
//!
//! ```text
//! execute [--skip-sync] [--skip-query-server]      the contract's run, less what others do
//! execute --query-server-only                      `query`
//! execute --query PATH                             one question, answered on standard output or into the store
//! daemon init --bot-id .. --code-path .. ..        `sync fetch`
//! daemon sync --bot-id .. --state-path .. ..       `sync watch`
//! version
//! ```
//!
//! What the flags say becomes the contract's variables; the program is one that lies beside ours and takes our place.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command as Program;

use contract::launch::Variables;
use contract::{Launch, exit, vars};
use lexopt::prelude::*;

use crate::cli::{BotOptions, Command, QueryServer, UsageError};
use crate::machine::Sides;
use crate::{launch, spawn};

/// A program of ours that takes our place.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Beside {
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Variables it has besides ours.
    pub variables: Vec<(&'static str, OsString)>,
}

/// Reads what follows `execute`.
///
/// # Errors
/// What is not understood.
pub fn execute(mut parser: lexopt::Parser) -> Result<Command, UsageError> {
    let mut options = BotOptions::default();
    let mut serves = false;
    while let Some(arg) = parser.next()? {
        match arg {
            Long("query") => options.question = Some(parser.value()?.string()?),
            Long("query-server-only") => serves = true,
            Long("skip-sync") => options.sides = Sides::Elsewhere,
            Long("skip-query-server") => options.query = QueryServer::Elsewhere,
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(if serves && options.question.is_none() {
        Command::Queries
    } else {
        Command::Bot(options)
    })
}

/// Reads what follows `daemon`.
///
/// # Errors
/// What is not understood.
pub fn daemon(mut parser: lexopt::Parser) -> Result<Command, UsageError> {
    let word = match parser.next()? {
        Some(Value(word)) => word,
        Some(other) => return Err(other.unexpected().into()),
        None => return Err(lexopt::Error::from("daemon takes init or sync").into()),
    };
    let (verb, watches) = match word.to_str() {
        Some("init") => ("fetch", false),
        Some("sync") => ("watch", true),
        _ => return Err(lexopt::Error::from("daemon takes init or sync").into()),
    };
    let mut beside = Beside::default();
    beside
        .arguments
        .extend([verb.into(), "--any-entrypoint".into()]);
    while let Some(arg) = parser.next()? {
        match arg {
            Long("bot-id") => beside.set(vars::BOT_ID, parser.value()?),
            Long("state-path") => beside.set(vars::STATE_PATH, parser.value()?),
            Long("code-path") if !watches => beside.set(vars::CODE_PATH, parser.value()?),
            Long("code-file") if !watches => beside.set(vars::CODE_FILE, parser.value()?),
            Long("logs-path") if watches => beside.set(vars::LOGS_PATH, parser.value()?),
            // We save when something has changed; a pace is not needed, and must be one all the same.
            Long("interval") if watches => drop(duration(&parser.value()?.string()?)?),
            Long("watch-done") if watches => beside.until_done(&parser.value()?)?,
            Long("readiness-port") if watches => {
                let port: u16 = parser.value()?.parse()?;
                beside
                    .arguments
                    .extend(["--readiness-port".into(), port.to_string().into()]);
            }
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(Command::Sync(beside))
}

fn duration(text: &str) -> Result<std::time::Duration, UsageError> {
    humantime::parse_duration(text)
        .map_err(|_| lexopt::Error::from("--interval takes a duration, as in 60s").into())
}

impl Beside {
    fn set(&mut self, name: &'static str, value: OsString) {
        self.variables.push((name, value));
    }

    /// `sync` finds the end of a run where the supervisor writes it.
    fn until_done(&mut self, file: &OsStr) -> Result<(), UsageError> {
        let path = Path::new(file);
        match (path.parent(), path.file_name()) {
            (Some(folder), Some(name)) if name == "done" && path.is_absolute() => {
                self.variables.push((vars::THE0_VAR_PATH, folder.into()));
                self.arguments.push("--until-done".into());
                Ok(())
            }
            _ => Err(lexopt::Error::from(
                "--watch-done takes the absolute path of a file called done",
            )
            .into()),
        }
    }

    /// Becomes `sync`; comes back only with why not.
    pub fn become_sync(&self) -> io::Error {
        become_program("sync", &self.arguments, |program| {
            program.envs(self.variables.iter().map(|(name, value)| (name, value)));
        })
    }
}

/// Becomes an init with `query` below it, whose environment has no keys; gives the code of a failure.
pub fn become_query() -> u8 {
    let launch = match Launch::parse(launch::environment()) {
        Ok(launch) => launch,
        Err(err) => {
            contract::error!("{err}");
            return err.exit_code();
        }
    };
    let env: Variables = launch.query_environment();
    let query = match spawn::sibling("query") {
        Ok(query) => query,
        Err(err) => return failed("query", &err),
    };
    let arguments = ["run".into(), "--".into(), query];
    let err = become_program("supervisor", &arguments, |program| {
        program.env_clear().envs(&env);
    });
    failed("query", &err)
}

/// Tells that a program beside ours was not started; gives the code.
pub fn failed(program: &str, err: &io::Error) -> u8 {
    contract::error!("start {program}: {err}: it must lie beside the supervisor");
    exit::INTERNAL
}

fn become_program(name: &str, arguments: &[OsString], with: impl Fn(&mut Program)) -> io::Error {
    match spawn::sibling(name) {
        Ok(path) => {
            let mut program = Program::new(path);
            program.args(arguments);
            with(&mut program);
            program.exec()
        }
        Err(err) => err,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::parse;

    fn read(line: &str) -> Result<Command, UsageError> {
        parse(line.split_whitespace().map(OsString::from))
    }

    fn options(line: &str) -> BotOptions {
        match read(line) {
            Ok(Command::Bot(options)) => options,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn beside(line: &str) -> Beside {
        match read(line) {
            Ok(Command::Sync(beside)) => beside,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn execute_is_the_run_less_what_others_do() {
        assert_eq!(options("execute"), options(""));
        let all = options("execute --skip-sync --skip-query-server");
        assert_eq!(all, options("--no-side-processes"));
        assert_eq!(options("execute --skip-sync").query, QueryServer::Ours);
        assert_eq!(options("execute --skip-query-server").sides, Sides::Ours);
        assert!(matches!(
            read("execute --query-server-only --skip-sync"),
            Ok(Command::Queries)
        ));
        let asked = options("execute --query-server-only --query /x --skip-sync");
        assert_eq!(asked.question.as_deref(), Some("/x"));
        assert_eq!(asked.sides, Sides::Elsewhere);
    }

    #[test]
    fn daemons_are_sync_with_variables() {
        let init =
            beside("daemon init --bot-id b1 --code-path /c --state-path=/s --code-file u/b/1");
        assert_eq!(init.arguments, ["fetch", "--any-entrypoint"]);
        let set = [
            ("BOT_ID", "b1"),
            ("CODE_PATH", "/c"),
            ("STATE_PATH", "/s"),
            ("CODE_FILE", "u/b/1"),
        ];
        assert_eq!(
            init.variables,
            set.map(|(name, value)| (name, value.into()))
        );
        let sync = beside(
            "daemon sync --bot-id b1 --logs-path /l --interval 60s --watch-done /v/done --readiness-port 8081",
        );
        let words = [
            "watch",
            "--any-entrypoint",
            "--until-done",
            "--readiness-port",
            "8081",
        ];
        assert_eq!(sync.arguments, words);
        assert!(sync.variables.contains(&("THE0_VAR_PATH", "/v".into())));
    }

    #[test]
    fn what_the_original_did_not_know_is_refused_by_name() {
        for (line, told) in [
            ("execute --frob", "--frob"),
            ("execute stray", "stray"),
            ("daemon", "init or sync"),
            ("daemon push", "init or sync"),
            ("daemon init --interval 60s", "--interval"),
            ("daemon sync --code-path /c", "--code-path"),
            ("daemon sync --interval often", "--interval"),
            ("daemon sync --watch-done /v/other", "--watch-done"),
            ("daemon sync --readiness-port 99999", "99999"),
        ] {
            let err = read(line).expect_err(line).to_string();
            assert!(err.contains(told), "{line}: {err}");
        }
    }
}
