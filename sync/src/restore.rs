//! Bringing the state to where it should be before the bot starts: claim, compare, and restore if need be.
//!
//! The state on disk wins if the object in the store is still what it is based on: it can only be newer. Otherwise
//! the object wins, and what is on disk is kept in the history first. Only "does not exist" means a first run.
//!
//! An object that turns out corrupt may have been damaged on the way: it is refused only when it came twice with the
//! same bytes, or when `THE0_FETCH_DEADLINE` is over.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use contract::Digest;
use contract::record::{Outcome, Synced};
use sha2::{Digest as _, Sha256};

use crate::archive::{Index, Noted};
use crate::base::{Base, Remote};
use crate::claim::{Fence, Sight, generations};
use crate::extract::{self, Budget, Links, Reason, Rules};
use crate::settings::{Places, Settings};
use crate::store::{Error, Etag, Object, Store};
use crate::swap::{self, Staging};
use crate::tree::{self, Hash, Tree};
use crate::{beneath, code, history, retry};

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

/// What is on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disk<'a> {
    /// Nothing.
    Empty,
    /// A state, with its digest where it was needed: where the object is not [`ours`].
    State(Option<&'a Digest>),
}

/// Whether the object is what the disk is based on, or older than what is on the disk.
///
/// A generation is claimed once, so an object that has ours is a push of ours, noted or not; one with a lower
/// generation is the late write of an instance that lost to us, and the first push keeps it in the history.
fn ours(base: Option<&Base>, remote: &Remote) -> bool {
    base.is_some_and(|base| {
        let known = base.etag.as_ref() == Some(&remote.etag);
        let below = |theirs| theirs <= base.generation;
        known || remote.generation.is_some_and(below)
    })
}

