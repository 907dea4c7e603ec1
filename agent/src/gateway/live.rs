//! Questions to bots that run, over connections that are kept.
//!
//! A question is sent once. Only where a kept connection was closed before it could be sent, or none could be made, nothing
//! was asked, and it is tried again. A connection belongs to one question at a time.

use std::collections::HashMap;
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use contract::Secret;
use contract::journal::chain;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::ask::{LARGEST, Question, Refusal};

/// How long a connection to a container may take to be made.
const CONNECT: Duration = Duration::from_secs(1);
/// How long one is kept without a question.
const KEPT: Duration = Duration::from_secs(20);
/// How many are kept to one bot.
const MOST_KEPT: usize = 8;

/// Connections without a question; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Lines(Arc<Mutex<HashMap<SocketAddr, Vec<Line>>>>);

/// A connection, and since when it has no question.
#[derive(Debug)]
struct Line {
    sender: SendRequest<Full<Bytes>>,
    since: Instant,
}

/// What came of it.
#[derive(Debug)]
pub enum Asked {
    /// An answer.
    Answer(StatusCode, Bytes),
    /// Nobody listens there: nothing was asked.
    Nobody(String),
}

/// Why there is no answer.
enum Silent {
    /// No connection could be made.
    Unreached(io::Error),
    /// It was asked, and there is none.
    Unanswered(hyper::Error),
}

impl Lines {
    /// Puts the question to the `query` at `address`; whoever calls it bounds its time.
    ///
    /// # Errors
    /// It was asked, and there is no answer.
    pub async fn put(
        &self,
        question: &Question,
        address: SocketAddr,
        token: Option<&Secret>,
    ) -> Result<Asked, Refusal> {
        let failed =
            |what: &str, err: &dyn Error| Refusal::Failed(format!("{what}: {}", chain(err)));
        let request = question
            .request(address, token)
            .map_err(|err| failed("question", &err))?;
        let (response, sender) = match self.send(request, address).await {
            Ok(answered) => answered,
            Err(Silent::Unreached(err)) => return Ok(Asked::Nobody(chain(&err).to_string())),
            Err(Silent::Unanswered(err)) => {
                return Err(failed("no answer of the bot's query program", &err));
            }
        };
        let status = response.status();
        let body = Limited::new(response.into_body(), LARGEST).collect().await;
        let body = body.map_err(|err| failed("the answer cannot be read", err.as_ref()))?;
        self.keep(address, sender);
        Ok(Asked::Answer(status, body.to_bytes()))
    }

    /// Sends the request over a kept connection, or over a new one.
    async fn send(
        &self,
        mut request: Request<Full<Bytes>>,
        address: SocketAddr,
    ) -> Result<(Response<Incoming>, SendRequest<Full<Bytes>>), Silent> {
        while let Some(mut sender) = self.kept(address) {
            match sender.try_send_request(request).await {
                Ok(response) => return Ok((response, sender)),
                Err(mut unsent) => match unsent.take_message() {
                    Some(message) => request = message,
                    None => return Err(Silent::Unanswered(unsent.into_error())),
                },
            }
        }
        self.prune();
        let stream = timeout(CONNECT, TcpStream::connect(address)).await;
        let late = |_| io::Error::from(io::ErrorKind::TimedOut);
        let stream = stream.map_err(late).flatten();
        let stream = stream.map_err(Silent::Unreached)?;
        let _ = stream.set_nodelay(true);
        let made = handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = made.map_err(Silent::Unanswered)?;
        tokio::spawn(connection);
        let response = sender.send_request(request).await;
        response
            .map(|response| (response, sender))
            .map_err(Silent::Unanswered)
    }

    /// The connection that was used last and still can be.
    fn kept(&self, address: SocketAddr) -> Option<SendRequest<Full<Bytes>>> {
        let mut kept = self.all();
        let lines = kept.get_mut(&address)?;
        while let Some(line) = lines.pop() {
            if line.is_usable() {
                return Some(line.sender);
            }
        }
        None
    }

    /// Keeps a connection, once it can take the next question.
    fn keep(&self, address: SocketAddr, mut sender: SendRequest<Full<Bytes>>) {
        if sender.is_ready() {
            return self.put_by(address, sender);
        }
        let lines = self.clone();
        tokio::spawn(async move {
            if let Ok(Ok(())) = timeout(CONNECT, sender.ready()).await {
                lines.put_by(address, sender);
            }
        });
    }

    fn put_by(&self, address: SocketAddr, sender: SendRequest<Full<Bytes>>) {
        let mut kept = self.all();
        let lines = kept.entry(address).or_default();
        if lines.len() < MOST_KEPT {
            let since = Instant::now();
            lines.push(Line { sender, since });
        }
    }

    /// Drops those that nobody would use any more.
    fn prune(&self) {
        self.all().retain(|_, lines| {
            lines.retain(Line::is_usable);
            !lines.is_empty()
        });
    }

    fn all(&self) -> MutexGuard<'_, HashMap<SocketAddr, Vec<Line>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    fn is_usable(&self) -> bool {
        self.since.elapsed() < KEPT && !self.sender.is_closed()
    }
}
