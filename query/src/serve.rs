//! The server on :9476: takes connections, answers each request, and ends cleanly.
//!
//! At TERM: no new connection, what is under way is finished (within 5 s), the program is ended, exit 0.
//! With a token (`THE0_QUERY_TOKEN`) whoever asks over the network brings it, but for `/health`.
//! Bounds: 64 connections, 10 s for a request's head and 10 s for its body, 1 MiB of body, and a client that does
//! not take its answer is cut off by the kernel.

use std::convert::Infallible;
use std::future::Future;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use contract::record::Listening;
use contract::{BotId, Launch, Paths, Secret, file, params, vars};
use hyper::body::Incoming;
use hyper::header::AUTHORIZATION;
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::sys::socket::{setsockopt, sockopt::TcpUserTimeout};
use subtle::ConstantTimeEq;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

use crate::answer::{self, Answer};
use crate::program::{self, Program};
use crate::question::Question;
use crate::request::{self, Refusal};
use crate::route::{Route, Source, route};
use crate::{forward, report};

const CONNECTIONS: u32 = 64;
const TO_SEND_HEAD: Duration = Duration::from_secs(10);
const TO_TAKE_ANSWER_MS: u32 = 30_000;
const TO_FINISH: Duration = Duration::from_secs(5);
const LONGEST_HEAD: usize = 128 * 1024;
/// What a question may take at most, whatever its asker says.
const LONGEST: Duration = Duration::from_hours(1);

/// What answering takes.
#[derive(Debug)]
struct Desk {
    bot: BotId,
    paths: Paths,
    program: Option<Program>,
    limit: Duration,
    token: Option<Secret>,
}

/// Serves until TERM or INT.
///
/// # Errors
/// What kept it from beginning.
pub async fn run(launch: &Launch) -> anyhow::Result<()> {
    let asked_to_end = end_of_service()?;
    let listener = TcpListener::bind(launch.query_listen)
        .await
        .with_context(|| {
            format!(
                "listen on {} ({})",
                launch.query_listen,
                vars::THE0_QUERY_LISTEN
            )
        })?;
    let (program, keeper) = program::of(launch)?.unzip();
    let (stop, stopped) = watch::channel(());
    let kept = keeper.map(|keeper| tokio::spawn(keeper.keep(stopped)));
    let _announced = Announced::write(launch, listener.local_addr()?);
    let desk = Desk {
        bot: launch.bot.clone(),
        paths: launch.paths.clone(),
        program,
        limit: launch.query_timeout,
        token: launch.query_token.clone(),
    };
    attend(listener, Arc::new(desk), asked_to_end).await;
    drop(stop);
    if let Some(kept) = kept {
        kept.await.context("end the query program")?;
    }
    Ok(())
}

/// Ends at the first TERM or INT from now on.
fn end_of_service() -> anyhow::Result<impl Future<Output = ()>> {
    let mut term = signal(SignalKind::terminate()).context("listen for TERM")?;
    let mut int = signal(SignalKind::interrupt()).context("listen for INT")?;
    Ok(async move {
        tokio::select! { _ = term.recv() => {} _ = int.recv() => {} }
    })
}

/// The file that says where questions are answered, as long as they are.
#[derive(Debug)]
struct Announced(PathBuf);

impl Announced {
    /// Best effort: in a Pod the folder is read-only for us and the address is known anyway.
    fn write(launch: &Launch, address: SocketAddr) -> Self {
        let path = launch.paths.listening();
        let pid = std::process::id();
        contract::info!("answering on {address}");
        let written = std::fs::create_dir_all(&launch.paths.var)
            .and_then(|()| file::replace_json(&path, &Listening { address, pid }));
        match written {
            Err(err) if err.kind() == ErrorKind::ReadOnlyFilesystem => {
                contract::debug!(
                    "{} is read-only for us: our address is not in it",
                    launch.paths.var.display()
                );
            }
            Err(err) => contract::warn!("cannot tell the address in {}: {err}", path.display()),
            Ok(()) => {}
        }
        Self(path)
    }
}

impl Drop for Announced {
    fn drop(&mut self) {
        let _ = file::remove(&self.0);
    }
}

