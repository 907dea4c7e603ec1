//! What the programs in a container have written down, read through the daemon: it works on containers that run, have
//! ended or were never started, and with volumes.
//!
//! Of one that has ended it is read from the volumes' folders, where these are here. For the daemon mounts the volumes into
//! a container's own folder to read them, and when somebody removes the container by force at that moment, it empties that
//! folder and the volumes with it (seen with 20.10: a bot's state was gone).

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::ContainerInspectResponse;
use bollard::query_parameters::DownloadFromContainerOptionsBuilder;
use contract::Paths;
use contract::record::RunRecord;
use futures_util::StreamExt;
use nix::fcntl::OFlag;
use serde::de::DeserializeOwned;

use super::examine::inspect;
use super::refusal::has_status;
use crate::report::{Integrity, Records};

/// Bytes of one file at most; more is not read. The largest of them, runs.jsonl, is kept shorter by its writer.
const LARGEST: usize = 8 << 20;
/// Bytes of the state's archive that are looked at to tell whether anything is in it.
const GLANCE: usize = 64 << 10;

/// The layout in every container.
fn paths() -> Paths {
    Paths {
        code: "/bot".into(),
        state: "/state".into(),
        sdk_state: "/state/.the0-state".into(),
        var: "/var/the0".into(),
        logs: "/var/the0/logs".into(),
    }
}

/// The records in a container, as far as they can be had.
///
/// # Errors
/// The daemon does not give them. That a file is not there is none.
pub async fn records(docker: &Docker, container: &str) -> Result<Records, Error> {
    let paths = paths();
    let read = |path: PathBuf| async move { file(docker, container, &path).await };
    // A run that the status tells of must find the runs before it among the records.
    let status = read(paths.status()).await?;
    let (done, runs, synced) = futures_util::try_join!(
        read(paths.done_record()),
        read(paths.runs()),
        read(paths.synced()),
    )?;
    let mut integrity = Integrity::Whole;
    Ok(Records {
        status: status.json(&mut integrity),
        done: done.json(&mut integrity),
        runs: runs.lines(&mut integrity),
        synced: synced.json(&mut integrity),
        saving: None,
        listening: None,
        integrity,
    })
}

/// The records in a volume that is a folder of this machine; `None` where there is none, or it is closed to us. What a
/// bot may have put in the place of a file (a link, a pipe) is not followed and not waited for.
pub fn records_here(folder: &Path) -> Option<Records> {
    std::fs::read_dir(folder).ok()?;
    let paths = Paths {
        var: folder.to_owned(),
        ..paths()
    };
    let mut integrity = Integrity::Whole;
    Some(Records {
        status: here(&paths.status()).json(&mut integrity),
        done: here(&paths.done_record()).json(&mut integrity),
        runs: here(&paths.runs()).lines(&mut integrity),
        synced: here(&paths.synced()).json(&mut integrity),
        saving: None,
        listening: None,
        integrity,
    })
}

fn here(path: &Path) -> Found {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let open = File::options()
        .read(true)
        .custom_flags(flags.bits())
        .open(path);
    let file = match open {
        Ok(file) => file,
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Found::Nothing,
        Err(_) => return Found::Unreadable,
    };
    let is_fit = |found: std::fs::Metadata| found.is_file() && found.len() <= LARGEST as u64;
    if !file.metadata().is_ok_and(is_fit) {
        return Found::Unreadable;
    }
    let mut content = Vec::new();
    let read = file.take(LARGEST as u64).read_to_end(&mut content);
    read.map_or(Found::Unreadable, |_| Found::Content(content))
}

/// The records in a container that does not run, all that there are; `None` when the container has gone meanwhile. One
/// with no records at all and something in its state is [`Integrity::Doubtful`]. `is_near` is whether the daemon is this
/// machine's.
///
/// # Errors
/// The daemon does not give them.
pub async fn records_of_ended(
    docker: &Docker,
    is_near: bool,
    container: &str,
) -> Result<Option<Records>, Error> {
    let here = if is_near {
        inspect(docker, container).await?
    } else {
        None
    };
    let records = match here.as_ref().and_then(of_volumes) {
        Some(records) => records,
        None => through_daemon(docker, container).await?,
    };
    // Files of a container that is gone are "not there", too.
    let there = inspect(docker, container).await?.is_some();
    Ok(there.then_some(records))
}

async fn through_daemon(docker: &Docker, container: &str) -> Result<Records, Error> {
    let mut records = records(docker, container).await?;
    if records.is_empty() && has_state(docker, container).await? {
        records.integrity = Integrity::Doubtful;
    }
    Ok(records)
}

/// The same of its volumes, where they are folders of this machine that we may look into.
fn of_volumes(found: &ContainerInspectResponse) -> Option<Records> {
    let folder = |inside: &Path| {
        let mut mounts = found.mounts.iter().flatten();
        let mount =
            mounts.find(|mount| mount.destination.as_deref().map(Path::new) == Some(inside))?;
        mount.source.as_deref().map(Path::new)
    };
    let Paths { var, state, .. } = paths();
    let (var, state) = (folder(&var)?, folder(&state)?);
    std::fs::read_dir(state).ok()?;
    let mut records = records_here(var)?;
    if records.is_empty() && holds_files(state) {
        records.integrity = Integrity::Doubtful;
    }
    Some(records)
}

