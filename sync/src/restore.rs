//! Bringing the state to where it should be before the bot starts: claim, compare, and restore if need be.
//!
//! The state on disk wins if the object in the store is still what it is based on: it can only be newer. Otherwise
//! the object wins, and what is on disk is kept in the history first. Only "does not exist" means a first run.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use contract::Digest;
use contract::record::{Outcome, Synced};

use crate::base::{Base, Remote};
use crate::extract::{self, Budget, Links, Rules};
use crate::settings::Settings;
use crate::store::{Address, Store};
use crate::swap::{self, Staging};
use crate::tree::{self, Tree};
use crate::{beneath, claim, code, history, retry};

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// There is no state anywhere.
    FirstRun,
    /// The state on disk is the newest.
    KeepLocal,
    /// Disk and store hold the same.
    Same,
    /// The store's is put on the disk.
    Restore(Local),
}

/// What is on the disk when the store's state is restored over it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Local {
    /// Nothing.
    Empty,
    /// Something that nobody else has.
    Own,
}

/// Decides, from the digest of what is on disk (`None`: nothing), what that is based on, and what is in the store.
pub fn plan(local: Option<&Digest>, base: Option<&Base>, remote: Option<&Remote>) -> Plan {
    let Some(remote) = remote else {
        return if local.is_none() {
            Plan::FirstRun
        } else {
            Plan::KeepLocal
        };
    };
    // A generation is claimed once, so an object that has ours is a push of ours, noted or not; one with a lower
    // generation is the late write of an instance that lost to us, and the first push keeps it in the history.
    let ours = base.is_some_and(|base| {
        let known = base.etag.as_ref() == Some(&remote.etag);
        known
            || remote
                .generation
                .is_some_and(|theirs| theirs <= base.generation)
    });
    match local {
        _ if ours => Plan::KeepLocal,
        Some(local) if Some(local) == remote.digest.as_ref() => Plan::Same,
        Some(_) => Plan::Restore(Local::Own),
        None => Plan::Restore(Local::Empty),
    }
}

/// Makes the folder be there, and finishes a restore that was cut off: the state is whole, whatever comes next.
pub fn finish(settings: &Settings) -> anyhow::Result<()> {
    let state = &settings.launch.paths.state;
    fs::create_dir_all(state).with_context(|| format!("make {}", state.display()))?;
    let note = |mut base: Base| base.save(settings);
    swap::finish(state, note)
        .map(|_| ())
        .context("finish an earlier restore")
}

/// Claims the bot and makes its state be on the disk; [`finish`] comes first.
pub fn fetch(settings: &Settings, store: &Store) -> anyhow::Result<()> {
    let state = &settings.launch.paths.state;
    // A folder of an image becomes another one at its first change: let it be now, before it is remembered.
    Staging::begin(state)
        .and_then(|staging| staging.discard())
        .with_context(|| format!("write in {}", state.display()))?;
    let base = Base::load(settings).context("read what the state is based on")?;
    let generation = raise(settings, store, base.as_ref())?;
    forget_verdict(settings).context("remove what the last sync said")?;
    let tree = tree::read(state).with_context(|| format!("read {}", state.display()))?;
    let end = Instant::now() + settings.places.deadline;
    loop {
        match settle(settings, store, &tree, base.as_ref(), generation)? {
            Settled::Done => return Ok(()),
            // Someone may be in the middle of writing it by hand.
            Settled::Corrupt(why, seen) => {
                std::thread::sleep(Duration::from_secs(1));
                let head = retry::until(settings.places.deadline, || {
                    store.head(&settings.places.state())
                })?;
                let changed = head
                    .map(Remote::from)
                    .is_none_or(|now| now.etag != seen.etag);
                if !changed || Instant::now() > end {
                    bail!(corrupt(settings, store, &why));
                }
            }
        }
    }
}

/// That an earlier instance on this volume had to stop says nothing about this one.
fn forget_verdict(settings: &Settings) -> io::Result<()> {
    let path = settings.launch.paths.synced();
    let said = contract::file::read_json::<Synced>(&path).unwrap_or(None);
    match said.map(|said| said.outcome) {
        None | Some(Outcome::Ok | Outcome::Failed) => Ok(()),
        Some(_) => contract::file::remove(&path),
    }
}