/// Takes connections until `end`, then finishes those there are.
async fn attend(listener: TcpListener, desk: Arc<Desk>, end: impl Future<Output = ()>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS as usize));
    let (closing, closed) = watch::channel(());
    tokio::pin!(end);
    loop {
        let next = async {
            let place = places.clone().acquire_owned().await.ok();
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            () = &mut end => break,
            next = next => next,
        };
        match accepted {
            Ok((stream, from)) => {
                let (desk, closed) = (desk.clone(), closed.clone());
                tokio::spawn(async move {
                    converse(stream, from, desk, closed).await;
                    drop(place);
                });
            }
            Err(err) => {
                contract::warn!("cannot take a connection: {err}");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    drop(closing);
    let _ = timeout(TO_FINISH, places.acquire_many(CONNECTIONS)).await;
}

/// Answers the requests of one connection; after `closed`, only the one under way.
async fn converse(
    stream: TcpStream,
    from: SocketAddr,
    desk: Arc<Desk>,
    mut closed: watch::Receiver<()>,
) {
    let _ = stream.set_nodelay(true);
    let _ = setsockopt(&stream, TcpUserTimeout, &TO_TAKE_ANSWER_MS);
    let service = service_fn(move |request| {
        let desk = desk.clone();
        async move { Ok::<_, Infallible>(respond(&desk, from, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(TO_SEND_HEAD)
        .max_buf_size(LONGEST_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let finished = tokio::select! {
        finished = connection.as_mut() => finished,
        _ = closed.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(err) = finished {
        contract::debug!(
            "a connection ended early: {}",
            contract::journal::chain(&err)
        );
    }
}

/// Whether it may be asked by this request: from inside the container, and for a probe, without a token.
fn may_ask(desk: &Desk, from: SocketAddr, request: &Request<Incoming>) -> bool {
    let Some(token) = &desk.token else {
        return true;
    };
    if from.ip().to_canonical().is_loopback() || request.uri().path() == "/health" {
        return true;
    }
    let given = request.headers().get(AUTHORIZATION);
    let given = given.and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    given.is_some_and(|given| bool::from(given.ct_eq(token.reveal().as_bytes())))
}

async fn respond(desk: &Desk, from: SocketAddr, request: Request<Incoming>) -> Answer {
    if !may_ask(desk, from, &request) {
        let why = "a token is needed: this bot is asked through the gateway, or from inside its container";
        return answer::error(StatusCode::UNAUTHORIZED, why);
    }
    let source = match desk.program {
        Some(_) => Source::Program,
        None => Source::Nobody,
    };
    let (head, body) = request.into_parts();
    match route(&head.method, head.uri.path(), source) {
        Route::Status => status(desk),
        Route::Forward => question(desk, &head, body).await,
        Route::Health => answer::health(),
        Route::Info => answer::info(),
        Route::Unknown => answer::unknown(head.uri.path()),
        Route::BadMethod => answer::bad_method(),
    }
}

/// How long a question may take: as long as whoever asks waits for it, if that is told.
fn limit(desk: &Desk, head: &Parts) -> Duration {
    let told = head.headers.get(params::TIMEOUT);
    let told = told.and_then(|value| value.to_str().ok()?.parse().ok());
    told.map_or(desk.limit, |millis| {
        Duration::from_millis(millis).min(LONGEST)
    })
}

fn status(desk: &Desk) -> Answer {
    let failed = |why: String| answer::error(StatusCode::INTERNAL_SERVER_ERROR, &why);
    match report::read(&desk.bot, &desk.paths) {
        Ok(report) => match serde_json::to_value(&report) {
            Ok(value) => answer::json(StatusCode::OK, &value),
            Err(err) => failed(err.to_string()),
        },
        Err(err) => failed(err.to_string()),
    }
}

/// The program's answer, or why there is none.
async fn question(desk: &Desk, head: &Parts, body: Incoming) -> Answer {
    let uri = &head.uri;
    let refused = |err: &Refusal| answer::error(err.status(), &err.to_string());
    let body = match request::read(body).await {
        Ok(body) => body,
        Err(err) => return refused(&err),
    };
    let question = match Question::read(uri, &body) {
        Ok(question) => question,
        Err(err) => return refused(&err.into()),
    };
    match &desk.program {
        Some(program) => forward::ask(program, &question, limit(desk, head))
            .await
            .unwrap_or_else(|failure| failure.answer()),
        None => answer::unknown(uri.path()),
    }
}
