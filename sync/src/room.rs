//! How much room the folder of the code takes: a bot may write there, and nothing of it is state.
//!
//! Docker gives volumes no bounds, so that a bot does not fill the host's disk this is looked at after passes over the
//! state, by metadata alone and paced by what it costs.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Time between two looks, at least.
const RHYTHM: Duration = Duration::from_secs(5);
/// A look takes at most one part in so many of the time.
const SHARE: u32 = 500;
/// Bytes of disk that an entry takes beside its content, at least: an inode.
const ENTRY: u64 = 256;

/// How long no look follows one that has cost `cost`.
pub fn pause(cost: Duration) -> Duration {
    RHYTHM.max(cost * SHARE)
}

/// Whether the folder takes more than `most` bytes of disk. What cannot be looked at counts as nothing, and the walk ends
/// as soon as it is over.
pub fn is_over(folder: &Path, most: u64) -> bool {
    let mut taken = 0u64;
    let mut folders: Vec<PathBuf> = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            // Of a link itself: where it leads is not in here.
            let Ok(found) = entry.metadata() else {
                continue;
            };
            taken = taken.saturating_add(found.blocks().saturating_mul(512).saturating_add(ENTRY));
            if taken > most {
                return true;
            }
            if found.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_the_disk_counts_and_holes_and_links_do_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        fs::create_dir_all(path.join("a/b")).unwrap();
        fs::write(path.join("a/b/f"), vec![1; 300_000]).unwrap();
        let sparse = fs::File::create(path.join("sparse")).unwrap();
        sparse.set_len(1 << 30).unwrap();
        std::os::unix::fs::symlink("/usr", path.join("link")).unwrap();
        std::os::unix::fs::symlink(".", path.join("a/self")).unwrap();
        assert!(is_over(path, 200_000));
        assert!(!is_over(path, 1 << 20));
        for n in 0..100 {
            fs::write(path.join(format!("{n}")), "").unwrap();
        }
        assert!(is_over(&path.join("a"), 200_000) && !is_over(&path.join("none"), 0));
        let empty = tempfile::tempdir().unwrap();
        (0..100).for_each(|n| fs::write(empty.path().join(format!("{n}")), "").unwrap());
        assert!(
            is_over(empty.path(), 100 * ENTRY - 1),
            "empty files take room too"
        );
    }
}
