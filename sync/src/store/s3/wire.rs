//! One request and its answer over HTTP: connections, and how long each part of an exchange may take.
//!
//! One connection is kept between requests. A request that such a connection takes no more, because the server
//! closed it meanwhile, goes out once more on a fresh one, if nothing of it can have been acted on twice.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{HeaderMap, StatusCode};
use hyper_util::rt::TokioIo;
use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::sending::{Clock, Sending, request};
use super::{resolve, tls};
use crate::store::address::{Endpoint, Scheme};

/// How long the parts of an exchange may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// Name, TCP and TLS.
    pub connect: Duration,
    /// From the end of the request to the answer's head.
    pub first_byte: Duration,
    /// The same, for what the store works on: a copy, a completion.
    pub work: Duration,
    /// Without a byte in either direction.
    pub stall: Duration,
    /// How long an unused connection is thought to be open still.
    pub idle: Duration,
    /// The first pause before a request is sent again.
    pub pause: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            first_byte: Duration::from_secs(30),
            work: Duration::from_secs(300),
            stall: Duration::from_secs(15),
            idle: Duration::from_secs(20),
            pause: Duration::from_millis(200),
        }
    }
}

/// Whether a request may be sent twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// Twice is as good as once.
    Freely,
    /// Only if the store certainly has not acted on it.
    Unheard,
}

/// How much time the store is given to begin its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// It only has to look something up.
    Usual,
    /// It copies or puts together.
    Work,
}

/// What is sent.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub method: &'static str,
    /// Path and query.
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
    pub repeat: Repeat,
    pub patience: Patience,
}

/// That there is no answer.
#[derive(Debug)]
pub(super) struct Silence {
    pub cause: io::Error,
    pub heard: Heard,
}

/// Whether the store can have got the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// Certainly not.
    No,
    /// Perhaps, and it may have acted on it.
    Perhaps,
}

/// The connections to one endpoint.
#[derive(Debug)]
pub(super) struct Wire {
    endpoint: Endpoint,
    tls: Option<TlsConnectorBox>,
    pub(super) times: Times,
    kept: Mutex<Option<(Line, Instant)>>,
}

/// A connector, which does not print itself.
struct TlsConnectorBox(TlsConnector);

impl std::fmt::Debug for TlsConnectorBox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TLS")
    }
}

/// A connection; closed when dropped.
#[derive(Debug)]
struct Line {
    sender: SendRequest<Sending>,
    carrier: JoinHandle<()>,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.carrier.abort();
    }
}

/// The head of an answer, and its body to be read.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    body: Incoming,
    line: Option<Line>,
    stall: Duration,
}

impl Answer {
    /// The next bytes; `None` at the end.
    pub(super) async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            let frame = timeout(self.stall, self.body.frame()).await;
            let frame = frame
                .map_err(|_| timed_out("it stopped in the middle of its answer", self.stall))?;
            match frame.transpose().map_err(|error| broken(&error))? {
                None => return Ok(None),
                Some(frame) => match frame.into_data() {
                    Ok(bytes) if !bytes.is_empty() => return Ok(Some(bytes)),
                    _ => {}
                },
            }
        }
    }

    /// All of a body of at most `most` bytes.
    pub(super) async fn whole(&mut self, most: usize) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        while let Some(bytes) = self.next().await? {
            if all.len() + bytes.len() > most {
                return Err(io::Error::other(format!(
                    "its answer is longer than {most} bytes"
                )));
            }
            all.extend_from_slice(&bytes);
        }
        Ok(all)
    }
}

impl Wire {
    pub(super) fn new(endpoint: &Endpoint, times: Times) -> io::Result<Self> {
        let tls = match endpoint.scheme {
            Scheme::Http => None,
            Scheme::Https => Some(TlsConnectorBox(tls::connector(
                endpoint.ca_file.as_deref(),
            )?)),
        };
        Ok(Self {
            endpoint: endpoint.clone(),
            tls,
            times,
            kept: Mutex::new(None),
        })
    }

    /// Sends the message and waits for the head of the answer.
    pub(super) async fn exchange(&self, message: &Message) -> Result<Answer, Silence> {
        if let Some(line) = self.take().await {
            match self.send(line, message).await {
                Ok(answer) => return Ok(answer),
                Err(silence) if is_stale(&silence, message.repeat) => {}
                Err(silence) => return Err(silence),
            }
        }
        let connected = timeout(self.times.connect, self.connect()).await;
        let late = |_| {
            Err(timed_out(
                "it does not take a connection",
                self.times.connect,
            ))
        };
        let line = connected.unwrap_or_else(late).map_err(|cause| Silence {
            cause,
            heard: Heard::No,
        })?;
        self.send(line, message).await
    }

    /// Keeps the connection of an answer that was read to its end.
    pub(super) fn done(&self, mut answer: Answer) {
        if let Some(line) = answer.line.take() {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            *kept = Some((line, Instant::now()));
        }
    }

