//! What the programs in a container have written down, read through the daemon: it works on containers that run, have
//! ended or were never started, and with volumes.

use std::io::Read;

use bollard::Docker;
use bollard::errors::Error;
use bollard::query_parameters::DownloadFromContainerOptionsBuilder;
use contract::Paths;
use contract::record::RunRecord;
use futures_util::StreamExt;
use serde::de::DeserializeOwned;

use crate::report::Records;

/// Bytes of one file at most; more is not read. The largest of them, runs.jsonl, is kept shorter by its writer.
const LARGEST: usize = 8 << 20;

/// The layout in every container.
pub fn paths() -> Paths {
    Paths {
        code: "/bot".into(),
        state: "/state".into(),
        sdk_state: "/state/.the0-state".into(),
        var: "/var/the0".into(),
        logs: "/var/the0/logs".into(),
    }
}

/// The records of a container.
///
/// # Errors
/// The daemon does not give them. That a file is not there is none, nor that it is not understood.
pub async fn records(docker: &Docker, container: &str) -> Result<Records, Error> {
    let paths = paths();
    let read = |path: std::path::PathBuf| async move {
        file(docker, container, &path.to_string_lossy()).await
    };
    let (status, done, runs, synced) = futures_util::try_join!(
        read(paths.status()),
        read(paths.done_record()),
        read(paths.runs()),
        read(paths.synced()),
    )?;
    Ok(Records {
        status: json(status),
        done: json(done),
        runs: runs.map(|bytes| lines(&bytes)).unwrap_or_default(),
        synced: json(synced),
        listening: None,
    })
}

fn json<T: DeserializeOwned>(bytes: Option<Vec<u8>>) -> Option<T> {
    serde_json::from_slice(&bytes?).ok()
}

fn lines(bytes: &[u8]) -> Vec<RunRecord> {
    let lines = bytes.split(|byte| *byte == b'\n');
    lines
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect()
}

/// The content of one regular file; `None` when it is not there.
async fn file(docker: &Docker, container: &str, path: &str) -> Result<Option<Vec<u8>>, Error> {
    let options = DownloadFromContainerOptionsBuilder::default()
        .path(path)
        .build();
    let mut stream = std::pin::pin!(docker.download_from_container(container, Some(options)));
    let mut archive = Vec::new();
    while let Some(chunk) = stream.next().await {
        match chunk {
            Ok(chunk) if archive.len() + chunk.len() <= LARGEST => {
                archive.extend_from_slice(&chunk);
            }
            // Too large for one of ours; or not there, and the container itself may be gone: whoever lists will see.
            Ok(_)
            | Err(Error::DockerResponseServerError {
                status_code: 404, ..
            }) => return Ok(None),
            Err(err) => return Err(err),
        }
    }
    Ok(first_file(&archive))
}

fn first_file(archive: &[u8]) -> Option<Vec<u8>> {
    let mut archive = tar::Archive::new(archive);
    let mut entry = archive.entries().ok()?.next()?.ok()?;
    if !entry.header().entry_type().is_file() {
        return None;
    }
    let mut content = Vec::new();
    entry.read_to_end(&mut content).ok()?;
    Some(content)
}
