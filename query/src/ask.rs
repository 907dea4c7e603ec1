//! `query ask`: asks a bot's :9476, for containers that have no other HTTP client.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail};
use contract::vars;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST};
use hyper::{StatusCode, Uri};
use hyper_util::rt::TokioIo;
use lexopt::ValueExt;
use serde_json::{Map, Value};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::question::Question;
use crate::resolve;

const PORT: u16 = 9476;
/// Longer than the asked one's own limit, so that its answer about it is heard.
const MORE_THAN_THEIRS: Duration = Duration::from_secs(5);

/// What to ask whom.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    host: String,
    port: u16,
    question: Question,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    status: StatusCode,
    body: Bytes,
}

impl Request {
    /// Reads what follows the word `ask`.
    ///
    /// # Errors
    /// What is not understood.
    pub fn parse(parser: &mut lexopt::Parser) -> Result<Self, lexopt::Error> {
        use lexopt::prelude::{Long, Value as Word};
        let mut at = ("127.0.0.1".to_owned(), PORT);
        let mut path = None;
        let mut params = Map::new();
        while let Some(arg) = parser.next()? {
            match arg {
                Long("at") => at = place(&parser.value()?.string()?)?,
                Word(word) if path.is_none() => path = Some(target(&word.string()?)?),
                Word(word) => params.extend([parameter(&word.string()?)?]),
                other => return Err(other.unexpected()),
            }
        }
        let path = path.ok_or("ask what? give a path, as in: query ask /health")?;
        let body = Value::Object(params).to_string();
        let question = Question::read(&path, body.as_bytes()).map_err(|err| err.to_string())?;
        let (host, port) = at;
        Ok(Self {
            host,
            port,
            question,
        })
    }
}

/// `HOST`, `HOST:PORT`, `[V6]` or `[V6]:PORT`.
fn place(text: &str) -> Result<(String, u16), String> {
    let bad = || format!("--at {text:?} is not understood: give HOST or HOST:PORT");
    if text.parse::<std::net::Ipv6Addr>().is_ok() {
        return Ok((text.to_owned(), PORT));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().map_err(|_| bad())?),
        _ => (text, PORT),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() {
        return Err(bad());
    }
    Ok((host.to_owned(), port))
}

fn target(text: &str) -> Result<Uri, String> {
    let rooted = format!("/{}", text.strip_prefix('/').unwrap_or(text));
    rooted.parse().map_err(|err| {
        format!("{text:?} is not a path ({err}): write special characters as %XX, as in /a%20b")
    })
}

fn parameter(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| format!("{text:?} is not a parameter: give NAME=VALUE"))?;
    let typed = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
    Ok((name.to_owned(), typed))
}

impl Answer {
    /// The body, ended by a newline.
    pub fn line(&self) -> Vec<u8> {
        let mut line = self.body.to_vec();
        if !line.ends_with(b"\n") {
            line.push(b'\n');
        }
        line
    }

    /// 0, or 1 for an answer that is an error.
    pub fn exit_code(&self) -> u8 {
        let says_error = || {
            let value: Option<Value> = serde_json::from_slice(&self.body).ok();
            value.is_some_and(|value| value["status"] == "error")
        };
        u8::from(!self.status.is_success() || says_error())
    }
}

/// Asks.
///
/// # Errors
/// Why there is no answer.
pub async fn run(request: &Request) -> anyhow::Result<Answer> {
    let theirs = contract::launch::duration(
        vars::THE0_QUERY_TIMEOUT,
        std::env::var(vars::THE0_QUERY_TIMEOUT).ok().as_deref(),
        Duration::from_secs(30),
    )?;
    let limit = theirs + MORE_THAN_THEIRS;
    let place = format!("{}:{}", request.host, request.port);
    match timeout(limit, exchange(request)).await {
        Ok(result) => result.with_context(|| format!("ask {place}")),
        Err(_) => bail!("ask {place}: no answer within {} s", limit.as_secs()),
    }
}

async fn exchange(request: &Request) -> anyhow::Result<Answer> {
    let stream = connect(&resolve::addresses(&request.host, request.port).await?).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let message = hyper::Request::post(request.question.target())
        .header(HOST, format!("{}:{}", request.host, request.port))
        .header(CONTENT_TYPE, "application/json")
        .header(CONNECTION, "close")
        .body(Full::new(Bytes::from(request.question.body())))?;
    let response = sender.send_request(message).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    Ok(Answer { status, body })
}

/// The first of `addresses` that takes a connection.
async fn connect(addresses: &[SocketAddr]) -> anyhow::Result<TcpStream> {
    let mut last = anyhow::anyhow!("the name has no address");
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(err) => last = anyhow::Error::new(err).context(format!("connect to {address}")),
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Request, lexopt::Error> {
        Request::parse(&mut lexopt::Parser::from_args(args))
    }

    #[test]
    fn values_that_are_json_are_sent_as_what_they_are() {
        let args = [
            "prices",
            "s=BTC/USD",
            "n=5",
            "id=007",
            "f={\"a\":[1]}",
            "e=",
            "x=a=b",
            "b=true",
        ];
        let request = parse(&args).unwrap();
        assert_eq!(
            request.question.body(),
            r#"{"b":true,"e":"","f":{"a":[1]},"id":"007","n":5,"s":"BTC/USD","x":"a=b"}"#
        );
        assert_eq!(request.question.path(), "/prices");
    }

    #[test]
    fn a_place_is_a_host_with_or_without_a_port() {
        let rows = [
            ("h", Some(("h", 9476))),
            ("h:1", Some(("h", 1))),
            ("127.0.0.1:80", Some(("127.0.0.1", 80))),
            ("::1", Some(("::1", 9476))),
            ("[::1]", Some(("::1", 9476))),
            ("[::1]:7", Some(("::1", 7))),
            ("h:x", None),
            (":1", None),
            ("", None),
        ];
        for (text, expected) in rows {
            let found = place(text).ok();
            assert_eq!(
                found.as_ref().map(|(host, port)| (host.as_str(), *port)),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for args in [
            &[][..],
            &["/p", "novalue"],
            &["/a b"],
            &["--at"],
            &["/p", "--x"],
        ] {
            assert!(parse(args).is_err(), "{args:?}");
        }
    }

    #[test]
    fn an_error_in_status_or_body_exits_1() {
        let rows = [
            (200, r#"{"status":"ok"}"#, 0),
            (200, r#"{"status":{"state":"running"}}"#, 0),
            (200, "not json", 0),
            (200, r#"{"status":"error"}"#, 1),
            (404, "{}", 1),
        ];
        for (status, body, code) in rows {
            let status = StatusCode::from_u16(status).unwrap();
            let answer = Answer {
                status,
                body: Bytes::from_static(body.as_bytes()),
            };
            assert_eq!(answer.exit_code(), code, "{status} {body}");
            assert!(answer.line().ends_with(b"\n"));
        }
    }
}
