//! Answers questions about a bot on :9476, and asks such questions.
//!
//! ```text
//!   client ──▶ :9476 query ──▶ 127.0.0.1:<free port>  the bot's query program
//!                 │   ▲
//!       /_status  │   └ restarted with a growing pause when it ends
//!                 ▼
//!            /var/the0/{status.json,synced.json,runs.jsonl}
//! ```
//!
//! *Question*: a path and parameters. *Program*: the bot's own query program, started through the second stage
//! of the supervisor that lies beside this binary. *Answer*: a status and a JSON body.
//!
//! Ensured: a question has an answer in bounded time and memory whatever client and program do; the program is
//! gone when this one is; nothing of the bot's configuration is ever said.

mod answer;
mod ask;
mod backoff;
mod forward;
mod line;
mod passed;
mod program;
mod question;
mod report;
mod request;
mod resolve;
mod route;
mod serve;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use contract::{Launch, LaunchError, exit, journal, vars};

const USAGE: &str = "\
query                                     serve: answer questions about the bot of this environment
query ask [--at HOST[:PORT]] PATH [K=V..]  ask a bot; HOST is 127.0.0.1 unless given, PORT 9476
query --help | --version

A value that is JSON is sent as what it is, any other as a string:
    query ask /trades symbol=BTC/USD limit=5 'filter={\"side\":\"buy\"}'
ask prints the answer and exits with 0; 1: the answer is an error; 117: nobody answered; 2: usage.
";

/// What the command line asks for.
#[derive(Debug, PartialEq)]
enum Command {
    Serve,
    Ask(ask::Request),
    Say(String),
}

fn main() -> ExitCode {
    journal::open("query", std::env::var(vars::LOG_LEVEL).ok().as_deref());
    let code = match command(std::env::args_os().skip(1)) {
        Ok(Command::Serve) => serve(),
        Ok(Command::Ask(request)) => ask(&request),
        Ok(Command::Say(text)) => say(text.as_bytes()),
        Err(err) => {
            contract::error!("{err}; see query --help");
            exit::USAGE
        }
    };
    ExitCode::from(code)
}

fn command(args: impl IntoIterator<Item = OsString>) -> Result<Command, lexopt::Error> {
    use lexopt::prelude::{Long, Short, Value};
    let mut parser = lexopt::Parser::from_args(args);
    match parser.next()? {
        None => Ok(Command::Serve),
        Some(Long("version")) => Ok(Command::Say(format!(
            "query {}\n",
            env!("CARGO_PKG_VERSION")
        ))),
        Some(Long("help") | Short('h')) => Ok(Command::Say(USAGE.to_owned())),
        Some(Value(word)) if word == "ask" => ask::Request::parse(&mut parser).map(Command::Ask),
        Some(other) => Err(other.unexpected()),
    }
}

fn serve() -> u8 {
    // Out of reach for the bot, which runs under the same user; the environment holds its configuration only,
    // but this program's connections are nobody else's either.
    if let Err(err) = nix::sys::prctl::set_dumpable(false) {
        contract::warn!("cannot close /proc to other processes: {err}");
    }
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    match Launch::parse(variables.collect()) {
        Ok(launch) => finish(runtime().and_then(|rt| rt.block_on(serve::run(&launch)))),
        Err(err) => refuse(&err),
    }
}

fn refuse(err: &LaunchError) -> u8 {
    contract::error!("{err}");
    err.exit_code()
}

fn finish(result: anyhow::Result<()>) -> u8 {
    match result {
        Ok(()) => 0,
        Err(err) => {
            contract::error!("{err:#}");
            exit::INTERNAL
        }
    }
}

fn ask(request: &ask::Request) -> u8 {
    match runtime().and_then(|rt| rt.block_on(ask::run(request))) {
        Ok(answer) => match say(&answer.line()) {
            0 => answer.exit_code(),
            code => code,
        },
        Err(err) => {
            contract::error!("{err:#}");
            exit::NO_ANSWER
        }
    }
}

fn say(text: &[u8]) -> u8 {
    let mut out = std::io::stdout();
    let said = out.write_all(text).and_then(|()| out.flush());
    finish(said.context("write to standard output"))
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the event loop")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Result<Command, lexopt::Error> {
        command(args.iter().map(OsString::from))
    }

    #[test]
    fn no_word_means_serve_and_a_wrong_one_is_refused() {
        assert_eq!(parsed(&[]).unwrap(), Command::Serve);
        for wrong in [&["serve"][..], &["--frob"], &["ask"], &["ask", "--at"]] {
            assert!(parsed(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn version_and_help_are_said() {
        for args in ["--version", "--help", "-h"] {
            assert!(matches!(parsed(&[args]), Ok(Command::Say(_))), "{args}");
        }
    }
}
