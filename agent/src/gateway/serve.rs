//! The gateway's HTTP: where it listens, and bounds for whoever comes.
//!
//! It ensures: a head comes within [`PATIENCE`] and has at most [`HEAD`] bytes, a body too and [`LARGEST`]; an answer that
//! is not taken is cut off by the kernel; only so many connections are attended at once; a question whose asker goes away is
//! given up. After [`Shared::ending`] no connection is taken, and what is under way is answered, within a bound.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use contract::params::Params;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::sys::socket::{setsockopt, sockopt::TcpUserTimeout};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

use super::audit::{Audit, Line, Who};
use super::dispatch::{Dispatcher, Told};
use super::pieces::Pieces;
use super::tokens::Bots;
use crate::ask::{Answer, Data, PATIENCE as USUAL, Question, Refusal, around};
use crate::control::guard::bearer;
use crate::control::tokens::Tokens;
use crate::request::Whom;
use crate::show::Console;

/// Connections at once.
const CONNECTIONS: u32 = 256;
/// Time for the head of a request, and for its body.
const PATIENCE: Duration = Duration::from_secs(10);
/// The largest head, in bytes.
const HEAD: usize = 16 << 10;
/// The largest body, in bytes.
const LARGEST: usize = 1 << 20;
/// How long an answer may lie untaken.
const TO_TAKE_MS: u32 = 30_000;
/// How long what is under way may take when the agent ends.
const TO_FINISH: Duration = Duration::from_secs(35);

/// What every connection needs.
#[derive(Debug)]
pub struct Shared {
    /// Who asks bots.
    pub dispatcher: Dispatcher,
    /// The file of tokens, if one is needed.
    pub tokens: Option<PathBuf>,
    /// Where it is told who was refused.
    pub console: Console,
    /// Where it is told who asked what.
    pub audit: Audit,
    /// Whether the agent ends.
    pub ending: watch::Receiver<bool>,
}

/// Whoever asks.
struct Asker {
    who: Who,
    bots: Bots,
}

/// Takes connections until the agent ends, and then finishes those there are.
pub async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS as usize));
    let mut ending = shared.ending.clone();
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            () = ends(&mut ending) => break,
            next = next => next,
        };
        match accepted {
            Ok((stream, from)) => {
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    converse(stream, from, shared).await;
                    drop(place);
                });
            }
            // Out of descriptors: others will be closed.
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    }
    drop(listener);
    let _ = timeout(TO_FINISH, places.acquire_many(CONNECTIONS)).await;
    shared.audit.flush().await;
}

async fn ends(ending: &mut watch::Receiver<bool>) {
    let _ = ending.wait_for(|ending| *ending).await;
}

