//! HTTP for probes and Prometheus, in a thread of its own.
//!
//! | request | answer |
//! |---|---|
//! | `GET /healthz` | 200 `ok`, or 503 and why: the loop stands still |
//! | `GET /readyz` | 200 or 503, JSON: `{"ready", "dependencies": {name: {"ok", "since", "why"?}..}}` |
//! | `GET /metrics` | the metrics, in the text format of Prometheus |
//!
//! Whoever asks has a few seconds for a small request and gets one answer; only so many are attended at once, and
//! further ones wait in the kernel's queue.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener as Listener};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::Board;
use crate::show::Console;

/// Where it listens unless told otherwise.
pub const LISTEN: &str = "0.0.0.0:8080";
/// The variable that tells otherwise.
pub const VARIABLE: &str = "THE0_HEALTH_LISTEN";
/// Connections at once.
const MOST: usize = 64;
/// Time for the head of a request, and for everything.
const PATIENCE: [Duration; 2] = [Duration::from_secs(3), Duration::from_secs(6)];
/// The largest head of a request, in bytes.
const LARGEST: usize = 8 << 10;

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The address cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{VARIABLE} is {0:?}: give an address and a port, as in {LISTEN}, or nothing for none")]
pub struct BadListen(String);

/// The address that was asked for; `None`: none.
///
/// # Errors
/// It is not one.
pub fn address(given: Option<&str>) -> Result<Option<SocketAddr>, BadListen> {
    match given.unwrap_or(LISTEN) {
        "" => Ok(None),
        text => match text.parse() {
            Ok(address) => Ok(Some(address)),
            Err(_) => Err(BadListen(text.to_owned())),
        },
    }
}

/// Serves `board` at `address`. That it cannot is told and no reason to end: bots do not need it.
pub fn start(address: SocketAddr, board: Board, console: &Console) {
    if let Err(err) = serve(address, board) {
        console.warn(&format!(
            "no /healthz, /readyz and /metrics: {address}: {err}; free the port, or set {VARIABLE} to another address, or to nothing"
        ));
    }
}

fn serve(address: SocketAddr, board: Board) -> io::Result<()> {
    let listener = Listener::bind(address)?;
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let listener = {
        let _inside = runtime.enter();
        TcpListener::from_std(listener)?
    };
    thread::Builder::new()
        .name("health".into())
        .spawn(move || runtime.block_on(accept(&listener, &board)))?;
    Ok(())
}

async fn accept(listener: &TcpListener, board: &Board) {
    let places = Arc::new(Semaphore::new(MOST));
    loop {
        let place = Arc::clone(&places).acquire_owned().await;
        match listener.accept().await {
            Ok((stream, _)) => {
                let board = board.clone();
                tokio::spawn(async move {
                    let _ = timeout(PATIENCE[1], attend(stream, &board)).await;
                    drop(place);
                });
            }
            // Out of descriptors: others will be closed.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn attend(stream: TcpStream, board: &Board) {
    let service = service_fn(async |request: Request<Incoming>| {
        Ok::<_, Infallible>(answer(request.method(), request.uri().path(), board))
    });
    // An asker that goes away in the middle is its own business.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE[0])
        .keep_alive(false)
        .max_buf_size(LARGEST)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

fn answer(method: &Method, path: &str, board: &Board) -> Response<Full<Bytes>> {
    let (status, kind, body) = match path {
        "/healthz" | "/readyz" | "/metrics" if !matches!(*method, Method::GET | Method::HEAD) => {
            let body = "method not allowed\n".to_owned();
            (StatusCode::METHOD_NOT_ALLOWED, TEXT, body)
        }
        "/healthz" => match board.is_alive() {
            Ok(()) => (StatusCode::OK, TEXT, "ok\n".to_owned()),
            Err(why) => (StatusCode::SERVICE_UNAVAILABLE, TEXT, why + "\n"),
        },
        "/readyz" => match board.readiness() {
            (true, body) => (StatusCode::OK, JSON, format!("{body}\n")),
            (false, body) => (StatusCode::SERVICE_UNAVAILABLE, JSON, format!("{body}\n")),
        },
        "/metrics" => (StatusCode::OK, PROMETHEUS, board.metrics()),
        _ => {
            let body = "there are /healthz, /readyz and /metrics\n".to_owned();
            (StatusCode::NOT_FOUND, TEXT, body)
        }
    };
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_gets_the_answer_of_its_path() {
        let board = Board::default();
        let rows = [
            (Method::GET, "/healthz", 200),
            (Method::HEAD, "/readyz", 200),
            (Method::GET, "/metrics", 200),
            (Method::POST, "/metrics", 405),
            (Method::GET, "/", 404),
            (Method::GET, "/healthz/", 404),
        ];
        for (method, path, expected) in rows {
            let response = answer(&method, path, &board);
            assert_eq!(response.status().as_u16(), expected, "{method} {path}");
        }
        let board = Board::new(&[super::super::Dependency::Store]);
        assert_eq!(answer(&Method::GET, "/readyz", &board).status(), 503);
    }

    #[test]
    fn the_address_is_the_usual_one_another_one_or_none() {
        assert_eq!(address(None).unwrap(), Some(LISTEN.parse().unwrap()));
        assert_eq!(address(Some("")).unwrap(), None);
        let other = address(Some("[::1]:9")).unwrap();
        assert_eq!(other, Some("[::1]:9".parse().unwrap()));
        let text = address(Some("8080")).unwrap_err().to_string();
        assert!(text.contains(VARIABLE) && text.contains(LISTEN), "{text}");
    }
}
