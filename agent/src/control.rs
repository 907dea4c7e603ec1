//! The agent's API: HTTP with JSON bodies on a Unix socket that only its own user may open.
//!
//! | request | answer |
//! |---|---|
//! | `GET /bots` | `{"bots": [row..]}`, see [`crate::report::Row`]; `/bots?usage`: with what they use of the host now |
//! | `GET /bots/<id or name>/history?n=20` | `{"id", "entries": [record..], "but"}` (but: why there may be more); 404 |
//! | `POST /bots/<id or name>/start`, `/stop`, `/restart` | `{"id", "name", "but"}` (but: why it does not run); 404 |
//! | `POST /query` | the gateway's body and status, see [`crate::ask`] |
//! | `POST /confirm` | `{"confirmed": [id..]}` |
//! | `POST /stop`, `/start` | all bots, until told otherwise; how far that is: `{"known", "live": [name..], "unsaved": [name..]}` |
//! | `POST /roll` `{"max_unavailable"}` | `{"rolling": [id..]}` |
//! | `POST /collect` `{"bots", "discard_state"}` | `{"left": [{"bot", "name", "what"}..]}` |
//!
//! An agent without the lease refuses with 409 what starts, replaces or removes something, and obeys what stops.

use std::convert::Infallible;
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request as HttpRequest, Response, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::sys::stat::{Mode, umask};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot::{self, Sender};

use crate::ask::{Answer, Question, Refusal, Reply};
use crate::engine::docker::left::Unsaved;
use crate::lease::{Lease, Standing};
use crate::plan::Switch;
use crate::request::{Request, Verb};

/// The largest request, in bytes.
const LARGEST: usize = 4 << 20;

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Route {
    Bots,
    History(String),
    Do(String, Verb),
    Query,
    Confirm,
    Switch(Switch),
    Roll,
    Collect,
    WrongMethod,
    Nowhere,
}

impl Route {
    /// Whether only who has the lease may do it: what stops a bot, whoever runs it, is done where it is said.
    fn needs_lease(&self) -> bool {
        match self {
            Route::Do(_, verb) => *verb != Verb::Stop,
            Route::Switch(switch) => *switch == Switch::On,
            Route::Confirm | Route::Roll | Route::Collect => true,
            Route::Bots
            | Route::History(_)
            | Route::Query
            | Route::WrongMethod
            | Route::Nowhere => false,
        }
    }
}

/// Opens the socket. The caller owns the data folder, so one that is there is a dead agent's.
///
/// # Errors
/// The socket cannot be made.
pub fn open(path: &Path) -> Result<UnixListener> {
    let shown = path.display();
    contract::file::remove(path).with_context(|| shown.to_string())?;
    // Nothing else makes files at this time: the mask is the whole process's.
    let mask = umask(Mode::from_bits_truncate(0o177));
    let socket = UnixListener::bind(path);
    umask(mask);
    let socket = socket.with_context(|| {
        format!("control socket {shown} (a path of at most 107 bytes: choose a shorter --data)")
    })?;
    Ok(socket)
}

