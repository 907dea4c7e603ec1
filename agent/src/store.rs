//! The agent's side of the object store: code bundles, and the ends of days' logs.
//!
//! Calls block, and each ends within a bounded time. They are made from threads of their own, or where nothing else
//! waits.

pub mod address;
mod directory;
pub mod objects;
mod results;
mod s3;
pub mod sts;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use contract::{Digest, ObjectKey};
use thiserror::Error;

pub use address::Address;

use crate::breaker::Gate;
use directory::Directory;
use s3::S3;

static ERRORS: AtomicU64 = AtomicU64::new(0);

/// Requests of this process that a store did not answer, or refused.
pub fn errors() -> u64 {
    ERRORS.load(Ordering::Relaxed)
}

fn note_error() {
    ERRORS.fetch_add(1, Ordering::Relaxed);
}

/// Where objects are.
#[derive(Debug, Clone)]
pub enum Store {
    /// In a folder of this machine.
    Directory(Directory),
    /// In an object store that speaks S3.
    S3(S3),
}

/// The store did not do it.
#[derive(Debug, Error)]
#[error("{what}: {why}")]
pub struct StoreError {
    /// The object or bucket.
    pub what: String,
    /// What the store or the system said, and what to do.
    pub why: String,
}

impl StoreError {
    fn of(bucket: &str, key: &ObjectKey) -> impl Fn(io::Error) -> Self {
        let what = object(bucket, key);
        move |cause| Self {
            what: what.clone(),
            why: cause.to_string(),
        }
    }
}

fn object(bucket: &str, key: &ObjectKey) -> String {
    format!("object {key} of bucket {bucket}")
}

impl Store {
    /// Opens the store at `address`; nothing is asked of it yet. What is written is made under `temporary` first.
    ///
    /// # Errors
    /// What the file system answers, or the address cannot be used.
    pub fn open(address: &Address, temporary: PathBuf) -> Result<Self, StoreError> {
        match address {
            Address::Directory(root) => {
                Directory::open(root.clone(), temporary).map(Self::Directory)
            }
            Address::S3(endpoint) => S3::open(endpoint, temporary).map(Self::S3),
        }
    }

    /// Makes the buckets that are not there, where that is allowed, and gives their names.
    ///
    /// # Errors
    /// What the store answers.
    pub fn prepare(&self) -> Result<Vec<String>, StoreError> {
        match self {
            Self::Directory(_) => Ok(Vec::new()),
            Self::S3(store) => store.prepare(),
        }
    }

    /// Whether the store answers and has its bucket of bundles.
    ///
    /// # Errors
    /// What the store answers.
    pub fn probe(&self) -> Result<(), StoreError> {
        match self {
            Self::Directory(_) => Ok(()),
            Self::S3(store) => store.probe(),
        }
    }

    /// Who may ask it, and when; one for all clones.
    pub fn gate(&self) -> Gate {
        match self {
            Self::Directory(_) => Gate::new(s3::PACE),
            Self::S3(store) => store.gate().clone(),
        }
    }

    /// Whether there is such a bundle.
    ///
    /// # Errors
    /// What the store answers.
    pub fn has(&self, key: &ObjectKey) -> Result<bool, StoreError> {
        match self {
            Self::Directory(store) => Ok(store.has(key)),
            Self::S3(store) => store.has(key),
        }
    }

    /// The digest of a bundle's bytes; `None` if there is no such bundle.
    ///
    /// # Errors
    /// What the store answers.
    pub fn digest(&self, key: &ObjectKey) -> Result<Option<Digest>, StoreError> {
        match self {
            Self::Directory(store) => store.digest(key),
            Self::S3(store) => store.digest(key),
        }
    }

    /// Puts what `write` writes as the bundle `key`, whole or not at all, in place of an older one.
    ///
    /// # Errors
    /// What `write` answers, or the store.
    pub fn put<T, E: From<StoreError>>(
        &self,
        key: &ObjectKey,
        write: impl FnOnce(&mut File) -> Result<T, E>,
    ) -> Result<T, E> {
        let (folder, bucket) = match self {
            Self::Directory(store) => (store.temporary(), directory::BUCKET),
            Self::S3(store) => (store.temporary(), store.bucket()),
        };
        let failed = StoreError::of(bucket, key);
        fs::create_dir_all(folder).map_err(&failed)?;
        let aside = Aside::new(folder, key);
        let mut file = File::create_new(&aside.0).map_err(&failed)?;
        let written = write(&mut file)?;
        file.sync_all().map_err(&failed)?;
        match self {
            Self::Directory(store) => store.take(&aside.0, key)?,
            Self::S3(store) => store.upload(&aside.0, key)?,
        }
        Ok(written)
    }

