//! The store over S3, by the `minio` client, with a time limit on every request.
//!
//! The client is not asked twice for what is known: a bundle that was seen there counts as there for a while, and
//! a store that has not answered is not waited for again before its time ([`crate::breaker`]), and then by one. Thus
//! listings stay quick with the store away, and it is not run down when it comes back.

mod objects;
mod results;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use contract::{Digest, ObjectKey};
use futures_util::{StreamExt, TryStreamExt};
use minio::s3::MinioClientBuilder;
use minio::s3::builders::ObjectContent;
use minio::s3::client::MinioClient;
use minio::s3::creds::StaticProvider;
use minio::s3::error::{Error, S3ServerError, ValidationErr};
use minio::s3::http::BaseUrl;
use minio::s3::minio_error_response::MinioErrorCode;
use minio::s3::types::{Region, S3Api, ToStream};
use sha2::{Digest as _, Sha256};
use tokio::runtime::{Builder, Runtime};

use super::address::Endpoint;
use super::{StoreError, object};
use crate::breaker::{Gate, Pace};

/// How long a request may take, and the pause between two pieces of an answer.
const LIMIT: Duration = Duration::from_secs(10);
/// The slowest upload that is waited for, bytes a second.
const SLOWEST: u64 = 128 << 10;
/// How long a bundle that was seen counts as there.
const SEEN: Duration = Duration::from_secs(300);
/// How long a store that did not answer is left alone.
pub(super) const PACE: Pace = Pace {
    first: Duration::from_secs(1),
    longest: Duration::from_secs(10),
    patience: Duration::from_secs(12),
};

/// What a store says that cannot now: the codes of the statuses 500 and 503.
const PASSING: [&str; 4] = [
    "InternalError",
    "ServiceUnavailable",
    "SlowDown",
    "XMinioServerNotInitialized",
];

/// A store reached by S3.
#[derive(Debug, Clone)]
pub struct S3 {
    client: MinioClient,
    buckets: [String; 3],
    temporary: PathBuf,
    known: Arc<Mutex<Known>>,
    gate: Gate,
}

#[derive(Debug, Default)]
struct Known {
    seen: BTreeMap<ObjectKey, Instant>,
    prepared: bool,
}

/// Why a request came to nothing.
enum Failure {
    Late,
    Client(Error),
}

impl<E: Into<Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Client(error.into())
    }
}

impl S3 {
    pub(super) fn open(endpoint: &Endpoint, temporary: PathBuf) -> Result<Self, StoreError> {
        let refused = |error: &dyn std::error::Error| StoreError {
            what: format!("the object store at {}", endpoint.url),
            why: contract::journal::chain(error).to_string(),
        };
        let mut url: BaseUrl = endpoint
            .url
            .parse()
            .map_err(|err: ValidationErr| refused(&err))?;
        url.region = Region::new(&endpoint.region).map_err(|err| refused(&err))?;
        let key = |name: &str| endpoint.keys.get(name).map(contract::Secret::reveal);
        let keys = StaticProvider::new(
            key("MINIO_ACCESS_KEY").unwrap_or_default(),
            key("MINIO_SECRET_KEY").unwrap_or_default(),
            key("MINIO_SESSION_TOKEN"),
        );
        let builder = MinioClientBuilder::new(url)
            .provider(Some(keys))
            .skip_region_lookup(true);
        let client = builder.ssl_cert_file(endpoint.ca.as_deref()).build();
        Ok(Self {
            client: client.map_err(|err| refused(&err))?,
            buckets: endpoint.buckets.clone(),
            temporary,
            known: Arc::default(),
            gate: Gate::new(PACE),
        })
    }

    pub(super) fn temporary(&self) -> &Path {
        &self.temporary
    }

    pub(super) fn gate(&self) -> &Gate {
        &self.gate
    }

    pub(super) fn bucket(&self) -> &str {
        &self.buckets[0]
    }

    pub(super) fn prepare(&self) -> Result<Vec<String>, StoreError> {
        let mut made = Vec::new();
        for bucket in &self.buckets {
            let what = format!("bucket {bucket}");
            let exists = self.ask(&what, LIMIT, async {
                Ok(self
                    .client
                    .bucket_exists(bucket)?
                    .build()
                    .send()
                    .await?
                    .exists())
            })?;
            if !exists && self.make(bucket, &what)? {
                made.push(bucket.clone());
            }
        }
        self.known().prepared = true;
        Ok(made)
    }