/// Takes requests until the loop that answers them is gone.
pub async fn serve(socket: UnixListener, requests: UnboundedSender<Request>, lease: Lease) {
    while !requests.is_closed() {
        match socket.accept().await {
            Ok((stream, _)) => {
                drop(tokio::spawn(attend(
                    stream,
                    requests.clone(),
                    lease.clone(),
                )));
            }
            // Out of descriptors: others will be closed.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn attend(stream: UnixStream, requests: UnboundedSender<Request>, lease: Lease) {
    let service = service_fn(|request| async {
        Ok::<_, Infallible>(answer(request, &requests, &lease).await)
    });
    // An asker that goes away in the middle is its own business.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(10))
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn answer(
    request: HttpRequest<Incoming>,
    requests: &UnboundedSender<Request>,
    lease: &Lease,
) -> Response<Full<Bytes>> {
    let route = route(request.method(), request.uri().path());
    if route.needs_lease() && !lease.may_act() {
        let (status, body) = error(StatusCode::CONFLICT, &passive(lease));
        return respond(status, &body);
    }
    let method = request.method().clone();
    let asked = request.uri().query().unwrap_or_default().to_owned();
    let (status, body) = match route {
        Route::Bots => bots(&asked, requests).await,
        Route::History(word) => history(word, &asked, requests).await,
        Route::Do(word, verb) => match ask(requests, |to| Request::Do(word, verb, to)).await {
            Some(Ok(done)) => {
                let body = json!({"id": done.id, "name": done.name, "but": done.but});
                (StatusCode::OK, body)
            }
            Some(Err(unclear)) => error(StatusCode::NOT_FOUND, &unclear.to_string()),
            None => ending(),
        },
        Route::Confirm => match ask(requests, Request::Confirm).await {
            Some(bots) => (StatusCode::OK, json!({"confirmed": bots})),
            None => ending(),
        },
        Route::Switch(switch) => match ask(requests, |to| Request::Switch(switch, to)).await {
            Some(turned) => (StatusCode::OK, json!(turned)),
            None => ending(),
        },
        Route::Roll => match body_of(request).await {
            Ok(order) => roll(order, requests).await,
            Err(refused) => refused,
        },
        Route::Collect => match body_of(request).await {
            Ok(order) => collect(order, requests).await,
            Err(refused) => refused,
        },
        Route::Query => {
            let body = Limited::new(request.into_body(), LARGEST).collect().await;
            match body {
                Ok(body) => query(&method, &body.to_bytes(), requests).await,
                Err(err) => error(
                    StatusCode::BAD_REQUEST,
                    &format!("invalid request body: {err}"),
                ),
            }
        }
        Route::WrongMethod => error(StatusCode::METHOD_NOT_ALLOWED, "method not allowed"),
        Route::Nowhere => error(StatusCode::NOT_FOUND, "no such resource"),
    };
    respond(status, &body)
}

async fn bots(asked: &str, requests: &UnboundedSender<Request>) -> (StatusCode, Value) {
    let Some(mut rows) = ask(requests, Request::Rows).await else {
        return ending();
    };
    if asked == "usage" {
        let usage = ask(requests, Request::Usage).await.unwrap_or_default();
        for row in &mut rows {
            row.usage = usage.get(&row.id).copied();
        }
    }
    (StatusCode::OK, json!({"bots": rows}))
}

async fn history(
    word: String,
    asked: &str,
    requests: &UnboundedSender<Request>,
) -> (StatusCode, Value) {
    let count = asked.strip_prefix("n=").and_then(|n| n.parse().ok());
    let count = count.unwrap_or(20);
    match ask(requests, |to| Request::History(word, count, to)).await {
        Some(Ok((id, answer))) => {
            let body = json!({"id": id, "entries": answer.entries, "but": answer.but});
            (StatusCode::OK, body)
        }
        Some(Err(unclear)) => error(StatusCode::NOT_FOUND, &unclear.to_string()),
        None => ending(),
    }
}

/// What a roll is asked with.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RollOrder {
    max_unavailable: NonZeroUsize,
}

/// What a collection is asked with.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CollectOrder {
    #[serde(default)]
    bots: Vec<String>,
    #[serde(default)]
    discard_state: bool,
}

/// A JSON body that says what is meant, or the answer that refuses it.
async fn body_of<T: DeserializeOwned>(
    request: HttpRequest<Incoming>,
) -> Result<T, (StatusCode, Value)> {
    let refuse = |why: String| {
        error(
            StatusCode::BAD_REQUEST,
            &format!("invalid request body: {why}"),
        )
    };
    let body = Limited::new(request.into_body(), LARGEST).collect().await;
    let body = body.map_err(|err| refuse(err.to_string()))?.to_bytes();
    serde_json::from_slice(&body).map_err(|err| refuse(err.to_string()))
}

async fn roll(order: RollOrder, requests: &UnboundedSender<Request>) -> (StatusCode, Value) {
    let most = order.max_unavailable.get();
    match ask(requests, |to| Request::Roll(most, to)).await {
        Some(Ok(bots)) => (StatusCode::OK, json!({"rolling": bots})),
        Some(Err(why)) => error(StatusCode::CONFLICT, &why),
        None => ending(),
    }
}

async fn collect(order: CollectOrder, requests: &UnboundedSender<Request>) -> (StatusCode, Value) {
    let unsaved = if order.discard_state {
        Unsaved::Discard
    } else {
        Unsaved::Keep
    };
    if order.discard_state && order.bots.is_empty() {
        let why = "discard_state wants the bots by name: nobody's state is given up unnamed";
        return error(StatusCode::BAD_REQUEST, why);
    }
    match ask(requests, |to| Request::Collect(order.bots, unsaved, to)).await {
        Some(Ok(left)) => (StatusCode::OK, json!({"left": left})),
        Some(Err(why)) => error(StatusCode::NOT_FOUND, &why),
        None => ending(),
    }
}

/// Answers a gateway's question.
async fn query(
    method: &Method,
    body: &[u8],
    requests: &UnboundedSender<Request>,
) -> (StatusCode, Value) {
    let since = Instant::now();
    let reply = reply(method, body, requests).await;
    let Answer { status, body } = Answer::new(reply, since);
    (status, body)
}

async fn reply(method: &Method, body: &[u8], requests: &UnboundedSender<Request>) -> Reply {
    let question = Question::read(method, body)?;
    let address = ask(requests, |to| Request::Where(question.bot.clone(), to)).await;
    let address = address.unwrap_or_else(|| Err(Refusal::Failed("the agent is ending".into())))?;
    question.put(address).await
}

async fn ask<T>(
    requests: &UnboundedSender<Request>,
    make: impl FnOnce(Sender<T>) -> Request,
) -> Option<T> {
    let (to, from) = oneshot::channel();
    requests.send(make(to)).ok()?;
    from.await.ok()
}

fn error(status: StatusCode, text: &str) -> (StatusCode, Value) {
    (status, json!({"status": "error", "error": text}))
}

/// Why an agent without the lease does not do it.
fn passive(lease: &Lease) -> String {
    match lease.standing() {
        Some(Standing::Standby(host)) => {
            format!("this agent stands by: the one on {host} acts, give the order there")
        }
        Some(Standing::Lapsed(why)) => {
            format!("this agent does not have the lease and starts nothing: {why}")
        }
        _ => "this agent does not have the lease yet: try again in a moment".to_owned(),
    }
}

fn ending() -> (StatusCode, Value) {
    error(StatusCode::SERVICE_UNAVAILABLE, "the agent is ending")
}

fn respond(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body.to_string() + "\n"));
    *response.status_mut() = status;
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

fn route(method: &Method, path: &str) -> Route {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (expected, route) = match parts.as_slice() {
        ["bots"] => (Method::GET, Route::Bots),
        ["query"] => return Route::Query,
        ["confirm"] => (Method::POST, Route::Confirm),
        ["stop"] => (Method::POST, Route::Switch(Switch::Off)),
        ["start"] => (Method::POST, Route::Switch(Switch::On)),
        ["roll"] => (Method::POST, Route::Roll),
        ["collect"] => (Method::POST, Route::Collect),
        ["bots", word, "history"] => (Method::GET, Route::History(decoded(word))),
        ["bots", word, verb] => {
            let verb = match *verb {
                "start" => Verb::Start,
                "stop" => Verb::Stop,
                "restart" => Verb::Restart,
                _ => return Route::Nowhere,
            };
            (Method::POST, Route::Do(decoded(word), verb))
        }
        _ => return Route::Nowhere,
    };
    if *method == expected {
        route
    } else {
        Route::WrongMethod
    }
}

/// A part of a path, percent-encoding undone.
fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// `text` as a part of a path.
pub fn encode(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

#[cfg(test)]
mod tests;