fn raise(settings: &Settings, store: &Store, base: Option<&Base>) -> anyhow::Result<u64> {
    let place = settings.places.ours("claim")?;
    let head = retry::until(settings.places.deadline, || {
        store.head(&settings.places.state())
    })?;
    let pushed = head
        .map(Remote::from)
        .and_then(|remote| remote.generation)
        .unwrap_or(0);
    let least = pushed.max(base.map_or(0, |base| base.generation));
    let generation = retry::until(settings.places.deadline, || {
        claim::raise(store, &place, least)
    });
    generation.context("claim the bot")
}

enum Settled {
    Done,
    Corrupt(String, Remote),
}

fn settle(
    settings: &Settings,
    store: &Store,
    tree: &Tree,
    base: Option<&Base>,
    generation: u64,
) -> anyhow::Result<Settled> {
    let head = retry::until(settings.places.deadline, || {
        store.head(&settings.places.state())
    })?;
    let remote = head.map(Remote::from);
    let local = if tree.is_empty() { None } else { tree.digest() };
    let decided = plan(local.as_ref(), base, remote.as_ref());
    match (decided, remote) {
        (Plan::Restore(there), Some(remote)) => {
            let old = base.and_then(|base| base.digest.as_ref());
            restore(settings, store, (tree, there), remote, old, generation)
        }
        (_, remote) => {
            contract::info!("state: {}, generation {generation}", said(decided));
            let (etag, digest) = remote.map_or((None, None), |r| (Some(r.etag), r.digest));
            Base {
                generation,
                etag,
                digest,
                ..Base::default()
            }
            .save(settings)?;
            Ok(Settled::Done)
        }
    }
}

fn said(plan: Plan) -> &'static str {
    match plan {
        Plan::FirstRun => "there is none, a first run",
        Plan::KeepLocal => "the one on disk is the newest",
        Plan::Same => "disk and store hold the same",
        Plan::Restore(_) => "restored from the store",
    }
}

fn restore(
    settings: &Settings,
    store: &Store,
    (tree, there): (&Tree, Local),
    remote: Remote,
    old: Option<&Digest>,
    generation: u64,
) -> anyhow::Result<Settled> {
    let staging =
        Staging::begin(&settings.launch.paths.state).context("make room for the state")?;
    let (etag, digest) = match fill(settings, store, &staging, &remote) {
        Ok(filled) => filled,
        Err(Failure::Corrupt(why)) => {
            staging.discard()?;
            return Ok(Settled::Corrupt(why, remote));
        }
        Err(Failure::Other(error)) => {
            staging.discard()?;
            return Err(error);
        }
    };
    let mut base = Base {
        generation,
        etag: Some(etag),
        digest: Some(digest),
        ..Base::default()
    };
    // The same content under another version: the store was moved or copied.
    if old.is_some() && base.digest.as_ref() == old {
        staging.discard()?;
        base.save(settings)?;
        contract::info!("state: {}, generation {generation}", said(Plan::KeepLocal));
        return Ok(Settled::Done);
    }
    if there == Local::Own {
        let root = beneath::root(&settings.launch.paths.state)?;
        let reason = history::Reason::Local;
        let key = history::keep_tree(
            &settings.places,
            store,
            tree,
            root.as_fd(),
            generation,
            reason,
        )?;
        contract::warn!("the state on disk is not what the store has; it is kept as {key}");
    }
    staging
        .commit(base, |mut base| base.save(settings))
        .context("swap in the state")?;
    contract::info!("state: restored from the store, generation {generation}");
    Ok(Settled::Done)
}

