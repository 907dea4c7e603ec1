//! The object store: buckets of objects, each with an etag and a little metadata, written whole or not at all.
//!
//! Ensured by every variant:
//! * a reader sees an old object or a new one, never half of one;
//! * a conditional write happens only if the object is still the one with that [`Etag`] (or still absent);
//! * metadata is switched together with the content, so an object without ours was written by someone else;
//! * [`Error::NotFound`] is only said when the store answers and the object does not exist.

mod address;
#[cfg(test)]
mod conformance;
mod directory;
mod notes;
mod s3;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::Range;

use contract::ObjectKey;
use thiserror::Error;

pub use address::Address;
pub use directory::Directory;
pub use s3::S3;

use crate::keys::KeyRing;
use directory::DirectoryUpload;
use s3::{S3Body, S3Upload};

/// A version of an object, as the store names it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Etag(pub String);

/// What is noted beside an object.
pub type Metadata = BTreeMap<String, String>;

/// Where an object is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The bucket's name.
    pub bucket: String,
    /// The key in it.
    pub key: ObjectKey,
}

impl Place {
    /// `key` in `bucket`.
    pub fn new(bucket: &str, key: ObjectKey) -> Self {
        let bucket = bucket.to_owned();
        Self { bucket, key }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "object {} in bucket {}", self.key, self.bucket)
    }
}

/// When a write may happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// Always.
    Any,
    /// If there is no object.
    IfAbsent,
    /// If the object is this version.
    IfMatch(Etag),
}

impl Condition {
    /// That the object is still what was last seen of it.
    pub fn still(seen: Option<&Etag>) -> Self {
        seen.map_or(Self::IfAbsent, |etag| Self::IfMatch(etag.clone()))
    }

    fn holds(&self, current: Option<&Etag>) -> bool {
        match self {
            Self::Any => true,
            Self::IfAbsent => current.is_none(),
            Self::IfMatch(etag) => current == Some(etag),
        }
    }
}

/// What the store did not do.
#[derive(Debug, Error)]
pub enum Error {
    /// The store answers, and there is no such object.
    #[error("{0} does not exist")]
    NotFound(Place),
    /// The condition of a write does not hold (any more).
    #[error("{0} was changed by someone else")]
    Conflict(Place),
    /// The store does not answer or cannot do it now.
    #[error("{what}: {cause}")]
    Unavailable {
        /// The object or folder.
        what: String,
        /// What the system said.
        cause: io::Error,
    },
    /// The store will not do it, however often it is asked.
    #[error("{what}: {why}")]
    Other {
        /// The object or folder.
        what: String,
        /// The reason.
        why: String,
    },
}

/// Why a write did not happen: the store's fault, or that of what fills the object.
#[derive(Debug)]
pub enum PutError<E> {
    /// The store's.
    Store(Error),
    /// The filler's; nothing was switched.
    Fill(E),
}

/// What is known of an object without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Its version.
    pub etag: Etag,
    /// Its size in bytes.
    pub size: u64,
    /// What its writer noted; empty for an object someone else wrote.
    pub metadata: Metadata,
}

/// An object being read.
#[derive(Debug)]
pub struct Object {
    /// What is known of it.
    pub head: Head,
    /// Its content.
    pub body: Body,
}

/// The content of an object, streamed.
#[derive(Debug)]
pub enum Body {
    /// From a file.
    File(io::Take<File>),
    /// From an S3 store.
    S3(Box<S3Body>),
}

impl Read for Body {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.read(into),
            Self::S3(body) => body.read(into),
        }
    }
}

/// What comes after a part of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Another part.
    More,
    /// Nothing: it is the last.
    End,
}

/// An object being written: bytes of the writer's, and ranges of the version it replaces.
///
/// An error of [`Write`] or [`Upload::copy`] is the store's, and [`Store::put`] gives it back as that, whatever the
/// filler makes of it.
#[derive(Debug)]
pub enum Upload<'a> {
    /// To a file.
    Directory(DirectoryUpload<'a>),
    /// To an S3 store.
    S3(S3Upload<'a>),
}

impl Upload<'_> {
    /// Whether `length` bytes of the version being replaced can be taken over now. Only of a version named by
    /// [`Condition::IfMatch`]. A store may want parts to have a least length, written and copied ones, but for the last.
    /// What was written since the last copy in calls of up to 3 MiB each is not split at that length, so that writing
    /// may go on just until a part is long enough and a copy can follow.
    pub fn can_copy(&self, length: u64, then: Then) -> bool {
        match self {
            Self::Directory(upload) => upload.can_copy(length, then),
            Self::S3(upload) => upload.can_copy(length, then),
        }
    }

    /// Takes over bytes of the version being replaced, without their travelling through here where the store can.
    /// [`Upload::can_copy`] was asked about that many before.
    pub fn copy(&mut self, from: Range<u64>) -> io::Result<()> {
        match self {
            Self::Directory(upload) => upload.copy(from),
            Self::S3(upload) => upload.copy(from),
        }
    }
}

