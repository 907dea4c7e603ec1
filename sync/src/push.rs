//! Bringing the state to the store: what is there must follow what is on disk, and nobody else's is overwritten.
//!
//! ```text
//! look ─▶ scan ─▶ same digest? ──yes──▶ nothing
//!                     │no
//!                     ▼
//!            archive, conditional on the object last seen ──conflict──▶ look
//!                     │ tree changed meanwhile: again, at last with a `torn` mark
//!                     ▼
//!                   noted
//! ```
//!
//! [`classify`] says whose an unexpected object is. Once fenced or edited, nothing is pushed any more; the state on
//! disk is kept in the history instead.

mod arrival;

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Instant, SystemTime};

use anyhow::{Context, bail};
use contract::Digest;
use contract::record::{Status, Time};

use crate::archive::{self, Index, Noted, Torn, WriteError};
use crate::base::{Base, FolderId, GENERATION, RUN, Remote, TORN, TREE, WRITTEN};
use crate::beneath;
use crate::claim::{Fence, generations};
use crate::history::{self, Reason};
use crate::settings::Settings;
use crate::store::{Condition, Error, Metadata, PutError, Store, Upload};
use crate::tree::{self, Scan, Tree};

/// How often a push is begun again because the state changed under it.
const TRIES: u32 = 4;

/// Up to so many bytes in all, the state is read again at the end of a run: a fraction of a second.
const REREAD: u64 = 64 << 20;

/// What of the state is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Care {
    /// Files whose metadata have changed.
    Changed,
    /// Every file of a state of up to [`REREAD`] bytes: where a bot writes through a mapping, some file systems (tmpfs)
    /// change time stamps at the first write only. While it runs, and in larger states, such writes are seen with the
    /// next change of that file or the next push for another's.
    All,
}

/// What of the store is looked at before a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// The claim. That the state's object is another one is found out by the condition of the push.
    Claim,
    /// The claim, and whose the state's object is.
    Whole,
}

/// Why nothing is pushed any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Halt {
    /// Another instance has claimed the bot.
    Fenced,
    /// Someone who is no instance replaced the state in the store.
    Edited,
}

/// What a pass did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// The store has it already.
    Same,
    /// It is in the store now.
    New,
    /// It is in the store, as far as something that never rests can be: to be pushed again soon.
    Torn,
    /// It is over its limit by this many bytes in all; the store keeps the last good one.
    TooLarge(u64),
    /// It is not ours to push.
    Halted(Halt),
}

/// Whose an object is that is not the one last seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// It is the one last seen.
    Seen,
    /// Ours, pushed without noting it.
    Ours,
    /// That of an instance with a lower claim: it lost, and ours prevails.
    Late,
    /// That of an instance with a higher claim: we lost.
    Newer,
    /// No instance's: someone edited it.
    Edited,
    /// There is none any more.
    Gone,
}

/// Decides whose the object in the store is.
pub fn classify(base: &Base, remote: Option<&Remote>) -> Whose {
    match remote {
        None if base.etag.is_none() => Whose::Seen,
        None => Whose::Gone,
        Some(remote) if base.etag.as_ref() == Some(&remote.etag) => Whose::Seen,
        Some(remote) => match remote.generation {
            None => Whose::Edited,
            Some(theirs) if theirs > base.generation => Whose::Newer,
            Some(theirs) if theirs < base.generation => Whose::Late,
            Some(_) => Whose::Ours,
        },
    }
}

/// Pushes one bot's state.
#[derive(Debug)]
pub struct Pusher<'a> {
    settings: &'a Settings,
    store: &'a Store,
    base: Base,
    /// The tree as it was when it was looked at last, hashed.
    known: Tree,
    /// What members the object has that was pushed or restored last.
    members: Option<Noted>,
    halted: Option<Halt>,
    /// What was kept in the history since it was halted.
    kept: Option<Digest>,
    /// When a push last kept what it replaced.
    copied: Option<Instant>,
    arrival: Arrival,
}

/// Whether what comes before the first push is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Arrival {
    Due,
    /// It was done, and then a push failed in the store, which may have left an upload there.
    Left,
    Done,
}

impl<'a> Pusher<'a> {
    /// Goes on from `base`.
    pub fn new(settings: &'a Settings, store: &'a Store, base: Base) -> Self {
        let (known, halted, kept, copied) = (Tree::default(), None, None, None);
        Self {
            settings,
            store,
            base,
            known,
            members: Noted::load(settings),
            halted,
            kept,
            copied,
            arrival: Arrival::Due,
        }
    }

    /// Our claim.
    pub fn generation(&self) -> u64 {
        self.base.generation
    }

