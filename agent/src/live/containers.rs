//! What containers print, as the daemon keeps it.

use std::future::ready;
use std::time::SystemTime;

use anyhow::Result;
use bollard::Docker;
use bollard::container::LogOutput;
use bollard::query_parameters::{LogsOptions, LogsOptionsBuilder};
use futures_util::stream::{BoxStream, StreamExt, once};

use super::LIFE;
use super::chunk::{Source, stamped};
use super::reader::Printed;

/// All that the container has printed and prints until it ends, as far back as the stream keeps it.
///
/// # Errors
/// The daemon does not answer.
pub async fn read(docker: &Docker, id: &str) -> Result<BoxStream<'static, Result<Printed>>> {
    let docker = docker.clone().negotiate_version().await?;
    let log = docker.logs(id, Some(options()));
    let pieces = log.filter_map(|piece| ready(piece.map(printed).map_err(Into::into).transpose()));
    Ok(pieces.chain(once(ready(Ok(Printed::End)))).boxed())
}

fn printed(piece: LogOutput) -> Option<Printed> {
    let (source, message) = match piece {
        LogOutput::StdOut { message } => (Source::Output, message),
        LogOutput::StdErr { message } => (Source::Error, message),
        LogOutput::StdIn { .. } | LogOutput::Console { .. } => return None,
    };
    let (stamp, bytes) = stamped(&message)?;
    Some(Printed::Piece {
        source,
        stamp: stamp.to_owned(),
        bytes: message.slice_ref(bytes),
    })
}

fn options() -> LogsOptions {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let since = now.unwrap_or_default().saturating_sub(LIFE).as_secs();
    LogsOptionsBuilder::default()
        .stdout(true)
        .stderr(true)
        .follow(true)
        .timestamps(true)
        .since(i32::try_from(since).unwrap_or(0))
        .build()
}
