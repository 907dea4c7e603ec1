//! A request on its way: how it is put together, and when it last went on.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Request;
use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::time::Instant;

use super::wire::{Heard, Message, Patience, Silence, Times, timed_out};
use crate::store::address::Endpoint;

/// What is handed to the connection at once, so that progress is seen.
const FRAME: usize = 64 << 10;

/// The message as HTTP has it.
pub(super) fn request(
    message: &Message,
    endpoint: &Endpoint,
    clock: &Arc<Clock>,
) -> Result<Request<Sending>, hyper::http::Error> {
    let mut request = Request::builder()
        .method(message.method)
        .uri(message.target.as_str())
        .header("host", endpoint.authority())
        .header(
            "user-agent",
            concat!("the0-sync/", env!("CARGO_PKG_VERSION")),
        );
    if matches!(message.method, "PUT" | "POST") {
        request = request.header("content-length", message.body.len());
    }
    for (name, value) in &message.headers {
        request = request.header(name, value);
    }
    request.body(Sending {
        rest: message.body.clone(),
        clock: Arc::clone(clock),
    })
}

/// When the request last went on.
#[derive(Debug)]
pub(super) struct Clock(Mutex<(Instant, Going)>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Going {
    /// Its body is being taken.
    Out,
    /// All of it is with the system, or on its way.
    Gone,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self(Mutex::new((Instant::now(), Going::Out)))
    }

    fn read(&self) -> (Instant, Going) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, going: Going) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *held = (Instant::now(), going);
    }

    /// When nothing has happened for too long.
    pub(super) fn deadline(&self, times: &Times, message: &Message) -> Instant {
        let (since, _) = self.read();
        since + self.most(times, message)
    }

    /// How long nothing may happen now. What the system has taken may still be on a slow way: a second for each
    /// 64 KiB, up to what its buffers hold.
    fn most(&self, times: &Times, message: &Message) -> Duration {
        let on_the_way = u32::try_from(message.body.len().min(4 << 20) / FRAME).unwrap_or(u32::MAX);
        match (self.read().1, message.patience) {
            (Going::Out, _) if !message.body.is_empty() => times.stall,
            (_, Patience::Usual) => times.first_byte + times.first_byte / 30 * on_the_way,
            (_, Patience::Work) => times.work,
        }
    }

    /// What is said then.
    pub(super) fn silence(&self, times: &Times, message: &Message) -> Silence {
        let what = match self.read().1 {
            Going::Out if !message.body.is_empty() => "it stopped taking the request",
            _ => "it does not answer",
        };
        Silence {
            cause: timed_out(what, self.most(times, message)),
            heard: Heard::Perhaps,
        }
    }
}

/// A body that tells when it is taken.
#[derive(Debug)]
pub(super) struct Sending {
    rest: Bytes,
    clock: Arc<Clock>,
}

impl Body for Sending {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let length = self.rest.len().min(FRAME);
        let bytes = self.rest.split_to(length);
        let going = if self.rest.is_empty() {
            Going::Gone
        } else {
            Going::Out
        };
        self.clock.note(going);
        Poll::Ready((length > 0).then(|| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}
