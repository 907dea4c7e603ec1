//! The same over the API of an agent that is reached over the network, without its database.

use anyhow::Result;
use hyper::{Method, StatusCode};
use serde_json::Value;

use super::{Job, hand, shown_as};
use crate::client::Agent;
use crate::commands::{PATIENCE, error_of};
use crate::control;
use crate::failure::Failure;
use crate::output::{self, Format};

/// Does it.
///
/// # Errors
/// There is no such job, or the agent does not answer.
pub fn run(command: &Job, agent: &Agent) -> Result<()> {
    match command {
        Job::Run(options) => hand::run(options),
        Job::Ls { count, output, .. } => {
            let path = format!("/v1/jobs?count={count}");
            let mut answer = ask(agent, &Method::GET, &path)?;
            list(&answer["jobs"].take(), *output)
        }
        Job::Show { id, output, .. } => {
            let path = format!("/v1/jobs/{}", control::encode(id.as_str()));
            shown_as(&ask(agent, &Method::GET, &path)?, *output)
        }
        Job::Cancel { id, .. } => {
            let path = format!("/v1/jobs/{}/cancel", control::encode(id.as_str()));
            let job = ask(agent, &Method::POST, &path)?;
            let is_over = job["status"] == "cancelled";
            Ok(output::print(&if is_over {
                format!("cancelled {id}, which waited")
            } else {
                format!("{id} runs and is being ended by the agent that acts")
            })?)
        }
        Job::Logs { .. } => agent.folder("job logs").map(drop),
    }
}

fn ask(agent: &Agent, method: &Method, path: &str) -> Result<Value> {
    let (status, answer) = agent.call(method, path, "", PATIENCE)?;
    match status {
        StatusCode::OK => Ok(answer),
        StatusCode::NOT_FOUND => Err(Failure::NoBot(error_of(&answer)).into()),
        _ => Err(Failure::Answer(error_of(&answer)).into()),
    }
}

fn list(jobs: &Value, format: Format) -> Result<()> {
    let Format::Table = format else {
        return Ok(output::print(&serde_json::to_string_pretty(jobs)?)?);
    };
    let text = |job: &Value, name: &str| job[name].as_str().unwrap_or_default().to_owned();
    let mut lines = vec![format!("{:24}  {:9}  {:24}  WHY", "JOB", "STATUS", "ASKED")];
    for job in jobs.as_array().into_iter().flatten() {
        let [id, status, asked, why] =
            ["id", "status", "queued_at", "error"].map(|name| text(job, name));
        let line = format!("{id:24}  {status:9}  {asked:24}  {why}");
        lines.push(line.trim_end().replace(|c: char| c.is_control(), " "));
    }
    Ok(output::print(&lines.join("\n"))?)
}
