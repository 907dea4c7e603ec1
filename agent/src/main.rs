//! `agent`: makes what runs on a host match what should.
//!
//! ```text
//!   bots (what should run) ──▶ plan ◀── engine (what runs)
//!                               │
//!                               └──▶ start, stop, forget ──▶ engine
//! ```
//!
//! [`bots`] lists, [`engine`] runs, [`plan`] decides, [`reconcile`] is the loop around them; [`control`] takes
//! requests of the other commands of this program ([`commands`]).

mod ask;
mod backup;
mod bots;
mod cli;
mod client;
mod commands;
mod control;
mod days;
mod deploy;
mod dev;
mod doctor;
mod document;
mod ending;
mod engine;
mod events;
mod failure;
mod fleet;
mod health;
mod history;
mod host;
mod id;
mod jobs;
mod launch;
mod lease;
mod lister;
mod logs;
mod manager;
mod metrics;
mod output;
mod pack;
mod place;
mod plan;
mod quantity;
mod reconcile;
mod report;
mod request;
mod roll;
mod show;
mod signals;
mod state;
mod store;

use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory, Parser};

use cli::{Cli, Command};
use commands::LogOptions;
use logs::Stamps;

fn main() -> ExitCode {
    contract::journal::open(
        "agent",
        std::env::var(contract::vars::LOG_LEVEL).ok().as_deref(),
    );
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            use std::io::Write;
            if !matches!(error.downcast_ref(), Some(failure::Failure::Told(_))) {
                // A standard error that is gone changes nothing about the exit code.
                let _ = writeln!(std::io::stderr(), "agent: {error:#}");
            }
            ExitCode::from(failure::exit_code(&error))
        }
    }
}

fn run(Cli { data, command }: Cli) -> Result<()> {
    match command {
        Command::Dev(options) => dev::run(&options, &data),
        Command::Run(options) => host::run(&options, &data),
        Command::Ps { output } => commands::ps(&data, output),
        Command::History { bot, count, output } => commands::history(&data, &bot, count, output),
        Command::Logs {
            bot,
            follow,
            tail,
            timestamps,
            day,
        } => {
            let stamps = if timestamps {
                Stamps::Shown
            } else {
                Stamps::Hidden
            };
            commands::logs(
                &data,
                &bot,
                &LogOptions {
                    tail,
                    stamps,
                    follow,
                    day,
                },
            )
        }
        Command::Query {
            bot,
            path,
            params,
            timeout,
            output,
        } => commands::query(&data, &bot, &path, params, timeout, output),
        Command::Start { all: true, .. } => fleet::start(&data),
        Command::Stop { all: true, .. } => fleet::stop(&data),
        Command::Start { bots, .. } => commands::order(&data, "start", &bots),
        Command::Stop { bots, .. } => commands::order(&data, "stop", &bots),
        Command::Drain { timeout } => fleet::drain(&data, timeout),
        Command::Roll { max_unavailable } => fleet::roll(&data, max_unavailable),
        Command::Gc {
            bots,
            discard_state,
        } => fleet::collect(&data, &bots, discard_state),
        Command::Restart { bots } => commands::order(&data, "restart", &bots),
        Command::Job { command } => jobs::commands::run(&command, &data),
        Command::State { command } => state::run(&command, &data),
        Command::Backup(options) => backup::run(&options, &data),
        Command::Restore(options) => backup::restore(&options, &data),
        Command::Doctor(options) => doctor::run(&options, &data),
        Command::Confirm => commands::confirm(&data),
        Command::Deploy(options) => Ok(output::print(&deploy::deploy(&options, &data)?)?),
        Command::Undeploy { bot } => Ok(output::print(&deploy::undeploy(&bot, &data)?)?),
        Command::Completions { shell } => complete(shell),
        Command::Later { .. } => fleet::later(),
        Command::Version => Ok(output::print(concat!("agent ", env!("CARGO_PKG_VERSION")))?),
    }
}

fn complete(shell: clap_complete::Shell) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "agent", &mut script);
    Ok(output::print(String::from_utf8_lossy(&script).trim_end())?)
}
