//! What the state on disk is based on, remembered between runs of `sync`.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use contract::Digest;
use rustix::fs::{AtFlags, StatxFlags, statx};
use serde::{Deserialize, Serialize};

use crate::beneath;
use crate::claim::{Asked, Fence};
use crate::settings::Settings;
use crate::store::{Etag, Head};

/// Metadata of a state's object: the claim under which it was pushed.
pub const GENERATION: &str = "generation";
/// Metadata: the run during or after which it was pushed.
pub const RUN: &str = "run";
/// Metadata: the digest of the tree in it. (What early versions noted under `digest` was made in another way.)
pub const TREE: &str = "tree";
/// Metadata: when it was written, for a person.
pub const WRITTEN: &str = "written";
/// Metadata: the tree changed while it was packed, so the digest is that of a moment before.
pub const TORN: &str = "torn";

/// The object that the state on disk was restored from or pushed to last, and our claim.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// Our claim's generation.
    pub generation: u64,
    /// The object's version; `None`: there is no object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<Etag>,
    /// The digest of what is in it; `None`: not known, or it was torn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// How writers are kept apart in this store.
    #[serde(default)]
    pub fence: Fence,
    /// When it was asked that.
    #[serde(default)]
    pub asked: Asked,
    /// Which folder this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<FolderId>,
}

/// Tells a folder from another one made later at the same path: a fresh, empty volume is not an emptied state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FolderId {
    inode: u64,
    born: (i64, u32),
}

impl FolderId {
    fn of(path: &Path) -> io::Result<Self> {
        Self::of_open(beneath::root(path)?)
    }

    /// The identity of an open folder.
    pub fn of_open(folder: impl AsFd) -> io::Result<Self> {
        let flags = StatxFlags::INO | StatxFlags::BTIME;
        let found = statx(folder, c"", AtFlags::EMPTY_PATH, flags)?;
        let born = (found.stx_btime.tv_sec, found.stx_btime.tv_nsec);
        Ok(Self {
            inode: found.stx_ino,
            born,
        })
    }
}

impl Base {
    /// What is remembered about the state's folder; `None` if nothing is, or it is about another folder.
    pub fn load(settings: &Settings) -> io::Result<Option<Self>> {
        let base: Option<Self> = contract::file::read_json(&settings.private("base.json"))?;
        let here = FolderId::of(&settings.launch.paths.state)?;
        Ok(base.filter(|base| base.folder == Some(here)))
    }

    /// Remembers it, about the folder it was loaded for, or else about the state's folder as it is now.
    pub fn save(&mut self, settings: &Settings) -> io::Result<()> {
        if self.folder.is_none() {
            self.folder = Some(FolderId::of(&settings.launch.paths.state)?);
        }
        contract::file::replace_json(&settings.private("base.json"), self)
    }
}

/// What an object says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// Its version.
    pub etag: Etag,
    /// The claim under which it was pushed; `None`: it was put there by someone else.
    pub generation: Option<u64>,
    /// The digest of what is in it, where that is known.
    pub digest: Option<Digest>,
}

impl From<Head> for Remote {
    fn from(head: Head) -> Self {
        let text = |name: &str| head.metadata.get(name).map(String::as_str);
        let digest = match text(TORN) {
            None => text(TREE).and_then(|digest| digest.parse().ok()),
            Some(_) => None,
        };
        let generation = text(GENERATION).and_then(|number| number.parse().ok());
        Self {
            generation,
            digest,
            etag: head.etag,
        }
    }
}