/// Whether there is anything in a folder but folders; what cannot be looked into counts as something.
fn holds_files(folder: &Path) -> bool {
    let Ok(mut entries) = std::fs::read_dir(folder) else {
        return true;
    };
    entries.any(|entry| {
        entry.is_ok_and(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => holds_files(&entry.path()),
            _ => true,
        })
    })
}

/// What was found of a file.
enum Found {
    Nothing,
    /// Too large, not a file, or closed to us.
    Unreadable,
    Content(Vec<u8>),
}

impl Found {
    fn json<T: DeserializeOwned>(&self, integrity: &mut Integrity) -> Option<T> {
        let parsed = match self {
            Self::Nothing => return None,
            Self::Unreadable => None,
            Self::Content(bytes) => serde_json::from_slice(bytes).ok(),
        };
        if parsed.is_none() {
            *integrity = Integrity::Doubtful;
        }
        parsed
    }

    fn lines(&self, integrity: &mut Integrity) -> Vec<RunRecord> {
        match self {
            Self::Nothing => Vec::new(),
            Self::Unreadable => {
                *integrity = Integrity::Doubtful;
                Vec::new()
            }
            Self::Content(bytes) => {
                let lines = bytes.split(|byte| *byte == b'\n');
                lines
                    .filter_map(|line| serde_json::from_slice(line).ok())
                    .collect()
            }
        }
    }
}

async fn file(docker: &Docker, container: &str, path: &Path) -> Result<Found, Error> {
    match archive(docker, container, &path.to_string_lossy(), LARGEST).await? {
        None => Ok(Found::Nothing),
        Some((_, End::Cut)) => Ok(Found::Unreadable),
        Some((bytes, End::Whole)) => Ok(first_file(&bytes)),
    }
}

fn first_file(archive: &[u8]) -> Found {
    let read = || -> Option<Vec<u8>> {
        let mut archive = tar::Archive::new(archive);
        let mut entry = archive.entries().ok()?.next()?.ok()?;
        let mut content = Vec::new();
        entry.header().entry_type().is_file().then_some(())?;
        entry.read_to_end(&mut content).ok()?;
        Some(content)
    };
    read().map_or(Found::Unreadable, Found::Content)
}

/// Whether there is anything in the state: any file.
async fn has_state(docker: &Docker, container: &str) -> Result<bool, Error> {
    let Some((bytes, end)) = archive(docker, container, "/state", GLANCE).await? else {
        return Ok(false);
    };
    let mut archive = tar::Archive::new(bytes.as_slice());
    let entries = archive.entries().into_iter().flatten().flatten();
    let mut kinds = entries.map(|entry| entry.header().entry_type());
    Ok(end == End::Cut || kinds.any(|kind| !kind.is_dir()))
}

/// Whether an archive is all there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Whole,
    Cut,
}

/// The tar of a path in a container, up to `most` bytes; `None` when it is not there, or the container is not.
async fn archive(
    docker: &Docker,
    container: &str,
    path: &str,
    most: usize,
) -> Result<Option<(Vec<u8>, End)>, Error> {
    let options = DownloadFromContainerOptionsBuilder::default()
        .path(path)
        .build();
    let mut stream = std::pin::pin!(docker.download_from_container(container, Some(options)));
    let mut archive = Vec::new();
    while let Some(chunk) = stream.next().await {
        match chunk {
            Ok(chunk) if archive.len() + chunk.len() <= most => archive.extend_from_slice(&chunk),
            Ok(_) => return Ok(Some((archive, End::Cut))),
            Err(err) if has_status(&err, 404) => return Ok(None),
            Err(err) => return Err(err),
        }
    }
    Ok(Some((archive, End::Whole)))
}

#[cfg(test)]
mod tests {
    use bollard::models::MountPoint;

    use super::*;

    #[test]
    fn volumes_that_are_folders_here_are_read_there_and_an_empty_record_beside_a_state_proves_nothing()
     {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str, inside: &str| MountPoint {
            source: Some(dir.path().join(name).display().to_string()),
            destination: Some(inside.to_owned()),
            ..MountPoint::default()
        };
        let found = ContainerInspectResponse {
            mounts: Some(vec![at("state", "/state"), at("var", "/var/the0")]),
            ..ContainerInspectResponse::default()
        };
        assert_eq!(of_volumes(&found), None, "they are elsewhere");
        std::fs::create_dir_all(dir.path().join("state/folder")).unwrap();
        std::fs::create_dir(dir.path().join("var")).unwrap();
        let integrity = || of_volumes(&found).unwrap().integrity;
        assert_eq!(integrity(), Integrity::Whole, "nothing ever ran");
        std::fs::write(dir.path().join("state/folder/file"), "").unwrap();
        assert_eq!(integrity(), Integrity::Doubtful);
        assert_eq!(of_volumes(&ContainerInspectResponse::default()), None);
    }

    #[test]
    fn what_stands_in_the_place_of_a_record_is_neither_followed_nor_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        assert_eq!(records_here(&path.join("none")), None);
        assert!(records_here(path).unwrap().is_empty());
        std::fs::write(path.join("runs.jsonl"), "{\"half\": \n").unwrap();
        assert_eq!(records_here(path).unwrap().integrity, Integrity::Whole);
        std::os::unix::fs::symlink("/etc/passwd", path.join("status.json")).unwrap();
        let records = records_here(path).unwrap();
        assert_eq!(
            (records.status, records.integrity),
            (None, Integrity::Doubtful)
        );
        std::fs::remove_file(path.join("status.json")).unwrap();
        let pipe = path.join("synced.json");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(records_here(path).unwrap().integrity, Integrity::Doubtful);
    }
}
