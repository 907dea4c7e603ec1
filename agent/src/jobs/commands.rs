//! `agent job`: jobs looked at, cancelled, and run by hand. All but the last go to the database themselves, so they work
//! on any host that reaches it, whichever agent acts.

mod remote;

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use clap::{Args, Subcommand};
use contract::{BotId, Secret};
use mongodb::bson::DateTime;
use serde_json::Value;

use super::decide::Status;
use super::document::Job as Row;
use super::hand;
use super::table::Table;
use crate::bots::mongo::{Deadlines, Failed, Mongo, Place};
use crate::client::Agent;
use crate::days::{self, Day};
use crate::engine::docker::job;
use crate::engine::kubernetes;
use crate::failure::Failure;
use crate::logs::{Stamps, Tail};
use crate::output::{self, Format};
use crate::place::{self, Containers};

/// What is done with jobs.
#[derive(Debug, Subcommand)]
pub enum Job {
    /// List jobs, newest first
    Ls {
        /// How many
        #[arg(short = 'n', long, default_value = "20", value_name = "JOBS")]
        count: u32,
        /// The form of the answer
        #[arg(short, long, value_enum, default_value = "table")]
        output: Format,
        /// The database
        #[command(flatten)]
        database: Database,
    },
    /// Show one job
    Show {
        /// Its id
        id: BotId,
        /// The form of the answer
        #[arg(short, long, value_enum, default_value = "table")]
        output: Format,
        /// The database
        #[command(flatten)]
        database: Database,
    },
    /// Cancel a job: one that waits is not run, one that runs is ended
    Cancel {
        /// Its id
        id: BotId,
        /// The database
        #[command(flatten)]
        database: Database,
    },
    /// Show what a job has printed
    Logs {
        /// Its id
        id: BotId,
        /// The database
        #[command(flatten)]
        database: Database,
    },
    /// Run a program of a bot's folder once, without any server, and print its result
    Run(hand::Options),
}

/// Where jobs are.
#[derive(Debug, Args)]
pub struct Database {
    /// The database [env: MONGO_URI, where its password is not in the list of processes]
    #[arg(long, value_name = "URI")]
    mongo_uri: Option<String>,
}

/// Does it.
///
/// # Errors
/// There is no such job, or the database does not answer.
pub fn run(command: &Job, agent: &Agent) -> Result<()> {
    if let Agent::There(_) = agent {
        return remote::run(command, agent);
    }
    match command {
        Job::Run(options) => hand::run(options),
        Job::Ls {
            count,
            output,
            database,
        } => list(*count, *output, database),
        Job::Show {
            id,
            output,
            database,
        } => show(id, *output, database),
        Job::Cancel { id, database } => cancel(id, database),
        Job::Logs { id, database } => logs(id, database, agent.folder("job logs")?),
    }
}

fn list(count: u32, format: Format, database: &Database) -> Result<()> {
    let rows = with(database, async |table| table.latest(count.into()).await)?;
    let text = match format {
        Format::Json => {
            let rows: Vec<_> = rows.iter().map(Row::shown).collect();
            serde_json::to_string_pretty(&rows)?
        }
        Format::Table => table_of(&rows, DateTime::now()),
    };
    Ok(output::print(&text)?)
}

fn show(id: &BotId, format: Format, database: &Database) -> Result<()> {
    let row = with(database, async |table| table.job(id).await)?;
    let row = row.ok_or_else(|| nobody(id))?;
    let shown = row.shown();
    shown_as(&shown, format)
}

fn shown_as(shown: &Value, format: Format) -> Result<()> {
    let text = match format {
        Format::Json => serde_json::to_string_pretty(shown)?,
        Format::Table => {
            let fields = shown.as_object().into_iter().flatten();
            let fields = fields.filter(|(_, value)| !value.is_null());
            let lines = fields.map(|(name, value)| match value.as_str() {
                Some(text) => format!("{name:11} {text}"),
                None => format!("{name:11} {value}"),
            });
            lines.collect::<Vec<_>>().join("\n")
        }
    };
    Ok(output::print(&text)?)
}

fn cancel(id: &BotId, database: &Database) -> Result<()> {
    let was = with(database, async |table| table.cancel(id).await)?;
    let text = match was {
        None => return Err(nobody(id)),
        Some(Status::Queued) => format!("cancelled {id}, which waited"),
        Some(Status::Running) => format!("{id} runs and is being ended by the agent that acts"),
        Some(over) => {
            let why = format!("{id} has ended already: {}", over.name());
            return Err(Failure::Answer(why).into());
        }
    };
    Ok(output::print(&text)?)
}

fn nobody(id: &BotId) -> anyhow::Error {
    Failure::NoBot(format!("there is no job {id}: `agent job ls` lists them")).into()
}

