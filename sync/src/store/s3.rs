//! A store behind an S3 interface: MinIO, AWS and what speaks like them, addressed in path style.
//!
//! ```text
//! S3 ─▶ Client: sign, try again ─▶ Wire: connections, time-outs ─▶ the store
//!  └─ S3Upload, S3Body: objects on their way
//! ```
//!
//! Beyond what every store ensures:
//! * a request is signed anew for each try, so renewed keys count at once;
//! * a request that the store may have acted on is not sent twice if that could do harm: the caller is told
//!   [`Error::Unavailable`] and looks again;
//! * no text of an error has a key, a signature or an address with one in it.

mod body;
mod client;
mod object;
mod refusal;
mod resolve;
mod sending;
mod tls;
mod upload;
mod wire;
mod xml;

#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use contract::ObjectKey;
use rusty_s3::Method;

use super::address::Endpoint;
use super::{
    Body, Condition, Error, Etag, Head, Metadata, Object, Place, Probe, PutError, Then, Upload,
};
use crate::keys::KeyRing;
use client::{Call, Client, Target};
use object::{check, conditional, encode, head_of, not_a_store};
use refusal::{Refusal, Trouble};
use upload::LARGEST_COPY;
use wire::Times;

pub use body::S3Body;
pub use upload::S3Upload;

/// The etag of nothing that exists.
const NOBODYS: &str = "00000000000000000000000000000000";
/// How many uploads a store lists at a time.
const UPLOADS_LISTED: usize = 1_000;

/// A store behind an S3 interface.
#[derive(Debug)]
pub struct S3 {
    client: Arc<Client>,
    /// The size of the object that was appended to last, by its version.
    grown: Mutex<Option<(Etag, u64)>>,
}

impl S3 {
    /// Uses `endpoint` with the keys in `keys`; nothing is asked of it yet.
    pub fn open(endpoint: &Endpoint, keys: KeyRing) -> Result<Self, Error> {
        Self::with_times(endpoint, keys, Times::default())
    }

    fn with_times(endpoint: &Endpoint, keys: KeyRing, times: Times) -> Result<Self, Error> {
        let refuse = |why: String| Error::Other {
            what: format!("the store at {endpoint}"),
            why,
        };
        if keys.current().is_none() {
            let why = "there are no keys for it: set MINIO_ACCESS_KEY and MINIO_SECRET_KEY, or send them as a line of \
                       keys on standard input with --keys-from-stdin";
            return Err(refuse(why.to_owned()));
        }
        let client =
            Client::new(endpoint, keys, times).map_err(|error| refuse(error.to_string()))?;
        Ok(Self {
            client: Arc::new(client),
            grown: Mutex::new(None),
        })
    }

    pub(super) fn name(&self) -> String {
        self.client.name()
    }

    pub(super) fn get(&self, at: &Place) -> Result<Object, Error> {
        self.read(&Call::object(Method::Get, at), at)
    }

    fn read(&self, call: &Call<'_>, at: &Place) -> Result<Object, Error> {
        let answer = self
            .client
            .open(call)
            .map_err(|trouble| call.target.error(trouble))?;
        let head = head_of(&answer.headers).ok_or_else(|| strange(at))?;
        let body = S3Body::new(&self.client, at, &head.etag, head.size, answer);
        Ok(Object {
            body: Body::S3(Box::new(body)),
            head,
        })
    }

    /// A HEAD that fails says nothing of why; a GET of a byte does.
    pub(super) fn head(&self, at: &Place) -> Result<Head, Error> {
        let call = Call::object(Method::Head, at);
        for _ in 0..2 {
            match self.client.call(&call) {
                Ok(reply) => return head_of(&reply.headers).ok_or_else(|| strange(at)),
                Err(trouble @ Trouble::Silent(_)) => return Err(call.target.error(trouble)),
                Err(Trouble::Refused(_)) => self.ask_why(at)?,
            }
        }
        Err(Error::Unavailable {
            what: at.to_string(),
            cause: io::Error::other(
                "the store says that it is there, and will not tell of it: check its policy",
            ),
        })
    }

    /// Whether there is an object after all, or why not.
    fn ask_why(&self, at: &Place) -> Result<(), Error> {
        let call = Call::object(Method::Get, at).header("range", "bytes=0-0");
        match self.client.call(&call) {
            Ok(_) => Ok(()),
            // An empty object has no first byte.
            Err(Trouble::Refused(refusal)) if refusal.status == 416 => Ok(()),
            Err(trouble) => Err(call.target.error(trouble)),
        }
    }

