//! `agent`: makes what runs on a host match what should.
//!
//! ```text
//!   bots (what should run) ──▶ plan ◀── engine (what runs)
//!                               │
//!                               └──▶ start, stop, forget ──▶ engine
//! ```
//!
//! [`bots`] lists, [`engine`] runs, [`plan`] decides, [`reconcile`] is the loop around them; [`control`] takes
//! requests of the other commands of this program ([`commands`], by [`client`]) and of whoever has a token.

mod ask;
mod backup;
mod bots;
mod breaker;
mod cli;
mod client;
mod commands;
mod control;
mod cron;
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
mod gateway;
mod health;
mod history;
mod host;
mod id;
mod jobs;
mod launch;
mod lease;
mod lister;
mod live;
mod logs;
mod manager;
mod metrics;
mod orders;
mod output;
mod pack;
mod place;
mod plan;
mod quantity;
mod reconcile;
mod report;
mod request;
mod roll;
mod schedule;
mod show;
mod signals;
mod state;
mod store;

use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory, Parser};

use cli::{Cli, Command};
use client::Agent;
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

fn run(cli: Cli) -> Result<()> {
    let agent = Agent::of(&cli.data, cli.host.as_deref(), cli.token_file.as_deref())?;
    match cli.command {
        Command::Dev(options) => dev::run(&options, agent.folder("dev")?),
        Command::Run(options) => host::run(&options, host::Role::Acts, agent.folder("run")?),
        Command::Controller(options) => host::control(&options, agent.folder("controller")?),
        Command::QueryServer(options) => {
            host::run(&options, host::Role::Answers, agent.folder("query-server")?)
        }
        Command::Ps { output } => commands::ps(&agent, output),
        Command::History { bot, count, output } => commands::history(&agent, &bot, count, output),
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
                agent.folder("logs")?,
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
        } => commands::query(&agent, &bot, &path, params, timeout, output),
        Command::Start { all: true, .. } => fleet::start(&agent),
        Command::Stop { all: true, .. } => fleet::stop(&agent),
        Command::Start { bots, .. } => commands::order(&agent, &commands::START, &bots),
        Command::Stop { bots, .. } => commands::order(&agent, &commands::STOP, &bots),
        Command::Drain { timeout } => fleet::drain(&agent, timeout),
        Command::Roll { max_unavailable } => fleet::roll(&agent, max_unavailable),
        Command::Gc {
            bots,
            discard_state,
        } => fleet::collect(&agent, &bots, discard_state),
        Command::Restart { bots } => commands::order(&agent, &commands::RESTART, &bots),
        Command::Job { command } => jobs::commands::run(&command, &agent),
        Command::State { command } => state::run(&command, agent.folder("state")?),
        Command::Cron { command } => cron::run(&command, &agent),
        Command::Backup(options) => backup::run(&options, agent.folder("backup")?),
        Command::Restore(options) => backup::restore(&options, agent.folder("restore")?),
        Command::Doctor(options) => doctor::run(&options, agent.folder("doctor")?),
        Command::Confirm => commands::confirm(&agent),
        Command::Deploy(options) => Ok(output::print(&deploy::deploy(
            &options,
            agent.folder("deploy")?,
        )?)?),
        Command::Undeploy { bot } => Ok(output::print(&deploy::undeploy(
            &bot,
            agent.folder("undeploy")?,
        )?)?),
        Command::Completions { shell } => complete(shell),
        Command::Version => Ok(output::print(concat!("agent ", env!("CARGO_PKG_VERSION")))?),
    }
}

fn complete(shell: clap_complete::Shell) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "agent", &mut script);
    Ok(output::print(String::from_utf8_lossy(&script).trim_end())?)
}