/// What its container says, while there is one; else the days' logs of its life, from the store.
fn logs(id: &BotId, database: &Database, data: &Path) -> Result<()> {
    let row = with(database, async |table| table.job(id).await)?;
    let row = row.ok_or_else(|| nobody(id))?;
    let data = std::path::absolute(data)?;
    if let Some(text) = of_container(id, &data)? {
        return Ok(output::unbroken(std::io::stdout().write_all(&text))?);
    }
    let host = place::host(&data)?;
    let store = place::open_store(&host)?;
    let mut is_any = false;
    for day in days_of(&row) {
        let how = (Tail::All, Stamps::Hidden);
        is_any |= days::show(&store, id, &day, how, &mut std::io::stdout())? != Day::Absent;
    }
    if !is_any {
        let why = "it has no container here any more, and nothing it printed is in the store";
        return Err(Failure::Answer(format!("job {id}: {why}")).into());
    }
    Ok(())
}

fn of_container(id: &BotId, data: &Path) -> Result<Option<Vec<u8>>> {
    if let Some(pods) = place::pods(data)? {
        return Ok(runtime()?.block_on(kubernetes::job::printed(&pods, id)));
    }
    let Ok(containers) = place::containers(data) else {
        return Ok(None);
    };
    let given = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let containers = containers.unwrap_or_else(|| Containers {
        docker_host: given("DOCKER_HOST"),
        stack: given("THE0_STACK").unwrap_or_else(|| "default".to_owned()),
    });
    let runtime = runtime()?;
    Ok(runtime.block_on(job::printed(&containers, id)))
}

/// The days, in UTC, from its start to its end.
fn days_of(row: &Row) -> Vec<String> {
    const DAY: i64 = 24 * 60 * 60 * 1000;
    let now = DateTime::now().timestamp_millis();
    let millis = |at: Option<DateTime>| at.map_or(now, DateTime::timestamp_millis);
    let (first, last) = (millis(row.claimed_at) / DAY, millis(row.ended_at) / DAY);
    let day = |day: i64| {
        let text = DateTime::from_millis(day * DAY).try_to_rfc3339_string();
        text.ok().map(|text| text[..10].replace('-', ""))
    };
    (first..=last.min(first + 31)).filter_map(day).collect()
}

fn table_of(rows: &[Row], now: DateTime) -> String {
    if rows.is_empty() {
        return "no jobs".to_owned();
    }
    let head = format!(
        "{:24}  {:9}  {:>8}  {:>8}  WHY",
        "JOB", "STATUS", "ASKED", "TOOK"
    );
    let line = |row: &Row| {
        let asked = row.queued_at.map_or(String::new(), |at| brief(at, now));
        let took = row.begun_at.map_or(String::new(), |begun| {
            brief(begun, row.ended_at.unwrap_or(now))
        });
        let why = match (&row.error, row.cancel && !row.status.is_final()) {
            (_, true) => "being cancelled",
            (error, _) => error.as_deref().unwrap_or_default(),
        };
        let why: String = why
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(120)
            .collect();
        let line = format!(
            "{:24}  {:9}  {asked:>8}  {took:>8}  {why}",
            row.id.as_str(),
            row.status.name()
        );
        line.trim_end().to_owned()
    };
    let lines = std::iter::once(head).chain(rows.iter().map(line));
    lines.collect::<Vec<_>>().join("\n")
}

fn brief(from: DateTime, to: DateTime) -> String {
    let millis = to.timestamp_millis() - from.timestamp_millis();
    let seconds = u64::try_from(millis / 1000).unwrap_or(0);
    let whole = match seconds {
        s if s < 600 => s,
        s if s < 86_400 => s / 60 * 60,
        s => s / 3600 * 3600,
    };
    humantime::format_duration(Duration::from_secs(whole))
        .to_string()
        .replace(' ', "")
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.context("a runtime")
}

fn with<T>(
    database: &Database,
    work: impl AsyncFnOnce(&mut Table) -> Result<T, Failed>,
) -> Result<T> {
    let given = || {
        std::env::var("MONGO_URI")
            .ok()
            .filter(|uri| !uri.is_empty())
    };
    let uri = database.mongo_uri.clone().or_else(given);
    let uri = uri.context("MONGO_URI is not set: give the database of jobs")?;
    let mongo = Mongo::new(&Secret::new(uri), Place::default(), Deadlines::default())?;
    let mut table = Table::new(mongo);
    let done = runtime()?.block_on(work(&mut table));
    done.map_err(|failed| anyhow!("mongodb: {}", table.why(&failed)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_a_line_and_its_life_is_days() {
        let at = |seconds: i64| Some(DateTime::from_millis(seconds * 1000));
        let row = Row {
            id: "j1".parse().unwrap(),
            status: Status::Failed,
            cancel: false,
            queued_at: at(0),
            claimed_at: at(10),
            begun_at: at(10),
            starts: 1,
            container: None,
            halt: None,
            halt_at: None,
            ended_at: at(86_400),
            told: true,
            success: Some(false),
            error: Some("it ended\nwith exit 3".into()),
            result: None,
            host: None,
        };
        assert_eq!(days_of(&row), ["19700101", "19700102"]);
        let text = table_of(&[row], DateTime::from_millis(90_000_000));
        let line = text.lines().nth(1).unwrap();
        assert!(
            line.contains("failed") && line.ends_with("it ended with exit 3"),
            "{text}"
        );
        assert!(line.contains("1day1h") && line.contains("23h59m"), "{text}");
    }
}
