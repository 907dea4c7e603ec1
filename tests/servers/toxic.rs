//! Toxiproxy: faults of the connection itself, below HTTP, switched on and off while it carries.

use std::ffi::OsString;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

use super::{LOOPBACK, Server, free_port, installed, new_root};
use crate::{SOON, http, wait_for};

/// A link from a port of the loopback to a server, through a toxiproxy of its own.
#[derive(Debug)]
pub struct Link {
    server: Mutex<Server>,
    control: String,
    address: String,
    upstream: String,
}

/// What a link does to what passes, in both directions where it can.
#[derive(Debug, Clone, Copy)]
pub enum Toxic {
    /// Everything comes so many milliseconds later.
    Latency(u64),
    /// So many KB a second.
    Bandwidth(u64),
    /// The connection's end comes so many milliseconds later.
    SlowClose(u64),
    /// The connection is reset after so many milliseconds.
    ResetPeer(u64),
    /// The connection ends after so many bytes from the store.
    LimitAnswer(u64),
    /// The connection ends after so many bytes to the store.
    LimitRequest(u64),
    /// Nothing passes, and the connection ends after so many milliseconds; 0: never.
    Timeout(u64),
}

impl Toxic {
    fn parts(self) -> (&'static str, &'static [&'static str], Value) {
        let both = &["upstream", "downstream"];
        match self {
            Self::Latency(ms) => ("latency", both, json!({"latency": ms})),
            Self::Bandwidth(rate) => ("bandwidth", both, json!({"rate": rate})),
            Self::SlowClose(ms) => ("slow_close", both, json!({"delay": ms})),
            Self::ResetPeer(ms) => ("reset_peer", &["downstream"], json!({"timeout": ms})),
            Self::LimitAnswer(bytes) => ("limit_data", &["downstream"], json!({"bytes": bytes})),
            Self::LimitRequest(bytes) => ("limit_data", &["upstream"], json!({"bytes": bytes})),
            Self::Timeout(ms) => ("timeout", both, json!({"timeout": ms})),
        }
    }
}

impl Link {
    /// A link to `upstream`; `None` when toxiproxy is not installed, which has been said.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start(upstream: &str) -> Option<Self> {
        Self::start_at(LOOPBACK, upstream)
    }

    /// The same from a port of another address of this machine: one that containers reach, say.
    ///
    /// # Panics
    /// As [`Link::start`].
    pub fn start_at(host: IpAddr, upstream: &str) -> Option<Self> {
        let program = installed("toxiproxy-server")?;
        let port = free_port();
        let words = ["-host", "127.0.0.1", "-port"].map(OsString::from);
        let mut command = vec![OsString::from(program)];
        command.extend(words);
        command.push(port.to_string().into());
        let mut server = Server {
            root: new_root(),
            address: format!("127.0.0.1:{port}"),
            command,
            guard: None,
        };
        server.run();
        let mut link = Self {
            control: server.address.clone(),
            server: Mutex::new(server),
            address: format!("{host}:0"),
            upstream: upstream.to_owned(),
        };
        let made = link.lay();
        link.address = made["listen"].as_str().expect("an address").into();
        Some(link)
    }

    fn lay(&self) -> Value {
        wait_for("toxiproxy", SOON, || {
            std::net::TcpStream::connect(&self.control).ok()
        });
        let proxy = json!({"name": "store", "listen": self.address, "upstream": self.upstream});
        self.ask("POST", "/proxies", &proxy)
    }

    /// Host and port it listens on.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Puts `toxic` in the way, in addition to what is there.
    ///
    /// # Panics
    /// When toxiproxy refuses.
    pub fn add(&self, toxic: Toxic) {
        let (kind, streams, attributes) = toxic.parts();
        for stream in streams {
            let toxic = json!({"type": kind, "stream": stream, "attributes": attributes});
            self.ask("POST", "/proxies/store/toxics", &toxic);
        }
    }

    /// Takes everything out of the way, and listens again. Toxiproxy sometimes never comes to an end with taking a toxic
    /// away (its issue 558): it is started anew then.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn heal(&self) {
        let reply = http(&self.control, "POST", "/reset", "null");
        if (200..300).contains(&reply.status) {
            return;
        }
        eprintln!("toxiproxy does not get over a toxic and is started anew: {reply:?}");
        {
            let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
            server.stop();
            server.run();
        }
        self.lay();
    }

    /// Refuses connections and ends those there are, until it is healed.
    ///
    /// # Panics
    /// When toxiproxy refuses.
    pub fn cut(&self) {
        self.ask("POST", "/proxies/store", &json!({"enabled": false}));
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let reply = http(&self.control, method, path, &body.to_string());
        let refused = !(200..300).contains(&reply.status);
        assert!(!refused, "toxiproxy: {method} {path}: {reply:?}");
        reply.json()
    }
}
