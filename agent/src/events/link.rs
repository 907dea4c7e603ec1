//! The way to NATS: where it is, how it is reached, and how long is waited between tries.
//!
//! The address is kept to itself: no error has its user, password or token.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use crate::breaker::Pace;
use async_nats::{Client, ConnectOptions, Event, ServerAddr};
use contract::Secret;
use percent_encoding::percent_decode_str;
use thiserror::Error;
use tokio::sync::watch;

/// The shortest pause between two tries.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How a server that does not answer is asked again.
pub const PACE: Pace = Pace {
    first: FIRST_PAUSE,
    longest: LONGEST_PAUSE,
    patience: Duration::from_secs(15),
};
/// A server that says nothing for twice as long is taken for gone.
const PING: Duration = Duration::from_secs(10);

/// Where NATS is.
#[derive(Clone)]
pub struct Address {
    servers: Vec<ServerAddr>,
    hidden: Vec<String>,
}

/// The address of NATS cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "the address of NATS is not usable: give nats://[user:password@]host[:port], or tls://.., several with commas; \
     in user and password write : / ? # [ ] @ % as %3A %2F %3F %23 %5B %5D %40 %25"
)]
pub struct BadAddress;

impl Address {
    /// Reads one address, or several with commas between.
    ///
    /// # Errors
    /// One of them is none.
    pub fn parse(address: &Secret) -> Result<Self, BadAddress> {
        let mut servers = Vec::new();
        for one in address.reveal().split(',').map(str::trim) {
            let server: ServerAddr = one.parse().map_err(|_| BadAddress)?;
            let usable = !server.host().is_empty() && !server.is_websocket();
            servers.push(usable.then_some(server).ok_or(BadAddress)?);
        }
        let hidden = servers.iter().flat_map(hidden).collect();
        Ok(Self { servers, hidden })
    }

    /// Connects, and stays connected: what is lost is tried again for ever. `up` tells how it is.
    ///
    /// # Errors
    /// No server takes it now; why.
    pub async fn connect(&self, up: watch::Sender<bool>) -> Result<Client, String> {
        let connected = self.options(note(up)).connect(self.servers.clone()).await;
        connected.map_err(|err| self.hide(&err.to_string()))
    }

    /// The same without waiting for a server: `up` tells when one is there.
    ///
    /// # Errors
    /// The client cannot be made.
    pub async fn attach(&self, up: watch::Sender<bool>) -> Result<Client, String> {
        let options = self.options(note(up)).retry_on_initial_connect();
        let attached = options.connect(self.servers.clone()).await;
        attached.map_err(|err| self.hide(&err.to_string()))
    }

    /// As [`Self::connect`]; `on` is told what becomes of the connection.
    ///
    /// # Errors
    /// As there.
    pub async fn visit(
        &self,
        on: impl Fn(Event) + Send + Sync + 'static,
    ) -> Result<Client, String> {
        let connected = self.options(on).connect(self.servers.clone()).await;
        connected.map_err(|err| self.hide(&err.to_string()))
    }

    fn options(&self, on: impl Fn(Event) + Send + Sync + 'static) -> ConnectOptions {
        self.login()
            .name("the0-agent")
            .ping_interval(PING)
            .connection_timeout(Duration::from_secs(5))
            .request_timeout(Some(Duration::from_secs(5)))
            .reconnect_delay_callback(|tries| pause(u32::try_from(tries).unwrap_or(u32::MAX)))
            .event_callback(move |event| {
                on(event);
                std::future::ready(())
            })
    }

    /// What the client does not take from the address by itself: the user and password, or the token, that one of the
    /// servers has there.
    fn login(&self) -> ConnectOptions {
        let meant = |word: &str| percent_decode_str(word).decode_utf8_lossy().into_owned();
        let server = self.servers.iter().find(|server| server.has_user_pass());
        match server.map(|server| (server.username().unwrap_or_default(), server.password())) {
            Some((user, Some(password))) => {
                ConnectOptions::with_user_and_password(meant(user), meant(password))
            }
            Some((token, None)) => ConnectOptions::with_token(meant(token)),
            None => ConnectOptions::new(),
        }
    }

    /// `text` without what must not be seen.
    pub fn hide(&self, text: &str) -> String {
        let hidden = self.hidden.iter();
        hidden.fold(text.to_owned(), |text, word| text.replace(word, "***"))
    }
}

/// Hosts and ports.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, server) in self.servers.iter().enumerate() {
            let comma = if n == 0 { "" } else { "," };
            write!(f, "{comma}{}:{}", server.host(), server.port())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

/// Keeps `up` as the connection is.
fn note(up: watch::Sender<bool>) -> impl Fn(Event) + Send + Sync + 'static {
    move |event| match event {
        Event::Connected => set(&up, true),
        Event::Disconnected | Event::Closed => set(&up, false),
        _ => {}
    }
}

fn set(up: &watch::Sender<bool>, is: bool) {
    up.send_if_modified(|up| std::mem::replace(up, is) != is);
}

/// The password, or the token that stands in its place, as it is written and as it is meant.
fn hidden(server: &ServerAddr) -> Vec<String> {
    let word = server.password().or(server.username()).unwrap_or_default();
    let meant = percent_decode_str(word).decode_utf8_lossy().into_owned();
    let mut words = vec![word.to_owned(), meant];
    words.retain(|word| !word.is_empty());
    words
}

/// How long is waited before the next try after so many failed ones; never the same for two agents.
pub fn pause(tries: u32) -> Duration {
    let whole = FIRST_PAUSE
        .saturating_mul(1 << tries.min(10))
        .min(LONGEST_PAUSE);
    let part = u32::try_from(RandomState::new().hash_one(tries) % 512).unwrap_or(0);
    whole * (512 + part) / 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Result<Address, BadAddress> {
        Address::parse(&Secret::new(text))
    }

    #[test]
    fn an_address_is_one_server_or_several_and_shows_no_secret() {
        let rows = [
            ("nats", "nats:4222"),
            ("nats://10.0.0.1:5222", "10.0.0.1:5222"),
            ("tls://a, nats://b:1", "a:4222,b:1"),
            ("nats://the0:hunter2@h", "h:4222"),
            ("nats://hunter2@h", "h:4222"),
        ];
        for (text, expected) in rows {
            let address = address(text).unwrap();
            assert_eq!(address.to_string(), expected);
            assert!(!format!("{address:?}").contains("hunter2"));
        }
        for bad in [
            "",
            "http://h",
            "nats://",
            "ws://h",
            "a,,b",
            "nats://u:hun/ter2@h",
        ] {
            let text = address(bad).unwrap_err().to_string();
            assert!(text.contains("%2F") && !text.contains("ter2"), "{text}");
        }
    }

    #[test]
    fn what_must_not_be_seen_is_hidden_as_it_is_written_and_as_it_is_meant() {
        let address = address("nats://bob:hunter%402@h,nats://t0k3n@h").unwrap();
        let said = address.hide("hunter%402 hunter@2 t0k3n h");
        assert_eq!(said, "*** *** *** h");
    }

    #[test]
    fn pauses_grow_to_a_bound() {
        for tries in 0..40 {
            let pause = pause(tries);
            assert!(
                pause >= FIRST_PAUSE / 2 && pause <= LONGEST_PAUSE,
                "{pause:?}"
            );
        }
        assert!(pause(20) >= LONGEST_PAUSE / 2);
    }
}
