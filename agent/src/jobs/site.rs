//! Where jobs run: as containers of a Docker daemon, or as Pods of a cluster.

use std::collections::HashMap;
use std::time::Duration;

use contract::{BotId, Secret};

use super::decide::Container;
use super::verdict::Left;
use crate::document::Bot;
use crate::engine::docker;
use crate::engine::keys::KeyMaker;
use crate::engine::kubernetes;
use crate::engine::not_started::NotStarted;
use crate::engine::stack::Stack;
use crate::lease::Lease;
use crate::show::Console;

/// Where jobs run; clones share it.
#[derive(Debug, Clone)]
pub enum Site {
    /// As containers.
    Docker(Box<docker::Access>),
    /// As Pods.
    Kubernetes(Box<kubernetes::job::Jobs>),
}

/// A job's container or Pod, as a listing tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its unique id.
    pub id: String,
    /// How far it is.
    pub container: Container,
}

/// What was made for a job and not started.
#[derive(Debug)]
pub struct Made {
    /// Its unique id.
    pub id: String,
    /// Whether it was there before, and noted: others may be about to start it.
    pub is_kept: bool,
    /// From now; `None`: its keys have no end.
    pub renew_in: Option<Duration>,
    /// What it is told when it is started; a Pod has it in its Secret.
    pub document: Secret,
}

impl Site {
    /// The right to act.
    pub fn lease(&self) -> &Lease {
        match self {
            Self::Docker(access) => &access.lease,
            Self::Kubernetes(jobs) => &jobs.access.lease,
        }
    }

    /// Where people look.
    pub fn console(&self) -> &Console {
        match self {
            Self::Docker(access) => &access.console,
            Self::Kubernetes(jobs) => &jobs.access.console,
        }
    }

    /// Who makes keys.
    pub fn keys(&self) -> &KeyMaker {
        match self {
            Self::Docker(access) => &access.keys,
            Self::Kubernetes(jobs) => &jobs.access.keys,
        }
    }

    /// How long keys are good.
    pub fn life(&self) -> Duration {
        match self {
            Self::Docker(access) => access.template.keys,
            Self::Kubernetes(jobs) => jobs.access.template.keys,
        }
    }

    /// How long one has between being asked to end and being killed.
    pub fn patience(&self) -> Duration {
        match self {
            Self::Docker(access) => access.template.stop,
            Self::Kubernetes(jobs) => jobs.access.template.grace(),
        }
    }

    /// How often it is looked for what nobody needs, when no job is under way.
    pub fn sweep(&self) -> Duration {
        match self {
            Self::Docker(_) => Duration::from_secs(30),
            // With nothing to do an API server is left alone.
            Self::Kubernetes(_) => Duration::from_mins(5),
        }
    }

    /// Whose jobs they are.
    pub fn stack(&self) -> &Stack {
        match self {
            Self::Docker(access) => &access.template.stack,
            Self::Kubernetes(jobs) => &jobs.access.template.stack,
        }
    }

    /// What there is of the stack's jobs.
    ///
    /// # Errors
    /// The engine does not answer; its words.
    pub async fn list(&self) -> Result<HashMap<BotId, Seen>, String> {
        match self {
            Self::Docker(access) => docker::job::list(access).await,
            Self::Kubernetes(jobs) => jobs.list().await,
        }
    }

    /// Makes what the job will run in, in the place of what was made and not started; of Pods one that was `noted` when the
    /// job began is that already.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn make(&self, job: &Bot, noted: Option<&str>) -> Result<Made, NotStarted> {
        match self {
            Self::Docker(access) => docker::job::make(access, job, noted).await,
            Self::Kubernetes(jobs) => Box::pin(jobs.make(job, noted)).await,
        }
    }

    /// Starts what was made.
    ///
    /// # Errors
    /// It does not run.
    pub async fn begin(&self, job: &BotId, made: &Made) -> Result<(), NotStarted> {
        match self {
            Self::Docker(access) => docker::job::begin(access, made).await,
            Self::Kubernetes(jobs) => jobs.begin(job, made).await,
        }
    }

    /// Takes back what was made.
    pub async fn take_back(&self, job: &BotId, made: &Made) {
        match self {
            Self::Docker(access) => docker::job::take_back(access, made).await,
            Self::Kubernetes(jobs) => jobs.take_back(job, made).await,
        }
    }

    /// Hands new keys to a job that runs; in what time it needs the next, if ever.
    ///
    /// # Errors
    /// The store gives none, or the engine does not take them; for a person.
    pub async fn renew(&self, job: &Bot, id: &str) -> Result<Option<Duration>, String> {
        match self {
            Self::Docker(access) => docker::job::renew(access, job, id).await,
            Self::Kubernetes(jobs) => jobs.renew(job, id).await,
        }
    }

    /// Tells a job to end.
    ///
    /// # Errors
    /// The engine's words.
    pub async fn ask(&self, job: &BotId, id: &str) -> Result<(), String> {
        match self {
            Self::Docker(access) => docker::job::signal(access, id, "SIGTERM").await,
            Self::Kubernetes(jobs) => jobs.ask(job, id).await,
        }
    }

    /// Ends a job.
    ///
    /// # Errors
    /// The engine's words.
    pub async fn kill(&self, job: &BotId, id: &str) -> Result<(), String> {
        match self {
            Self::Docker(access) => docker::job::signal(access, id, "SIGKILL").await,
            Self::Kubernetes(jobs) => jobs.kill(job, id).await,
        }
    }

    /// Removes what a job has run in, or begins to.
    ///
    /// # Errors
    /// The engine's words.
    pub async fn remove(&self, job: &BotId, id: &str) -> Result<(), String> {
        match self {
            Self::Docker(access) => docker::job::remove(access, id).await,
            Self::Kubernetes(jobs) => jobs.remove(job, id).await,
        }
    }

    /// What a job that has ended left; `None` when that is gone, or it runs.
    ///
    /// # Errors
    /// The engine does not give it.
    pub async fn left(&self, job: &BotId, id: &str, most: u64) -> Result<Option<Left>, String> {
        match self {
            Self::Docker(access) => docker::job::left(access, id, most).await,
            Self::Kubernetes(jobs) => jobs.left(job, id, most).await,
        }
    }
}
