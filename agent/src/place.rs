//! The agent's data folder: what is where in it, and who may use it.
//!
//! ```text
//! agent.lock        locked by the agent that runs on the folder
//! agent.sock        where it takes requests; only for its own user
//! registered/       documents of deployed bots
//! stopped.json      bots that a person has stopped
//! switch.json       whether any bot may run
//! orders.json       both, with when it was said, where agents of a database share it
//! engine.json       where the agent last ran bots, where that is not this folder
//! cluster.json      the same of bots that are Pods
//! episodes.json     notices that were sent of troubles that last
//! store.json        which store the agent last used, without keys
//! wrappers/         starters of Python and Node bots
//! store/            the object store where no other one is named: code, states, day logs
//! bots/<id>/        code, state and var of each bot; bot.json says whose they are, start.json why it was last started,
//!                   history.jsonl what became of its runs
//! ```

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use contract::launch::Variables;
use contract::{BotId, file};
use serde::{Deserialize, Serialize};

use crate::bots::registered;
use crate::id::Known;
use crate::launch::Host;
use crate::plan::Switch;
use crate::store::{Address, Store};

/// The file in a bot's folder that says whose it is.
pub const ABOUT: &str = "bot.json";

/// Whose folder it is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct About {
    /// The bot's id.
    pub id: BotId,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// The agent's sole right to a data folder, until dropped.
#[derive(Debug)]
pub struct Ownership(#[expect(dead_code, reason = "held, not used")] File);

/// The socket of the agent that runs on `data`.
pub fn socket(data: &Path) -> PathBuf {
    data.join("agent.sock")
}

/// Makes the data folder, for its owner only, and gives its absolute path.
///
/// # Errors
/// What the file system answers.
pub fn make(data: &Path) -> Result<PathBuf> {
    let shown = data.display();
    let mut builder = DirBuilder::new();
    builder
        .recursive(true)
        .mode(0o700)
        .create(data)
        .with_context(|| format!("data folder {shown}"))?;
    let data = data
        .canonicalize()
        .with_context(|| format!("data folder {shown}"))?;
    // A folder that was there may be open to others; what lies in it must not be.
    for part in ["bots", "registered", "store", "wrappers"] {
        let path = data.join(part);
        builder
            .create(&path)
            .with_context(|| path.display().to_string())?;
    }
    Ok(data)
}

/// Takes the sole right to run an agent on `data`.
///
/// # Errors
/// Another agent has it.
pub fn own(data: &Path) -> Result<Ownership> {
    let path = data.join("agent.lock");
    let shown = path.display();
    let open = File::options()
        .create(true)
        .read(true)
        .append(true)
        .open(&path);
    let mut lock = open.with_context(|| shown.to_string())?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::Error(err)) => return Err(err).with_context(|| shown.to_string()),
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let _ = lock.read_to_string(&mut holder);
            let (holder, data) = (holder.trim(), data.display());
            bail!(
                "another agent (process {holder}) runs on {data}: end that one first, or give this one its own --data folder"
            );
        }
    }
    let mut note = || -> std::io::Result<()> {
        lock.set_len(0)?;
        lock.rewind()?;
        writeln!(lock, "{}", std::process::id())
    };
    // A full disk is no reason to leave bots without an agent: the number is for a person.
    let _ = note();
    Ok(Ownership(lock))
}

/// This host as the environment tells it; `data` is absolute.
///
/// # Errors
/// It names a store that cannot be used.
pub fn host(data: &Path) -> Result<Host> {
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    Ok(Host::new(data.to_owned(), environment.collect())?)
}

/// Opens the store of `host`.
///
/// # Errors
/// What the file system answers.
pub fn open_store(host: &Host) -> Result<Store> {
    let temporary = host.data.join("store/.the0-tmp");
    Store::open(&host.store, temporary).context("the store")
}

/// Writes down which store is used, and gives what was written before if that is another one.
///
/// # Errors
/// What the file system answers.
pub fn remember_store(host: &Host) -> Result<Option<String>> {
    let path = host.data.join("store.json");
    let shown = || path.display().to_string();
    let before: Option<Variables> = file::read_json(&path).with_context(shown)?;
    let now = told(&host.store);
    if before.as_ref() != Some(&now) {
        file::replace_json(&path, &now).with_context(shown)?;
    }
    Ok(before
        .filter(|before| *before != now)
        .map(|before| named(&before)))
}

/// The host of a command beside an agent: it must mean the store that the agent uses.
///
/// # Errors
/// The environment means another one, or cannot be used.
pub fn host_beside_agent(data: &Path) -> Result<Host> {
    let host = host(data)?;
    let path = data.join("store.json");
    let used: Option<Variables> =
        file::read_json(&path).with_context(|| path.display().to_string())?;
    match used {
        Some(used) if used != told(&host.store) => bail!(
            "the bots of {} have their objects in {}, and this command was told {}: set MINIO_ENDPOINT, its keys and \
             the buckets as for `agent dev`",
            data.display(),
            named(&used),
            named(&told(&host.store)),
        ),
        _ => Ok(host),
    }
}

/// What tells one store from another, without keys and without the way to it. A folder in the data is moved with it.
fn told(store: &Address) -> Variables {
    match store {
        Address::Directory(_) => Variables::new(),
        Address::S3(endpoint) => {
            let mut told = store.variables();
            told.retain(|name, _| name.ends_with("_BUCKET"));
            told.insert("url".into(), endpoint.url.clone());
            told
        }
    }
}

