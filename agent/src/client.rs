//! Asks the agent that runs on a data folder.

use std::io;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

use crate::failure::Failure;
use crate::place;

/// Sends a request and gives the answer.
///
/// # Errors
/// [`Failure::NoAgent`], or what went wrong on the way.
pub fn call(
    data: &Path,
    method: &Method,
    path: &str,
    body: &str,
    patience: Duration,
) -> Result<(StatusCode, Value)> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let exchange = exchange(data, method, path, body);
        let answer = tokio::time::timeout(patience, exchange).await;
        answer.map_err(|_| anyhow!("the agent did not answer within {patience:?}"))?
    })
}

async fn exchange(
    data: &Path,
    method: &Method,
    path: &str,
    body: &str,
) -> Result<(StatusCode, Value)> {
    let socket = place::socket(data);
    let stream = match UnixStream::connect(&socket).await {
        Ok(stream) => stream,
        Err(err) if err.kind() == io::ErrorKind::PermissionDenied => {
            let shown = socket.display();
            bail!("{shown}: {err}: only the user who runs the agent may ask it");
        }
        Err(_) => return Err(Failure::NoAgent(data.to_owned()).into()),
    };
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "agent")
        .body(Full::<Bytes>::from(body.to_owned()))?;
    let response = sender
        .send_request(request)
        .await
        .context("the agent ended meanwhile")?;
    let status = response.status();
    let body = response
        .into_body()
        .collect()
        .await
        .context("the agent ended meanwhile")?;
    let value = serde_json::from_slice(&body.to_bytes()).context("the agent's answer")?;
    Ok((status, value))
}
