//! Where bots run: what of an agent depends on it, and nothing else does.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use contract::launch::Variables;
use tokio::sync::mpsc::UnboundedSender;

use super::{cluster, docker};
use crate::engine::keys::KeyMaker;
use crate::engine::{Engine, News};
use crate::gateway::apart::Apart;
use crate::health::{Board, Dependency};
use crate::history::notices::Logs;
use crate::lease::Lease;
use crate::live::Live;
use crate::schedule::permit::Permits;
use crate::show::Console;
use crate::store::{Address, Store};
use crate::{events, jobs, place};

/// Which engine is asked for.
#[derive(Debug, Clone, Copy)]
pub enum Choice<'a> {
    /// Docker.
    Docker,
    /// Kubernetes, with what the controller was told.
    Kubernetes(&'a cluster::Options),
}

/// Where bots run, with what the operator sets of it.
pub enum Where {
    /// As containers.
    Docker(Box<docker::Setup>),
    /// As Pods.
    Kubernetes(Box<cluster::Setup>),
}

/// What an engine is opened with.
pub struct Around<'a> {
    /// Where objects are.
    pub store: &'a Store,
    /// The right to act.
    pub lease: &'a Lease,
    /// Where it is told how things are.
    pub board: &'a Board,
    /// Where people look.
    pub console: &'a Console,
    /// The agent's data folder.
    pub data: &'a Path,
    /// Who makes keys.
    pub keys: KeyMaker,
    /// Who may start the ticks of schedules.
    pub permits: Permits,
    /// Where it is told what happens.
    pub news: UnboundedSender<News>,
    /// Where jobs come from, if from anywhere.
    pub source: Option<&'a events::Source>,
    /// Questions at once that need an instance of their own.
    pub apart: usize,
    /// Time between two looks at what should run.
    pub interval: Duration,
}

/// What an engine brings.
pub struct Parts {
    /// Where bots run.
    pub engine: Engine,
    /// What becomes of what bots print, where it is sent.
    pub live: Option<Live>,
    /// Run-to-end jobs, where there are some.
    pub queue: Option<jobs::Queue>,
    /// Who asks bots that do not run.
    pub apart: Option<Apart>,
    /// Where the last lines of logs are.
    pub logs: Logs,
}

impl Where {
    /// Reads what the operator sets.
    ///
    /// # Errors
    /// The first setting that cannot be used.
    pub fn new(
        choice: Choice<'_>,
        environment: &Variables,
        store: &Address,
        nats: Option<&events::Address>,
    ) -> Result<Self> {
        Ok(match choice {
            Choice::Docker => Self::Docker(Box::new(docker::setup(environment, store, nats)?)),
            Choice::Kubernetes(options) => {
                Self::Kubernetes(Box::new(cluster::setup(options, environment, store, nats)?))
            }
        })
    }

    /// What the agent depends on there.
    pub fn dependency(&self) -> Dependency {
        match self {
            Self::Docker(_) => Dependency::Docker,
            Self::Kubernetes(_) => Dependency::Kubernetes,
        }
    }

    /// The stack.
    pub fn stack(&self) -> String {
        match self {
            Self::Docker(docker) => docker.stack(),
            Self::Kubernetes(cluster) => cluster.stack(),
        }
    }

    /// How long keys are good.
    pub fn keys(&self) -> Duration {
        match self {
            Self::Docker(docker) => docker.keys(),
            Self::Kubernetes(cluster) => cluster.keys(),
        }
    }

    /// Where containers are, if bots are some.
    pub fn containers(&self) -> Option<&place::Containers> {
        match self {
            Self::Docker(docker) => Some(&docker.containers),
            Self::Kubernetes(_) => None,
        }
    }

    /// Opens the engine.
    ///
    /// # Errors
    /// What keeps it from that.
    pub async fn open(self, around: Around<'_>) -> Result<Parts> {
        match self {
            Self::Docker(docker) => docker.open(around),
            Self::Kubernetes(cluster) => cluster.open(around).await,
        }
    }
}
