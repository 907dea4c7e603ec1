//! The commands that ask a running agent, or read its data folder.

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use contract::BotId;
use hyper::{Method, StatusCode};
use serde_json::{Map, Value, json};

use crate::client::{self, Agent};
use crate::days::{self, Day};
use crate::failure::Failure;
use crate::history::{self, Entry, KEPT};
use crate::id::{self, Unclear};
use crate::logs::{Before, Log, Stamps, Tail};
use crate::output::{self, Format};
use crate::report::Row;
use crate::show::Colours;
use crate::{control, place};

/// How long the agent may take for what it knows itself.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Prints how the bots are.
///
/// # Errors
/// No agent runs, or it does not answer.
pub fn ps(agent: &Agent, format: Format) -> Result<()> {
    let (_, answer) = agent.call(&Method::GET, "/v1/bots?usage", "", PATIENCE)?;
    let bots = answer.get("bots").cloned();
    let bots = bots.with_context(|| error_of(&answer))?;
    if let Some(but) = answer["but"].as_str() {
        tell(&format!("CPU and memory are not known: {but}"));
    }
    let text = match format {
        Format::Json => serde_json::to_string_pretty(&bots)?,
        Format::Table => {
            let rows: Vec<Row> = serde_json::from_value(bots).context("the agent's answer")?;
            output::table(&rows, Colours::of(&io::stdout()))
        }
    };
    Ok(output::print(&text)?)
}

/// Prints the latest records of a bot's history.
///
/// # Errors
/// The bot is not known, or no agent runs and nothing is beside its folder.
pub fn history(agent: &Agent, bot: &str, count: usize, format: Format) -> Result<()> {
    let most = count.clamp(1, KEPT);
    let path = format!("/v1/bots/{}/history?count={most}", control::encode(bot));
    let entries = match agent.call(&Method::GET, &path, "", PATIENCE) {
        Ok((StatusCode::OK, answer)) => {
            if let Some(but) = answer["but"].as_str() {
                tell(&format!("not all may be shown: {but}"));
            }
            serde_json::from_value(answer["entries"].clone()).context("the agent's answer")?
        }
        Ok((StatusCode::NOT_FOUND, answer)) => {
            return Err(Failure::NoBot(error_of(&answer)).into());
        }
        Ok((_, answer)) => return Err(Failure::Answer(error_of(&answer)).into()),
        Err(err) => history_here(agent, bot, count).ok_or(err)?,
    };
    let text = match format {
        Format::Json => serde_json::to_string_pretty(&entries)?,
        Format::Table => history::show::table(&entries),
    };
    Ok(output::print(&text)?)
}

/// The same without an agent, where it is kept beside the bots.
fn history_here(agent: &Agent, bot: &str, count: usize) -> Option<Vec<Entry>> {
    let data = agent.folder("history").ok()?;
    let known = place::known(data).ok()?;
    let found = id::find(bot, &known).ok().map(|known| known.id.clone());
    let id = found.or_else(|| bot.parse().ok())?;
    let entries = history::of_folder(data, &id, count).ok()?;
    (!entries.is_empty()).then_some(entries)
}

/// What a person may order of a bot.
#[derive(Debug)]
pub struct Order {
    of: &'static str,
    verb: &'static str,
}

const fn order_of(of: &'static str, verb: &'static str) -> Order {
    Order { of, verb }
}

/// Let it run.
pub const START: Order = order_of("bots", "start");
/// Let it not run.
pub const STOP: Order = order_of("bots", "stop");
/// Run it anew.
pub const RESTART: Order = order_of("bots", "restart");
/// Run its next tick now.
pub const RUN_NOW: Order = order_of("schedules", "run");

/// Starts, stops or restarts bots; goes through all of them and fails with the first failure.
///
/// # Errors
/// A bot is not known or cannot run, or no agent runs.
pub fn order(agent: &Agent, order: &Order, bots: &[String]) -> Result<()> {
    let mut failed = None;
    let Order { of, verb } = order;
    for bot in bots {
        let path = format!("/v1/{of}/{}/{verb}", control::encode(bot));
        let (status, answer) = agent.call(&Method::POST, &path, "", PATIENCE)?;
        if status == StatusCode::OK {
            let text = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
            output::print(&format!("{verb} {} ({})", text("name"), text("id")))?;
            if let Some(but) = answer["but"].as_str() {
                let why = match *verb {
                    "stop" => format!("{} is stopped, but {but}", text("name")),
                    _ => format!("{} does not run: {but}", text("name")),
                };
                failed.get_or_insert(Failure::Answer(why));
            }
        } else {
            let failure = match status {
                StatusCode::NOT_FOUND => Failure::NoBot(error_of(&answer)),
                _ => Failure::Answer(error_of(&answer)),
            };
            failed.get_or_insert(failure);
        }
    }
    failed.map_or(Ok(()), |failure| Err(failure.into()))
}

/// Confirms that missing bots were removed on purpose.
///
/// # Errors
/// No agent runs.
pub fn confirm(agent: &Agent) -> Result<()> {
    let (_, answer) = agent.call(&Method::POST, "/v1/confirm", "", PATIENCE)?;
    let bots = answer["confirmed"].as_array();
    let bots = bots
        .ok_or_else(|| Failure::Answer(error_of(&answer)))?
        .len();
    let text = match bots {
        0 => "nothing waits for a confirmation".to_owned(),
        n => format!("confirmed: {n} bots that are missing are stopped"),
    };
    Ok(output::print(&text)?)
}

