//! A bot's lines as the daemon keeps them: its own and those of the programs around it.

use std::collections::HashMap;
use std::io::Write;

use anyhow::{Context, Result, bail};
use bollard::Docker;
use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::models::ContainerSummaryStateEnum;
use bollard::query_parameters::{ListContainersOptionsBuilder, LogsOptionsBuilder};
use contract::BotId;
use futures_util::StreamExt;

use super::Engine;
use super::names::{self, Stack};
use super::refusal::said;
use crate::logs::{Stamps, Tail};
use crate::output;
use crate::place::Containers;

/// Writes the end of what the bot's container has printed, and what it prints from now on if `follow`, until it ends or
/// nobody reads any more.
///
/// # Errors
/// There is no such container, or the daemon does not answer.
pub fn show(
    place: &Containers,
    bot: &BotId,
    tail: Tail,
    stamps: Stamps,
    follow: bool,
) -> Result<()> {
    let stack: Stack = place.stack.parse().map_err(anyhow::Error::msg)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(copy(place, &stack, bot, (tail, stamps, follow)))
}

/// The last `lines` of what the bot's container has printed; empty where they cannot be had.
pub async fn last(place: &Containers, bot: &BotId, lines: usize) -> String {
    let Ok(stack) = place.stack.parse::<Stack>() else {
        return String::new();
    };
    let Ok(docker) = Engine::connect(place.docker_host.as_deref()) else {
        return String::new();
    };
    let Ok(docker) = docker.negotiate_version().await else {
        return String::new();
    };
    let options = LogsOptionsBuilder::default()
        .stdout(true)
        .stderr(true)
        .tail(&lines.to_string())
        .build();
    let container = newest(&docker, &stack, bot).await;
    let pieces = docker.logs(&container, Some(options));
    let pieces: Vec<_> = pieces
        .take_while(|piece| std::future::ready(piece.is_ok()))
        .collect()
        .await;
    let mut bytes = Vec::new();
    for piece in pieces.into_iter().flatten() {
        bytes.extend_from_slice(piece.as_ref());
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The bot's newest container: that of a schedule has another name each time. One that is not found is called as it
/// would be.
async fn newest(docker: &Docker, stack: &Stack, bot: &BotId) -> String {
    let labels = [(names::STACK, stack.as_str()), (names::ID, bot.as_str())];
    let labels = labels.map(|(name, value)| format!("{name}={value}")).into();
    let filters = HashMap::from([("label", labels)]);
    let options = ListContainersOptionsBuilder::default()
        .all(true)
        .filters(&filters)
        .build();
    let found = docker
        .list_containers(Some(options))
        .await
        .unwrap_or_default();
    // The daemon lists the newest first; one that is never started has said nothing.
    let ran = found
        .into_iter()
        .find(|found| found.state != Some(ContainerSummaryStateEnum::CREATED));
    ran.and_then(|found| found.id)
        .unwrap_or_else(|| stack.container(bot))
}

async fn copy(
    place: &Containers,
    stack: &Stack,
    bot: &BotId,
    (tail, stamps, follow): (Tail, Stamps, bool),
) -> Result<()> {
    let docker = Engine::connect(place.docker_host.as_deref())?;
    let docker = docker
        .negotiate_version()
        .await
        .context("the Docker daemon")?;
    let container = &newest(&docker, stack, bot).await;
    let lines = match tail {
        Tail::All => "all".to_owned(),
        Tail::Lines(count) => count.to_string(),
    };
    let options = LogsOptionsBuilder::default()
        .stdout(true)
        .stderr(true)
        .follow(follow)
        .tail(&lines)
        .timestamps(stamps == Stamps::Shown)
        .build();
    let mut log = std::pin::pin!(docker.logs(container, Some(options)));
    let mut out = std::io::stdout().lock();
    while let Some(piece) = log.next().await {
        match piece {
            Ok(LogOutput::StdIn { .. }) => {}
            Ok(piece) => match out.write_all(piece.as_ref()).and_then(|()| out.flush()) {
                Err(err) if err.kind() == std::io::ErrorKind::BrokenPipe => return Ok(()),
                written => written?,
            },
            Err(Error::DockerResponseServerError {
                status_code: 404, ..
            }) => {
                bail!(
                    "there is no container {container}: the bot was not started yet, or what was left of it is removed; `--day` shows a day's log from the store"
                )
            }
            Err(err) => bail!("the log of container {container}: {}", said(&err)),
        }
    }
    Ok(output::unbroken(out.flush())?)
}
