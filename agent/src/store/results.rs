//! Results of jobs and of questions: small objects in buckets of their own.

use std::io::Write;

use contract::ObjectKey;

use super::{Store, StoreError};

impl Store {
    /// Makes the bucket where it is missing.
    ///
    /// # Errors
    /// What the store answers.
    pub fn make_bucket(&self, bucket: &str) -> Result<(), StoreError> {
        match self {
            Self::Directory(_) => Err(nowhere(&format!("bucket {bucket}"))),
            Self::S3(store) => store.make_if_missing(bucket),
        }
    }

    /// The object `key` of `bucket`, of at most `most` bytes; `None` if there is none.
    ///
    /// # Errors
    /// What the store answers, or that it is larger.
    pub fn result(
        &self,
        bucket: &str,
        key: &ObjectKey,
        most: usize,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        match self {
            Self::Directory(_) => Err(nowhere(&super::object(bucket, key))),
            Self::S3(store) => store.result(bucket, key, most),
        }
    }

    /// Removes the object `key` of `bucket`; that it is not there is fine.
    ///
    /// # Errors
    /// What the store answers.
    pub fn remove_result(&self, bucket: &str, key: &ObjectKey) -> Result<(), StoreError> {
        match self {
            Self::Directory(_) => Err(nowhere(&super::object(bucket, key))),
            Self::S3(store) => store.remove_result(bucket, key),
        }
    }

    /// Makes `content` the object `key` of `bucket`, in place of another one; the bucket is made where it is missing.
    ///
    /// # Errors
    /// What the store answers.
    pub fn put_result(
        &self,
        bucket: &str,
        key: &ObjectKey,
        content: &[u8],
    ) -> Result<(), StoreError> {
        let failed = StoreError::of(bucket, key);
        match self {
            Self::Directory(_) => Err(nowhere(&super::object(bucket, key))),
            Self::S3(store) => {
                let folder = store.temporary();
                std::fs::create_dir_all(folder).map_err(&failed)?;
                let aside = super::Aside::new(folder, key);
                let mut file = std::fs::File::create(&aside.0).map_err(&failed)?;
                file.write_all(content).map_err(&failed)?;
                store.put_result(bucket, key, &aside.0)
            }
        }
    }
}

fn nowhere(what: &str) -> StoreError {
    StoreError {
        what: what.to_owned(),
        why: "results are kept in an object store only".to_owned(),
    }
}
