//! The commands about all bots at once.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use contract::BotId;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use crate::client::Agent;
use crate::engine::docker::left::Left;
use crate::failure::Failure;
use crate::output;
use crate::request::Turned;

/// How long the agent may take for what it knows itself.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long it may take to find, or pull, the images of a roll.
const PULLING: Duration = Duration::from_mins(15);
/// Between two looks at a drain.
const LOOK: Duration = Duration::from_millis(500);

fn post(agent: &Agent, path: &str, body: &Value, patience: Duration) -> Result<Value> {
    let (status, answer) = agent.call(&Method::POST, path, &body.to_string(), patience)?;
    if status == StatusCode::OK {
        return Ok(answer);
    }
    let error = answer["error"]
        .as_str()
        .unwrap_or("the agent's answer is not understood");
    Err(Failure::Answer(error.to_owned()).into())
}

/// Fails where it was done and cannot be remembered.
fn kept(answer: &Value) -> Result<()> {
    match answer["unkept"].as_str() {
        Some(why) => bail!("it is done, but {why}; say it again when that is mended"),
        None => Ok(()),
    }
}

/// Lets all bots run that should.
///
/// # Errors
/// No agent runs.
pub fn start(agent: &Agent) -> Result<()> {
    kept(&post(agent, "/v1/start", &Value::Null, PATIENCE)?)?;
    Ok(output::print("bots run again as they are wanted")?)
}

/// Stops all bots until [`start`].
///
/// # Errors
/// No agent runs.
pub fn stop(agent: &Agent) -> Result<()> {
    let answer = post(agent, "/v1/stop", &Value::Null, PATIENCE)?;
    kept(&answer)?;
    let turned: Turned = serde_json::from_value(answer).context("the agent's answer")?;
    if !turned.jobs.is_empty() {
        output::print(&run_on(&turned.jobs))?;
    }
    let text = "all bots are being stopped, and none is started until `agent start --all`; `agent drain` waits for the last";
    Ok(output::print(text)?)
}

/// Stops all bots and waits for the last, and for the jobs that run; fails if one does not end, or has something that is
/// not in the store.
///
/// # Errors
/// See above, or no agent runs.
pub fn drain(agent: &Agent, timeout: Duration) -> Result<()> {
    let end = Instant::now() + timeout;
    let mut told: Option<Turned> = None;
    loop {
        let patience = end.saturating_duration_since(Instant::now()).max(LOOK);
        let answer = post(agent, "/v1/stop", &Value::Null, patience.min(PATIENCE))?;
        let turned: Turned = serde_json::from_value(answer).context("the agent's answer")?;
        if turned.known && turned.live.is_empty() && turned.jobs.is_empty() {
            return finish(&turned);
        }
        if told.as_ref() != Some(&turned) {
            output::print(&waits(&turned))?;
        }
        if Instant::now() >= end {
            bail!("after {timeout:?}: {}", waits(&turned));
        }
        told = Some(turned);
        std::thread::sleep(LOOK);
    }
}

fn waits(turned: &Turned) -> String {
    if !turned.known {
        return "it is not known what runs: the Docker daemon, or the cluster, does not answer or was not listed yet".to_owned();
    }
    let mut parts = Vec::new();
    if !turned.live.is_empty() {
        parts.push(format!("still there: {}", turned.live.join(", ")));
    }
    if !turned.jobs.is_empty() {
        parts.push(run_on(&turned.jobs));
    }
    parts.join("; ")
}

fn run_on(jobs: &[BotId]) -> String {
    let jobs: Vec<&str> = jobs.iter().map(BotId::as_str).collect();
    format!(
        "jobs run on to their end (`agent job cancel` ends one): {}",
        jobs.join(", ")
    )
}

fn finish(turned: &Turned) -> Result<()> {
    if !turned.lost.is_empty() {
        bail!(
            "all bots have ended, but it is not proven that all these had is in the store, and what is not is gone with their Pods: {}; `agent history` tells what was saved last",
            turned.lost.join(", ")
        );
    }
    if turned.unsaved.is_empty() {
        return Ok(output::print(
            "all bots have ended, and all of them is in the store",
        )?);
    }
    bail!(
        "all bots have ended, but it is not proven that all these had is in the store: {}; it is on their volumes: keep them, their next start here saves it",
        turned.unsaved.join(", ")
    )
}

/// Starts bots anew whose containers are not as they would be made now.
///
/// # Errors
/// No agent runs, or an image cannot be had.
pub fn roll(agent: &Agent, most: usize) -> Result<()> {
    let answer = post(
        agent,
        "/v1/roll",
        &json!({"max_unavailable": most}),
        PULLING,
    )?;
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
pub fn collect(agent: &Agent, bots: &[String], discard_state: bool) -> Result<()> {
    let body = json!({"bots": bots, "discard_state": discard_state});
    let answer = post(agent, "/v1/collect", &body, PATIENCE)?;
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