    pub(super) fn probe(&self) -> Result<(), StoreError> {
        let bucket = self.bucket();
        let what = format!("bucket {bucket}");
        let exists = self.ask(&what, LIMIT, async {
            let request = self.client.bucket_exists(bucket)?.build();
            Ok(request.send().await?.exists())
        })?;
        let why = "it is not there: make it, or let the store's keys do so".to_owned();
        exists.then_some(()).ok_or(StoreError { what, why })
    }

    /// Makes the bucket; whether somebody else has not done so meanwhile.
    fn make(&self, bucket: &str, what: &str) -> Result<bool, StoreError> {
        self.ask(what, LIMIT, async {
            match self.client.create_bucket(bucket)?.build().send().await {
                Err(error) if code(&error) == Some(MinioErrorCode::BucketAlreadyOwnedByYou) => {
                    Ok(false)
                }
                Err(error) => Err(error.into()),
                Ok(_) => Ok(true),
            }
        })
    }

    /// Buckets that could not be made at the start are made when the store answers.
    fn ready(&self) -> Result<(), StoreError> {
        if self.known().prepared {
            return Ok(());
        }
        self.prepare().map(|_| ())
    }

    pub(super) fn has(&self, key: &ObjectKey) -> Result<bool, StoreError> {
        let seen = self.known().seen.get(key).copied();
        if seen.is_some_and(|at| at.elapsed() < SEEN) {
            return Ok(true);
        }
        let asked = self.ready().and_then(|()| self.exists(key));
        match (asked, seen) {
            // It was there, and nobody says that it is not.
            (Err(_), Some(_)) => Ok(true),
            (Ok(true), _) => {
                self.known().seen.insert(key.clone(), Instant::now());
                Ok(true)
            }
            (other, _) => {
                self.known().seen.remove(key);
                other
            }
        }
    }

    fn exists(&self, key: &ObjectKey) -> Result<bool, StoreError> {
        let what = object(self.bucket(), key);
        self.ask(&what, LIMIT, async {
            match self
                .client
                .stat_object(self.bucket(), key.as_str())?
                .build()
                .send()
                .await
            {
                Ok(_) => Ok(true),
                Err(error) if is_absent(&error) => Ok(false),
                Err(error) => Err(error.into()),
            }
        })
    }

    pub(super) fn digest(&self, key: &ObjectKey) -> Result<Option<Digest>, StoreError> {
        self.ready()?;
        let what = object(self.bucket(), key);
        self.ask(&what, Duration::MAX, async {
            let request = self.client.get_object(self.bucket(), key.as_str())?.build();
            let response = match tokio::time::timeout(LIMIT, request.send()).await {
                Err(_) => return Err(Failure::Late),
                Ok(Err(error)) if is_absent(&error) => return Ok(None),
                Ok(response) => response?,
            };
            let mut hash = Sha256::new();
            let (mut pieces, _) = response.into_boxed_stream()?;
            loop {
                match tokio::time::timeout(LIMIT, pieces.try_next()).await {
                    Err(_) => return Err(Failure::Late),
                    Ok(piece) => match piece.map_err(ValidationErr::from)? {
                        Some(piece) => hash.update(&piece),
                        None => return Ok(Some(Digest::from_bytes(hash.finalize().into()))),
                    },
                }
            }
        })
    }

    pub(super) fn upload(&self, from: &Path, key: &ObjectKey) -> Result<(), StoreError> {
        self.ready()?;
        let what = object(self.bucket(), key);
        let size = from.metadata().map_or(0, |found| found.len());
        let limit = LIMIT + Duration::from_secs(size / SLOWEST);
        self.ask(&what, limit, async {
            let content = ObjectContent::from(from);
            let request = self
                .client
                .put_object_content(self.bucket(), key.as_str(), content)?;
            request.build().send().await?;
            Ok(())
        })?;
        self.known().seen.insert(key.clone(), Instant::now());
        Ok(())
    }

    pub(super) fn list(&self, folder: &str) -> Result<Vec<ObjectKey>, StoreError> {
        let what = format!("bucket {}", self.bucket());
        let mut found = Vec::new();
        self.ask(&what, LIMIT, async {
            let request = self.client.list_objects(self.bucket())?;
            let request = request.recursive(true).prefix(Some(format!("{folder}/")));
            let mut pages = request.build().to_stream().await;
            while let Some(page) = pages.next().await {
                found.extend(
                    page?
                        .contents
                        .into_iter()
                        .map(|e| (e.last_modified, e.name)),
                );
            }
            Ok(())
        })?;
        found.sort_by(|a, b| b.cmp(a));
        Ok(found
            .into_iter()
            .filter_map(|(_, name)| name.parse().ok())
            .collect())
    }