    pub(super) fn put<E>(
        &self,
        at: &Place,
        condition: &Condition,
        metadata: &Metadata,
        fill: impl FnOnce(&mut Upload<'_>) -> Result<(), E>,
    ) -> Result<Etag, PutError<E>> {
        check(at, metadata).map_err(PutError::Store)?;
        let upload = S3Upload::new(&self.client, at, condition, metadata);
        let mut upload = Upload::S3(upload);
        let filled = fill(&mut upload);
        let Upload::S3(upload) = upload else {
            unreachable!("an upload stays one of its store")
        };
        match filled {
            Ok(()) => upload.finish().map_err(PutError::Store),
            Err(error) => Err(upload
                .give_up()
                .map_or(PutError::Fill(error), PutError::Store)),
        }
    }

    pub(super) fn append(
        &self,
        at: &Place,
        condition: &Condition,
        metadata: &Metadata,
        bytes: &[u8],
    ) -> Result<Etag, Error> {
        let seen = match condition {
            Condition::IfAbsent => None,
            Condition::IfMatch(etag) => Some((etag.clone(), self.size_of(at, etag)?)),
            Condition::Any => self.look(at)?.map(|head| (head.etag, head.size)),
        };
        let condition = Condition::still(seen.as_ref().map(|(etag, _)| etag));
        let size = seen.as_ref().map_or(0, |(_, size)| *size);
        let fill = |out: &mut Upload<'_>| -> io::Result<()> {
            match &condition {
                Condition::IfMatch(_) if out.can_copy(size, Then::More) => out.copy(0..size)?,
                Condition::IfMatch(etag) => self.bring(at, etag, out)?,
                Condition::IfAbsent | Condition::Any => {}
            }
            out.write_all(bytes)
        };
        let etag = self
            .put(at, &condition, metadata, fill)
            .map_err(|error| match error {
                PutError::Store(error) => error,
                PutError::Fill(cause) => from_fill(at, cause),
            })?;
        let grown = (etag.clone(), size + bytes.len() as u64);
        *self.grown.lock().unwrap_or_else(PoisonError::into_inner) = Some(grown);
        Ok(etag)
    }

    /// Writes the version `etag` to `out`.
    fn bring(&self, at: &Place, etag: &Etag, out: &mut Upload<'_>) -> io::Result<()> {
        let call = Call::object(Method::Get, at);
        let call = conditional(call, &Condition::IfMatch(etag.clone()));
        let mut object = self.read(&call, at).map_err(io::Error::other)?;
        if object.head.etag != *etag {
            return Err(io::Error::other(Error::Conflict(at.clone())));
        }
        io::copy(&mut object.body, out).map(|_| ())
    }

    fn size_of(&self, at: &Place, etag: &Etag) -> Result<u64, Error> {
        let grown = self
            .grown
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some((_, size)) = grown.filter(|(known, _)| known == etag) {
            return Ok(size);
        }
        let head = self.look(at)?.filter(|head| head.etag == *etag);
        head.map(|head| head.size)
            .ok_or_else(|| Error::Conflict(at.clone()))
    }

