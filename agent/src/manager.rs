//! What a service manager is told, where one asks for it by `NOTIFY_SOCKET` (systemd's `Type=notify`): that the agent
//! takes requests, that it ends, and, where a watchdog waits for it, that its loop still turns.
//!
//! The watchdog is fed by the thread of the loop itself: one that is stuck is not covered up by another.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// A service manager that wants to know.
#[derive(Debug)]
pub struct Manager {
    socket: UnixDatagram,
    to: SocketAddr,
    /// How often the watchdog must hear of the agent; half of what it waits.
    rhythm: Option<Duration>,
}

impl Manager {
    /// The one that started us, if it asks.
    pub fn of_environment() -> Option<Self> {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let to = address(&set("NOTIFY_SOCKET")?).ok()?;
        let watched = set("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
        let limit = set("WATCHDOG_USEC").filter(|_| watched);
        let limit = limit.and_then(|micros| micros.parse().ok());
        let limit = limit.map(Duration::from_micros).filter(|l| !l.is_zero());
        Some(Self {
            socket: UnixDatagram::unbound().ok()?,
            to,
            rhythm: limit.map(|limit| limit / 2),
        })
    }

    /// The agent takes requests.
    pub fn ready(&self) {
        self.tell("READY=1\nSTATUS=bots are looked after");
    }

    /// The agent ends.
    pub fn ending(&self) {
        self.tell("STOPPING=1");
    }

    /// Feeds the watchdog, for ever.
    pub async fn feed(&self) {
        let Some(rhythm) = self.rhythm else { return };
        let mut ticks = tokio::time::interval(rhythm);
        loop {
            ticks.tick().await;
            self.tell("WATCHDOG=1");
        }
    }

    /// A manager that does not listen is its own business.
    fn tell(&self, what: &str) {
        let _ = self.socket.send_to_addr(what.as_bytes(), &self.to);
    }
}

/// A path, or a name in the abstract namespace where it begins with `@`.
fn address(name: &str) -> io::Result<SocketAddr> {
    match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(name),
    }
}