    pub(super) fn remove(&self, key: &ObjectKey) -> Result<(), StoreError> {
        self.known().seen.remove(key);
        let what = object(self.bucket(), key);
        self.ask(&what, LIMIT, async {
            let request = self.client.delete_object(self.bucket(), key.as_str())?;
            request.build().send().await?;
            Ok(())
        })
    }

    pub(super) fn log_tail(
        &self,
        key: &ObjectKey,
        most: u64,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let bucket = self.buckets[2].as_str();
        let what = object(bucket, key);
        self.ask(&what, LIMIT, async {
            let size = match self
                .client
                .stat_object(bucket, key.as_str())?
                .build()
                .send()
                .await
            {
                Err(error) if is_absent(&error) => return Ok(None),
                found => found?.size()?,
            };
            if size == 0 {
                return Ok(Some(Vec::new()));
            }
            let request = self.client.get_object(bucket, key.as_str())?;
            let request = request.offset(Some(size.saturating_sub(most)));
            let response = request.build().send().await?;
            Ok(Some(response.into_bytes().await?.to_vec()))
        })
    }

    /// Waits for `work`, at most `limit`.
    fn ask<T>(
        &self,
        what: &str,
        limit: Duration,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, StoreError> {
        let failed = |why: String| StoreError {
            what: what.to_owned(),
            why,
        };
        self.gate.enter().map_err(failed)?;
        let done = runtime()
            .map_err(|err| failed(err.to_string()))?
            .block_on(async {
                tokio::time::timeout(limit, work)
                    .await
                    .unwrap_or(Err(Failure::Late))
            });
        match &done {
            Err(failure) if failure.is_absence() => drop(self.gate.failed(&failure.text())),
            _ => self.gate.succeeded(),
        }
        done.map_err(|failure| {
            super::note_error();
            failed(failure.text())
        })
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One for all: it must not end where futures run, and here it never does.
fn runtime() -> std::io::Result<&'static Runtime> {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime);
    }
    let made = Builder::new_current_thread().enable_all().build()?;
    Ok(RUNTIME.get_or_init(|| made))
}

impl Failure {
    /// Whether nobody answered, or only that it cannot now, as against an answer that refuses.
    fn is_absence(&self) -> bool {
        let Self::Client(Error::S3Server(said)) = self else {
            return true;
        };
        match said {
            S3ServerError::S3Error(said) => {
                matches!(said.code(), MinioErrorCode::OtherError(code) if PASSING.contains(&&*code))
            }
            S3ServerError::InvalidServerResponse {
                http_status_code, ..
            } => *http_status_code >= 500,
            S3ServerError::HttpError(status, _) => *status >= 500,
        }
    }

    fn text(&self) -> String {
        let error = match self {
            Self::Late => return format!("no answer within {} s", LIMIT.as_secs()),
            Self::Client(error) => error,
        };
        let Error::S3Server(S3ServerError::S3Error(said)) = error else {
            return contract::journal::chain(error).to_string();
        };
        let code = match said.code() {
            MinioErrorCode::OtherError(code) => code,
            code => format!("{code:?}"),
        };
        let message = said
            .message()
            .as_deref()
            .unwrap_or_default()
            .trim_end_matches('.');
        let remedy = match code.as_str() {
            "InvalidAccessKeyId" | "SignatureDoesNotMatch" => {
                ": check MINIO_ACCESS_KEY and MINIO_SECRET_KEY"
            }
            // All that an answer without a body tells of a request that is refused.
            "AccessDenied" => {
                ": MINIO_ACCESS_KEY and MINIO_SECRET_KEY are wrong, or may not do it, or this machine's clock is wrong"
            }
            "RequestTimeTooSkewed" => ": set this machine's clock, or the store's",
            _ => "",
        };
        format!("the store says {code}, {message}{remedy}")
    }
}

fn code(error: &Error) -> Option<MinioErrorCode> {
    match error {
        Error::S3Server(S3ServerError::S3Error(said)) => Some(said.code()),
        _ => None,
    }
}

fn is_absent(error: &Error) -> bool {
    code(error) == Some(MinioErrorCode::NoSuchKey)
}