enum Failure {
    Corrupt(String),
    Other(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

/// Unpacks the object aside and verifies it; gives its version and the digest of what is in it.
fn fill(
    settings: &Settings,
    store: &Store,
    staging: &Staging,
    remote: &Remote,
) -> Result<(crate::store::Etag, Digest), Failure> {
    let etag = code::download(
        &settings.places,
        store,
        &settings.places.state(),
        &staging.archive(),
    )?;
    let bytes = settings.places.largest_state.max(Budget::default().bytes);
    let budget = Budget {
        bytes,
        entries: u64::MAX,
        ratio: u64::MAX,
    };
    let rules = Rules {
        links: Links::All,
        budget,
    };
    match extract::unpack(&mut File::open(staging.archive())?, &staging.tree(), rules) {
        Ok(()) => {}
        Err(error) if error.reason().is_some() => return Err(Failure::Corrupt(error.to_string())),
        Err(error) => return Err(error.into()),
    }
    let digest = tree::read(&staging.tree())?
        .digest()
        .ok_or(io::Error::from(io::ErrorKind::InvalidData))?;
    match &remote.digest {
        Some(expected) if *expected != digest && etag == remote.etag => {
            let (got, expected) = (digest.short(), expected.short());
            Err(Failure::Corrupt(format!(
                "its digest is {got} and should be {expected}"
            )))
        }
        _ => Ok((etag, digest)),
    }
}

/// The refusal of a corrupt state, with what a person can do about it.
fn corrupt(settings: &Settings, store: &Store, why: &str) -> String {
    let at = settings.places.state();
    let keys = history::list(&settings.places, store).unwrap_or_default();
    let Address::Directory(root) = &settings.places.store;
    let folder = root.join(&at.bucket);
    let remedy = match keys.first() {
        None => "there is no older state in the history".to_owned(),
        Some(newest) => format!(
            "to go back to an older state, copy one over it, as in: cp {} {} (newest first: {})",
            folder.join(newest.as_str()).display(),
            folder.join(at.key.as_str()).display(),
            keys.iter()
                .take(10)
                .map(contract::ObjectKey::as_str)
                .collect::<Vec<_>>()
                .join(", ")
        ),
    };
    format!("{at} is corrupt and the bot is not started: {why}; {remedy}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Etag;

    fn digest(n: u8) -> Digest {
        Digest::from_bytes([n; 32])
    }

    fn base(etag: &str, generation: u64) -> Base {
        Base {
            etag: Some(Etag(etag.into())),
            generation,
            digest: Some(digest(1)),
            ..Base::default()
        }
    }

    fn remote(etag: &str, generation: Option<u64>, n: u8) -> Remote {
        Remote {
            etag: Etag(etag.into()),
            generation,
            digest: Some(digest(n)),
        }
    }

    #[test]
    fn only_nothing_anywhere_is_a_first_run() {
        assert_eq!(plan(None, None, None), Plan::FirstRun);
        assert_eq!(plan(None, Some(&base("a", 1)), None), Plan::FirstRun);
        assert_eq!(plan(Some(&digest(1)), None, None), Plan::KeepLocal);
        assert_eq!(
            plan(None, None, Some(&remote("a", None, 1))),
            Plan::Restore(Local::Empty)
        );
    }

    #[test]
    fn the_disk_wins_only_over_what_it_is_based_on() {
        let (own, based) = (digest(2), base("a", 3));
        let decide = |local, remote| plan(local, Some(&based), Some(&remote));
        assert_eq!(decide(Some(&own), remote("a", Some(3), 1)), Plan::KeepLocal);
        assert_eq!(decide(None, remote("a", Some(3), 1)), Plan::KeepLocal);
        // A push of ours that was not noted before a crash.
        assert_eq!(decide(Some(&own), remote("b", Some(3), 9)), Plan::KeepLocal);
        // A loser's late write.
        assert_eq!(decide(Some(&own), remote("b", Some(2), 9)), Plan::KeepLocal);
        // Someone else's, newer or edited.
        assert_eq!(
            decide(Some(&own), remote("b", Some(4), 9)),
            Plan::Restore(Local::Own)
        );
        assert_eq!(
            decide(Some(&own), remote("b", None, 9)),
            Plan::Restore(Local::Own)
        );
        assert_eq!(decide(Some(&own), remote("b", None, 2)), Plan::Same);
        assert_eq!(
            plan(Some(&own), None, Some(&remote("a", Some(3), 1))),
            Plan::Restore(Local::Own)
        );
    }
}
