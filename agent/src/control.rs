//! The agent's API: HTTP with JSON bodies, on a Unix socket that only its own user may open, and on the network ([`listen`]).
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1/openapi.json` | the document of all of this |
//! | `GET /v1/bots` | `{"bots": [row..], "but"}`, see [`crate::report::Row`]; `?usage`: with what they use of the host now (but: why that is not known) |
//! | `GET /v1/bots/<id or name>` | that row; 404 |
//! | `GET /v1/bots/<id or name>/history?count=20&before=` | `{"id", "entries": [record..], "next", "but"}` (but: why there may be more); 404 |
//! | `POST /v1/bots/<id or name>/start`, `/stop`, `/restart` | `{"id", "name", "but"}` (but: why it does not run); 404 |
//! | `GET /v1/schedules` | `{"schedules": [..]}`, see [`crate::request::Planned`] |
//! | `POST /v1/schedules/<id or name>/run` | its next tick is due now; as above |
//! | `GET /v1/jobs?count=20`, `/v1/jobs/<id>` | `{"jobs": [job..]}`, newest first; that job; 404 |
//! | `POST /v1/jobs/<id>/cancel` | the job; 404; 409: it has ended |
//! | `POST /v1/query` | the gateway's body and status, see [`crate::ask`] |
//! | `POST /v1/confirm` | `{"confirmed": [id..]}` |
//! | `POST /v1/stop`, `/v1/start` | all bots, until told otherwise; how far that is: `{"known", "live": [name..], "unsaved": [name..], "lost": [name..]}` |
//! | `POST /v1/roll` `{"max_unavailable"}` | `{"rolling": [id..]}` |
//! | `POST /v1/collect` `{"bots", "discard_state"}` | `{"left": [{"bot", "name", "what"}..]}` |
//!
//! Errors are `{"error": why}`. An agent without the lease refuses with 409 what starts, replaces or removes something,
//! and obeys what stops.
//!
//! ```text
//! guard (who is it?) ─▶ route (what is it?) ─▶ lease ─▶ answers ──asks──▶ the loop
//!                                                          └─▶ audit: who changed what
//! ```
//!
//! It ensures: a request that has reached the loop is told in the log even if its asker is gone; whoever is slow is cut.

mod answers;
mod audit;
pub mod guard;
pub mod listen;
mod route;
pub mod tokens;

use std::convert::Infallible;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request as HttpRequest, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::sys::stat::{Mode, umask};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixListener;
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::{sleep, timeout};

use crate::gateway::dispatch::Dispatcher;
use crate::lease::{Lease, Standing};
use crate::request::Request;
use crate::show::Console;
use answers::{Answer, TAKING};
use audit::{Audit, Deed};
use guard::{Asker, Denied, Door, Guard};
pub use route::encode;
use route::{Access, Missed, Route, route};

/// The largest body of a request, in bytes.
const LARGEST: usize = 1 << 20;
/// The largest head of a request, in bytes.
const HEAD: usize = 16 << 10;
/// Time for the head of a request, and for its body.
const PATIENCE: Duration = Duration::from_secs(10);

/// What it takes to answer; clones answer the same.
#[derive(Debug, Clone)]
pub struct Api {
    requests: UnboundedSender<Request>,
    lease: Lease,
    audit: Audit,
    dispatcher: Dispatcher,
}

