//! The API on the network: where it listens, and bounds for whoever comes.
//!
//! Only so many are attended at once, and further ones wait in the kernel's queue; each gets one answer, and the time
//! for its head, its body and for taking the answer is bounded in [`super::attend`].

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::guard::{Door, Guard};
use super::route::Access;
use super::tokens::{Tokens, Unusable};
use super::{Api, attend};
use crate::show::Console;

/// Where `agent run` listens unless told otherwise: beside the platform's 9476 and 9477, and nobody's at IANA.
pub const ADDRESS: &str = "127.0.0.1:9478";
/// Connections at once.
const MOST: usize = 64;

/// What of it the operator sets.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Options {
    /// Where the HTTP API listens besides its socket; empty: nowhere [default: 127.0.0.1:9478 of `agent run`]
    #[arg(
        long,
        env = "THE0_API_ADDRESS",
        hide_env_values = true,
        value_name = "IP:PORT"
    )]
    api_address: Option<String>,
    /// Who may use it there: lines of NAME TOKEN read|write; without it only loopback is listened on
    #[arg(
        long,
        env = "THE0_API_TOKENS",
        hide_env_values = true,
        value_name = "FILE"
    )]
    api_tokens: Option<String>,
}

/// Why it cannot be listened as asked.
#[derive(Debug, Error)]
pub enum BadListen {
    /// That is no address.
    #[error(
        "THE0_API_ADDRESS is {0:?}: give an address and a port, as in {ADDRESS}, or nothing for none"
    )]
    Address(String),
    /// Everybody could stop bots.
    #[error(
        "the API is not served on {0} without tokens, for whoever reaches it could stop bots: name a file of tokens \
         (THE0_API_TOKENS, --api-tokens), or listen on 127.0.0.1 (THE0_API_ADDRESS, --api-address)"
    )]
    Open(SocketAddr),
    /// The tokens cannot be used.
    #[error(transparent)]
    Tokens(#[from] Unusable),
}

/// Where it listens and who may come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    address: SocketAddr,
    guard: Guard,
}

impl Options {
    /// What was asked for, `usual` when nothing was; `None`: not to listen.
    ///
    /// # Errors
    /// It cannot be done as asked.
    pub fn listen(&self, usual: &str) -> Result<Option<Listen>, BadListen> {
        let address = self.api_address.as_deref().unwrap_or(usual).trim();
        if address.is_empty() {
            return Ok(None);
        }
        let parsed = address.parse();
        let address: SocketAddr = parsed.map_err(|_| BadListen::Address(address.to_owned()))?;
        let tokens = self.api_tokens.as_ref().filter(|path| !path.is_empty());
        let guard = match tokens {
            Some(path) => {
                let path = PathBuf::from(path);
                Tokens::<Access>::read(&path)?;
                Guard::Tokens(path)
            }
            None if address.ip().is_loopback() => Guard::Loopback,
            None => return Err(BadListen::Open(address)),
        };
        Ok(Some(Listen { address, guard }))
    }
}

/// Serves the API as asked. That it cannot is told and no reason to end: bots do not need it.
pub async fn start(listen: Option<Listen>, api: Api, console: &Console) {
    let Some(Listen { address, guard }) = listen else {
        return;
    };
    let bound = TcpListener::bind(address).await;
    let opened = bound.and_then(|listener| Ok((listener.local_addr()?, listener)));
    match opened {
        Ok((at, listener)) => {
            let who = match &guard {
                Guard::Tokens(path) => format!("with the tokens of {}", path.display()),
                Guard::Loopback => "for everybody on this machine".to_owned(),
            };
            console.say(&format!("the API is on http://{at}/v1, {who}"));
            drop(tokio::spawn(serve(listener, guard, api)));
        }
        Err(err) => console.warn(&format!(
            "no API on {address}: {err}; free the port, or set THE0_API_ADDRESS to another address, or to nothing"
        )),
    }
}

/// Takes requests until the loop that answers them is gone.
pub(super) async fn serve(listener: TcpListener, guard: Guard, api: Api) {
    let places = Arc::new(Semaphore::new(MOST));
    while !api.requests.is_closed() {
        let place = Arc::clone(&places).acquire_owned().await;
        match listener.accept().await {
            Ok((stream, from)) => {
                let (guard, api) = (guard.clone(), api.clone());
                tokio::spawn(async move {
                    attend(stream, &Door::Net(from), &guard, &api).await;
                    drop(place);
                });
            }
            // Out of descriptors: others will be closed.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    fn options(address: Option<&str>, tokens: Option<&str>) -> Options {
        Options {
            api_address: address.map(str::to_owned),
            api_tokens: tokens.map(str::to_owned),
        }
    }

    #[test]
    fn without_tokens_only_loopback_is_listened_on() {
        for address in ["127.0.0.1:0", "[::1]:9478", "127.9.9.9:1"] {
            for tokens in [None, Some("")] {
                let listen = options(Some(address), tokens).listen("").unwrap().unwrap();
                assert_eq!(listen.guard, Guard::Loopback);
            }
        }
        for address in [
            "0.0.0.0:9478",
            "[::]:1",
            "10.0.0.1:1",
            "[::ffff:127.0.0.1]:1",
        ] {
            let refused = options(Some(address), None).listen("").unwrap_err();
            let why = refused.to_string();
            assert!(
                why.contains("--api-tokens") && why.contains("127.0.0.1"),
                "{why}"
            );
        }
    }

    #[test]
    fn with_tokens_that_can_be_used_any_address_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens");
        let given = path.to_str();
        let refused = options(Some("0.0.0.0:0"), given).listen("").unwrap_err();
        assert!(refused.to_string().contains("No such file"), "{refused}");
        fs::write(&path, "ci 0123456789abcdef\n").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let refused = options(Some("127.0.0.1:0"), given).listen("").unwrap_err();
        assert!(refused.to_string().contains("chmod 600"), "{refused}");
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        let listen = options(Some("0.0.0.0:0"), given)
            .listen("")
            .unwrap()
            .unwrap();
        assert_eq!(listen.guard, Guard::Tokens(path));
    }

    #[test]
    fn the_usual_address_another_one_or_none() {
        let usual = options(None, None).listen(ADDRESS).unwrap().unwrap();
        assert_eq!(usual.address.to_string(), ADDRESS);
        assert_eq!(options(None, None).listen("").unwrap(), None);
        assert_eq!(options(Some(""), None).listen(ADDRESS).unwrap(), None);
        for bad in ["9478", "localhost:9478", "127.0.0.1"] {
            let why = options(Some(bad), None).listen("").unwrap_err().to_string();
            assert!(
                why.contains("THE0_API_ADDRESS") && why.contains(ADDRESS),
                "{why}"
            );
        }
    }
}
