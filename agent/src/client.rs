//! Asks an agent: the one that runs on a data folder, by its socket, or one elsewhere, over the network with a token.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use contract::Secret;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use reqwest::Url;
use serde_json::Value;
use tokio::net::UnixStream;

use crate::control::tokens;
use crate::failure::Failure;
use crate::place;

/// Which agent is asked.
#[derive(Debug, Clone)]
pub enum Agent {
    /// The one of this data folder.
    Here(PathBuf),
    /// One that is reached over the network.
    There(Remote),
}

/// Where an agent is reached.
#[derive(Debug, Clone)]
pub struct Remote {
    url: String,
    token: Option<Secret>,
}

impl Agent {
    /// The one of `data`, unless another one is named.
    ///
    /// # Errors
    /// The address is none, or the file has no token.
    pub fn of(data: &Path, host: Option<&str>, token_file: Option<&str>) -> Result<Self> {
        let Some(host) = host.filter(|host| !host.is_empty()) else {
            return Ok(Self::Here(data.to_owned()));
        };
        let url = address(host)?;
        let file = token_file.filter(|path| !path.is_empty());
        let token = file.map(|path| tokens::own(Path::new(path))).transpose()?;
        Ok(Self::There(Remote { url, token }))
    }

    /// Its data folder, for what needs its files.
    ///
    /// # Errors
    /// It is another machine's.
    pub fn folder(&self, command: &str) -> Result<&Path> {
        match self {
            Self::Here(data) => Ok(data),
            Self::There(_) => bail!(
                "`agent {command}` needs the files of the agent's machine: give it there, without --host (and THE0_HOST)"
            ),
        }
    }

    /// Sends a request and gives the answer.
    ///
    /// # Errors
    /// [`Failure::NoAgent`], [`Failure::NoAnswer`], or what went wrong on the way.
    pub fn call(
        &self,
        method: &Method,
        path: &str,
        body: &str,
        patience: Duration,
    ) -> Result<(StatusCode, Value)> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let exchange = async {
                match self {
                    Self::Here(data) => here(data, method, path, body).await,
                    Self::There(remote) => remote.exchange(method, path, body).await,
                }
            };
            let answer = tokio::time::timeout(patience, exchange).await;
            answer.map_err(|_| anyhow!("the agent did not answer within {patience:?}"))?
        })
    }
}

/// Asks the agent of a data folder.
///
/// # Errors
/// As [`Agent::call`].
pub fn call(
    data: &Path,
    method: &Method,
    path: &str,
    body: &str,
    patience: Duration,
) -> Result<(StatusCode, Value)> {
    Agent::Here(data.to_owned()).call(method, path, body, patience)
}

async fn here(data: &Path, method: &Method, path: &str, body: &str) -> Result<(StatusCode, Value)> {
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
        .header(header::CONTENT_TYPE, "application/json")
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

impl Remote {
    async fn exchange(
        &self,
        method: &Method,
        path: &str,
        body: &str,
    ) -> Result<(StatusCode, Value)> {
        // A token goes where it was told to go, and nowhere else.
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()?;
        let mut request = client
            .request(method.clone(), format!("{}{path}", self.url))
            .header(header::CONTENT_TYPE, "application/json")
            .body(body.to_owned());
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.reveal());
        }
        let response = request.send().await.map_err(|err| self.no_answer(&err))?;
        let status = response.status();
        let body = response.bytes().await.map_err(|err| self.no_answer(&err))?;
        let value = serde_json::from_slice(&body);
        let value = value.with_context(|| {
            format!(
                "{} answers {status} and no JSON: is it an agent's API?",
                self.url
            )
        })?;
        if status == StatusCode::UNAUTHORIZED && self.token.is_none() {
            bail!(
                "{} wants a token: name its file with --token-file (THE0_TOKEN_FILE)",
                self.url
            );
        }
        Ok((status, value))
    }

    fn no_answer(&self, err: &reqwest::Error) -> Failure {
        let mut why = err as &dyn std::error::Error;
        while let Some(source) = why.source() {
            why = source;
        }
        Failure::NoAnswer(self.url.clone(), why.to_string())
    }
}

/// The address of an API, without a slash at its end.
fn address(text: &str) -> Result<String> {
    let url = Url::parse(text).ok().filter(|url| {
        let plain = url.username().is_empty() && url.password().is_none();
        let bare = url.query().is_none() && url.fragment().is_none();
        matches!(url.scheme(), "http" | "https") && url.has_host() && plain && bare
    });
    let url = url.context(
        "the address of the agent (--host, THE0_HOST) is one as in http://127.0.0.1:9478, without a user, password or query",
    )?;
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_of_http_and_without_a_credential() {
        let rows = [
            ("http://127.0.0.1:9478", Some("http://127.0.0.1:9478")),
            ("http://[::1]:9478/", Some("http://[::1]:9478")),
            ("https://host/agent/", Some("https://host/agent")),
            ("host:9478", None),
            ("host", None),
            ("ftp://host", None),
            ("http://", None),
            ("http://user:secret@host", None),
            ("http://secret@host", None),
            ("http://host/?token=secret", None),
            ("http://host/#x", None),
        ];
        for (text, expected) in rows {
            let found = address(text);
            assert_eq!(found.as_deref().ok(), expected, "{text}");
            if let Err(why) = found {
                assert!(!why.to_string().contains("secret"), "{why}");
            }
        }
    }

    #[test]
    fn what_needs_files_says_that_it_is_done_where_they_are() {
        let here = Agent::of(Path::new("d"), Some(""), Some("")).unwrap();
        assert_eq!(here.folder("logs").unwrap(), Path::new("d"));
        let there = Agent::of(Path::new("d"), Some("http://h:1"), None).unwrap();
        let why = there.folder("logs").unwrap_err().to_string();
        assert!(
            why.contains("`agent logs`") && why.contains("--host"),
            "{why}"
        );
    }
}
