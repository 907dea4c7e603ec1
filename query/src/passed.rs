//! The body of a program's answer, passed on as it comes, up to a bound.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http_body_util::BodyExt;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use thiserror::Error;

use crate::line::Visit;

/// The most that is passed on of one answer: 64 MiB.
pub const LARGEST: u64 = 64 * 1024 * 1024;

/// Why an answer's body ends before its end. The client sees its connection break off.
#[derive(Debug, Error)]
pub enum Broken {
    /// The program or its connection broke off.
    #[error("the query program broke off its answer")]
    Program(#[from] hyper::Error),
    /// It has no end in sight.
    #[error("the answer is longer than {LARGEST} bytes")]
    TooLarge,
}

/// A body of which the beginning has been seen.
#[derive(Debug)]
pub struct Passed {
    first: Option<Bytes>,
    rest: Incoming,
    left: u64,
    /// The question's turn and connection, which end with the body.
    _visit: Visit,
}

impl Passed {
    /// Waits for the beginning of `body`, so that a program that ends before it can still be told as an error.
    ///
    /// # Errors
    /// When there is no beginning, or the body says that it is too large.
    pub async fn begin(body: Incoming, visit: Visit) -> Result<Self, Broken> {
        if body.size_hint().lower() > LARGEST {
            return Err(Broken::TooLarge);
        }
        let mut passed = Self {
            first: None,
            rest: body,
            left: LARGEST,
            _visit: visit,
        };
        passed.first = passed
            .frame()
            .await
            .transpose()?
            .and_then(|frame| frame.into_data().ok());
        Ok(passed)
    }

    /// What has come so far.
    pub fn beginning(&self) -> &[u8] {
        self.first.as_deref().unwrap_or_default()
    }

    fn count(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, Broken> {
        let length = frame.data_ref().map_or(0, |data| data.len() as u64);
        self.left = self.left.checked_sub(length).ok_or(Broken::TooLarge)?;
        Ok(frame)
    }
}

impl Body for Passed {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        match ready!(Pin::new(&mut self.rest).poll_frame(context)) {
            Some(Ok(frame)) => Poll::Ready(Some(self.count(frame))),
            Some(Err(err)) => Poll::Ready(Some(Err(err.into()))),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let first = self.beginning().len() as u64;
        match self.rest.size_hint().exact() {
            Some(rest) => SizeHint::with_exact(first + rest),
            None => SizeHint::default(),
        }
    }
}
