//! A folder of ours for one command: a state on its way, and what is in it.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, bail};

use crate::restore::rules;
use crate::settings::Places;
use crate::tree::{Scan, Tree};
use crate::{beneath, extract, swap};

const PREFIX: &str = "the0-state-";

/// The folder; gone when this is.
#[derive(Debug)]
pub struct Room(PathBuf);

impl Room {
    /// Makes one below `TMPDIR`, and removes those of commands that were killed.
    pub fn make() -> anyhow::Result<Self> {
        let folder = std::env::temp_dir();
        remove_left(&folder);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let nanos = now.unwrap_or_default().subsec_nanos();
        let path = folder.join(format!("{PREFIX}{}-{nanos}", std::process::id()));
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.with_context(|| format!("make {}: set TMPDIR to a folder with room", path.display()))?;
        Ok(Self(path))
    }

    /// Where the archive of a state is brought.
    pub fn archive(&self) -> PathBuf {
        self.0.join("archive")
    }

    /// Unpacks `archive` by the rules of a restore, and reads what is in it.
    pub fn unpack(&self, archive: &Path, places: &Places) -> anyhow::Result<Content> {
        let path = self.0.join("tree");
        swap::remove_tree(&path).and_then(|()| fs::create_dir(&path))?;
        let mut file = File::open(archive)?;
        extract::unpack(&mut file, &path, rules(places))?;
        Content::read(&path, places)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = swap::remove_tree(&self.0);
    }
}

/// Removes the folders of our own processes that are no more.
fn remove_left(folder: &Path) {
    let own = fs::metadata("/proc/self").map(|me| me.uid()).ok();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').next());
        let Some(pid) = pid.filter(|pid| pid.parse::<u32>().is_ok()) else {
            continue;
        };
        let is_ours = fs::symlink_metadata(entry.path())
            .is_ok_and(|found| found.is_dir() && Some(found.uid()) == own);
        if is_ours && !Path::new("/proc").join(pid).exists() {
            let _ = swap::remove_tree(&entry.path());
        }
    }
}

/// What is in a state.
#[derive(Debug)]
pub struct Content {
    /// Its entries, hashed.
    pub tree: Tree,
    root: OwnedFd,
}

impl Content {
    /// Reads the folder at `path`, which must be within the limit of a state.
    pub fn read(path: &Path, places: &Places) -> anyhow::Result<Self> {
        let shown = || path.display().to_string();
        let root = beneath::root(path).with_context(shown)?;
        let mut tree = Scan::default()
            .run(root.as_fd(), SystemTime::now())
            .with_context(shown)?;
        if tree.bytes > places.largest_state {
            let (bytes, most) = (tree.bytes, places.largest_state);
            bail!(
                "the state has {bytes} bytes and may have {most}: shrink it, or raise MAX_STATE_SIZE_MB"
            );
        }
        tree.hash(root.as_fd()).with_context(shown)?;
        Ok(Self { tree, root })
    }

    /// The folder it was read from.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// The digest of it.
    pub fn digest(&self) -> io::Result<contract::Digest> {
        self.tree
            .digest()
            .ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_goes_with_its_command_and_what_a_killed_one_left_with_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let left = dir.path().join("the0-state-999999999-1");
        let running = dir
            .path()
            .join(format!("the0-state-{}-1", std::process::id()));
        let other = dir.path().join("the0-state-of-mind");
        for path in [&left, &running, &other] {
            fs::create_dir(path).unwrap();
        }
        remove_left(dir.path());
        assert!(!left.exists() && running.exists() && other.exists());
        let room = Room::make().unwrap();
        let path = room.0.clone();
        assert!(path.is_dir());
        drop(room);
        assert!(!path.exists());
    }
}
