//! PID 1 of a bot's container: fetch, run, stop, drain. It hides processes.

mod bot;
mod cage;
mod cli;
mod health;
mod init;
mod launch;
mod log;
mod machine;
mod oom;
mod processes;
mod question;
mod records;
mod result;
mod side;
mod signals;
mod spawn;
mod stage;
mod tee;
mod terminal;
mod through;
mod words;
mod zombies;

use std::io::Write;
use std::process::ExitCode;

use contract::{exit, journal, vars};
use nix::sys::prctl;

use cli::Command;

fn main() -> ExitCode {
    let level = std::env::var(vars::LOG_LEVEL).ok();
    journal::open("supervisor", level.as_deref());
    let command = match cli::parse(std::env::args_os().skip(1)) {
        Ok(command) => command,
        Err(err) => {
            contract::error!("{err}");
            return ExitCode::from(exit::USAGE);
        }
    };
    ExitCode::from(obey(command))
}

fn obey(command: Command) -> u8 {
    let ended = match command {
        Command::Print(text) => return print(&text),
        Command::Health => return tell_health(),
        Command::Sync(beside) => return words::failed("sync", &beside.become_sync()),
        Command::Queries => return words::become_query(),
        Command::Exec(stage, inside) => return stage::become_program(&stage, &inside),
        Command::Run(options) => init::run(options),
        Command::Bot(options) => bot::run(&options),
    };
    ended.unwrap_or_else(|err| {
        contract::error!("{err}");
        exit::INTERNAL
    })
}

fn print(text: &str) -> u8 {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => 0,
        Err(_) => exit::INTERNAL,
    }
}

fn tell_health() -> u8 {
    let (said, code) = match health::check() {
        Ok(said) => (format!("healthy: {said}\n"), 0),
        Err(why) => (format!("not healthy: {why}\n"), 1),
    };
    print(&said).max(code)
}

/// Whoever loses its parent below us becomes our child, as if we were PID 1.
fn become_reaper() {
    if std::process::id() != 1
        && let Err(err) = prctl::set_child_subreaper(true)
    {
        contract::warn!("become the reaper of orphans: {err}");
    }
}
