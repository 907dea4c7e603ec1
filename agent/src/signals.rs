//! The signals that end the agent.

use std::io;

use tokio::signal::unix::{self, SignalKind, signal};

/// A signal that ends the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Ctrl-C.
    Interrupt,
    /// The usual request to end.
    Terminate,
    /// The terminal is gone.
    Hangup,
}

impl Signal {
    /// For a person.
    pub fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "Ctrl-C",
            Self::Terminate => "SIGTERM",
            Self::Hangup => "SIGHUP",
        }
    }
}

/// Where they arrive.
#[derive(Debug)]
pub struct Signals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
    hangup: unix::Signal,
}

impl Signals {
    /// From now on they do not end the process but arrive here.
    ///
    /// # Errors
    /// What the operating system answers.
    pub fn catch() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Those of a test: none comes, and the process can be ended.
    #[cfg(test)]
    pub fn none() -> Self {
        let never = || signal(SignalKind::io()).expect("a runtime");
        Self {
            interrupt: never(),
            terminate: never(),
            hangup: never(),
        }
    }

    /// The next one.
    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::Interrupt,
            _ = self.terminate.recv() => Signal::Terminate,
            _ = self.hangup.recv() => Signal::Hangup,
        }
    }
}
