//! An object being written: in one request if it is small, otherwise in parts, of which memory holds one.
//!
//! ```text
//! write ─▶ buffer ─ all of it ───────────────────────────▶ PutObject ◀─ the condition
//!             └─ a part of it ─▶ CreateMultipartUpload, UploadPart ─┐
//! copy ────────────────────────▶ UploadPartCopy ────────────────────┴▶ Complete ◀─ the condition
//! ```
//!
//! Only the last request makes a new version, and it does so only if the condition holds.

use std::io::{self, Write};
use std::ops::Range;

use data_encoding::BASE64;
use hyper::body::Bytes;
use md5::{Digest, Md5};
use rusty_s3::Method;

use super::client::{Call, Client, Target};
use super::object::{conditional, described, encode, etag_of, header, not_a_store};
use super::refusal::Trouble;
use super::xml;
use crate::store::{Condition, Error, Etag, Metadata, Place, Then};

/// The least size of a part that is not the last.
pub(super) const PART: u64 = 5 << 20;
/// The most that one request copies.
pub(super) const LARGEST_COPY: u64 = 5 << 30;
/// The most parts of an object, with some left for the end.
const MOST_PARTS: usize = 9_900;
/// After so many parts the next ones are larger by [`PART`], so that all of an object fits into [`MOST_PARTS`].
const PARTS_OF_A_SIZE: usize = 1_000;
/// The longest write that is not split, so that a part ends where the writer wants it to.
const UNSPLIT: usize = 3 << 20;
/// The least memory a written object takes.
const LEAST_BUFFER: usize = 16 << 10;

/// An object being written to an S3 store.
#[derive(Debug)]
pub struct S3Upload<'a> {
    client: &'a Client,
    at: &'a Place,
    condition: &'a Condition,
    metadata: &'a Metadata,
    /// What is copied from, if it is not the object itself.
    source: &'a Place,
    buffer: Vec<u8>,
    /// The name of the upload in parts, once it is one.
    id: Option<String>,
    /// Etags of the parts sent.
    parts: Vec<String>,
    failed: Option<Error>,
}

impl<'a> S3Upload<'a> {
    pub(super) fn new(
        client: &'a Client,
        at: &'a Place,
        condition: &'a Condition,
        metadata: &'a Metadata,
    ) -> Self {
        Self {
            client,
            at,
            condition,
            metadata,
            source: at,
            buffer: Vec::new(),
            id: None,
            parts: Vec::new(),
            failed: None,
        }
    }

    /// Copies from another object than the one being replaced.
    pub(super) fn copy_from(mut self, source: &'a Place) -> Self {
        self.source = source;
        self
    }

    /// Whether `length` bytes of the replaced version can become parts now: neither they, if more comes, nor the
    /// part that the written bytes before them make may be smaller than a part.
    pub fn can_copy(&self, length: u64, then: Then) -> bool {
        let whole = self.buffer.is_empty() || self.buffer.len() as u64 >= PART;
        let named = matches!(self.condition, Condition::IfMatch(_));
        let more = usize::try_from(length / LARGEST_COPY);
        let room = more.is_ok_and(|more| self.parts.len() + more < MOST_PARTS);
        let long = length >= PART || (then == Then::End && length > 0);
        named && whole && room && long
    }

    /// Takes over a range of the replaced version.
    pub fn copy(&mut self, from: Range<u64>) -> io::Result<()> {
        self.check()?;
        let Condition::IfMatch(etag) = self.condition else {
            let why = "no version is named that could be copied from".to_owned();
            let what = self.at.to_string();
            return Err(self.fail(Error::Other { what, why }));
        };
        let copied = self.copy_version(etag, from);
        copied.map_err(|trouble| self.fail(self.error(trouble)))
    }