async fn converse(stream: TcpStream, from: SocketAddr, shared: Arc<Shared>) {
    let _ = stream.set_nodelay(true);
    let _ = setsockopt(&stream, TcpUserTimeout, &TO_TAKE_MS);
    let mut ending = shared.ending.clone();
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(respond(&shared, from, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(HEAD)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        biased;
        // An asker that goes away in the middle is its own business.
        _ = connection.as_mut() => {}
        () = ends(&mut ending) => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

async fn respond(
    shared: &Shared,
    from: SocketAddr,
    request: Request<Incoming>,
) -> Response<Pieces> {
    let since = Instant::now();
    let (head, body) = request.into_parts();
    let path = head.uri.path().to_owned();
    match (&head.method, path.as_str()) {
        (&Method::GET, "/health") => return json_of(StatusCode::OK, &json!({"status": "ok"})),
        (_, "/query") => {}
        (&Method::GET, other) if queries_of(other).is_some() => {}
        _ => {
            return failed(
                StatusCode::NOT_FOUND,
                "not found: POST /query asks a bot",
                since,
            );
        }
    }
    let asker = match admit(shared, from, &head) {
        Ok(asker) => asker,
        Err((status, why)) => {
            shared
                .console
                .warn(&format!("question of {} refused: {why}", from.ip()));
            let mut response = failed(status, why, since);
            if status == StatusCode::UNAUTHORIZED {
                let bearer = HeaderValue::from_static("Bearer realm=\"the0\"");
                response.headers_mut().insert(WWW_AUTHENTICATE, bearer);
            }
            return response;
        }
    };
    if let Some(bot) = queries_of(&path) {
        return queries(shared, &asker, bot, since).await;
    }
    let body = match read(&head.method, body).await {
        Ok(body) => body,
        Err((status, why)) => return failed(status, &why, since),
    };
    let question = match Question::read(&head.method, &body) {
        Ok(question) => question,
        Err(refusal) => return failed(refusal.status(), &refusal.to_string(), since),
    };
    let told = put(shared, &asker, question, since).await;
    answer(told, since)
}

/// The bot whose queries are asked for by this path.
fn queries_of(path: &str) -> Option<String> {
    let bot = path.strip_prefix("/bots/")?.strip_suffix("/queries")?;
    let bot = percent_decode_str(bot).decode_utf8().ok()?;
    (!bot.is_empty() && !bot.contains('/')).then(|| bot.into_owned())
}

/// What a bot answers, by its own word.
async fn queries(shared: &Shared, asker: &Asker, bot: String, since: Instant) -> Response<Pieces> {
    let question = Question {
        bot: bot.clone(),
        path: "/info".to_owned(),
        params: Params::default(),
        timeout: USUAL,
    };
    let told = put(shared, asker, question, since).await;
    let data = match told.reply {
        Ok(data) => data.into_value(),
        Err(_) => return answer(told, since),
    };
    let queries = match data {
        Value::Object(mut fields) => fields.remove("available_queries"),
        _ => None,
    };
    match queries {
        Some(queries) => json_of(StatusCode::OK, &json!({"bot_id": bot, "queries": queries})),
        None => failed(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the bot's query program does not tell its queries (/info)",
            since,
        ),
    }
}

/// Puts it, and tells the log.
async fn put(shared: &Shared, asker: &Asker, question: Question, since: Instant) -> Told {
    let whom = Whom::Id(question.bot.clone());
    let told = shared.dispatcher.ask(whom, &question, &asker.bots).await;
    shared.audit.note(Line {
        who: asker.who.clone(),
        bot: question.bot,
        path: question.path,
        asked: told.asked.clone(),
        status: status(&told),
        took: since.elapsed(),
    });
    told
}

fn status(told: &Told) -> StatusCode {
    use crate::ask::Refused::{Bots, Ours};
    match &told.reply {
        Ok(_) => StatusCode::OK,
        Err(Ours(refusal)) => refusal.status(),
        Err(Bots(..)) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn admit(
    shared: &Shared,
    from: SocketAddr,
    head: &Parts,
) -> Result<Asker, (StatusCode, &'static str)> {
    let Some(path) = &shared.tokens else {
        return Ok(Asker {
            who: Who {
                name: None,
                address: from.ip(),
            },
            bots: Bots::All,
        });
    };
    let tokens = Tokens::<Bots>::read(path).map_err(|unusable| {
        shared.console.warn(&unusable.to_string());
        let why = "the file of tokens cannot be used: the agent's log says why";
        (StatusCode::SERVICE_UNAVAILABLE, why)
    })?;
    let grant = bearer(&head.headers).and_then(|token| tokens.grant(token));
    let why = "a token is needed that this agent knows: Authorization: Bearer TOKEN";
    let grant = grant.ok_or((StatusCode::UNAUTHORIZED, why))?;
    Ok(Asker {
        who: Who {
            name: Some(grant.name.clone()),
            address: from.ip(),
        },
        bots: grant.access.clone(),
    })
}

/// A body, unless it is too large or too slow.
async fn read(method: &Method, body: Incoming) -> Result<Bytes, (StatusCode, String)> {
    if method != Method::POST {
        return Ok(Bytes::new());
    }
    let bad = |why: String| Refusal::Body(why).to_string();
    let collected = timeout(PATIENCE, Limited::new(body, LARGEST).collect()).await;
    match collected {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(err)) if err.is::<LengthLimitError>() => {
            let why = bad(format!("it has more than {LARGEST} bytes"));
            Err((StatusCode::PAYLOAD_TOO_LARGE, why))
        }
        Ok(Err(err)) => Err((StatusCode::BAD_REQUEST, bad(err.to_string()))),
        Err(_) => {
            let why = bad(format!("it did not come within {} s", PATIENCE.as_secs()));
            Err((StatusCode::REQUEST_TIMEOUT, why))
        }
    }
}

fn answer(told: Told, since: Instant) -> Response<Pieces> {
    let is_busy = status(&told) == StatusCode::TOO_MANY_REQUESTS;
    let mut response = match told.reply {
        Ok(Data::Raw(data)) => {
            let (before, behind) = around(since);
            let pieces = [before.into(), data, (behind + "\n").into()];
            respond_with(StatusCode::OK, Pieces::new(pieces))
        }
        reply => {
            let Answer { status, body } = Answer::new(reply, since);
            json_of(status, &body)
        }
    };
    if is_busy {
        let headers = response.headers_mut();
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

fn failed(status: StatusCode, why: &str, since: Instant) -> Response<Pieces> {
    let Answer { mut body, .. } = Answer::new(Err(Refusal::Failed(why.to_owned()).into()), since);
    body["error"] = why.into();
    json_of(status, &body)
}

fn json_of(status: StatusCode, body: &Value) -> Response<Pieces> {
    respond_with(status, Pieces::new([Bytes::from(body.to_string() + "\n")]))
}

fn respond_with(status: StatusCode, body: Pieces) -> Response<Pieces> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_queries_names_one_bot() {
        assert_eq!(queries_of("/bots/b1/queries").as_deref(), Some("b1"));
        assert_eq!(queries_of("/bots/a%20b/queries").as_deref(), Some("a b"));
        for other in [
            "/bots//queries",
            "/bots/a/b/queries",
            "/bots/b1",
            "/bots/a%2Fb/queries",
            "/bots/%ff/queries",
        ] {
            assert_eq!(queries_of(other), None, "{other}");
        }
    }

    #[tokio::test]
    async fn a_bots_data_is_in_the_answer_as_it_came() {
        let data = Bytes::from_static(br#"{"null":null,"n":1.50}"#);
        let told = Told {
            reply: Ok(Data::Raw(data)),
            asked: None,
        };
        let response = answer(told, Instant::now());
        let length = hyper::body::Body::size_hint(response.body()).exact();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(length, Some(body.len() as u64));
        let text = String::from_utf8(body.to_vec()).unwrap();
        assert!(text.contains(r#""data":{"null":null,"n":1.50}"#), "{text}");
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["status"], "ok");
        assert!(value["duration"].is_u64() && value["timestamp"].is_string());
    }
}
