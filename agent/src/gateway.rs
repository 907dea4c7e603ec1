//! The gateway on :9477: questions about bots over HTTP, by the platform's contract.
//!
//! ```text
//!   POST /query ─▶ token ─▶ place ─▶ who answers? ─┬─▶ the bot's own :9476, over a kept connection      (live)
//!                                     (the loop)   └─▶ an instance for this question, on a copy of its state (apart)
//! ```
//!
//! It lives in a thread and a runtime of its own: neither does it wait for the agent's loop but for one word, nor does that
//! wait for it. [`dispatch`] has the rule of who answers, [`serve`] the bounds of HTTP, [`bounds`] how much at once.

pub mod apart;
mod audit;
pub mod bounds;
pub mod dispatch;
mod live;
mod pieces;
mod serve;
pub mod tokens;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep};

use crate::control::tokens::Tokens;
use crate::show::Console;
use audit::Audit;
use dispatch::Dispatcher;
use serve::Shared;
use tokens::Bots;

/// The platform's port.
const PORT: u16 = 9477;
/// Time between two looks for containers that nobody waits for, while the daemon does not answer or one was not removed.
const SOON: Duration = Duration::from_secs(5);

/// What of it the operator sets.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Options {
    /// Where questions are answered; empty: nowhere [default: 0.0.0.0 and the port; none of `agent dev`]
    #[arg(
        long,
        env = "THE0_GATEWAY_ADDRESS",
        hide_env_values = true,
        value_name = "IP:PORT"
    )]
    gateway_address: Option<String>,
    /// The port of the same, in the platform's words [default: 9477]
    #[arg(
        long = "port",
        env = "QUERY_SERVER_PORT",
        hide_env_values = true,
        value_name = "PORT"
    )]
    gateway_port: Option<String>,
    /// Who may ask there: lines of NAME TOKEN and `*` or ids of bots; without it everybody who comes
    #[arg(
        long,
        env = "THE0_QUERY_TOKENS",
        hide_env_values = true,
        value_name = "FILE"
    )]
    query_tokens: Option<String>,
}

/// Where it listens and who may come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// Where.
    pub address: SocketAddr,
    /// The file of tokens.
    pub tokens: Option<PathBuf>,
}

impl Options {
    /// What was asked for; without a word of it, nothing unless `usual`.
    ///
    /// # Errors
    /// It cannot be done as asked.
    pub fn listen(&self, usual: bool) -> Result<Option<Listen>> {
        let given = |text: &Option<String>| text.as_deref().map(str::trim).map(str::to_owned);
        let port = given(&self.gateway_port).filter(|text| !text.is_empty());
        let port = match port.as_deref().map(str::parse) {
            None => None,
            Some(Ok(port)) => Some(port),
            Some(Err(_)) => bail!("QUERY_SERVER_PORT is no port: give a number up to 65535"),
        };
        let address = match (given(&self.gateway_address), port) {
            (Some(text), _) if text.is_empty() => return Ok(None),
            (Some(text), _) => text.parse().ok().with_context(|| {
                format!("THE0_GATEWAY_ADDRESS is {text:?}: give an address and a port, as in 127.0.0.1:{PORT}, or nothing for none")
            })?,
            (None, None) if !usual => return Ok(None),
            (None, port) => (Ipv4Addr::UNSPECIFIED, port.unwrap_or(PORT)).into(),
        };
        let tokens = given(&self.query_tokens).filter(|path| !path.is_empty());
        let tokens = tokens.map(PathBuf::from);
        if let Some(path) = &tokens {
            Tokens::<Bots>::read(path)?;
        }
        Ok(Some(Listen { address, tokens }))
    }
}

/// A gateway that runs.
#[derive(Debug)]
pub struct Gateway {
    ending: watch::Sender<bool>,
    over: oneshot::Receiver<()>,
}

/// Starts it, if it is to listen; `dispatcher`'s questions are put over connections of its own.
///
/// # Errors
/// Its thread cannot be started.
pub async fn open(
    listen: Option<Listen>,
    dispatcher: &Dispatcher,
    console: &Console,
) -> Result<Option<Gateway>> {
    match listen {
        Some(listen) => start(listen, dispatcher.beside(), console).await,
        None => Ok(None),
    }
}