/// Decides, from what is on disk, what that is based on, and what is in the store.
pub fn plan(disk: Disk<'_>, base: Option<&Base>, remote: Option<&Remote>) -> Plan {
    match (remote, disk) {
        (None, Disk::Empty) => Plan::FirstRun,
        (None, Disk::State(_)) => Plan::KeepLocal,
        (Some(remote), _) if ours(base, remote) => Plan::KeepLocal,
        (Some(_), Disk::Empty) => Plan::Restore(Local::Empty),
        (Some(remote), Disk::State(digest)) => {
            if digest.is_some() && digest == remote.digest.as_ref() {
                Plan::Same
            } else {
                Plan::Restore(Local::Own)
            }
        }
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

/// Claims the bot, going on from what was seen of its claim, and makes its state be on the disk; [`finish`] comes first.
pub fn fetch(settings: &Settings, store: &Store, seen: Option<Sight>) -> anyhow::Result<()> {
    let state = &settings.launch.paths.state;
    // A folder of an image becomes another one at its first change: let it be now, before it is remembered.
    Staging::begin(state)
        .and_then(|staging| staging.discard())
        .with_context(|| format!("write in {}", state.display()))?;
    let base = Base::load(settings).context("read what the state is based on")?;
    let places = &settings.places;
    let mut claim = match seen {
        Some(seen) => seen,
        None => Sight::of(places, store, places.deadline)?,
    };
    let generation = raise(places, store, &mut claim, base.as_ref())?;
    contract::journal::as_generation(generation);
    forget_verdict(settings).context("remove what the last sync said")?;
    let tree = tree::list(state).with_context(|| format!("read {}", state.display()))?;
    let fetch = Fetch {
        settings,
        store,
        base,
        claim,
        generation,
        tree,
    };
    fetch.run()
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

/// A claim that went back is below what was pushed: that is seen with the state, where conditions are kept to.
fn raise(
    places: &Places,
    store: &Store,
    claim: &mut Sight,
    base: Option<&Base>,
) -> anyhow::Result<u64> {
    let known = base.map_or(0, |base| base.generation);
    if claim.fence == Fence::Conditional {
        return claim.raise(places, store, known);
    }
    let head = retry::until(places.deadline, || store.head(&places.state()))?;
    let pushed = head.map(Remote::from).and_then(|remote| remote.generation);
    let generation = claim.raise(places, store, known.max(pushed.unwrap_or(0)))?;
    retry::until(places.deadline, || generations::recover(places, store))?;
    Ok(generation)
}

/// One bringing of the state.
struct Fetch<'a> {
    settings: &'a Settings,
    store: &'a Store,
    base: Option<Base>,
    claim: Sight,
    /// Our claim.
    generation: u64,
    /// What is on the disk, hashed if that was needed.
    tree: Tree,
}

enum Settled {
    Done,
    Corrupt(Damaged),
}

/// An object that was not what it should be.
struct Damaged {
    why: String,
    /// Its version and the hash of the bytes that came.
    came: (Etag, Hash),
}

enum Failure {
    Corrupt(Damaged),
    Other(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

impl Failure {
    /// Whether it is worth another try.
    fn settled(self) -> anyhow::Result<Settled> {
        match self {
            Self::Corrupt(damaged) => Ok(Settled::Corrupt(damaged)),
            Self::Other(error) => Err(error),
        }
    }
}

/// What was unpacked aside: the object's version, its digest, and where that was verified, its members.
struct Filled {
    etag: Etag,
    digest: Digest,
    index: Option<Index>,
}

/// Tries until what comes is whole, or damaged twice in the same way.
fn whole(
    places: &Places,
    store: &Store,
    mut settle: impl FnMut() -> anyhow::Result<Settled>,
) -> anyhow::Result<()> {
    let end = Instant::now() + places.deadline;
    let mut before: Option<Damaged> = None;
    loop {
        let damaged = match settle()? {
            Settled::Done => return Ok(()),
            Settled::Corrupt(damaged) => damaged,
        };
        let again = before.is_some_and(|before| before.came == damaged.came);
        if again || Instant::now() > end {
            bail!(corrupt(places, store, &damaged.why));
        }
        let (at, why) = (places.state(), &damaged.why);
        contract::warn!("{at} came corrupt and is fetched once more: {why}");
        before = Some(damaged);
        // Someone may be in the middle of writing it by hand.
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Makes a copy of the state be on the disk, for somebody who only reads it: nothing is claimed, and nothing is remembered;
/// [`finish`] comes first.
pub fn copy(settings: &Settings, store: &Store) -> anyhow::Result<()> {
    let (places, state) = (&settings.places, &settings.launch.paths.state);
    whole(places, store, || {
        let Some(object) = open(places, store)? else {
            contract::info!("state: there is none in the store");
            return Ok(Settled::Done);
        };
        let remote = Remote::from(object.head.clone());
        let staging = Staging::begin(state).context("make room for the state")?;
        match fill(places, store, &staging, &remote, Some(object)) {
            Ok(_) => {
                let committed = staging.commit(Base::default(), |_| Ok(()));
                committed.context("swap in the state")?;
                contract::info!("state: a copy of the store's");
                Ok(Settled::Done)
            }
            Err(failure) => {
                staging.discard()?;
                failure.settled()
            }
        }
    })
}

/// The state's object, if there is one.
fn open(places: &Places, store: &Store) -> anyhow::Result<Option<Object>> {
    let at = places.state();
    let opened = retry::until(places.deadline, || match store.get(&at) {
        Err(Error::NotFound(_)) => Ok(None),
        other => other.map(Some),
    });
    Ok(opened?)
}

impl Fetch<'_> {
    fn run(mut self) -> anyhow::Result<()> {
        whole(&self.settings.places, self.store, || self.settle())
    }

    fn settle(&mut self) -> anyhow::Result<Settled> {
        let places = &self.settings.places;
        let (mut remote, mut object) = self.look()?;
        let pushed = remote.as_ref().and_then(|remote| remote.generation);
        if let Some(pushed) = pushed.filter(|pushed| *pushed >= self.generation) {
            let ours = self.generation;
            self.generation = self.claim.raise_above(places, self.store, ours, pushed)?;
            (remote, object) = self.look()?;
        }
        let digest = self.digest(remote.as_ref())?;
        let disk = if self.tree.is_empty() {
            Disk::Empty
        } else {
            Disk::State(digest.as_ref())
        };
        let decided = plan(disk, self.base.as_ref(), remote.as_ref());
        match (decided, remote) {
            (Plan::Restore(there), Some(remote)) => self.restore(there, &remote, object),
            (_, remote) => {
                let (etag, digest) = remote.map_or((None, None), |r| (Some(r.etag), r.digest));
                self.note(etag, digest).save(self.settings)?;
                let generation = self.generation;
                contract::info!("state: {}, generation {generation}", said(decided));
                Ok(Settled::Done)
            }
        }
    }

    /// What the store says of the state's object, after the claim: what an instance before us pushed last is seen. Where
    /// nothing is on the disk it will be restored, and is opened at once.
    fn look(&self) -> anyhow::Result<(Option<Remote>, Option<Object>)> {
        let (deadline, at) = (self.settings.places.deadline, self.settings.places.state());
        if !self.tree.is_empty() || self.base.is_some() {
            let head = retry::until(deadline, || self.store.head(&at))?;
            return Ok((head.map(Remote::from), None));
        }
        let opened = open(&self.settings.places, self.store)?;
        let remote = |object: &Object| Remote::from(object.head.clone());
        Ok((opened.as_ref().map(remote), opened))
    }

    /// The digest of what is on disk, if it has to be compared with the object.
    fn digest(&mut self, remote: Option<&Remote>) -> anyhow::Result<Option<Digest>> {
        let base = self.base.as_ref();
        if self.tree.is_empty() || remote.is_none_or(|remote| ours(base, remote)) {
            return Ok(None);
        }
        let (state, bytes) = (&self.settings.launch.paths.state, self.tree.bytes);
        if bytes > self.settings.places.largest_state {
            bail!(
                "{} has {bytes} bytes, over MAX_STATE_SIZE_MB, and is not what {} was made from, so it can neither be \
                 replaced nor kept in the history: move it away, or raise the limit",
                state.display(),
                self.settings.places.state()
            );
        }
        let root = beneath::root(state)?;
        self.tree
            .hash(root.as_fd())
            .with_context(|| format!("read {}", state.display()))?;
        Ok(self.tree.digest())
    }

    fn note(&self, etag: Option<Etag>, digest: Option<Digest>) -> Base {
        Base {
            generation: self.generation,
            etag,
            digest,
            fence: self.claim.fence,
            asked: self.claim.asked,
            ..Base::default()
        }
    }

    fn restore(
        &self,
        there: Local,
        remote: &Remote,
        object: Option<Object>,
    ) -> anyhow::Result<Settled> {
        let staging =
            Staging::begin(&self.settings.launch.paths.state).context("make room for the state")?;
        let places = &self.settings.places;
        let filled = match fill(places, self.store, &staging, remote, object) {
            Ok(filled) => filled,
            Err(failure) => {
                staging.discard()?;
                return failure.settled();
            }
        };
        self.swap(&staging, there, filled)?;
        Ok(Settled::Done)
    }

    fn swap(&self, staging: &Staging, there: Local, filled: Filled) -> anyhow::Result<()> {
        let old = self.base.as_ref().and_then(|base| base.digest.as_ref());
        let unchanged = old == Some(&filled.digest);
        let mut base = self.note(Some(filled.etag.clone()), Some(filled.digest));
        // The same content under another version: the store was moved or copied.
        let decided = if unchanged {
            staging.discard()?;
            base.save(self.settings)?;
            Plan::KeepLocal
        } else {
            if there == Local::Own {
                self.keep_local()?;
            }
            staging
                .commit(base, |mut base| base.save(self.settings))
                .context("swap in the state")?;
            Plan::Restore(there)
        };
        if let Some(index) = filled.index {
            let etag = filled.etag;
            Noted { etag, index }.save(self.settings);
        }
        let generation = self.generation;
        contract::info!("state: {}, generation {generation}", said(decided));
        Ok(())
    }

    fn keep_local(&self) -> anyhow::Result<()> {
        let root = beneath::root(&self.settings.launch.paths.state)?;
        let key = history::keep_tree(
            &self.settings.places,
            self.store,
            &self.tree,
            root.as_fd(),
            self.generation,
            history::Reason::Local,
        )?;
        contract::warn!("the state on disk is not what the store has; it is kept as {key}");
        Ok(())
    }
}

/// Unpacks the object aside and verifies it.
fn fill(
    places: &Places,
    store: &Store,
    staging: &Staging,
    remote: &Remote,
    object: Option<Object>,
) -> Result<Filled, Failure> {
    let (at, to) = (places.state(), staging.archive());
    let etag = code::download(places, store, &at, object, &to)?;
    let archive = File::open(staging.archive())?;
    let damaged = |why| match hash(&archive) {
        Ok(hash) => Failure::Corrupt(Damaged {
            why,
            came: (etag.clone(), hash),
        }),
        Err(error) => error.into(),
    };
    match extract::unpack(&mut archive.try_clone()?, &staging.tree(), rules(places)) {
        Ok(()) => {}
        Err(error) if matches!(error.reason(), Some(Reason::Size(_))) => {
            let (at, most) = (places.state(), rules(places).budget.bytes >> 20);
            return Err(Failure::Other(anyhow!(
                "{at} unpacks to more than {most} MiB and the bot is not started: raise MAX_STATE_SIZE_MB"
            )));
        }
        Err(error) if error.reason().is_some() => return Err(damaged(error.to_string())),
        Err(error) => return Err(error.into()),
    }
    let unread = io::Error::from(io::ErrorKind::InvalidData);
    let digest = tree::read(&staging.tree())?.digest().ok_or(unread)?;
    let expected = remote.digest.as_ref().filter(|_| etag == remote.etag);
    if let Some(expected) = expected.filter(|expected| **expected != digest) {
        let (got, expected) = (digest.short(), expected.short());
        return Err(damaged(format!(
            "its digest is {got} and should be {expected}"
        )));
    }
    let verified = expected.is_some() && remote.generation.is_some();
    let index = if verified { Index::of(&archive)? } else { None };
    Ok(Filled {
        etag,
        digest,
        index,
    })
}

/// A state is put back as it was, whatever links it holds.
pub fn rules(places: &Places) -> Rules {
    let bytes = places.largest_state.max(Budget::default().bytes);
    let budget = Budget {
        bytes,
        entries: u64::MAX,
        ratio: u64::MAX,
    };
    Rules {
        links: Links::All,
        budget,
    }
}

pub fn hash(mut file: &File) -> io::Result<Hash> {
    io::Seek::rewind(&mut file)?;
    let mut sum = Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(sum.finalize().into()),
            got => sum.update(&buffer[..got]),
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

/// The refusal of a corrupt state, with what a person can do about it.
fn corrupt(places: &Places, store: &Store, why: &str) -> String {
    let (at, bot) = (places.state(), &places.bot);
    let keys = history::list(places, store).unwrap_or_default();
    let names: Vec<_> = keys.iter().take(10).map(history::name).collect();
    let remedy = match names.first() {
        None => "there is no older state in the history".to_owned(),
        Some(newest) => format!(
            "to go back to an older state: agent state restore {bot} {newest} (inside a container: sync state restore \
             {newest}); there are, newest first: {}",
            names.join(", ")
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
        let (empty, some) = (Disk::Empty, Disk::State(None));
        assert_eq!(plan(empty, None, None), Plan::FirstRun);
        assert_eq!(plan(empty, Some(&base("a", 1)), None), Plan::FirstRun);
        assert_eq!(plan(some, None, None), Plan::KeepLocal);
        assert_eq!(
            plan(empty, None, Some(&remote("a", None, 1))),
            Plan::Restore(Local::Empty)
        );
    }

    #[test]
    fn the_disk_wins_only_over_what_it_is_based_on() {
        let (own, based) = (digest(2), base("a", 3));
        let disk = |local: Option<_>| local.map_or(Disk::Empty, |_| Disk::State(local));
        let decide = |local, remote| plan(disk(local), Some(&based), Some(&remote));
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
            plan(disk(Some(&own)), None, Some(&remote("a", Some(3), 1))),
            Plan::Restore(Local::Own)
        );
    }
}