    /// The bundles whose keys begin with `folder` and a slash, newest first.
    ///
    /// # Errors
    /// What the store answers.
    pub fn list(&self, folder: &str) -> Result<Vec<ObjectKey>, StoreError> {
        match self {
            Self::Directory(store) => Ok(store.list(folder)),
            Self::S3(store) => store.list(folder),
        }
    }

    /// Removes a bundle; that it is not there is fine.
    ///
    /// # Errors
    /// What the store answers.
    pub fn remove(&self, key: &ObjectKey) -> Result<(), StoreError> {
        match self {
            Self::Directory(store) => store.remove(key),
            Self::S3(store) => store.remove(key),
        }
    }

    /// The last `most` bytes of a day's log, or fewer; `None` if there is none of that day.
    ///
    /// # Errors
    /// What the store answers.
    pub fn log_tail(&self, key: &ObjectKey, most: u64) -> Result<Option<Vec<u8>>, StoreError> {
        match self {
            Self::Directory(store) => store.log_tail(key, most),
            Self::S3(store) => store.log_tail(key, most),
        }
    }
}

/// A file that is gone when this is, unless it was moved away.
struct Aside(PathBuf);

impl Aside {
    fn new(folder: &Path, key: &ObjectKey) -> Self {
        let name = key.as_str().replace('/', "-");
        let name: String = name.chars().take(60).collect();
        let thread = format!("{:?}", std::thread::current().id());
        let thread: String = thread.chars().filter(char::is_ascii_digit).collect();
        let path = folder.join(format!("agent-{}-{thread}-{name}", std::process::id()));
        // A crashed agent's, whose process id has come round.
        let _ = fs::remove_file(&path);
        Self(path)
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Removes the bundles of `folder` that are not in use, but for the `keep` newest of them.
///
/// # Errors
/// What the store answers.
pub fn collect(
    store: &Store,
    folder: &str,
    keep: usize,
    in_use: impl Fn(&ObjectKey) -> bool,
) -> Result<(), StoreError> {
    let unused = store.list(folder)?.into_iter().filter(|key| !in_use(key));
    for key in unused.skip(keep) {
        store.remove(&key)?;
    }
    Ok(())
}

/// The folder part of a key.
pub fn folder_of(key: &ObjectKey) -> &str {
    let folder = Path::new(key.as_str()).parent().and_then(Path::to_str);
    folder.unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::time::SystemTime;

    fn open(root: &Path) -> Store {
        let address = Address::Directory(root.to_owned());
        Store::open(&address, root.join(".the0-tmp")).unwrap()
    }

    fn put(store: &Store, key: &str, content: &[u8]) {
        let key = key.parse().unwrap();
        let write = |file: &mut File| -> Result<(), StoreError> {
            file.write_all(content).unwrap();
            Ok(())
        };
        store.put(&key, write).unwrap();
    }

    #[test]
    fn a_bundle_is_there_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&dir.path().join("s"));
        put(&store, "u/b/1", b"old");
        let key: ObjectKey = "u/b/1".parse().unwrap();
        let half = |file: &mut File| -> Result<(), StoreError> {
            file.write_all(b"ne").unwrap();
            Err(StoreError {
                what: "k".into(),
                why: "no".into(),
            })
        };
        assert!(store.put(&key, half).is_err());
        let path = dir.path().join("s/custom-bots/u/b/1");
        assert_eq!(fs::read(path).unwrap(), b"old");
        let left = fs::read_dir(dir.path().join("s/.the0-tmp")).unwrap();
        assert_eq!(left.count(), 0);
    }

    #[test]
    fn old_bundles_go_and_those_in_use_stay() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        for n in 0..8u64 {
            put(&store, &format!("dev/b/{n}"), b"");
            let file = File::open(dir.path().join(format!("custom-bots/dev/b/{n}"))).unwrap();
            let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(n);
            file.set_modified(time).unwrap();
        }
        collect(&store, "dev/b", 3, |key| key.as_str() == "dev/b/1").unwrap();
        let left = store.list("dev/b").unwrap();
        let left: Vec<_> = left.iter().map(ToString::to_string).collect();
        assert_eq!(left, ["dev/b/7", "dev/b/6", "dev/b/5", "dev/b/1"]);
    }

    #[test]
    fn the_end_of_a_log_is_given_and_a_day_without_one_told() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let folder = dir.path().join("bot-logs/logs/b");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("20261121.log"), "one\ntwo\n").unwrap();
        let tail = |day: &str, most| {
            let key = format!("logs/b/{day}.log").parse().unwrap();
            store.log_tail(&key, most).unwrap()
        };
        assert_eq!(tail("20261121", 100).unwrap(), b"one\ntwo\n");
        assert_eq!(tail("20261121", 4).unwrap(), b"two\n");
        assert_eq!(tail("20261120", 4), None);
    }
}