impl Api {
    /// Answers what the loop behind `requests` says, and questions to bots as `dispatcher` does.
    pub fn new(
        requests: UnboundedSender<Request>,
        lease: Lease,
        console: &Console,
        dispatcher: Dispatcher,
    ) -> Self {
        let audit = Audit::new(console.clone());
        Self {
            requests,
            lease,
            audit,
            dispatcher,
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

/// Takes requests from the socket until the loop that answers them is gone.
pub async fn serve(socket: UnixListener, api: Api) {
    while !api.requests.is_closed() {
        match socket.accept().await {
            Ok((stream, _)) => {
                let user = stream.peer_cred().ok().map(|user| user.uid());
                let api = api.clone();
                drop(tokio::spawn(async move {
                    attend(stream, &Door::Socket(user), &Guard::Loopback, &api).await;
                }));
            }
            // Out of descriptors: others will be closed.
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Answers one request.
async fn attend<S>(stream: S, door: &Door, guard: &Guard, api: &Api)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let answered = Notify::new();
    let service = service_fn(async |request: HttpRequest<Incoming>| {
        let response = answer(request, door, guard, api).await;
        answered.notify_one();
        Ok::<_, Infallible>(response)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .keep_alive(false)
        .max_buf_size(HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let too_slow = async {
        answered.notified().await;
        sleep(TAKING).await;
    };
    // An asker that goes away in the middle is its own business.
    tokio::select! {
        _ = connection => {}
        () = too_slow => {}
    }
}

async fn answer(
    request: HttpRequest<Incoming>,
    door: &Door,
    guard: &Guard,
    api: &Api,
) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let (asker, route) = match understand(door, guard, &head, &api.audit) {
        Ok(understood) => understood,
        Err(Away::Refused(status, why)) => return refuse(status, why),
        Err(Away::Missed(missed)) => return nothing(missed),
    };
    let body = match timeout(PATIENCE, whole(body)).await {
        Ok(Ok(body)) => body,
        Ok(Err((status, why))) => return respond(&Answer::error(status, &why)),
        Err(_) => {
            let why = "the body did not come in time";
            return respond(&Answer::error(StatusCode::REQUEST_TIMEOUT, why));
        }
    };
    let asked = head.uri.query().unwrap_or_default().to_owned();
    // Apart, so that it comes to its end and into the log when its asker does not wait for it.
    let work = tokio::spawn(perform(route, asked, body, asker, api.clone()));
    respond(&work.await.unwrap_or_else(|_| Answer::ending()))
}

/// Why nothing is done.
enum Away {
    Refused(StatusCode, &'static str),
    Missed(Missed),
}

/// Who asks and what for.
fn understand(
    door: &Door,
    guard: &Guard,
    head: &Parts,
    audit: &Audit,
) -> Result<(Asker, Route), Away> {
    let from = match door {
        Door::Socket(_) => None,
        Door::Net(address) => Some(address.ip()),
    };
    let asked = || format!("{} {}", head.method, head.uri.path());
    let asker = guard::admit(door, guard, head).map_err(|denied| {
        let (status, why) = denied.answer();
        match &denied {
            Denied::Tokens(unusable) => audit.unusable(&unusable.to_string()),
            _ => audit.denied(from, &asked(), why),
        }
        Away::Refused(status, why)
    })?;
    let route = route(&head.method, head.uri.path()).map_err(Away::Missed)?;
    if route.access() > asker.access {
        let why =
            "this token may only look: the file of tokens gives `write` to those that may do this";
        audit.denied(
            from,
            &asked(),
            &format!("the token of {asker} may only look"),
        );
        return Err(Away::Refused(StatusCode::FORBIDDEN, why));
    }
    Ok((asker, route))
}

fn refuse(status: StatusCode, why: &str) -> Response<Full<Bytes>> {
    let mut response = respond(&Answer::error(status, why));
    if status == StatusCode::UNAUTHORIZED {
        let bearer = HeaderValue::from_static("Bearer realm=\"the0\"");
        response.headers_mut().insert(WWW_AUTHENTICATE, bearer);
    }
    response
}

fn nothing(missed: Missed) -> Response<Full<Bytes>> {
    match missed {
        Missed::Nowhere => {
            let why = "no such resource: GET /v1/openapi.json tells what there is";
            respond(&Answer::error(StatusCode::NOT_FOUND, why))
        }
        Missed::Method(methods) => {
            let why = "method not allowed";
            let mut response = respond(&Answer::error(StatusCode::METHOD_NOT_ALLOWED, why));
            let methods: Vec<&str> = methods.iter().map(Method::as_str).collect();
            if let Ok(allowed) = HeaderValue::from_str(&methods.join(", ")) {
                response.headers_mut().insert(ALLOW, allowed);
            }
            response
        }
    }
}

/// A body, unless it is too large.
async fn whole(body: Incoming) -> Result<Bytes, (StatusCode, String)> {
    let large = || {
        let why = format!("a body has at most {LARGEST} bytes");
        (StatusCode::PAYLOAD_TOO_LARGE, why)
    };
    if body.size_hint().lower() > LARGEST as u64 {
        return Err(large());
    }
    match Limited::new(body, LARGEST).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(err) if err.is::<LengthLimitError>() => Err(large()),
        Err(err) => Err((
            StatusCode::BAD_REQUEST,
            format!("invalid request body: {err}"),
        )),
    }
}

/// Does it, unless another agent has the say, and tells the log.
async fn perform(route: Route, asked: String, body: Bytes, asker: Asker, api: Api) -> Answer {
    let deed = (route.access() == Access::Write).then(|| route.clone());
    let answer = if route.needs_lease() && !api.lease.may_act() {
        Answer::error(StatusCode::CONFLICT, &passive(&api.lease))
    } else {
        answers::answer(route, &asked, &body, &api).await
    };
    if let Some(route) = deed {
        api.audit.tell(&told(&route, &asker, &answer));
    }
    answer
}

/// What the log tells of a request and its answer.
fn told<'a>(route: &Route, asker: &'a Asker, answer: &Answer) -> Deed<'a> {
    let mut what = route.deed();
    if let Some(order) = &answer.order {
        what = format!("{what} {order}");
    }
    let repeats = matches!(route, Route::Switch(_));
    let text = |name: &str| answer.body[name].as_str();
    let outcome = match (answer.status, text("error").or(text("but"))) {
        (StatusCode::OK, None) if repeats || answer.bot.is_some() => "done".to_owned(),
        (StatusCode::OK, None) => format!("done, {}", answer.body),
        (StatusCode::OK, Some(but)) => format!("done, but {but}"),
        (status, why) => format!("{}, {}", status.as_u16(), why.unwrap_or_default()),
    };
    Deed {
        asker,
        what,
        bot: answer.bot.clone(),
        outcome,
        repeats,
    }
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

fn respond(answer: &Answer) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(Value::to_string(&answer.body) + "\n"));
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        "x-content-type-options",
        HeaderValue::from_static("nosniff"),
    );
    response
}

#[cfg(test)]
mod tests;