    /// Digest of the state in the store.
    pub fn digest(&self) -> Option<&Digest> {
        self.base.digest.as_ref()
    }

    /// What of the state cannot be saved.
    pub fn left_out(&self) -> &[String] {
        &self.known.left_out
    }

    /// How many bytes the state has, if that is over its limit.
    pub fn oversize(&self) -> Option<u64> {
        (self.known.bytes > self.settings.places.largest_state).then_some(self.known.bytes)
    }

    /// Looks whether the bot, and the state in the store, are still ours.
    pub fn look(&mut self) -> anyhow::Result<Option<Halt>> {
        if let Some(halt) = self.look_at_claim()? {
            return Ok(Some(halt));
        }
        let remote = self.remote()?;
        match (classify(&self.base, remote.as_ref()), remote) {
            (Whose::Newer, _) => return Ok(self.halt(Halt::Fenced)),
            (Whose::Edited, _) => {
                contract::warn!("the state in the store was replaced by someone else");
                return Ok(self.halt(Halt::Edited));
            }
            (Whose::Late, Some(remote)) => self.overrule(&remote)?,
            (Whose::Ours, Some(remote)) => self.rebase(Some(remote))?,
            (Whose::Gone, _) => {
                contract::warn!("the state is gone from the store and is pushed again");
                self.rebase(None)?;
            }
            (Whose::Seen | Whose::Late | Whose::Ours, _) => {}
        }
        // What a failed push has left may have outlasted the push after it, and there need be no other.
        if self.arrival == Arrival::Left {
            self.arrive()?;
        }
        Ok(None)
    }

    fn look_at_claim(&mut self) -> anyhow::Result<Option<Halt>> {
        if self.halted.is_some() {
            return Ok(self.halted);
        }
        let claimed = self.base.fence.claimed(&self.settings.places, self.store)?;
        if claimed <= self.base.generation {
            return Ok(None);
        }
        contract::error!(
            "generation {claimed} has claimed the bot, ours is {}",
            self.base.generation
        );
        Ok(self.halt(Halt::Fenced))
    }

    /// What the store says of the state's object. The bot stops for what is not ours, so that is asked for twice: an
    /// answer can be damaged on its way.
    fn remote(&self) -> anyhow::Result<Option<Remote>> {
        let place = self.settings.places.state();
        let ask = || -> Result<_, Error> { Ok(self.store.head(&place)?.map(Remote::from)) };
        let remote = ask()?;
        let whose = classify(&self.base, remote.as_ref());
        if matches!(whose, Whose::Newer | Whose::Edited) && ask()? != remote {
            bail!("{place} is being changed, or what the store says of it comes damaged");
        }
        Ok(remote)
    }

    fn rebase(&mut self, remote: Option<Remote>) -> anyhow::Result<()> {
        (self.base.etag, self.base.digest) =
            remote.map_or((None, None), |remote| (Some(remote.etag), remote.digest));
        self.base
            .save(self.settings)
            .context("note what the state is based on")
    }

    /// Keeps a loser's late write in the history; the next push replaces it.
    fn overrule(&mut self, remote: &Remote) -> anyhow::Result<()> {
        let theirs = remote.generation.unwrap_or(0);
        contract::warn!("generation {theirs} pushed late; kept in the history, ours prevails");
        history::keep_object(
            &self.settings.places,
            self.store,
            &remote.etag,
            theirs,
            Reason::Late,
        )?;
        self.base.etag = Some(remote.etag.clone());
        self.base.digest = None;
        self.base
            .save(self.settings)
            .context("note what the state is based on")
    }

    fn halt(&mut self, why: Halt) -> Option<Halt> {
        self.halted = Some(why);
        self.try_to_keep_own(why, Care::Changed);
        self.halted
    }

    /// That the bot must stop is told whether or not its state could be kept: it is on the disk still, and each
    /// pass tries again.
    fn try_to_keep_own(&mut self, why: Halt, care: Care) {
        if let Err(error) = self.keep_own(why, care) {
            contract::warn!("the state on disk is not kept in the history yet: {error:#}");
        }
    }

    /// Keeps the state on disk in the history, once for each content, unless it is over its limit.
    fn keep_own(&mut self, why: Halt, care: Care) -> anyhow::Result<()> {
        let root = self.scan(care)?;
        if self.oversize().is_some() {
            return Ok(());
        }
        let digest = self.known.digest();
        let nothing_new = digest == self.base.digest || digest == self.kept;
        if nothing_new || self.known.is_empty() {
            return Ok(());
        }
        let reason = match why {
            Halt::Fenced => Reason::Fenced,
            Halt::Edited => Reason::Edited,
        };
        let (tree, generation) = (&self.known, self.base.generation);
        let key = history::keep_tree(
            &self.settings.places,
            self.store,
            tree,
            root.as_fd(),
            generation,
            reason,
        )?;
        contract::warn!("the state on disk is kept as {key}");
        self.kept = digest;
        Ok(())
    }

