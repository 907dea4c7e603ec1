//! Calls of the S3 interface: signed anew for each try, tried again when that can help and cannot harm.

use std::fmt;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::body::Bytes;
use hyper::{HeaderMap, header};
use jiff::Timestamp;
use rusty_s3::{Bucket, Method, UrlStyle};
use tokio::runtime::Runtime;

use super::refusal::{Meaning, Refusal, Trouble};
use super::wire::{Answer, Heard, Message, Patience, Repeat, Silence, Times, Wire};
use super::xml;
use crate::keys::KeyRing;
use crate::retry::backoff;
use crate::store::address::Endpoint;
use crate::store::{Error, Place};
use crate::traffic;

/// How often a call is tried.
const TRIES: u32 = 4;
/// No try begins later than this after the first.
const TRYING: Duration = Duration::from_secs(45);
/// How long a signature holds: a request is checked when it begins.
const SIGNED_FOR: u64 = 900;
/// The longest answer that is read whole: a list of 1,000 long keys, escaped.
const LONGEST_ANSWER: usize = 8 << 20;

/// What a call is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target<'a> {
    Object(&'a Place),
    Bucket(&'a str),
}

impl fmt::Display for Target<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object(at) => at.fmt(f),
            Self::Bucket(name) => write!(f, "bucket {name}"),
        }
    }
}

impl Target<'_> {
    fn bucket(&self) -> &str {
        match self {
            Self::Object(at) => &at.bucket,
            Self::Bucket(name) => name,
        }
    }
}

/// One call.
#[derive(Debug, Clone)]
pub(super) struct Call<'a> {
    pub method: Method,
    pub target: Target<'a>,
    pub query: Vec<(&'static str, String)>,
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
    pub repeat: Repeat,
    pub patience: Patience,
}

impl<'a> Call<'a> {
    pub(super) fn new(method: Method, target: Target<'a>) -> Self {
        Self {
            method,
            target,
            query: Vec::new(),
            headers: Vec::new(),
            body: Bytes::new(),
            repeat: Repeat::Freely,
            patience: Patience::Usual,
        }
    }

    pub(super) fn object(method: Method, at: &'a Place) -> Self {
        Self::new(method, Target::Object(at))
    }

    pub(super) fn query(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    pub(super) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(super) fn body(mut self, body: Bytes) -> Self {
        self.body = body;
        self
    }

    /// Is not sent twice when the store may have acted on it.
    pub(super) fn once(mut self) -> Self {
        self.repeat = Repeat::Unheard;
        self
    }

    /// Lets the store work on it for long.
    pub(super) fn work(mut self) -> Self {
        self.patience = Patience::Work;
        self
    }
}

/// An answer read whole.
#[derive(Debug)]
pub(super) struct Reply {
    pub headers: HeaderMap,
    pub text: String,
}

/// A client of one endpoint.
#[derive(Debug)]
pub(super) struct Client {
    runtime: Runtime,
    wire: Wire,
    endpoint: Endpoint,
    keys: KeyRing,
    /// What the store called itself when it last answered.
    server: Mutex<String>,
}

impl Client {
    pub(super) fn new(endpoint: &Endpoint, keys: KeyRing, times: Times) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        Ok(Self {
            runtime,
            wire: Wire::new(endpoint, times)?,
            endpoint: endpoint.clone(),
            keys,
            server: Mutex::default(),
        })
    }

    /// The store's address, and what it called itself when it last answered.
    pub(super) fn name(&self) -> String {
        let server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        format!("{} {server}", self.endpoint)
    }

    fn hear_name(&self, headers: &HeaderMap) {
        let said = headers.get(header::SERVER);
        let said = said.and_then(|said| said.to_str().ok()).unwrap_or_default();
        let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        if *server != said {
            said.clone_into(&mut server);
        }
    }

    /// The head of the answer to a call that succeeded, its body to be read.
    pub(super) fn open(&self, call: &Call<'_>) -> Result<Answer, Trouble> {
        self.try_often(call, || self.runtime.block_on(self.ask(call)))
    }

    /// The answer to a call that succeeded, read whole.
    pub(super) fn call(&self, call: &Call<'_>) -> Result<Reply, Trouble> {
        self.try_often(call, || {
            self.runtime.block_on(async {
                let answer = self.ask(call).await?;
                self.read(answer).await
            })
        })
    }

    /// The next bytes of an answer.
    pub(super) fn next(&self, answer: &mut Answer) -> io::Result<Option<Bytes>> {
        let next = self.runtime.block_on(answer.next());
        next.map_err(|cause| self.named(&cause))
    }

    /// Keeps the connection of an answer that was read to its end.
    pub(super) fn done(&self, answer: Answer) {
        self.wire.done(answer);
    }

    /// Waits before something is tried again that was tried `failures` times.
    pub(super) fn pause(&self, failures: u32) {
        std::thread::sleep(backoff(
            failures,
            self.wire.times.pause,
            Duration::from_secs(5),
        ));
    }

