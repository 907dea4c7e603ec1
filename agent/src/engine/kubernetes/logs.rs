//! A bot's lines as the kubelet keeps them.

use std::io::Write;

use anyhow::{Context, Result, bail};
use contract::BotId;
use futures_util::{AsyncBufRead, AsyncBufReadExt};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, LogParams};
use kube::{Api, Client, ResourceExt};

use super::containers::BOT;
use super::names;
use super::refusal::said;
use crate::engine::stack::Stack;
use crate::logs::{Stamps, Tail};
use crate::output;
use crate::place::Pods;

/// Writes the end of what the bot has printed, and what it prints from now on if `follow`, until it ends or nobody reads any
/// more.
///
/// # Errors
/// There is no Pod of it, or the API server does not answer.
pub fn show(place: &Pods, bot: &BotId, tail: Tail, stamps: Stamps, follow: bool) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let params = LogParams {
        container: Some(BOT.to_owned()),
        follow,
        tail_lines: match tail {
            Tail::All => None,
            Tail::Lines(count) => Some(i64::try_from(count).unwrap_or(i64::MAX)),
        },
        timestamps: stamps == Stamps::Shown,
        ..LogParams::default()
    };
    runtime.block_on(async {
        let client = super::connect().await?.0;
        let (pods, name) = find(client, place, bot).await?;
        let lines = pods.log_stream(&name, &params).await;
        let lines =
            lines.map_err(|err| anyhow::anyhow!("the log of Pod {name}: {}", said(&err)))?;
        copy(lines).await
    })
}

/// The last `lines` of what the bot has printed; empty where they cannot be had.
pub async fn last(place: &Pods, bot: &BotId, lines: usize) -> String {
    let params = LogParams {
        container: Some(BOT.to_owned()),
        tail_lines: i64::try_from(lines).ok(),
        ..LogParams::default()
    };
    let read = async {
        let client = super::connect().await?.0;
        let (pods, name) = find(client, place, bot).await?;
        anyhow::Ok(pods.logs(&name, &params).await?)
    };
    read.await.unwrap_or_default()
}

/// The bot's newest Pod: that of a schedule has another name each time.
async fn find(client: Client, place: &Pods, bot: &BotId) -> Result<(Api<Pod>, String)> {
    let stack: Stack = place.stack.parse().map_err(anyhow::Error::msg)?;
    let pods: Api<Pod> = Api::namespaced(client, &place.namespace);
    let of_bot = format!(
        "{},{}={}",
        names::selector(&stack),
        names::ID,
        names::label(bot.as_str())
    );
    let listed = pods.list(&ListParams::default().labels(&of_bot)).await;
    let listed = listed.map_err(|err| anyhow::anyhow!("list its Pods: {}", said(&err)))?;
    let newest = listed
        .items
        .into_iter()
        .max_by_key(|pod| pod.metadata.creation_timestamp.clone());
    let Some(pod) = newest else {
        bail!(
            "there is no Pod of {bot} in the namespace {}: it was not started yet, or has ended; `--day` shows a day's log from the store",
            place.namespace
        );
    };
    Ok((pods, pod.name_any()))
}

async fn copy(lines: impl AsyncBufRead) -> Result<()> {
    let mut lines = std::pin::pin!(lines);
    let mut out = std::io::stdout().lock();
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = lines.read_until(b'\n', &mut line).await;
        if read.context("the API server ended the log")? == 0 {
            return Ok(output::unbroken(out.flush())?);
        }
        match out.write_all(&line).and_then(|()| out.flush()) {
            Err(err) if err.kind() == std::io::ErrorKind::BrokenPipe => return Ok(()),
            written => written?,
        }
    }
}