    /// Takes over a range of the version `etag` of what is copied from.
    pub(super) fn copy_version(&mut self, etag: &Etag, from: Range<u64>) -> Result<(), Trouble> {
        if !self.buffer.is_empty() {
            self.send_part()?;
        }
        for range in split(from) {
            let bytes = format!("bytes={}-{}", range.start, range.end - 1);
            let call = self
                .part()?
                .header("x-amz-copy-source", encode(self.source))
                .header("x-amz-copy-source-range", bytes)
                .header("x-amz-copy-source-if-match", format!("\"{}\"", etag.0))
                .work();
            let reply = self.client.call(&call)?;
            let etag = xml::text(&reply.text, "ETag").ok_or_else(|| strange("a part's ETag"))?;
            self.parts.push(etag);
        }
        Ok(())
    }

    /// Makes the object of what was written and copied.
    pub(super) fn finish(mut self) -> Result<Etag, Error> {
        if let Some(error) = self.failed.take() {
            self.abort();
            return Err(error);
        }
        let switched = self.switch();
        if switched.is_err() {
            self.abort();
        }
        switched.map_err(|trouble| self.error(trouble))
    }

    /// Makes nothing of it; the store's error, if it was that.
    pub(super) fn give_up(mut self) -> Option<Error> {
        self.abort();
        self.failed.take()
    }

    /// What a trouble with this object means. A write is never told that there is nothing: if something is missing,
    /// it is the version that was named, or the upload, which a start has ended.
    pub(super) fn error(&self, trouble: Trouble) -> Error {
        if trouble.is_gone() {
            return Error::Conflict(self.at.clone());
        }
        match Target::Object(self.at).error(trouble) {
            Error::NotFound(at) => Error::Conflict(at),
            error => error,
        }
    }

    /// Sends the last request, which makes the new version.
    pub(super) fn switch(&mut self) -> Result<Etag, Trouble> {
        match self.id {
            None => self.put(),
            Some(_) => self.complete(),
        }
    }

    fn put(&mut self) -> Result<Etag, Trouble> {
        let body = Bytes::from(std::mem::take(&mut self.buffer));
        let call = Call::object(Method::Put, self.at);
        let call = call.header("content-md5", sum(&body)).body(body).once();
        let call = described(call, self.at, self.metadata);
        let reply = self.client.call(&conditional(call, self.condition))?;
        etag_of(&reply.headers).ok_or_else(|| strange("an ETag"))
    }

    fn complete(&mut self) -> Result<Etag, Trouble> {
        if !self.buffer.is_empty() {
            self.send_part()?;
        }
        let call = Call::object(Method::Post, self.at)
            .query("uploadId", self.id.as_deref().unwrap_or_default())
            .header("content-type", "application/xml")
            .body(parts_document(&self.parts).into())
            .work()
            .once();
        let reply = self.client.call(&conditional(call, self.condition))?;
        let etag = xml::text(&reply.text, "ETag").ok_or_else(|| strange("an ETag"))?;
        self.id = None;
        Ok(Etag(etag.trim_matches('"').to_owned()))
    }

    /// Sends what is in the buffer as a part.
    pub(super) fn send_part(&mut self) -> Result<(), Trouble> {
        let body = Bytes::from(std::mem::take(&mut self.buffer));
        let call = self.part()?.header("content-md5", sum(&body)).body(body);
        let reply = self.client.call(&call)?;
        let etag = header(&reply.headers, "etag").ok_or_else(|| strange("a part's ETag"))?;
        self.parts.push(etag);
        // The same memory again, unless the connection still holds it.
        self.buffer = Vec::from(call.body);
        self.buffer.clear();
        Ok(())
    }

