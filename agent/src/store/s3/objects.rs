//! Objects of every bucket, by the `minio` client.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use contract::ObjectKey;
use futures_util::{StreamExt, TryStreamExt};
use minio::s3::builders::ObjectContent;
use minio::s3::error::{Error, ValidationErr};
use minio::s3::minio_error_response::MinioErrorCode;
use minio::s3::multimap_ext::{Multimap, MultimapExt};
use minio::s3::response_traits::HasEtagFromHeaders;
use minio::s3::types::{S3Api, ToStream};
use tokio::time::timeout;

use super::{Failure, LIMIT, S3, SLOWEST, code};
use crate::store::objects::{About, Bucket};
use crate::store::{StoreError, object};

/// Before the names of what a writer notes.
const NOTE: &str = "x-amz-meta-";

impl S3 {
    fn named(&self, bucket: Bucket) -> &str {
        &self.buckets[match bucket {
            Bucket::Code => 0,
            Bucket::State => 1,
            Bucket::Logs => 2,
        }]
    }

    pub(crate) fn fetch(
        &self,
        bucket: Bucket,
        key: &ObjectKey,
        to: &mut File,
    ) -> Result<Option<About>, StoreError> {
        let bucket = self.named(bucket);
        let what = object(bucket, key);
        // Each piece has its own limit.
        self.ask(&what, Duration::MAX, async {
            let request = self.client.get_object(bucket, key.as_str())?.build();
            let response = match timeout(LIMIT, request.send()).await {
                Err(_) => return Err(Failure::Late),
                Ok(Err(error)) if is_nowhere(&error) => return Ok(None),
                Ok(response) => response?,
            };
            let mut about = noted(&response);
            let (mut pieces, size) = response.into_boxed_stream()?;
            loop {
                let piece = timeout(LIMIT, pieces.try_next()).await;
                let Some(piece) = piece
                    .map_err(|_| Failure::Late)?
                    .map_err(ValidationErr::from)?
                else {
                    break;
                };
                about.size += piece.len() as u64;
                to.write_all(&piece).map_err(ValidationErr::from)?;
            }
            if about.size == size {
                return Ok(Some(about));
            }
            let cut = std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "it came cut off");
            Err(Failure::Client(ValidationErr::from(cut).into()))
        })
    }

    pub(crate) fn about(
        &self,
        bucket: Bucket,
        key: &ObjectKey,
    ) -> Result<Option<About>, StoreError> {
        let bucket = self.named(bucket);
        self.ask(&object(bucket, key), LIMIT, async {
            let asked = self.client.stat_object(bucket, key.as_str())?.build();
            match asked.send().await {
                Err(error) if is_nowhere(&error) => Ok(None),
                found => {
                    let found = found?;
                    let about = noted(&found);
                    let size = found.size()?;
                    Ok(Some(About { size, ..about }))
                }
            }
        })
    }

    pub(crate) fn keys(&self, bucket: Bucket, folder: &str) -> Result<Vec<ObjectKey>, StoreError> {
        let bucket = self.named(bucket);
        let mut found = Vec::new();
        self.ask(&format!("bucket {bucket}"), Duration::MAX, async {
            let request = self.client.list_objects(bucket)?;
            let request = request.recursive(true).prefix(Some(format!("{folder}/")));
            let mut pages = request.build().to_stream().await;
            loop {
                let page = timeout(LIMIT, pages.next()).await;
                let Some(page) = page.map_err(|_| Failure::Late)? else {
                    return Ok(());
                };
                match page {
                    Err(error) if is_nowhere(&error) => return Ok(()),
                    page => found.extend(page?.contents.into_iter().map(|entry| entry.name)),
                }
            }
        })?;
        Ok(found
            .into_iter()
            .filter_map(|name| name.parse().ok())
            .collect())
    }

    pub(crate) fn place(
        &self,
        bucket: Bucket,
        key: &ObjectKey,
        from: &Path,
        metadata: &BTreeMap<String, String>,
    ) -> Result<(), StoreError> {
        let bucket = self.named(bucket);
        let size = from.metadata().map_or(0, |found| found.len());
        let limit = LIMIT + Duration::from_secs(size / SLOWEST);
        let mut notes = Multimap::new();
        for (name, value) in metadata {
            notes.add(format!("{NOTE}{name}"), value);
        }
        self.ask(&object(bucket, key), limit, async {
            let content = ObjectContent::from(from);
            let request = self
                .client
                .put_object_content(bucket, key.as_str(), content)?;
            let request = request.user_metadata(Some(notes)).build();
            request.send().await?;
            Ok(())
        })
    }
}

fn noted(answer: &impl HasEtagFromHeaders) -> About {
    let notes = answer.headers().iter().filter_map(|(name, value)| {
        let name = name.as_str().strip_prefix(NOTE)?;
        Some((name.to_owned(), value.to_str().ok()?.to_owned()))
    });
    About {
        size: 0,
        etag: answer.etag().ok().map(|etag| etag.to_string()),
        metadata: notes.collect(),
    }
}

/// No object, or no bucket that it could be in.
pub(super) fn is_nowhere(error: &Error) -> bool {
    matches!(
        code(error),
        Some(MinioErrorCode::NoSuchKey | MinioErrorCode::NoSuchBucket)
    )
}