    /// Makes the store have what is on disk.
    pub fn pass(&mut self, care: Care, sight: Sight) -> anyhow::Result<Pushed> {
        for attempt in 1..=TRIES + 2 {
            let conditional = self.base.fence == Fence::Conditional;
            let halted = if attempt == 1 && sight == Sight::Claim && conditional {
                self.look_at_claim()?
            } else {
                self.look()?
            };
            if let Some(halt) = halted {
                self.try_to_keep_own(halt, care);
                return Ok(Pushed::Halted(halt));
            }
            self.arrive()?;
            let root = self.scan(care)?;
            if let Some(bytes) = self.oversize() {
                return Ok(Pushed::TooLarge(bytes));
            }
            let digest = self
                .known
                .digest()
                .context("the state was not read whole")?;
            let nothing = self.known.is_empty() && self.base.etag.is_none();
            if nothing || self.base.digest.as_ref() == Some(&digest) {
                return Ok(Pushed::Same);
            }
            self.keep_previous()?;
            let torn = if attempt < TRIES {
                Torn::Refuse
            } else {
                Torn::Accept
            };
            match self.put(&root, &digest, torn) {
                Ok(pushed) => return Ok(pushed),
                // Its metadata may be what they were, so its hash is not taken over again.
                Err(PutError::Fill(WriteError::Changed(path))) => self.known.forget_file(&path),
                Err(PutError::Fill(WriteError::Torn) | PutError::Store(Error::Conflict(_))) => {}
                Err(PutError::Fill(error)) => return Err(error.into()),
                Err(PutError::Store(error)) => {
                    self.arrival = Arrival::Left;
                    self.without_copies(&error);
                    return Err(error.into());
                }
            }
        }
        bail!("the state in the store keeps changing under us")
    }

    /// Does what comes before a push.
    fn arrive(&mut self) -> anyhow::Result<()> {
        match self.arrival {
            Arrival::Done => return Ok(()),
            Arrival::Due => arrival::arrive(self.settings, self.store, &mut self.base)?,
            Arrival::Left => {
                let state = self.settings.places.state();
                if !arrival::abandon_uploads(self.store, [state]) {
                    return Ok(());
                }
            }
        }
        self.arrival = Arrival::Done;
        Ok(())
    }

    /// Looks at the tree and hashes what changed.
    fn scan(&mut self, care: Care) -> anyhow::Result<OwnedFd> {
        let path = &self.settings.launch.paths.state;
        let root = beneath::root(path).with_context(|| format!("open {}", path.display()))?;
        self.check_folder(&root)?;
        let mut tree = self.list(&root)?;
        if care == Care::All && tree.bytes <= REREAD {
            tree.forget();
        }
        if tree.bytes <= self.settings.places.largest_state {
            tree.hash(root.as_fd()).context("read the state")?;
        }
        if tree.left_out != self.known.left_out && !tree.left_out.is_empty() {
            contract::warn!("not saved with the state: {}", tree.left_out.join("; "));
        }
        self.known = tree;
        Ok(root)
    }

    /// That the folder is the one that was fetched to: another one at its path (a volume that is not mounted any more,
    /// a folder that was removed and made again) is not the state.
    fn check_folder(&self, root: &OwnedFd) -> anyhow::Result<()> {
        let here = FolderId::of_open(root).context("look at the state's folder")?;
        if self.base.folder.is_some_and(|folder| folder != here) {
            bail!(
                "{} is another folder than the one the state was fetched to, nothing is pushed from it: start the bot again",
                self.settings.launch.paths.state.display()
            );
        }
        Ok(())
    }

    fn list(&self, root: &OwnedFd) -> anyhow::Result<Tree> {
        let scan = Scan {
            largest: self.settings.largest_file,
        };
        let mut tree = scan
            .run(root.as_fd(), SystemTime::now())
            .context("scan the state")?;
        tree::inherit(&self.known, &mut tree);
        Ok(tree)
    }

