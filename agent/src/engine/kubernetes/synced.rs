//! What is saved of bots that run: their Pods' status says so only at the end, but `query`, where a bot has one, tells what
//! `sync` has written down.
//!
//! It is asked when a person asks how bots are and when it is their turn to be looked at, as they are asked questions: in
//! the Pod, with its token.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, anyhow};
use contract::record::{Report, Synced};
use contract::{BotId, Secret};
use futures_util::{StreamExt, stream};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1::handshake;
use hyper::header::{AUTHORIZATION, HOST};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::{Engine, Stage};

/// Pods that are asked at once.
const AT_ONCE: usize = 32;
/// Time for one.
const EACH: Duration = Duration::from_secs(1);
/// Time for all of them: what has not come by then is left out.
const ENOUGH: Duration = Duration::from_secs(3);
/// The longest answer: twenty runs with what was said of each.
const LARGEST: usize = 512 << 10;

/// Whom to ask.
type Whom = (BotId, SocketAddr, Option<Secret>);

impl Engine {
    /// What is saved of those of the bots that run and answer questions.
    pub fn synced(&self, bots: &[BotId]) -> impl Future<Output = HashMap<BotId, Synced>> + use<> {
        let whom = bots.iter().filter_map(|bot| {
            let pod = self.slots.get(bot)?.pod.as_ref()?;
            let is_asked =
                pod.query.is_some() && pod.stage == Stage::Running && pod.synced.is_none();
            let address = self.address(bot).filter(|_| is_asked)?;
            Some((bot.clone(), address, self.query_token(bot)))
        });
        let whom: Vec<Whom> = whom.collect();
        async move {
            let of = |(bot, address, token): Whom| async move {
                let report = timeout(EACH, ask(address, token.as_ref())).await;
                let report = report.ok()?.ok()?;
                Some((bot.clone(), report.synced.filter(|_| report.bot == bot)?))
            };
            let asked = stream::iter(whom).map(of).buffer_unordered(AT_ONCE);
            let enough = Box::pin(sleep(ENOUGH));
            asked
                .take_until(enough)
                .filter_map(std::future::ready)
                .collect()
                .await
        }
    }
}

async fn ask(address: SocketAddr, token: Option<&Secret>) -> Result<Report> {
    let mut request = Request::get("/_status").header(HOST, address.to_string());
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, format!("Bearer {}", token.reveal()));
    }
    let request = request.body(Empty::<Bytes>::new())?;
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let response = sender.send_request(request).await?;
    let body = Limited::new(response.into_body(), LARGEST).collect().await;
    let body = body.map_err(|err| anyhow!("{err}"))?.to_bytes();
    Ok(serde_json::from_slice(&body)?)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;
    use crate::engine::docker::tests::block_on;

    /// What comes of asking one who answers with this body, and how it was asked.
    fn asked(body: &str, token: Option<&Secret>) -> (Result<Report>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let serving = std::thread::spawn(move || {
            let (mut asker, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            let length = asker.read(&mut request).unwrap();
            let _ = asker.write_all(answer.as_bytes());
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        let report = block_on(ask(address, token));
        (report, serving.join().unwrap())
    }

    #[test]
    fn who_is_asked_is_shown_the_token_and_what_it_tells_is_read() {
        let body = r#"{"bot": "b1", "status": null, "synced": null, "runs": []}"#;
        let token = Secret::new("t0");
        let (report, request) = asked(body, Some(&token));
        assert_eq!(report.unwrap().bot.as_str(), "b1");
        assert!(
            request.starts_with("GET /_status HTTP/1.1\r\n"),
            "{request}"
        );
        assert!(
            request.contains("authorization: Bearer t0\r\n"),
            "{request}"
        );
        let (_, request) = asked(body, None);
        assert!(!request.contains("authorization"), "{request}");
    }

    #[test]
    fn an_answer_that_is_too_long_or_no_report_is_none() {
        let long = format!("[\"{}\"]", "x".repeat(LARGEST));
        for body in [long.as_str(), "{}", "no"] {
            assert!(asked(body, None).0.is_err());
        }
    }
}
