//! Objects of every bucket as they are, with what is noted about them: for backups.
//!
//! A fetched object is one version of it, whole, and its notes are that version's.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use contract::ObjectKey;
use serde::{Deserialize, Serialize};

use super::{Store, StoreError};

/// Which bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Bucket {
    /// Bundles.
    Code,
    /// States, current and older ones.
    State,
    /// Days' logs.
    Logs,
}

/// What is known of an object besides its content.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct About {
    /// Its size in bytes.
    pub size: u64,
    /// Its version, where the store has a word for it.
    pub etag: Option<String>,
    /// What its writer noted.
    pub metadata: BTreeMap<String, String>,
}

impl Store {
    /// Writes an object to `to`; `None` if there is no such object.
    ///
    /// # Errors
    /// What the store answers, or that the object came cut off.
    pub fn fetch(
        &self,
        bucket: Bucket,
        key: &ObjectKey,
        to: &mut File,
    ) -> Result<Option<About>, StoreError> {
        match self {
            Self::Directory(store) => store.fetch(bucket, key, to),
            Self::S3(store) => store.fetch(bucket, key, to),
        }
    }

    /// What is known of an object; `None` if there is none.
    ///
    /// # Errors
    /// What the store answers.
    pub fn about(&self, bucket: Bucket, key: &ObjectKey) -> Result<Option<About>, StoreError> {
        match self {
            Self::Directory(store) => store.about(bucket, key),
            Self::S3(store) => store.about(bucket, key),
        }
    }

    /// The keys that begin with `folder` and a slash, in their order.
    ///
    /// # Errors
    /// What the store answers.
    pub fn keys(&self, bucket: Bucket, folder: &str) -> Result<Vec<ObjectKey>, StoreError> {
        let mut keys = match self {
            Self::Directory(store) => store.keys(bucket, folder)?,
            Self::S3(store) => store.keys(bucket, folder)?,
        };
        keys.sort();
        Ok(keys)
    }

    /// Makes the file at `from` the object, in place of another one.
    ///
    /// # Errors
    /// What the store answers.
    pub fn place(
        &self,
        bucket: Bucket,
        key: &ObjectKey,
        from: &Path,
        metadata: &BTreeMap<String, String>,
    ) -> Result<(), StoreError> {
        match self {
            Self::Directory(store) => store.place(bucket, key, from),
            Self::S3(store) => store.place(bucket, key, from, metadata),
        }
    }
}