    /// Keeps the object about to be replaced, if it is time for that.
    fn keep_previous(&mut self) -> anyhow::Result<()> {
        let due = self
            .copied
            .is_none_or(|at| at.elapsed() >= history::SPACING);
        let Some(etag) = self.base.etag.as_ref().filter(|_| due) else {
            return Ok(());
        };
        let reason = if self.copied.is_none() {
            Reason::Start
        } else {
            Reason::Push
        };
        let generation = self.base.generation;
        match history::keep_object(&self.settings.places, self.store, etag, generation, reason) {
            // The put will find out what has become of it.
            Err(error) if is_conflict(&error) => Ok(()),
            Err(error) => Err(error),
            Ok(_) => {
                self.copied = Some(Instant::now());
                Ok(())
            }
        }
    }

    fn put(
        &mut self,
        root: &OwnedFd,
        digest: &Digest,
        torn: Torn,
    ) -> Result<Pushed, PutError<WriteError>> {
        let metadata = self.metadata(digest, torn);
        let condition = Condition::still(self.base.etag.as_ref());
        let started = Instant::now();
        let mut index = Index::default();
        let fill = |out: &mut Upload<'_>| {
            index = archive::write(&self.known, root.as_fd(), torn, self.previous(), out)?;
            let after = self.list(root).map_err(|_| WriteError::Torn)?;
            if torn == Torn::Refuse && !after.looks_like(&self.known) {
                return Err(WriteError::Torn);
            }
            Ok(())
        };
        let (places, store) = (&self.settings.places, self.store);
        let etag = match self.base.fence {
            Fence::Conditional => store.put(&places.state(), &condition, &metadata, fill)?,
            Fence::Generations => {
                let (ours, seen) = (self.base.generation, self.base.etag.as_ref());
                generations::put(places, store, ours, seen, &metadata, fill)?
            }
        };
        self.base.etag = Some(etag.clone());
        self.base.digest = (torn == Torn::Refuse).then(|| digest.clone());
        if let Err(error) = self.base.save(self.settings) {
            // Not lost: the object carries our generation, by which it is known again.
            contract::warn!("what was pushed cannot be noted: {error}");
        }
        let (count, members, took) = (self.known.entries.len(), index.len(), started.elapsed());
        let short = digest.short();
        contract::debug!("pushed {short}: {count} entries, {members} members in {took:?}");
        self.members = Noted { etag, index }.save(self.settings);
        Ok(if torn == Torn::Refuse {
            Pushed::New
        } else {
            Pushed::Torn
        })
    }

    /// The members of the object about to be replaced, if they are known.
    fn previous(&self) -> Option<&Index> {
        // An object that is not the one being replaced cannot be copied from.
        if self.base.fence == Fence::Generations {
            return None;
        }
        let noted = self.members.as_ref()?;
        (Some(&noted.etag) == self.base.etag.as_ref()).then_some(&noted.index)
    }

    /// A store that will not do it, however often it is asked, may be one that takes nothing over from objects.
    fn without_copies(&mut self, error: &Error) {
        if matches!(error, Error::Other { .. }) && self.members.take().is_some() {
            contract::warn!(
                "the next push sends the whole state, nothing of it is copied in the store"
            );
        }
    }

    fn metadata(&self, digest: &Digest, torn: Torn) -> Metadata {
        let status = contract::file::read_json::<Status>(&self.settings.launch.paths.status());
        let run = status.ok().flatten().map_or(0, |status| status.run);
        let mut metadata = Metadata::from([
            (GENERATION.to_owned(), self.base.generation.to_string()),
            (RUN.to_owned(), run.to_string()),
            (TREE.to_owned(), digest.to_string()),
            (WRITTEN.to_owned(), Time::now().to_string()),
        ]);
        if torn == Torn::Accept {
            metadata.insert(TORN.to_owned(), "1".to_owned());
        }
        metadata
    }
}

fn is_conflict(error: &anyhow::Error) -> bool {
    matches!(
        error.downcast_ref::<Error>(),
        Some(Error::Conflict(_) | Error::NotFound(_))
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Etag;

    #[test]
    fn an_unexpected_object_is_told_by_its_generation() {
        let base = Base {
            generation: 5,
            etag: Some(Etag("seen".into())),
            ..Base::default()
        };
        let remote = |etag: &str, generation| {
            Some(Remote {
                etag: Etag(etag.into()),
                generation,
                digest: None,
            })
        };
        for (remote, whose) in [
            (None, Whose::Gone),
            (remote("seen", None), Whose::Seen),
            (remote("other", Some(5)), Whose::Ours),
            (remote("other", Some(4)), Whose::Late),
            (remote("other", Some(6)), Whose::Newer),
            (remote("other", None), Whose::Edited),
        ] {
            assert_eq!(classify(&base, remote.as_ref()), whose, "{remote:?}");
        }
        let none = Base { etag: None, ..base };
        assert_eq!(classify(&none, None), Whose::Seen);
    }
}