/// Starts it. That it cannot listen is told and no reason to end: bots do not need it.
///
/// # Errors
/// Its thread cannot be started.
async fn start(
    listen: Listen,
    dispatcher: Dispatcher,
    console: &Console,
) -> Result<Option<Gateway>> {
    let Listen { address, tokens } = listen;
    let bound = TcpListener::bind(address).await;
    let opened = bound.and_then(|listener| Ok((listener.local_addr()?, listener.into_std()?)));
    let (at, listener) = match opened {
        Ok(opened) => opened,
        Err(err) => {
            console.warn(&format!(
                "no questions are answered on {address}: {err}; free the port, or set THE0_GATEWAY_ADDRESS to another \
                 address, or to nothing"
            ));
            return Ok(None);
        }
    };
    let who = match &tokens {
        Some(path) => format!("with the tokens of {}", path.display()),
        None => "of everybody who comes (THE0_QUERY_TOKENS names who may)".to_owned(),
    };
    console.say(&format!("questions are answered on http://{at}, {who}"));
    let (ending, is_ending) = watch::channel(false);
    let (ended, over) = oneshot::channel();
    let shared = Arc::new(Shared {
        dispatcher,
        tokens,
        console: console.clone(),
        audit: Audit::new(console.clone()),
        ending: is_ending,
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let work = move || {
        runtime.block_on(async {
            let Ok(listener) = TcpListener::from_std(listener) else {
                return;
            };
            let sweeping = tokio::spawn(sweep(Arc::clone(&shared)));
            let warming = tokio::spawn(warm(Arc::clone(&shared)));
            serve::serve(listener, Arc::clone(&shared)).await;
            sweeping.abort();
            warming.abort();
            if let Some(questions) = shared.dispatcher.apart() {
                questions.end().await;
            }
        });
        runtime.shutdown_background();
        let _ = ended.send(());
    };
    let thread = thread::Builder::new().name("gateway".into());
    thread.spawn(work).context("the gateway's thread")?;
    Ok(Some(Gateway { ending, over }))
}

impl Gateway {
    /// Takes no connection any more, and waits until what is under way is answered.
    pub async fn end(self) {
        let _ = self.ending.send(true);
        let _ = self.over.await;
    }
}

/// Removes containers that nobody waits for, now and then.
async fn sweep(shared: Arc<Shared>) {
    while let Some(questions) = shared.dispatcher.apart() {
        let pause = questions.sweep().await.unwrap_or(SOON);
        let end = Instant::now() + pause;
        while Instant::now() < end {
            sleep(SOON).await;
            if questions.owes() {
                break;
            }
        }
    }
}

/// Keeps containers that wait for questions.
async fn warm(shared: Arc<Shared>) {
    if let Some(questions) = shared.dispatcher.apart() {
        questions.keep_warm().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_listens_where_it_is_told_to_and_by_default_where_the_platform_looks() {
        let options = |address: Option<&str>, port: Option<&str>| Options {
            gateway_address: address.map(str::to_owned),
            gateway_port: port.map(str::to_owned),
            query_tokens: None,
        };
        let at = |address, port, usual| {
            let listen = options(address, port).listen(usual).unwrap();
            listen.map(|listen| listen.address.to_string())
        };
        assert_eq!(at(None, None, true).as_deref(), Some("0.0.0.0:9477"));
        assert_eq!(at(None, None, false), None);
        assert_eq!(at(None, Some("80"), false).as_deref(), Some("0.0.0.0:80"));
        assert_eq!(at(Some(""), None, true), None);
        assert_eq!(
            at(Some("127.0.0.1:1"), Some("2"), true).as_deref(),
            Some("127.0.0.1:1")
        );
        for (address, port, word) in [
            (Some("here"), None, "THE0_GATEWAY_ADDRESS"),
            (None, Some("many"), "QUERY_SERVER_PORT"),
        ] {
            let err = options(address, port).listen(true).unwrap_err().to_string();
            assert!(err.starts_with(word), "{err}");
        }
    }
}