fn named(told: &Variables) -> String {
    told.get("url").map_or("its own folder".to_owned(), |url| {
        format!("the object store at {url}")
    })
}

/// The bots that a person has stopped.
///
/// # Errors
/// The file is there and cannot be read: that is not taken for "none".
pub fn stopped(data: &Path) -> Result<BTreeSet<BotId>> {
    let path = data.join("stopped.json");
    let found = file::read_json(&path).with_context(|| path.display().to_string())?;
    Ok(found.unwrap_or_default())
}

/// Remembers the bots that a person has stopped.
///
/// # Errors
/// What the file system answers.
pub fn remember_stopped(data: &Path, stopped: &BTreeSet<BotId>) -> std::io::Result<()> {
    file::replace_json(&data.join("stopped.json"), stopped)
}

/// Whether any bot may run.
///
/// # Errors
/// The file is there and cannot be read: that is not taken for "yes".
pub fn switch(data: &Path) -> Result<Switch> {
    let path = data.join("switch.json");
    let found = file::read_json(&path).with_context(|| path.display().to_string())?;
    Ok(found.unwrap_or_default())
}

/// Remembers whether any bot may run.
///
/// # Errors
/// What the file system answers.
pub fn remember_switch(data: &Path, switch: Switch) -> std::io::Result<()> {
    file::replace_json(&data.join("switch.json"), &switch)
}

/// Where an agent runs bots that are not processes of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Containers {
    /// The daemon's address; `None`: the usual socket.
    pub docker_host: Option<String>,
    /// The stack.
    pub stack: String,
}

/// Where the agent of `data` last ran bots, if as containers.
///
/// # Errors
/// The file is there and cannot be read.
pub fn containers(data: &Path) -> Result<Option<Containers>> {
    let path = data.join("engine.json");
    file::read_json(&path).with_context(|| path.display().to_string())
}

/// Writes down where bots run; `None`: as processes.
///
/// # Errors
/// What the file system answers.
pub fn remember_containers(data: &Path, containers: Option<&Containers>) -> Result<()> {
    let path = data.join("engine.json");
    let done = match containers {
        Some(now) => match file::read_json::<Containers>(&path) {
            Ok(Some(before)) if before == *now => Ok(()),
            _ => file::replace_json(&path, now),
        },
        None => file::remove(&path),
    };
    done.with_context(|| path.display().to_string())
}

/// Where an agent runs bots as Pods.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pods {
    /// The namespace.
    pub namespace: String,
    /// The stack.
    pub stack: String,
}

/// Where the agent of `data` last ran bots, if as Pods.
///
/// # Errors
/// The file is there and cannot be read.
pub fn pods(data: &Path) -> Result<Option<Pods>> {
    let path = data.join("cluster.json");
    file::read_json(&path).with_context(|| path.display().to_string())
}

/// Writes down where bots run as Pods; `None`: they do not.
///
/// # Errors
/// What the file system answers.
pub fn remember_pods(data: &Path, pods: Option<&Pods>) -> Result<()> {
    let path = data.join("cluster.json");
    let done = match pods {
        Some(now) => file::replace_json(&path, now),
        None => file::remove(&path),
    };
    done.with_context(|| path.display().to_string())
}

/// The bots that have ever run on `data` or are registered there, for when no agent can be asked.
///
/// # Errors
/// The folder is there and cannot be read: that is not taken for "none".
pub fn known(data: &Path) -> Result<Vec<Known>> {
    let path = data.join("bots");
    let entries = match fs::read_dir(&path) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => None,
        other => Some(other.with_context(|| path.display().to_string())?),
    };
    let entries = entries.into_iter().flatten().flatten();
    let abouts = entries.filter_map(|e| {
        file::read_json::<About>(&e.path().join(ABOUT))
            .ok()
            .flatten()
    });
    let mut known: Vec<Known> = abouts
        .map(|about| Known {
            id: about.id,
            name: about.name,
            alias: None,
        })
        .collect();
    for document in registered::documents(data) {
        let id = document
            .get("id")
            .and_then(|id| id.as_str())
            .and_then(|id| id.parse().ok());
        let Some(id) = id else { continue };
        if known.iter().all(|bot| bot.id != id) {
            let name = registered::name_of(&document).unwrap_or_default();
            known.push(Known {
                id,
                name,
                alias: None,
            });
        }
    }
    Ok(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_agent_is_told_who_has_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        let data = make(&dir.path().join("data")).unwrap();
        let first = own(&data).unwrap();
        let text = own(&data).unwrap_err().to_string();
        assert!(
            text.contains(&format!("process {}", std::process::id())),
            "{text}"
        );
        drop(first);
        own(&data).unwrap();
    }

    #[test]
    fn what_was_stopped_is_remembered_and_a_spoilt_memory_is_not_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert!(stopped(dir.path()).unwrap().is_empty());
        let bots = BTreeSet::from(["abc".parse().unwrap()]);
        remember_stopped(dir.path(), &bots).unwrap();
        assert_eq!(stopped(dir.path()).unwrap(), bots);
        fs::write(dir.path().join("stopped.json"), "[\"a").unwrap();
        assert!(stopped(dir.path()).is_err());
    }
}