/// Asks a bot and prints its answer.
///
/// # Errors
/// The bot's error, or why there is no answer.
pub fn query(
    agent: &Agent,
    bot: &str,
    path: &str,
    params: Vec<(String, Value)>,
    timeout: Duration,
    format: Format,
) -> Result<()> {
    let params: Map<String, Value> = params.into_iter().collect();
    let question = json!({
        "bot_id": bot, "query_path": path, "params": params, "timeout_sec": timeout.as_secs_f64(),
    });
    let patience = timeout.saturating_add(Duration::from_secs(10));
    let (status, answer) =
        agent.call(&Method::POST, "/v1/query", &question.to_string(), patience)?;
    if format == Format::Json {
        output::print(&serde_json::to_string_pretty(&answer)?)?;
    } else if answer["status"] == "ok" {
        output::print(&serde_json::to_string_pretty(&answer["data"])?)?;
    }
    match (answer["status"] == "ok", status) {
        (true, _) => Ok(()),
        (false, StatusCode::NOT_FOUND) if error_of(&answer).starts_with("bot not found") => {
            Err(Failure::NoBot(error_of(&answer)).into())
        }
        (false, _) => Err(Failure::Answer(with_details(&answer)).into()),
    }
}

/// The error, and what else the bot said with it.
fn with_details(answer: &Value) -> String {
    match answer.get("data") {
        Some(data) if !data.is_null() => format!("{} {data}", error_of(answer)),
        _ => error_of(answer),
    }
}

/// What an answer that is a refusal says.
pub fn error_of(answer: &Value) -> String {
    answer["error"]
        .as_str()
        .unwrap_or("the agent's answer is not understood")
        .to_owned()
}

/// What of a log is shown, and how.
#[derive(Debug)]
pub struct LogOptions {
    /// How much of it.
    pub tail: Tail,
    /// With times or without.
    pub stamps: Stamps,
    /// Whether it goes on.
    pub follow: bool,
    /// A day whose log is shown from the store instead.
    pub day: Option<String>,
}

/// Prints a bot's log.
///
/// # Errors
/// The bot is not known, or its log cannot be read.
pub fn logs(data: &Path, bot: &str, options: &LogOptions) -> Result<()> {
    let id = find(data, bot)?;
    if let (None, Some(place)) = (&options.day, place::pods(data)?) {
        let LogOptions {
            tail,
            stamps,
            follow,
            ..
        } = *options;
        return crate::engine::kubernetes::logs::show(&place, &id, tail, stamps, follow);
    }
    if let (None, Some(place)) = (&options.day, place::containers(data)?) {
        let LogOptions {
            tail,
            stamps,
            follow,
            ..
        } = *options;
        return crate::engine::docker::logs::show(&place, &id, tail, stamps, follow);
    }
    if let Some(day) = &options.day {
        return logs_of_day(data, &id, day, options);
    }
    let folder = data.join("bots").join(id.as_str()).join("var/logs");
    let mut log = Log::new(&folder, options.stamps);
    let mut out = io::stdout().lock();
    let shown = log.tail(options.tail, &mut out).and_then(|before| {
        if before == Before::Earlier {
            tell("earlier lines are not here any more; `--day 2026-11-21` shows what the store has of a day");
        }
        if options.follow {
            log.follow(&mut out)
        } else {
            Ok(())
        }
    });
    output::unbroken(shown).with_context(|| folder.display().to_string())
}

fn logs_of_day(data: &Path, id: &BotId, day: &str, options: &LogOptions) -> Result<()> {
    let host = place::host_beside_agent(&std::path::absolute(data)?)?;
    let store = place::open_store(&host)?;
    let how = (options.tail, options.stamps);
    match days::show(&store, id, day, how, &mut io::stdout().lock())? {
        Day::Absent => tell(&format!("the store has no log of {id} on {day}")),
        Day::End => tell("earlier lines of that day are in the store only"),
        Day::Whole => {}
    }
    Ok(())
}

/// A log that begins in its middle must not look like a whole one.
fn tell(what: &str) {
    // A standard error that is gone changes nothing about the log.
    let _ = writeln!(io::stderr(), "agent: {what}");
}

/// The bot's id: told by the agent if one runs, for it knows more names, or else by the data folder. Where a bot
/// that is there has its name from one that was, the one that is there is meant.
///
/// # Errors
/// Nobody is called so, or several are.
pub fn find(data: &Path, word: &str) -> Result<BotId> {
    let mut known = place::known(data)?;
    let mut live = Vec::new();
    if let Ok((_, answer)) = client::call(data, &Method::GET, "/v1/bots", "", PATIENCE) {
        let rows: Vec<Row> =
            serde_json::from_value(answer["bots"].clone()).context("the agent's answer")?;
        known.retain(|bot| rows.iter().all(|row| row.id != bot.id));
        live.extend(rows.into_iter().map(|row| id::Known {
            id: row.id,
            name: row.name,
            alias: row.alias,
        }));
        known.extend(live.iter().cloned());
    }
    let found = match id::find(word, &known) {
        Err(several @ Unclear::Several { .. }) => id::find(word, &live).map_err(|_| several),
        other => other,
    };
    Ok(found.map_err(Failure::from)?.id.clone())
}
