//! `agent cron`: what an expression means, without a schedule, a host or a database; and the schedules of an agent.

use std::fmt::Write;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use hyper::Method;
use jiff::Timestamp;

use super::Schedule;
use crate::client::Agent;
use crate::commands;
use crate::failure::Failure;
use crate::output::{self, Format};
use crate::request::Planned;

/// What is asked about schedules.
#[derive(Debug, Subcommand)]
pub enum Cron {
    /// Print when an expression is due next: RFC 3339, one a line
    Next(Next),
    /// Show the bots that run at times: when next, and what became of their last tick
    Ls {
        /// The form of the answer
        #[arg(short, long, value_enum, default_value = "table")]
        output: Format,
    },
    /// Make the next tick of bots due now
    Run {
        /// The bots
        #[arg(required = true)]
        bots: Vec<String>,
    },
}

/// The question.
#[derive(Debug, Args)]
pub struct Next {
    /// Five fields, six with seconds in front, or @daily, @every 90s ..; the README has all of it
    #[arg(value_name = "EXPR")]
    expression: String,
    /// The zone, as in Europe/Berlin [default: the expression's own, or UTC]
    #[arg(long, value_name = "ZONE")]
    timezone: Option<String>,
    /// After when, as in 2026-03-28T12:00:00Z [default: now]
    #[arg(long, value_name = "TIME")]
    from: Option<Timestamp>,
    /// How many
    #[arg(short = 'n', long, default_value = "5", value_name = "TIMES", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    count: u32,
    /// Say it in words first
    #[arg(long)]
    explain: bool,
}

/// Answers.
///
/// # Errors
/// [`Failure::Words`] for an expression that is refused; otherwise the agent refuses, or none runs.
pub fn run(command: &Cron, agent: &Agent) -> Result<()> {
    match command {
        Cron::Next(next) => print(next),
        Cron::Ls { output } => list(agent, *output),
        Cron::Run { bots } => commands::order(agent, &commands::RUN_NOW, bots),
    }
}

fn list(agent: &Agent, format: Format) -> Result<()> {
    let (_, answer) = agent.call(&Method::GET, "/v1/schedules", "", commands::PATIENCE)?;
    let rows = answer.get("schedules").cloned();
    let rows = rows.ok_or_else(|| Failure::Answer(commands::error_of(&answer)))?;
    let text = match format {
        Format::Json => serde_json::to_string_pretty(&rows)?,
        Format::Table => table(&serde_json::from_value::<Vec<Planned>>(rows)?),
    };
    Ok(output::print(&text)?)
}

fn table(rows: &[Planned]) -> String {
    if rows.is_empty() {
        return "no bot runs at times".to_owned();
    }
    let mut text = format!("{:20}  {:20}  {:24}  LAST", "NAME", "SCHEDULE", "NEXT");
    for row in rows {
        let zone = row.timezone.as_ref();
        let times = zone.map_or(row.schedule.clone(), |zone| {
            format!("{} {zone}", row.schedule)
        });
        let next = match (&row.next_tick, row.enabled) {
            (_, false) => "disabled".to_owned(),
            (next, true) => next.as_ref().map(ToString::to_string).unwrap_or_default(),
        };
        let last = row.last_tick.as_ref();
        let last = last.map_or(String::new(), |tick| format!("{} {}", tick.at, tick.state));
        let line = format!("{:20}  {times:20}  {next:24}  {last}", row.name);
        text += "\n";
        text += line.trim_end();
    }
    text
}

fn print(next: &Next) -> Result<()> {
    let schedule = Schedule::parse(&next.expression, next.timezone.as_deref());
    let schedule = schedule.map_err(|err| Failure::Words(err.to_string()))?;
    let from = next.from.unwrap_or_else(Timestamp::now);
    output::print(answer(&schedule, next, from)?.trim_end())?;
    Ok(())
}

fn answer(schedule: &Schedule, next: &Next, from: Timestamp) -> Result<String> {
    let mut text = String::new();
    if next.explain {
        writeln!(text, "{}", schedule.explain())?;
    }
    let mut at = from;
    for n in 0..next.count {
        match schedule.next(at) {
            Some(due) => at = due,
            None if n > 0 => break,
            None => bail!("{schedule}: nothing is due after {from}"),
        }
        let local = at.to_zoned(schedule.zone().clone());
        writeln!(text, "{}", local.strftime("%Y-%m-%dT%H:%M:%S%:z"))?;
    }
    Ok(text)
}
