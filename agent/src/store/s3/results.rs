//! Results of jobs and of questions, by the `minio` client.

use std::path::Path;
use std::time::Duration;

use contract::ObjectKey;
use futures_util::TryStreamExt;
use minio::s3::builders::ObjectContent;
use minio::s3::error::ValidationErr;
use minio::s3::types::S3Api;

use super::objects::is_nowhere;
use super::{Failure, LIMIT, S3, SLOWEST};
use crate::store::{StoreError, object};

impl S3 {
    pub(crate) fn put_result(
        &self,
        bucket: &str,
        key: &ObjectKey,
        from: &Path,
    ) -> Result<(), StoreError> {
        self.make_if_missing(bucket)?;
        let size = from.metadata().map_or(0, |found| found.len());
        let limit = LIMIT + Duration::from_secs(size / SLOWEST);
        self.ask(&object(bucket, key), limit, async {
            let content = ObjectContent::from(from);
            let request = self
                .client
                .put_object_content(bucket, key.as_str(), content)?;
            let request = request.content_type("application/json".to_owned());
            request.build().send().await?;
            Ok(())
        })
    }

    pub(crate) fn result(
        &self,
        bucket: &str,
        key: &ObjectKey,
        most: usize,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let limit = LIMIT + Duration::from_secs(most as u64 / SLOWEST);
        let content = self.ask(&object(bucket, key), limit, async {
            let request = self.client.get_object(bucket, key.as_str())?.build();
            let response = match request.send().await {
                Err(error) if is_nowhere(&error) => return Ok(None),
                response => response?,
            };
            let (mut pieces, size) = response.into_boxed_stream()?;
            let mut content = Vec::new();
            while let Some(piece) = pieces.try_next().await.map_err(ValidationErr::from)? {
                content.extend_from_slice(&piece);
                if content.len() > most {
                    return Ok(Some(content));
                }
            }
            if content.len() as u64 == size {
                return Ok(Some(content));
            }
            let cut = std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "it came cut off");
            Err(Failure::Client(ValidationErr::from(cut).into()))
        })?;
        // That is no fault of the store's.
        if content.as_ref().is_some_and(|content| content.len() > most) {
            let too_long = format!("it is longer than {} MiB", most >> 20);
            return Err(StoreError::of(bucket, key)(std::io::Error::other(too_long)));
        }
        Ok(content)
    }

    pub(crate) fn remove_result(&self, bucket: &str, key: &ObjectKey) -> Result<(), StoreError> {
        self.ask(&object(bucket, key), LIMIT, async {
            let request = self.client.delete_object(bucket, key.as_str())?;
            match request.build().send().await {
                Err(error) if is_nowhere(&error) => Ok(()),
                removed => Ok(removed.map(|_| ())?),
            }
        })
    }

    pub(crate) fn make_if_missing(&self, bucket: &str) -> Result<(), StoreError> {
        let what = format!("bucket {bucket}");
        let exists = self.ask(&what, LIMIT, async {
            let request = self.client.bucket_exists(bucket)?.build();
            Ok(request.send().await?.exists())
        })?;
        if exists {
            return Ok(());
        }
        self.make(bucket, &what).map(|_| ())
    }
}
