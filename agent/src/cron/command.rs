//! `agent cron`: what an expression means, without a schedule, a host or a database.

use std::fmt::Write;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use jiff::Timestamp;

use super::Schedule;
use crate::failure::Failure;
use crate::output;

/// What is asked about schedules.
#[derive(Debug, Subcommand)]
pub enum Cron {
    /// Print when an expression is due next: RFC 3339, one a line
    Next(Next),
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
/// [`Failure::Words`] for an expression that is refused.
pub fn run(command: &Cron) -> Result<()> {
    let Cron::Next(next) = command;
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
