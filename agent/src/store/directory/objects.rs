//! Objects of every bucket, as files. What `sync` has noted about one is read where it notes it
//! (`sync/src/store/notes.rs`); nothing is noted about one that is placed here, as with any file that a person puts.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use contract::{ObjectKey, file};
use serde::Deserialize;

use super::{BUCKET, Directory, none_if_absent};
use crate::store::address::LOGS;
use crate::store::objects::{About, Bucket};
use crate::store::{Aside, StoreError};

#[derive(Default, Deserialize)]
struct Note {
    /// Bytes that count, of an object that grows.
    length: Option<u64>,
    metadata: BTreeMap<String, String>,
}

fn named(bucket: Bucket) -> &'static str {
    match bucket {
        Bucket::Code => BUCKET,
        Bucket::State => "bot-state",
        Bucket::Logs => LOGS,
    }
}

impl Directory {
    fn object(&self, bucket: Bucket, key: &ObjectKey) -> PathBuf {
        self.root.join(named(bucket)).join(key.as_str())
    }

    pub(crate) fn fetch(
        &self,
        bucket: Bucket,
        key: &ObjectKey,
        to: &mut File,
    ) -> Result<Option<About>, StoreError> {
        let mut copy = || {
            let from = File::open(self.object(bucket, key))?;
            let about = self.noted(bucket, key, &from.metadata()?);
            let copied = io::copy(&mut from.take(about.size), to)?;
            if copied == about.size {
                Ok(Some(about))
            } else {
                Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "it came cut off",
                ))
            }
        };
        none_if_absent(copy()).map_err(StoreError::of(named(bucket), key))
    }

    pub(crate) fn about(
        &self,
        bucket: Bucket,
        key: &ObjectKey,
    ) -> Result<Option<About>, StoreError> {
        let found = fs::metadata(self.object(bucket, key));
        let about = found.map(|found| Some(self.noted(bucket, key, &found)));
        none_if_absent(about).map_err(StoreError::of(named(bucket), key))
    }

    fn noted(&self, bucket: Bucket, key: &ObjectKey, found: &Metadata) -> About {
        let folder = self.root.join(".the0-meta").join(named(bucket));
        let folder = folder.join(key.as_str());
        let mtime = i128::from(found.mtime()) * 1_000_000_000 + i128::from(found.mtime_nsec());
        let names = [
            format!("append-{}.json", found.ino()),
            format!("{}-{mtime}-{}.json", found.ino(), found.len()),
        ];
        let mut notes = names.iter().filter_map(|name| {
            let note = file::read_json::<Note>(&folder.join(name));
            note.ok().flatten()
        });
        let counts = |note: &Note| note.length.is_none_or(|length| length <= found.len());
        let note = notes.find(counts).unwrap_or_default();
        About {
            size: note.length.unwrap_or(found.len()),
            etag: None,
            metadata: note.metadata,
        }
    }

    pub(crate) fn keys(&self, bucket: Bucket, folder: &str) -> Result<Vec<ObjectKey>, StoreError> {
        let top = self.root.join(named(bucket)).join(folder);
        let mut found = Vec::new();
        walk(&top, folder, &mut found).map_err(|cause| StoreError {
            what: top.display().to_string(),
            why: cause.to_string(),
        })?;
        Ok(found)
    }

    pub(crate) fn place(
        &self,
        bucket: Bucket,
        key: &ObjectKey,
        from: &Path,
    ) -> Result<(), StoreError> {
        let path = self.object(bucket, key);
        let place = || {
            fs::create_dir_all(&self.temporary)?;
            let folder = path.parent().unwrap_or(&path);
            fs::create_dir_all(folder)?;
            let aside = Aside::new(&self.temporary, key);
            fs::copy(from, &aside.0)?;
            File::open(&aside.0)?.sync_all()?;
            fs::rename(&aside.0, &path)?;
            File::open(folder)?.sync_all()
        };
        place().map_err(StoreError::of(named(bucket), key))
    }
}

fn walk(folder: &Path, name: &str, found: &mut Vec<ObjectKey>) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let Ok(last) = entry.file_name().into_string() else {
            continue;
        };
        let name = format!("{name}/{last}");
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), &name, found)?;
        } else {
            found.extend(name.parse());
        }
    }
    Ok(())
}