    async fn take(&self) -> Option<Line> {
        let kept = {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.take()
        };
        let (mut line, since) = kept?;
        if since.elapsed() > self.times.idle {
            return None;
        }
        // The carrier runs only while something is waited for: let it see whether the other side has closed.
        for _ in 0..2 {
            tokio::task::yield_now().await;
        }
        let ready = timeout(Duration::from_millis(100), line.sender.ready()).await;
        matches!(ready, Ok(Ok(()))).then_some(line)
    }

    async fn connect(&self) -> io::Result<Line> {
        let addresses = resolve::addresses(&self.endpoint.host, self.endpoint.port).await?;
        let stream = dial(&addresses, self.times.connect).await?;
        stream.set_nodelay(true)?;
        // Sent bytes that nobody acknowledges are a stall too, and only the kernel sees them.
        let stall = u32::try_from(self.times.stall.as_millis()).unwrap_or(u32::MAX);
        let _ = sockopt::set_tcp_user_timeout(&stream, stall);
        match &self.tls {
            None => handshake(stream).await,
            Some(connector) => {
                let name = ServerName::try_from(self.endpoint.host.clone());
                let name = name.map_err(io::Error::other)?;
                let secured = connector.0.connect(name, stream).await;
                handshake(secured.map_err(|error| io::Error::other(tls::explain(&error)))?).await
            }
        }
    }

    async fn send(&self, mut line: Line, message: &Message) -> Result<Answer, Silence> {
        let clock = Arc::new(Clock::new());
        let request = request(message, &self.endpoint, &clock).map_err(|error| Silence {
            cause: io::Error::other(format!("a request that HTTP cannot carry: {error}")),
            heard: Heard::No,
        })?;
        let mut sending = pin!(line.sender.try_send_request(request));
        let response = loop {
            let deadline = clock.deadline(&self.times, message);
            match timeout_at(deadline, &mut sending).await {
                Ok(Ok(response)) => break response,
                Ok(Err(mut error)) => {
                    let heard = match error.take_message() {
                        Some(_) => Heard::No,
                        None => Heard::Perhaps,
                    };
                    let cause = broken(error.error());
                    return Err(Silence { cause, heard });
                }
                Err(_) if clock.deadline(&self.times, message) > deadline => {}
                Err(_) => return Err(clock.silence(&self.times, message)),
            }
        };
        let (head, body) = response.into_parts();
        let stall = match message.patience {
            Patience::Usual => self.times.stall,
            Patience::Work => self.times.work,
        };
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body,
            line: Some(line),
            stall,
        })
    }
}

fn is_stale(silence: &Silence, repeat: Repeat) -> bool {
    let waited = silence.cause.kind() == io::ErrorKind::TimedOut;
    silence.heard == Heard::No || (repeat == Repeat::Freely && !waited)
}

/// The first that takes a connection. One that does not answer leaves time for the others: often a name has an IPv6
/// address too that leads nowhere.
async fn dial(addresses: &[SocketAddr], most: Duration) -> io::Result<TcpStream> {
    let end = Instant::now() + most;
    let mut last = io::Error::other("its name has no address");
    for (address, left) in addresses.iter().zip((1..=addresses.len()).rev()) {
        let share =
            end.saturating_duration_since(Instant::now()) / u32::try_from(left).unwrap_or(u32::MAX);
        match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(_) => last = timed_out("it does not take a connection", share),
        }
    }
    Err(last)
}

async fn handshake(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
) -> io::Result<Line> {
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(256 << 10)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| broken(&error))?;
    let carry = async {
        // What breaks it is told to who waits for an answer.
        let _ = connection.await;
    };
    let carrier = tokio::spawn(carry);
    Ok(Line { sender, carrier })
}

pub(super) fn timed_out(what: &str, after: Duration) -> io::Error {
    let text = format!("{what} within {after:?}");
    io::Error::new(io::ErrorKind::TimedOut, text)
}

/// What broke a connection, without the words of the layers in between.
fn broken(error: &hyper::Error) -> io::Error {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(cause) = cause.downcast_ref::<io::Error>() {
            return io::Error::new(cause.kind(), cause.to_string());
        }
        source = cause.source();
    }
    let text = if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        "it closed the connection in the middle".to_owned()
    } else {
        format!("it does not speak HTTP as it should: {error}")
    };
    io::Error::new(io::ErrorKind::ConnectionAborted, text)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use rustix::net::{AddressFamily, SocketType, bind, listen, socket};

    use super::*;

    #[test]
    fn an_address_that_does_not_answer_leaves_time_for_the_next() {
        // Its queue is full, so the kernel passes over who comes next.
        let full = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        bind(&full, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        listen(&full, 0).unwrap();
        let full = TcpListener::from(full);
        let dead = full.local_addr().unwrap();
        let _taken = std::net::TcpStream::connect(dead).unwrap();
        let open = TcpListener::bind("127.0.0.1:0").unwrap();
        let open = open.local_addr().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().unwrap();
        let most = Duration::from_secs(1);
        let found = runtime.block_on(async { timeout(most, dial(&[dead, open], most)).await });
        assert_eq!(found.unwrap().unwrap().peer_addr().unwrap(), open);
    }
}