    fn try_often<T>(
        &self,
        call: &Call<'_>,
        mut act: impl FnMut() -> Result<T, Trouble>,
    ) -> Result<T, Trouble> {
        let began = Instant::now();
        let mut tries = 1;
        loop {
            let done = act();
            if done.as_ref().is_err_and(Trouble::is_fault) {
                traffic::failed();
            }
            match done {
                Err(trouble)
                    if tries < TRIES
                        && began.elapsed() < TRYING
                        && trouble.is_passing(call.repeat) =>
                {
                    let asked = trouble.pause();
                    contract::debug!("{}: {}, trying again", call.target, trouble.cause());
                    match asked {
                        Some(asked) => std::thread::sleep(asked),
                        None => self.pause(tries - 1),
                    }
                    tries += 1;
                }
                other => return other,
            }
        }
    }

    async fn ask(&self, call: &Call<'_>) -> Result<Answer, Trouble> {
        let message = self.sign(call)?;
        let silent = |silence: Silence| Silence {
            cause: self.named(&silence.cause),
            ..silence
        };
        let mut answer = self.wire.exchange(&message).await.map_err(silent)?;
        self.hear_name(&answer.headers);
        if answer.status.is_success() {
            traffic::sent(message.body.len());
            return Ok(answer);
        }
        // A refusal is one whether or not all of its reasons come.
        let body = answer.whole(64 << 10).await;
        let refusal = Refusal::read(
            answer.status.as_u16(),
            &answer.headers,
            body.as_deref().unwrap_or_default(),
        );
        if body.is_ok() {
            self.wire.done(answer);
        }
        Err(refusal.into())
    }

    /// A store that works for long promises success before it knows: then the body tells.
    async fn read(&self, mut answer: Answer) -> Result<Reply, Trouble> {
        let body = answer
            .whole(LONGEST_ANSWER)
            .await
            .map_err(|cause| Silence {
                cause: self.named(&cause),
                heard: Heard::Perhaps,
            })?;
        let (status, headers) = (answer.status.as_u16(), answer.headers.clone());
        self.wire.done(answer);
        let text = String::from_utf8_lossy(&body).into_owned();
        if xml::kind(&text).as_deref() == Some("Error") {
            return Err(Refusal::read(status, &headers, &body).into());
        }
        Ok(Reply { headers, text })
    }

    fn named(&self, cause: &io::Error) -> io::Error {
        let text = format!("the store at {}: {cause}", self.endpoint);
        io::Error::new(cause.kind(), text)
    }

    fn sign(&self, call: &Call<'_>) -> Result<Message, Trouble> {
        let unsent = |why: String| Silence {
            cause: io::Error::other(why),
            heard: Heard::No,
        };
        let keys = self.keys.current();
        let keys = keys.ok_or_else(|| unsent("there are no keys for the store".to_owned()))?;
        let base = self.endpoint.to_string().parse();
        let base =
            base.map_err(|error| unsent(format!("MINIO_ENDPOINT {}: {error}", self.endpoint)))?;
        let region = self.endpoint.region.clone();
        let bucket = Bucket::new(
            base,
            UrlStyle::Path,
            call.target.bucket().to_owned(),
            region,
        );
        let bucket = bucket.map_err(|error| unsent(error.to_string()))?;
        let url = match call.target {
            Target::Object(at) => bucket.object_url(at.key.as_str()),
            Target::Bucket(_) => bucket.object_url(""),
        };
        let mut query = call.query.clone();
        query.sort();
        let mut signed: Vec<_> = call
            .headers
            .iter()
            .filter(|(name, _)| name.starts_with("x-amz-"))
            .collect();
        signed.sort();
        let url = rusty_s3::signing::sign(
            &Timestamp::now(),
            call.method,
            url,
            keys.access.reveal(),
            keys.secret.reveal(),
            keys.token.as_ref().map(contract::Secret::reveal),
            bucket.region(),
            SIGNED_FOR,
            query.iter().map(|(name, value)| (*name, value.as_str())),
            signed
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str())),
        );
        Ok(Message {
            method: call.method.to_str(),
            target: format!("{}?{}", url.path(), url.query().unwrap_or_default()),
            headers: call.headers.clone(),
            body: call.body.clone(),
            repeat: call.repeat,
            patience: call.patience,
        })
    }
}

impl Target<'_> {
    /// What a trouble with a call about this means.
    pub(super) fn error(&self, trouble: Trouble) -> Error {
        let what = self.to_string();
        let refusal = match trouble {
            Trouble::Silent(Silence { cause, .. }) => return Error::Unavailable { what, cause },
            Trouble::Refused(refusal) => refusal,
        };
        let later = |text: String| Error::Unavailable {
            what: self.to_string(),
            cause: io::Error::other(text),
        };
        match (refusal.meaning(), self) {
            (Meaning::NoKey, Self::Object(at)) => Error::NotFound((*at).clone()),
            (Meaning::Changed, Self::Object(at)) => Error::Conflict((*at).clone()),
            (Meaning::NoBucket, _) => {
                let bucket = self.bucket();
                later(format!("bucket {bucket} does not exist: create it"))
            }
            (Meaning::Later, _) => later(refusal.text()),
            (Meaning::Never | Meaning::NoKey | Meaning::Changed, _) => Error::Other {
                what,
                why: refusal.text(),
            },
        }
    }
}
