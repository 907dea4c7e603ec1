//! Results of jobs, by the `minio` client.

use std::path::Path;
use std::time::Duration;

use contract::ObjectKey;
use minio::s3::builders::ObjectContent;
use minio::s3::types::S3Api;

use super::{LIMIT, S3, SLOWEST};
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

    fn make_if_missing(&self, bucket: &str) -> Result<(), StoreError> {
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