    fn look(&self, at: &Place) -> Result<Option<Head>, Error> {
        match self.head(at) {
            Ok(head) => Ok(Some(head)),
            Err(Error::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn copy(&self, from: &Place, etag: &Etag, to: &Place) -> Result<(), Error> {
        let call = Call::object(Method::Put, to)
            .header("x-amz-copy-source", encode(from))
            .header("x-amz-copy-source-if-match", format!("\"{}\"", etag.0))
            .header("x-amz-metadata-directive", "COPY")
            .work();
        match self.client.call(&call) {
            Ok(_) => Ok(()),
            Err(Trouble::Refused(refusal)) if is_too_large(&refusal) => {
                self.copy_in_parts(from, etag, to, &refusal)
            }
            Err(trouble) => Err(about(from, call.target.error(trouble))),
        }
    }

    fn copy_in_parts(
        &self,
        from: &Place,
        etag: &Etag,
        to: &Place,
        refusal: &Refusal,
    ) -> Result<(), Error> {
        let head = self.head(from)?;
        if head.etag != *etag {
            return Err(Error::Conflict(from.clone()));
        }
        if head.size <= LARGEST_COPY {
            return Err(Target::Object(from).error(refusal.clone().into()));
        }
        let mut upload =
            S3Upload::new(&self.client, to, &Condition::Any, &head.metadata).copy_from(from);
        match upload.copy_version(etag, 0..head.size) {
            Ok(()) => upload.finish().map(|_| ()),
            Err(trouble) => {
                let error = upload.error(trouble);
                upload.give_up();
                Err(about(from, error))
            }
        }
    }

    pub(super) fn list(&self, bucket: &str, prefix: &str) -> Result<Vec<ObjectKey>, Error> {
        let mut keys = Vec::new();
        let mut token = None;
        loop {
            let mut call = Call::new(Method::Get, Target::Bucket(bucket))
                .query("list-type", "2")
                .query("prefix", prefix);
            if let Some(token) = token.take() {
                call = call.query("continuation-token", token);
            }
            let reply = self
                .client
                .call(&call)
                .map_err(|trouble| call.target.error(trouble))?;
            if xml::kind(&reply.text).as_deref() != Some("ListBucketResult") {
                return Err(call.target.error(not_a_store("a list").into()));
            }
            let found = xml::texts_in(&reply.text, "Contents", "Key");
            // A key that none of ours can be is nobody's here.
            keys.extend(found.iter().filter_map(|key| key.parse::<ObjectKey>().ok()));
            token =
                xml::text(&reply.text, "NextContinuationToken").filter(|token| !token.is_empty());
            if token.is_none() {
                break;
            }
        }
        keys.sort();
        Ok(keys)
    }

    pub(super) fn delete(&self, at: &Place) -> Result<(), Error> {
        let call = Call::object(Method::Delete, at);
        match self
            .client
            .call(&call)
            .map_err(|trouble| call.target.error(trouble))
        {
            Ok(_) | Err(Error::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// A store lists 1,000 at a time, and some list only those of exactly the prefix.
    pub(super) fn abandon_uploads(&self, at: &Place) -> Result<usize, Error> {
        let mut ended = 0;
        loop {
            let (before, ids) = (ended, self.uploads(at)?);
            for id in &ids {
                let call = Call::object(Method::Delete, at).query("uploadId", id);
                match self.client.call(&call) {
                    Ok(_) => ended += 1,
                    Err(trouble) if trouble.is_gone() => {}
                    Err(trouble) => return Err(call.target.error(trouble)),
                }
            }
            if ids.len() < UPLOADS_LISTED || ended == before {
                return Ok(ended);
            }
        }
    }

    /// The first uploads of exactly this object.
    fn uploads(&self, at: &Place) -> Result<Vec<String>, Error> {
        let call = Call::new(Method::Get, Target::Bucket(&at.bucket))
            .query("uploads", "")
            .query("prefix", at.key.as_str())
            .once();
        let reply = self
            .client
            .call(&call)
            .map_err(|trouble| call.target.error(trouble))?;
        let texts = |name| xml::texts_in(&reply.text, "Upload", name);
        let (keys, ids) = (texts("Key"), texts("UploadId"));
        if keys.len() != ids.len() {
            return Err(call.target.error(not_a_store("a list").into()));
        }
        let own = keys
            .iter()
            .zip(ids)
            .filter(|(key, _)| *key == at.key.as_str());
        Ok(own.map(|(_, id)| id).collect())
    }

    /// Tries a write whose condition cannot hold, and sees what becomes of it.
    pub(super) fn honours_conditions(&self, scratch: &Place, probe: Probe) -> Result<bool, Error> {
        let metadata = Metadata::new();
        let condition = Condition::IfMatch(Etag(NOBODYS.to_owned()));
        let mut upload = S3Upload::new(&self.client, scratch, &condition, &metadata);
        let written = match probe {
            Probe::Put => upload.switch(),
            Probe::Complete => upload.send_part().and_then(|()| upload.switch()),
        };
        let told = match written {
            Ok(_) => self.delete(scratch).map(|()| false),
            // That it cannot do this at all.
            Err(Trouble::Refused(refusal)) if refusal.status == 501 => Ok(false),
            // Which says nothing of conditions.
            Err(trouble) if trouble.is_gone() => Err(Error::Unavailable {
                what: scratch.to_string(),
                cause: io::Error::other(
                    "another start has ended the upload that asks for conditions",
                ),
            }),
            Err(trouble) => match upload.error(trouble) {
                Error::Conflict(_) => Ok(true),
                error => Err(error),
            },
        };
        upload.give_up();
        told
    }
}

fn is_too_large(refusal: &Refusal) -> bool {
    matches!(
        refusal.code.as_str(),
        "InvalidRequest" | "EntityTooLarge" | "InvalidArgument"
    )
}

/// A copy's trouble with its source.
fn about(from: &Place, error: Error) -> Error {
    match error {
        Error::NotFound(_) => Error::NotFound(from.clone()),
        Error::Conflict(_) => Error::Conflict(from.clone()),
        error => error,
    }
}

/// The error of the store in what a filler of ours gives back.
fn from_fill(at: &Place, cause: io::Error) -> Error {
    match cause.downcast::<Error>() {
        Ok(Error::NotFound(at)) => Error::Conflict(at),
        Ok(error) => error,
        Err(cause) => Error::Unavailable {
            what: at.to_string(),
            cause,
        },
    }
}

fn strange(at: &Place) -> Error {
    Target::Object(at).error(not_a_store("an ETag and a length").into())
}
