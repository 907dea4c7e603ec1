//! The way to a daemon by its Unix socket.
//!
//! bollard's own wants the socket to be there when the client is made. A daemon may come later, or be gone for a while
//! and its socket with it, so each request opens the socket anew; one more connection is nothing beside what a request
//! makes the daemon do.

use std::path::{Path, PathBuf};
use std::pin::Pin;

use bollard::errors::Error;
use bollard::{API_DEFAULT_VERSION, BollardRequest, Docker};
use hyper::body::Incoming;
use hyper::header::{HOST, HeaderValue};
use hyper::{Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

/// A client of the daemon at `socket`; `seconds` is the time an answer may take. Nothing is connected yet.
///
/// # Errors
/// Never on Unix.
pub fn connect(socket: &Path, seconds: u64) -> Result<Docker, Error> {
    let socket = socket.to_owned();
    let transport = move |request: BollardRequest| -> Answer {
        let socket = socket.clone();
        Box::pin(send(socket, request))
    };
    Docker::connect_with_custom_transport(
        transport,
        Some("http://docker"),
        seconds,
        API_DEFAULT_VERSION,
    )
}

type Answer = Pin<Box<dyn Future<Output = Result<Response<Incoming>, Error>> + Send>>;

async fn send(socket: PathBuf, mut request: BollardRequest) -> Result<Response<Incoming>, Error> {
    let stream = UnixStream::connect(&socket).await.map_err(|err| {
        let text = format!("{}: {err}", socket.display());
        std::io::Error::new(err.kind(), text)
    })?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // Ends when the answer's body has been read, or is not wanted any more; an attached stream lives in it.
    tokio::spawn(connection.with_upgrades());
    if let Some(path) = request.uri().path_and_query() {
        *request.uri_mut() = Uri::from(path.clone());
    }
    request
        .headers_mut()
        .insert(HOST, HeaderValue::from_static("docker"));
    Ok(sender.send_request(request).await?)
}
