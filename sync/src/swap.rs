//! Replaces everything in a folder at once, where the folder itself cannot be renamed (a mount point).
//!
//! ```text
//! ROOT/.the0-new/tree/     what is to come, filled while ROOT is untouched
//! ROOT/.the0-new/journal   exists from the moment that decides; says which way things move
//! ROOT/.the0-new/old/      what was there
//!
//!   filling ──journal "out"──▶ ROOT/* -> old ──journal "in"──▶ tree/* -> ROOT ──noted──▶ .the0-new removed
//! ```
//!
//! A crash before the journal leaves ROOT as it was; one after it is rolled forward by [`finish`], from wherever it
//! happened, as each step moves what is still to be moved. `.keep` (what keeps an empty folder in an image) is not
//! touched unless the new tree has one. Where nothing is to be moved out, as on a new volume, the journal begins with "in".
//!
//! What waits for the disk: all of the new tree before the journal, the journal before what it says is done, and ROOT before
//! the next of the two. Not what the moves leave behind in `old` and `tree`, for that is removed.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The folder, inside the one being replaced, where all this happens.
pub const NEW: &str = ".the0-new";
/// A file that is nobody's.
pub const KEEP: &str = ".keep";
/// What a file system has at its root for itself, where a folder is a volume: it cannot be moved, nor is it anyone's.
pub const LOST: &str = "lost+found";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Phase {
    Out,
    In,
}

#[derive(Debug, Serialize, Deserialize)]
struct Journal<T> {
    phase: Phase,
    /// Permissions of the new top-level folders: moving a folder needs write permission on it.
    modes: Vec<(PathBuf, u32)>,
    note: T,
}

/// A tree being filled beside the one it will replace.
#[derive(Debug)]
pub struct Staging {
    root: PathBuf,
}

impl Staging {
    /// Begins in `root`, which must have no journal ([`finish`] first); what an earlier try left is removed.
    pub fn begin(root: &Path) -> io::Result<Self> {
        let staging = Self {
            root: root.to_owned(),
        };
        staging.discard()?;
        fs::create_dir_all(staging.tree())?;
        Ok(staging)
    }

    /// The folder to fill.
    pub fn tree(&self) -> PathBuf {
        self.root.join(NEW).join("tree")
    }

    /// A place for the archive that the tree is filled from.
    pub fn archive(&self) -> PathBuf {
        self.root.join(NEW).join("archive")
    }

    /// Forgets the tree.
    pub fn discard(&self) -> io::Result<()> {
        remove_tree(&self.root.join(NEW))
    }

    /// Decides for the new tree and swaps it in. `noted` writes down `note` before the journal goes.
    pub fn commit<T: Serialize + DeserializeOwned>(
        &self,
        note: T,
        noted: impl FnOnce(T) -> io::Result<()>,
    ) -> io::Result<()> {
        contract::file::remove(&self.archive())?;
        let modes = self.loosen()?;
        sync_file_system(&self.root)?;
        let phase = self.first_phase()?;
        write_journal(&self.root, &Journal { phase, modes, note })?;
        finish(&self.root, noted).map(|_| ())
    }

    fn first_phase(&self) -> io::Result<Phase> {
        let goes = goes_out(&self.tree());
        for entry in fs::read_dir(&self.root)? {
            if goes(&entry?.file_name().to_string_lossy()) {
                return Ok(Phase::Out);
            }
        }
        Ok(Phase::In)
    }

    fn loosen(&self) -> io::Result<Vec<(PathBuf, u32)>> {
        let mut modes = Vec::new();
        for entry in fs::read_dir(self.tree())? {
            let entry = entry?;
            let mode = entry.metadata()?.permissions().mode() & 0o777;
            if entry.file_type()?.is_dir() && mode & 0o700 != 0o700 {
                fs::set_permissions(entry.path(), Permissions::from_mode(mode | 0o700))?;
                modes.push((PathBuf::from(entry.file_name()), mode));
            }
        }
        Ok(modes)
    }
}

/// What of the folder makes way for `tree`.
fn goes_out(tree: &Path) -> impl Fn(&str) -> bool + use<> {
    let keep = !tree.join(KEEP).exists();
    move |name| name != NEW && name != LOST && !(keep && name == KEEP)
}

fn journal_path(root: &Path) -> PathBuf {
    root.join(NEW).join("journal")
}

fn write_journal<T: Serialize>(root: &Path, journal: &Journal<T>) -> io::Result<()> {
    contract::file::replace_json(&journal_path(root), journal)
}

/// Everything written below `root` is on the disk when this returns.
fn sync_file_system(root: &Path) -> io::Result<()> {
    Ok(rustix::fs::syncfs(File::open(root)?)?)
}