    /// The call that makes the next part.
    fn part(&mut self) -> Result<Call<'a>, Trouble> {
        if self.id.is_none() {
            self.id = Some(self.begin()?);
        }
        let id = self.id.as_deref().unwrap_or_default();
        let call = Call::object(Method::Put, self.at);
        Ok(call
            .query("partNumber", (self.parts.len() + 1).to_string())
            .query("uploadId", id))
    }

    fn begin(&self) -> Result<String, Trouble> {
        let call = Call::object(Method::Post, self.at).query("uploads", "");
        let reply = self.client.call(&described(call, self.at, self.metadata))?;
        xml::text(&reply.text, "UploadId").ok_or_else(|| strange("an UploadId"))
    }

    /// Parts of an upload that comes to nothing would be kept, and paid for, for ever.
    fn abort(&mut self) {
        let Some(id) = self.id.take() else { return };
        let call = Call::object(Method::Delete, self.at).query("uploadId", id);
        match self.client.call(&call) {
            Ok(_) => {}
            Err(trouble) if trouble.is_gone() => {}
            Err(trouble) => {
                let cause = trouble.cause();
                contract::warn!(
                    "{}: the parts of an upload that failed stay in the store: {cause}",
                    self.at
                );
            }
        }
    }

    /// How much in the buffer makes a part.
    fn part_size(&self) -> usize {
        let larger = self.parts.len() / PARTS_OF_A_SIZE;
        usize::try_from(PART).unwrap_or(usize::MAX) * (1 + larger)
    }

    /// Makes room for `more` bytes.
    fn grow(&mut self, more: usize) {
        let wanted = self.buffer.len() + more;
        if wanted > self.buffer.capacity() {
            let doubled = (self.buffer.capacity() * 2).max(LEAST_BUFFER);
            let capacity = doubled.min(self.part_size() + UNSPLIT).max(wanted);
            self.buffer.reserve_exact(capacity - self.buffer.len());
        }
    }

    /// Nothing follows an error.
    fn check(&self) -> io::Result<()> {
        match &self.failed {
            None => Ok(()),
            Some(error) => Err(io::Error::other(error.to_string())),
        }
    }

    /// Remembers an error, for what the filler makes of it need not say it.
    fn fail(&mut self, error: Error) -> io::Error {
        let text = error.to_string();
        self.failed.get_or_insert(error);
        io::Error::other(text)
    }
}

impl Write for S3Upload<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.check()?;
        if self.buffer.len() >= self.part_size() {
            let sent = self.send_part();
            sent.map_err(|trouble| self.fail(self.error(trouble)))?;
        }
        let taken = &bytes[..bytes.len().min(UNSPLIT)];
        self.grow(taken.len());
        self.buffer.extend_from_slice(taken);
        Ok(taken.len())
    }

    /// What is written goes out when it makes a part: a smaller one could only be the last.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn strange(what: &str) -> Trouble {
    not_a_store(what).into()
}

/// By which the store knows that what came is what was sent.
fn sum(body: &[u8]) -> String {
    BASE64.encode(&Md5::digest(body))
}

fn parts_document(parts: &[String]) -> String {
    let part = |(index, etag): (usize, &String)| {
        let (number, etag) = (index + 1, etag.replace('&', "&amp;").replace('<', "&lt;"));
        format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>")
    };
    let parts: String = parts.iter().enumerate().map(part).collect();
    format!(
        "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{parts}</CompleteMultipartUpload>"
    )
}

/// The range in equal pieces that one request each can copy.
fn split(range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let length = range.end.saturating_sub(range.start);
    let pieces = length.div_ceil(LARGEST_COPY).max(1);
    let size = length.div_ceil(pieces);
    (0..pieces).map(move |n| {
        let start = range.start + n * size;
        start..(start + size).min(range.end)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_range_is_copied_in_pieces_that_fit() {
        let gib = 1 << 30;
        assert!(split(3..PART + 3).eq(std::iter::once(3..PART + 3)));
        let pieces: Vec<_> = split(7..7 + 12 * gib).collect();
        assert_eq!(
            (pieces.len(), pieces[0].start, pieces[2].end),
            (3, 7, 7 + 12 * gib)
        );
        assert!(pieces.windows(2).all(|pair| pair[0].end == pair[1].start));
        assert!(
            pieces
                .iter()
                .all(|p| p.end - p.start <= LARGEST_COPY && p.end - p.start >= PART)
        );
    }

    #[test]
    fn all_parts_of_the_largest_state_fit() {
        let sizes = (0..MOST_PARTS).map(|n| PART * (1 + (n / PARTS_OF_A_SIZE) as u64));
        assert!(sizes.sum::<u64>() > 250 << 30);
    }
}
