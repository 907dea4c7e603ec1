//! Questions to bots that run, over connections that are kept.
//!
//! A question is sent once. Only where a kept connection was closed before it could be sent, or none could be made, nothing
//! was asked, and it is tried again.

use std::net::SocketAddr;
use std::time::Duration;

use contract::Secret;
use http_body_util::{BodyExt, Full, Limited};
use hyper::StatusCode;
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::ask::{LARGEST, Question, Refusal};

/// How long a connection to a container may take to be made.
const CONNECT: Duration = Duration::from_secs(1);
/// How long one is kept without a question.
const KEPT: Duration = Duration::from_secs(20);
/// How many are kept to one bot.
const MOST_KEPT: usize = 8;

/// Connections.
#[derive(Debug, Clone)]
pub struct Lines(Client<HttpConnector, Full<Bytes>>);

/// What came of it.
#[derive(Debug)]
pub enum Asked {
    /// An answer.
    Answer(StatusCode, Bytes),
    /// Nobody listens there: nothing was asked.
    Nobody(String),
}

impl Lines {
    /// None yet.
    pub fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(KEPT)
            .pool_max_idle_per_host(MOST_KEPT)
            .build(connector);
        Self(client)
    }

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
        let failed = |what: &str, err: &dyn std::error::Error| {
            Refusal::Failed(format!("{what}: {}", contract::journal::chain(err)))
        };
        let request = question
            .request(address, token)
            .map_err(|err| failed("question", &err))?;
        let response = match self.0.request(request).await {
            Ok(response) => response,
            Err(err) if err.is_connect() => {
                return Ok(Asked::Nobody(contract::journal::chain(&err).to_string()));
            }
            Err(err) => return Err(failed("no answer of the bot's query program", &err)),
        };
        let status = response.status();
        let body = Limited::new(response.into_body(), LARGEST).collect().await;
        let body = body.map_err(|err| failed("the answer cannot be read", err.as_ref()))?;
        Ok(Asked::Answer(status, body.to_bytes()))
    }
}