/// Finishes a swap that was decided, if there is one; `noted` gets its note before the journal goes.
pub fn finish<T: Serialize + DeserializeOwned>(
    root: &Path,
    noted: impl FnOnce(T) -> io::Result<()>,
) -> io::Result<bool> {
    let Some(mut journal) = contract::file::read_json::<Journal<T>>(&journal_path(root))? else {
        return Ok(false);
    };
    let new = root.join(NEW);
    let (tree, old) = (new.join("tree"), new.join("old"));
    if journal.phase == Phase::Out {
        fs::create_dir_all(&old)?;
        move_all(root, &old, goes_out(&tree))?;
        File::open(root)?.sync_all()?;
        journal.phase = Phase::In;
        write_journal(root, &journal)?;
    }
    move_all(&tree, root, |name| name != LOST)?;
    let moved = |(name, _): &&(PathBuf, u32)| name.as_os_str() != LOST;
    for (name, mode) in journal.modes.iter().filter(moved) {
        fs::set_permissions(root.join(name), Permissions::from_mode(*mode))?;
    }
    File::open(root)?.sync_all()?;
    noted(journal.note)?;
    remove_tree(&old)?;
    contract::file::remove(&journal_path(root))?;
    remove_tree(&new)?;
    Ok(true)
}

fn move_all(from: &Path, to: &Path, which: impl Fn(&str) -> bool) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if !which(&entry.file_name().to_string_lossy()) {
            continue;
        }
        let target = to.join(entry.file_name());
        match fs::rename(entry.path(), &target) {
            // A folder without write permission cannot be moved by a user who is not root.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                fs::set_permissions(entry.path(), Permissions::from_mode(0o700))?;
                fs::rename(entry.path(), &target)?;
            }
            other => other?,
        }
    }
    Ok(())
}

/// Removes a folder with everything in it, also where permissions are in the way; that there is none is fine.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_up(path);
            fs::remove_dir_all(path)
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn open_up(path: &Path) {
    let _ = fs::set_permissions(path, Permissions::from_mode(0o700));
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_up(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(path: &Path) -> Vec<String> {
        let entries = fs::read_dir(path).unwrap();
        let mut names: Vec<_> = entries
            .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    fn prepared() -> (tempfile::TempDir, Staging) {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a", "b", KEEP] {
            fs::write(dir.path().join(name), "old").unwrap();
        }
        let staging = Staging::begin(dir.path()).unwrap();
        fs::write(staging.tree().join("b"), "new").unwrap();
        fs::create_dir(staging.tree().join("c")).unwrap();
        fs::set_permissions(staging.tree().join("c"), Permissions::from_mode(0o555)).unwrap();
        (dir, staging)
    }

    #[test]
    fn a_swap_replaces_everything_but_what_is_nobodys() {
        let (dir, staging) = prepared();
        let mut noted = 0;
        staging
            .commit(7, |n| {
                noted = n;
                Ok(())
            })
            .unwrap();
        assert_eq!(noted, 7);
        assert_eq!(names(dir.path()), [KEEP, "b", "c"]);
        assert_eq!(fs::read(dir.path().join("b")).unwrap(), b"new");
        let mode = fs::metadata(dir.path().join("c"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o555);
    }

    #[test]
    fn on_a_new_volume_a_crash_after_the_decision_leaves_the_new() {
        for moved_in in 0..=2 {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join(KEEP), "old").unwrap();
            let staging = Staging::begin(dir.path()).unwrap();
            for name in ["b", "c"] {
                fs::write(staging.tree().join(name), "new").unwrap();
            }
            assert_eq!(staging.first_phase().unwrap(), Phase::In);
            let journal = Journal {
                phase: Phase::In,
                modes: Vec::new(),
                note: 1u8,
            };
            write_journal(dir.path(), &journal).unwrap();
            for name in ["b", "c"].into_iter().take(moved_in) {
                fs::rename(staging.tree().join(name), dir.path().join(name)).unwrap();
            }
            assert!(finish::<u8>(dir.path(), |_| Ok(())).unwrap());
            assert_eq!(names(dir.path()), [KEEP, "b", "c"]);
        }
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(KEEP), "old").unwrap();
        let staging = Staging::begin(dir.path()).unwrap();
        fs::write(staging.tree().join(KEEP), "new").unwrap();
        assert_eq!(staging.first_phase().unwrap(), Phase::Out);
    }

    #[test]
    fn a_crash_before_the_decision_leaves_the_old_and_after_it_the_new() {
        let (dir, _staging) = prepared();
        assert!(!finish::<u8>(dir.path(), |_| Ok(())).unwrap());
        Staging::begin(dir.path()).unwrap().discard().unwrap();
        assert_eq!(names(dir.path()), [KEEP, "a", "b"]);

        // Stopped at every point of the way out and in.
        for moved_out in 0..=2 {
            for moved_in in 0..=2 {
                let (dir, staging) = prepared();
                let modes = staging.loosen().unwrap();
                let (old, phase) = (dir.path().join(NEW).join("old"), Phase::Out);
                fs::create_dir(&old).unwrap();
                let mut journal = Journal {
                    phase,
                    modes,
                    note: 1u8,
                };
                for name in ["a", "b"].into_iter().take(moved_out) {
                    fs::rename(dir.path().join(name), old.join(name)).unwrap();
                }
                if moved_out == 2 {
                    journal.phase = Phase::In;
                    for name in ["b", "c"].into_iter().take(moved_in) {
                        fs::rename(staging.tree().join(name), dir.path().join(name)).unwrap();
                    }
                }
                write_journal(dir.path(), &journal).unwrap();
                assert!(finish::<u8>(dir.path(), |_| Ok(())).unwrap());
                assert_eq!(names(dir.path()), [KEEP, "b", "c"]);
                assert_eq!(fs::read(dir.path().join("b")).unwrap(), b"new");
            }
        }
    }
}
