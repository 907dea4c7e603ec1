//! Results of jobs: small objects in a bucket of their own.

use std::io::Write;

use contract::ObjectKey;

use super::{Store, StoreError};

impl Store {
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
            Self::Directory(_) => Err(failed(std::io::Error::other(
                "results are kept in an object store only",
            ))),
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
