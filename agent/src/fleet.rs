//! The commands about all bots at once.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use crate::engine::docker::left::Left;
use crate::failure::Failure;
use crate::report::Row;
use crate::{client, output};

/// How long the agent may take for what it knows itself.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long it may take to find, or pull, the images of a roll.
const PULLING: Duration = Duration::from_mins(15);
/// Between two looks at a drain.
const LOOK: Duration = Duration::from_millis(500);

fn post(data: &Path, path: &str, body: &Value, patience: Duration) -> Result<Value> {
    let (status, answer) = client::call(data, &Method::POST, path, &body.to_string(), patience)?;
    if status == StatusCode::OK {
        return Ok(answer);
    }
    let error = answer["error"]
        .as_str()
        .unwrap_or("the agent's answer is not understood");
    Err(Failure::Answer(error.to_owned()).into())
}

/// Lets all bots run that should.
///
/// # Errors
/// No agent runs.
pub fn start(data: &Path) -> Result<()> {
    post(data, "/start", &Value::Null, PATIENCE)?;
    Ok(output::print("bots run again as they are wanted")?)
}

/// Stops all bots until [`start`].
///
/// # Errors
/// No agent runs.
pub fn stop(data: &Path) -> Result<()> {
    post(data, "/stop", &Value::Null, PATIENCE)?;
    let text = "all bots are being stopped, and none is started until `agent start --all`; `agent drain` waits for the last";
    Ok(output::print(text)?)
}

/// Stops all bots and waits for the last; fails if one does not end, or has something that is not in the store.
///
/// # Errors
/// See above, or no agent runs.
pub fn drain(data: &Path, timeout: Duration) -> Result<()> {
    let end = Instant::now() + timeout;
    let mut told: BTreeMap<String, String> = BTreeMap::new();
    loop {
        let unsaved = post(data, "/stop", &Value::Null, PATIENCE)?;
        let rows = rows(data)?;
        for row in &rows {
            if told.insert(row.id.to_string(), row.state.clone()).as_ref() != Some(&row.state) {
                output::print(&format!("{}: {}", row.name, row.state))?;
            }
        }
        let alive: Vec<&Row> = rows.iter().filter(|row| is_alive(row)).collect();
        if alive.is_empty() {
            return finish(&rows, &unsaved);
        }
        if Instant::now() >= end {
            let names: Vec<&str> = alive.iter().map(|row| row.name.as_str()).collect();
            bail!(
                "still there after {timeout:?}: {}; they are told to stop and it is safe to wait on",
                names.join(", ")
            );
        }
        std::thread::sleep(LOOK);
    }
}

fn rows(data: &Path) -> Result<Vec<Row>> {
    let (_, answer) = client::call(data, &Method::GET, "/bots", "", PATIENCE)?;
    serde_json::from_value(answer["bots"].clone()).context("the agent's answer")
}

fn is_alive(row: &Row) -> bool {
    row.supervisor.is_some() || matches!(row.state.as_str(), "stopping" | "running" | "held")
}

fn finish(rows: &[Row], unsaved: &Value) -> Result<()> {
    let unsaved = unsaved["unsaved"].as_array().cloned().unwrap_or_default();
    if unsaved.is_empty() {
        return Ok(output::print(
            "all bots have ended, and all of them is in the store",
        )?);
    }
    let name = |id: &Value| {
        let found = rows.iter().find(|row| id == row.id.as_str());
        found.map_or_else(|| id.to_string(), |row| row.name.clone())
    };
    let names: Vec<String> = unsaved.iter().map(name).collect();
    bail!(
        "all bots have ended, but not all that these had is in the store: {}; it is on their volumes: keep them, their next start here saves it",
        names.join(", ")
    )
}

/// Starts bots anew whose containers are not as they would be made now.
///
/// # Errors
/// No agent runs, or an image cannot be had.
pub fn roll(data: &Path, most: usize) -> Result<()> {
    let answer = post(data, "/roll", &json!({"max_unavailable": most}), PULLING)?;
    let count = answer["rolling"].as_array().map_or(0, Vec::len);
    let text = match count {
        0 => "every container is as it would be made now".to_owned(),
        n => {
            format!("rolling {n} bots, {most} at a time at most; the agent's log tells how it goes")
        }
    };
    Ok(output::print(&text)?)
}

/// Removes what is left over.
///
/// # Errors
/// No agent runs, or a bot is not known.
pub fn collect(data: &Path, bots: &[String], discard_state: bool) -> Result<()> {
    let body = json!({"bots": bots, "discard_state": discard_state});
    let answer = post(data, "/collect", &body, PATIENCE)?;
    let left: Vec<Left> =
        serde_json::from_value(answer["left"].clone()).context("the agent's answer")?;
    if left.is_empty() {
        return Ok(output::print("nothing is left over")?);
    }
    for row in left {
        output::print(&format!("{}: {}", row.name, row.what))?;
    }
    Ok(())
}

/// The platform's other programs.
///
/// # Errors
/// Always: they are not there yet.
pub fn later() -> Result<()> {
    let word = std::env::args()
        .find(|arg| ["bot-scheduler", "query-server", "controller"].contains(&arg.as_str()));
    let word = word.unwrap_or_default();
    bail!(
        "{word} is not in this version: schedules, the gateway on :9477 and Kubernetes are still to come; `agent run` runs realtime bots"
    )
}
