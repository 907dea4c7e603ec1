//! Who keeps what bots print, and how it is read there.

use std::sync::Arc;

use anyhow::Result;
use bollard::Docker;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use hyper::body::Bytes;

use super::chunk::Source;
use super::pods::{Pods, Turn};
use super::printer::Life;
use super::{containers, pods};
use crate::breaker::Gate;
use crate::show::Console;

/// Where bots run, as it is to be reached.
#[derive(Debug)]
pub enum Place {
    /// At a daemon.
    Docker(Docker),
    /// In this namespace of the cluster that the agent knows, which answers or does not.
    Kubernetes(String, Gate),
}

/// Reads what is printed; clones share it.
#[derive(Debug, Clone)]
pub enum Reader {
    /// The daemon keeps it.
    Docker(Docker),
    /// The kubelets keep it, and the API server asks them.
    Kubernetes(Arc<Pods>),
}

/// What is to be read.
#[derive(Debug, Clone, Copy)]
pub struct Look<'a> {
    /// Of what.
    pub name: &'a str,
    /// What tells it from others that have had that name, or get it: of a Pod, how its unique id begins.
    pub id: &'a str,
    /// How far it is.
    pub life: Life,
    /// What was printed until then is known.
    pub since: Option<&'a str>,
    /// Whether the life before this one may have lines that are not known.
    pub looks_back: bool,
}

/// What comes.
#[derive(Debug, PartialEq, Eq)]
pub enum Printed {
    /// Something was printed.
    Piece {
        /// Where.
        source: Source,
        /// When, in UTC, with as many digits as in all others.
        stamp: String,
        /// What.
        bytes: Bytes,
    },
    /// Whatever has printed so far has ended: a line without an end is one.
    End,
}

/// What is printed, as it comes.
pub enum Log {
    /// By a container.
    Docker(BoxStream<'static, Result<Printed>>),
    /// By a Pod.
    Kubernetes(Box<pods::Log>),
}

impl Reader {
    /// At this place.
    ///
    /// # Errors
    /// It is not known how it is reached.
    pub async fn open(place: Place, console: &Console) -> Result<Self> {
        Ok(match place {
            Place::Docker(docker) => Self::Docker(docker),
            Place::Kubernetes(namespace, gate) => {
                let pods = Pods::connect(&namespace, gate, console.clone()).await?;
                Self::Kubernetes(Arc::new(pods))
            }
        })
    }

    /// So many are to be read at once.
    pub fn expect(&self, count: usize) {
        if let Self::Kubernetes(pods) = self {
            pods.expect(count);
        }
    }

    /// Waits until it is one's turn to read.
    pub async fn turn(&self) -> Turn {
        match self {
            Self::Docker(_) => Turn::unbounded(),
            Self::Kubernetes(pods) => pods.turn().await,
        }
    }

    /// Begins to read.
    ///
    /// # Errors
    /// It cannot be had now.
    pub async fn read(&self, look: Look<'_>) -> Result<Log> {
        Ok(match self {
            Self::Docker(docker) => Log::Docker(containers::read(docker, look.name).await?),
            Self::Kubernetes(pods) => Log::Kubernetes(Box::new(pods.read(look).await?)),
        })
    }
}

impl Log {
    /// What comes next; `None` where nothing more is there. Nothing is lost when it is not waited for to the end.
    pub async fn next(&mut self) -> Option<Result<Printed>> {
        match self {
            Self::Docker(pieces) => pieces.next().await,
            Self::Kubernetes(log) => log.next().await,
        }
    }
}
