//! The agent's side of the object store: putting code bundles.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use contract::ObjectKey;
use thiserror::Error;

/// The bucket of code.
const BUCKET: &str = "custom-bots";

/// Where objects are.
#[derive(Debug, Clone)]
pub enum Store {
    /// In a folder of this machine: `<root>/<bucket>/<key>`.
    Directory(PathBuf),
}

/// The store did not do it.
#[derive(Debug, Error)]
#[error("object {key} of bucket {BUCKET}: {cause}")]
pub struct StoreError {
    key: String,
    cause: io::Error,
}

impl Store {
    /// Opens a store in a folder, making the folder when it is not there.
    ///
    /// # Errors
    /// What the file system answers.
    pub fn directory(root: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(root.join(BUCKET))?;
        Ok(Self::Directory(root))
    }

    /// Whether there is such a bundle.
    pub fn has(&self, key: &ObjectKey) -> bool {
        self.path(key).is_file()
    }

    /// Opens a bundle.
    ///
    /// # Errors
    /// What the store answers.
    pub fn open(&self, key: &ObjectKey) -> io::Result<File> {
        File::open(self.path(key))
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
        let failed = |cause| StoreError {
            key: key.to_string(),
            cause,
        };
        let path = self.path(key);
        let folder = path.parent().unwrap_or(&path);
        let temporary = self.temporary(key);
        fs::create_dir_all(folder).map_err(failed)?;
        let put = || -> Result<T, E> {
            let mut file = File::create_new(&temporary).map_err(failed)?;
            let written = write(&mut file)?;
            file.sync_all().map_err(failed)?;
            fs::rename(&temporary, &path).map_err(failed)?;
            File::open(folder)
                .and_then(|f| f.sync_all())
                .map_err(failed)?;
            Ok(written)
        };
        let done = put();
        if done.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        done
    }

    /// The bundles whose keys begin with `folder` and a slash, newest first.
    pub fn list(&self, folder: &str) -> Vec<ObjectKey> {
        let Self::Directory(root) = self;
        let entries = fs::read_dir(root.join(BUCKET).join(folder));
        let mut found: Vec<(SystemTime, ObjectKey)> = entries
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                let time = entry
                    .metadata()
                    .ok()
                    .filter(fs::Metadata::is_file)?
                    .modified()
                    .ok()?;
                Some((time, format!("{folder}/{name}").parse().ok()?))
            })
            .collect();
        found.sort_by(|a, b| b.cmp(a));
        found.into_iter().map(|(_, key)| key).collect()
    }

    /// Removes a bundle; that it is not there is fine.
    ///
    /// # Errors
    /// What the store answers.
    pub fn remove(&self, key: &ObjectKey) -> Result<(), StoreError> {
        let failed = |cause| StoreError {
            key: key.to_string(),
            cause,
        };
        contract::file::remove(&self.path(key)).map_err(failed)
    }

    fn path(&self, key: &ObjectKey) -> PathBuf {
        let Self::Directory(root) = self;
        root.join(BUCKET).join(key.as_str())
    }

    /// Beside the buckets, so that it is never seen as an object.
    fn temporary(&self, key: &ObjectKey) -> PathBuf {
        let Self::Directory(root) = self;
        let name = key.as_str().replace('/', "-");
        let name: String = name.chars().take(60).collect();
        let thread = format!("{:?}", std::thread::current().id());
        let thread: String = thread.chars().filter(char::is_ascii_digit).collect();
        let folder = root.join(".the0-tmp");
        let _ = fs::create_dir_all(&folder);
        let path = folder.join(format!("agent-{}-{thread}-{name}", std::process::id()));
        // A crashed agent's, whose process id has come round.
        let _ = fs::remove_file(&path);
        path
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
    let unused = store.list(folder).into_iter().filter(|key| !in_use(key));
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
        let store = Store::directory(dir.path().join("s")).unwrap();
        put(&store, "u/b/1", b"old");
        let key: ObjectKey = "u/b/1".parse().unwrap();
        let half = |file: &mut File| -> Result<(), StoreError> {
            file.write_all(b"ne").unwrap();
            Err(StoreError {
                key: "k".into(),
                cause: io::ErrorKind::Other.into(),
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
        let store = Store::directory(dir.path().to_owned()).unwrap();
        for n in 0..8u64 {
            put(&store, &format!("dev/b/{n}"), b"");
            let file = File::open(store.path(&format!("dev/b/{n}").parse().unwrap())).unwrap();
            let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(n);
            file.set_modified(time).unwrap();
        }
        collect(&store, "dev/b", 3, |key| key.as_str() == "dev/b/1").unwrap();
        let left: Vec<_> = store
            .list("dev/b")
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(left, ["dev/b/7", "dev/b/6", "dev/b/5", "dev/b/1"]);
    }
}