impl Write for Upload<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Directory(upload) => upload.write(bytes),
            Self::S3(upload) => upload.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Directory(upload) => upload.flush(),
            Self::S3(upload) => upload.flush(),
        }
    }
}

/// The two ways in which an object is switched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// One request for a small object.
    Put,
    /// The completion of an upload in parts.
    Complete,
}

/// The stores there are.
#[derive(Debug)]
pub enum Store {
    /// A folder of buckets.
    Directory(Directory),
    /// Behind an S3 interface.
    S3(S3),
}

impl Store {
    /// Opens the store at `address`; a folder needs no keys.
    pub fn open(address: &Address, keys: KeyRing) -> Result<Self, Error> {
        match address {
            Address::Directory(root) => Directory::open(root).map(Self::Directory),
            Address::S3(endpoint) => S3::open(endpoint, keys).map(Self::S3),
        }
    }

    /// Opens the object for reading.
    pub fn get(&self, at: &Place) -> Result<Object, Error> {
        match self {
            Self::Directory(store) => store.get(at),
            Self::S3(store) => store.get(at),
        }
    }

    /// What is known of the object; `None` if it does not exist.
    pub fn head(&self, at: &Place) -> Result<Option<Head>, Error> {
        let found = match self {
            Self::Directory(store) => store.head(at),
            Self::S3(store) => store.head(at),
        };
        match found {
            Ok(head) => Ok(Some(head)),
            Err(Error::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes the object from what `fill` writes, if `condition` holds, and gives its version.
    pub fn put<E>(
        &self,
        at: &Place,
        condition: &Condition,
        metadata: &Metadata,
        fill: impl FnOnce(&mut Upload<'_>) -> Result<(), E>,
    ) -> Result<Etag, PutError<E>> {
        match self {
            Self::Directory(store) => store.put(at, condition, metadata, fill),
            Self::S3(store) => store.put(at, condition, metadata, fill),
        }
    }

    /// Writes a small object.
    pub fn put_bytes(
        &self,
        at: &Place,
        condition: &Condition,
        metadata: &Metadata,
        bytes: &[u8],
    ) -> Result<Etag, Error> {
        let fill = |out: &mut Upload<'_>| out.write_all(bytes);
        self.put(at, condition, metadata, fill)
            .map_err(|error| match error {
                PutError::Store(error) => error,
                PutError::Fill(cause) => Error::Unavailable {
                    what: at.to_string(),
                    cause,
                },
            })
    }

    /// Lengthens the object (or makes it) by `bytes` and replaces its metadata, both or neither.
    pub fn append(
        &self,
        at: &Place,
        condition: &Condition,
        metadata: &Metadata,
        bytes: &[u8],
    ) -> Result<Etag, Error> {
        match self {
            Self::Directory(store) => store.append(at, condition, metadata, bytes),
            Self::S3(store) => store.append(at, condition, metadata, bytes),
        }
    }

    /// Copies an object, metadata included, inside the store, if it is still the version `etag`.
    pub fn copy(&self, from: &Place, etag: &Etag, to: &Place) -> Result<(), Error> {
        match self {
            Self::Directory(store) => store.copy(from, etag, to),
            Self::S3(store) => store.copy(from, etag, to),
        }
    }

    /// The keys in `bucket` that begin with `prefix`, sorted.
    pub fn list(&self, bucket: &str, prefix: &str) -> Result<Vec<ObjectKey>, Error> {
        match self {
            Self::Directory(store) => store.list(bucket, prefix),
            Self::S3(store) => store.list(bucket, prefix),
        }
    }

    /// Removes the object; that there is none is fine.
    pub fn delete(&self, at: &Place) -> Result<(), Error> {
        match self {
            Self::Directory(store) => store.delete(at),
            Self::S3(store) => store.delete(at),
        }
    }

    /// Ends the uploads of this object that were begun and not finished, as by a writer that was killed: a store keeps
    /// their parts, unseen and paid for. A writer that is still at it is told of a conflict. Gives how many there were.
    pub fn abandon_uploads(&self, at: &Place) -> Result<usize, Error> {
        match self {
            // What writers left there is removed when the store is opened.
            Self::Directory(_) => Ok(0),
            Self::S3(store) => store.abandon_uploads(at),
        }
    }

    /// Which store this is, by its address and what it called itself when it last answered; `None` where nobody answers.
    pub fn name(&self) -> Option<String> {
        match self {
            Self::Directory(_) => None,
            Self::S3(store) => Some(store.name()),
        }
    }

    /// Whether the store refuses a write whose condition does not hold: some pass conditions over. `scratch` is an
    /// object of nobody's, which there is none of before and after.
    pub fn honours_conditions(&self, scratch: &Place, probe: Probe) -> Result<bool, Error> {
        match self {
            Self::Directory(_) => Ok(true),
            Self::S3(store) => store.honours_conditions(scratch, probe),
        }
    }
}
