//! The independent client: what is in a store by the word of another implementation than `sync`'s own.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt;
use minio::s3::MinioClientBuilder;
use minio::s3::builders::ObjectContent;
use minio::s3::client::MinioClient;
use minio::s3::creds::StaticProvider;
use minio::s3::error::{Error, S3ServerError};
use minio::s3::http::BaseUrl;
use minio::s3::minio_error_response::MinioErrorCode;
use minio::s3::multimap_ext::{Multimap, MultimapExt};
use minio::s3::response_traits::{HasEtagFromHeaders, HasS3Fields};
use minio::s3::types::{S3Api, ToStream};
use tokio::runtime::Runtime;

use super::{ACCESS_KEY, SECRET_KEY};

const LIMIT: Duration = Duration::from_secs(20);

/// A blocking client with a time limit on each request.
#[derive(Debug)]
pub struct Client {
    client: MinioClient,
    runtime: Runtime,
}

/// An object as it was got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Its content.
    pub bytes: Vec<u8>,
    /// Its tag, without quotes.
    pub etag: String,
    /// Its user metadata, names without `x-amz-meta-`.
    pub metadata: BTreeMap<String, String>,
}

impl Client {
    /// A client of the store at `address`, over TLS when there is a `ca`.
    ///
    /// # Panics
    /// When the address or the certificate is none.
    pub fn new(address: &str, ca: Option<&Path>) -> Self {
        let scheme = if ca.is_some() { "https" } else { "http" };
        let url: BaseUrl = format!("{scheme}://{address}").parse().expect("an address");
        let keys = StaticProvider::new(ACCESS_KEY, SECRET_KEY, None);
        let builder = MinioClientBuilder::new(url).provider(Some(keys));
        let client = builder.ssl_cert_file(ca).skip_region_lookup(true).build();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build();
        Self {
            client: client.expect("a client"),
            runtime: runtime.expect("a runtime"),
        }
    }

    fn wait<T>(&self, what: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let limited = self
            .runtime
            .block_on(async { tokio::time::timeout(LIMIT, what).await });
        limited.unwrap_or_else(|_| panic!("the store did not answer within {LIMIT:?}"))
    }

    /// Whether the store answers a signed request.
    pub fn answers(&self) -> bool {
        let buckets = self.client.list_buckets().build();
        self.wait(buckets.send()).is_ok()
    }

    /// Makes a bucket.
    ///
    /// # Panics
    /// When that fails.
    pub fn make_bucket(&self, bucket: &str) {
        let request = self.client.create_bucket(bucket).expect("a bucket's name");
        self.wait(request.build().send())
            .unwrap_or_else(|err| panic!("make bucket {bucket}: {err:?}"));
    }

    /// Puts an object as anybody from outside would.
    ///
    /// # Panics
    /// When that fails.
    pub fn put(&self, bucket: &str, key: &str, bytes: &[u8]) {
        self.put_with(bucket, key, bytes, &[]);
    }

    /// Puts an object with user metadata.
    ///
    /// # Panics
    /// When that fails.
    pub fn put_with(&self, bucket: &str, key: &str, bytes: &[u8], metadata: &[(&str, &str)]) {
        let mut map = Multimap::new();
        for (name, value) in metadata {
            map.add(format!("x-amz-meta-{name}"), *value);
        }
        let content = ObjectContent::from(bytes.to_vec());
        let request = self.client.put_object_content(bucket, key, content);
        let request = request.expect("a key").user_metadata(Some(map)).build();
        self.wait(request.send())
            .unwrap_or_else(|err| panic!("put {bucket}/{key}: {err:?}"));
    }

    /// The object, if it exists.
    ///
    /// # Panics
    /// When the store says anything but the object or that there is no such key.
    pub fn get(&self, bucket: &str, key: &str) -> Option<Object> {
        self.try_get(bucket, key)
            .unwrap_or_else(|err| panic!("get {bucket}/{key}: {err:?}"))
    }

    /// The object, if it exists; why it could not be had, if it could not.
    ///
    /// # Panics
    /// When the key is none.
    pub fn try_get(&self, bucket: &str, key: &str) -> Result<Option<Object>, String> {
        let request = self.client.get_object(bucket, key).expect("a key").build();
        let got = self.wait(async {
            let response = request.send().await?;
            let etag = response.etag()?.to_string();
            let own = response.headers().iter().filter_map(|(name, value)| {
                let name = name.as_str().strip_prefix("x-amz-meta-")?;
                Some((name.to_owned(), value.to_str().ok()?.to_owned()))
            });
            let metadata = own.collect();
            let bytes = response.into_bytes().await?.to_vec();
            Ok(Object {
                bytes,
                etag: etag.trim_matches('"').to_owned(),
                metadata,
            })
        });
        match got {
            Ok(object) => Ok(Some(object)),
            Err(err) if is_no_such_key(&err) => Ok(None),
            Err(err) => Err(format!("{err:?}")),
        }
    }

    /// The keys that begin with `prefix`, sorted.
    ///
    /// # Panics
    /// When they cannot be had.
    pub fn list(&self, bucket: &str, prefix: &str) -> Vec<String> {
        let request = self.client.list_objects(bucket).expect("a bucket's name");
        let request = request.recursive(true).prefix(Some(prefix.to_owned()));
        let mut keys = Vec::new();
        self.wait(async {
            let mut pages = request.build().to_stream().await;
            while let Some(page) = pages.next().await {
                keys.extend(page?.contents.into_iter().map(|entry| entry.name));
            }
            Ok(())
        })
        .unwrap_or_else(|err| panic!("list {bucket}/{prefix}: {err:?}"));
        keys.sort();
        keys
    }

    /// Removes an object; one that is not there is no failure.
    ///
    /// # Panics
    /// When that fails.
    pub fn remove(&self, bucket: &str, key: &str) {
        let request = self.client.delete_object(bucket, key).expect("a key");
        self.wait(request.build().send())
            .unwrap_or_else(|err| panic!("remove {bucket}/{key}: {err:?}"));
    }
}

fn is_no_such_key(err: &Error) -> bool {
    let Error::S3Server(S3ServerError::S3Error(said)) = err else {
        return false;
    };
    said.code() == MinioErrorCode::NoSuchKey
}
