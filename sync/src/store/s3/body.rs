//! The content of an object as it comes: gone on with where it was cut.

use std::io::{self, Read};
use std::sync::Arc;

use hyper::body::Bytes;
use rusty_s3::Method;

use super::client::{Call, Client};
use super::wire::Answer;
use crate::store::{Etag, Place};

/// How often in a row reading is gone on with while less than [`ENOUGH`] comes.
const CUTS: u32 = 5;
/// What must come between cuts for them not to be counted together.
const ENOUGH: u64 = 1 << 20;

/// An object being read. Its end is said only after all of the bytes that its head told of.
#[derive(Debug)]
pub struct S3Body {
    client: Arc<Client>,
    at: Place,
    etag: Etag,
    size: u64,
    /// Where the next byte from the store belongs.
    offset: u64,
    /// Bytes that have come and are not read.
    here: Bytes,
    answer: Option<Answer>,
    cuts: u32,
    /// Where the first of these cuts was.
    cut_at: u64,
}

impl S3Body {
    pub(super) fn new(
        client: &Arc<Client>,
        at: &Place,
        etag: &Etag,
        size: u64,
        answer: Answer,
    ) -> Self {
        Self {
            client: Arc::clone(client),
            at: at.clone(),
            etag: etag.clone(),
            size,
            offset: 0,
            here: Bytes::new(),
            answer: Some(answer),
            cuts: 0,
            cut_at: 0,
        }
    }

    /// Has bytes in `here`, or the object is at its end.
    fn fill(&mut self) -> io::Result<()> {
        while self.here.is_empty() && self.offset < self.size {
            let mut answer = match self.answer.take() {
                Some(answer) => answer,
                None => self.go_on()?,
            };
            match self.client.next(&mut answer) {
                Ok(Some(bytes)) => {
                    self.take(bytes)?;
                    self.answer = Some(answer);
                }
                Ok(None) => self.cut(&short(self.offset, self.size))?,
                Err(cause) => self.cut(&cause)?,
            }
        }
        self.end();
        Ok(())
    }

    fn take(&mut self, bytes: Bytes) -> io::Result<()> {
        self.offset += bytes.len() as u64;
        if self.offset > self.size {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{}: more came than the {} bytes it has", self.at, self.size),
            ));
        }
        self.here = bytes;
        Ok(())
    }

    fn cut(&mut self, cause: &io::Error) -> io::Result<()> {
        if self.offset >= self.cut_at + ENOUGH {
            self.cuts = 0;
        }
        if self.cuts == 0 {
            self.cut_at = self.offset;
        }
        self.cuts += 1;
        if self.cuts > CUTS {
            let text = format!("{}: cut {} times: {cause}", self.at, self.cuts);
            return Err(io::Error::new(cause.kind(), text));
        }
        contract::debug!(
            "{}: cut at byte {}: {cause}, going on",
            self.at,
            self.offset
        );
        self.client.pause(self.cuts - 1);
        Ok(())
    }

    /// The rest, of the same version.
    fn go_on(&self) -> io::Result<Answer> {
        let call = Call::object(Method::Get, &self.at)
            .header("range", format!("bytes={}-", self.offset))
            .header("if-match", format!("\"{}\"", self.etag.0));
        let answer = self.client.open(&call);
        let answer = answer.map_err(|trouble| io::Error::other(call.target.error(trouble)))?;
        let begins = answer
            .headers
            .get("content-range")
            .and_then(|range| range.to_str().ok());
        let expected = format!("bytes {}-", self.offset);
        if begins.is_some_and(|range| range.starts_with(&expected)) {
            return Ok(answer);
        }
        let text = format!(
            "{}: the store does not go on at byte {}",
            self.at, self.offset
        );
        Err(io::Error::other(text))
    }

    /// Gives the connection back when nothing more comes on it.
    fn end(&mut self) {
        if self.offset < self.size {
            return;
        }
        if let Some(mut answer) = self.answer.take()
            && let Ok(None) = self.client.next(&mut answer)
        {
            self.client.done(answer);
        }
    }
}

impl Read for S3Body {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        self.fill()?;
        let length = into.len().min(self.here.len());
        into[..length].copy_from_slice(&self.here.split_to(length));
        Ok(length)
    }
}

fn short(came: u64, size: u64) -> io::Error {
    let text = format!("{came} of {size} bytes came");
    io::Error::new(io::ErrorKind::UnexpectedEof, text)
}
