//! The store in a folder of this machine: `<root>/<bucket>/<key>`.

mod objects;

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use contract::{Digest, ObjectKey, file};
use sha2::{Digest as _, Sha256};

use super::StoreError;
use super::address::LOGS;

/// The bucket of code.
pub(super) const BUCKET: &str = "custom-bots";

/// A folder of buckets.
#[derive(Debug, Clone)]
pub struct Directory {
    root: PathBuf,
    /// Beside the buckets, so that what is in it is never seen as an object.
    temporary: PathBuf,
}

impl Directory {
    pub(super) fn open(root: PathBuf, temporary: PathBuf) -> Result<Self, StoreError> {
        let bucket = root.join(BUCKET);
        fs::create_dir_all(&bucket).map_err(|cause| StoreError {
            what: bucket.display().to_string(),
            why: cause.to_string(),
        })?;
        Ok(Self { root, temporary })
    }

    pub(super) fn temporary(&self) -> &Path {
        &self.temporary
    }

    pub(super) fn has(&self, key: &ObjectKey) -> bool {
        self.path(key).is_file()
    }

    pub(super) fn digest(&self, key: &ObjectKey) -> Result<Option<Digest>, StoreError> {
        let digest = File::open(self.path(key)).and_then(digest_of).map(Some);
        none_if_absent(digest).map_err(StoreError::of(BUCKET, key))
    }

    /// Makes the file at `from` the object.
    pub(super) fn take(&self, from: &Path, key: &ObjectKey) -> Result<(), StoreError> {
        let path = self.path(key);
        let folder = path.parent().unwrap_or(&path);
        let take = || {
            fs::create_dir_all(folder)?;
            fs::rename(from, &path)?;
            File::open(folder)?.sync_all()
        };
        take().map_err(StoreError::of(BUCKET, key))
    }

    pub(super) fn list(&self, folder: &str) -> Vec<ObjectKey> {
        let entries = fs::read_dir(self.root.join(BUCKET).join(folder));
        let mut found: Vec<(SystemTime, ObjectKey)> = entries
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                let found = entry.metadata().ok().filter(fs::Metadata::is_file)?;
                let time = found.modified().ok()?;
                Some((time, format!("{folder}/{name}").parse().ok()?))
            })
            .collect();
        found.sort_by(|a, b| b.cmp(a));
        found.into_iter().map(|(_, key)| key).collect()
    }

    pub(super) fn remove(&self, key: &ObjectKey) -> Result<(), StoreError> {
        file::remove(&self.path(key)).map_err(StoreError::of(BUCKET, key))
    }

    pub(super) fn log_tail(
        &self,
        key: &ObjectKey,
        most: u64,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let read = || {
            let mut file = File::open(self.root.join(LOGS).join(key.as_str()))?;
            let begin = file.metadata()?.len().saturating_sub(most);
            file.seek(SeekFrom::Start(begin))?;
            let mut bytes = Vec::new();
            file.take(most).read_to_end(&mut bytes)?;
            Ok(Some(bytes))
        };
        none_if_absent(read()).map_err(StoreError::of(LOGS, key))
    }

    fn path(&self, key: &ObjectKey) -> PathBuf {
        self.root.join(BUCKET).join(key.as_str())
    }
}

fn none_if_absent<T>(read: io::Result<Option<T>>) -> io::Result<Option<T>> {
    match read {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other,
    }
}

fn digest_of(mut file: File) -> io::Result<Digest> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Digest::from_bytes(hash.finalize().into())),
            count => hash.update(&buffer[..count]),
        }
    }
}
