//! What every operation on the cluster needs; clones share it.

use std::sync::Arc;

use contract::BotId;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::{Api, Client};
use tokio::sync::Semaphore;

use super::link;
use super::template::Template;
use crate::breaker::Gate;
use crate::engine::keys::KeyMaker;
use crate::engine::not_started::NotStarted;
use crate::lease::Lease;
use crate::plan::Outcome;
use crate::schedule::ledger::Key;
use crate::schedule::permit::Permits;
use crate::show::Console;

/// Starts that are under way at once: the API server does not notice them, and many at a time would only wait there.
const STARTS: usize = 16;

/// The cluster, the operator's settings and the store.
#[derive(Clone)]
pub struct Access {
    /// The API server.
    pub client: Client,
    /// Where the Pods are.
    pub namespace: String,
    /// The operator's settings.
    pub template: Arc<Template>,
    /// The starts that may be under way at once.
    pub starts: Arc<Semaphore>,
    /// Who makes keys.
    pub keys: KeyMaker,
    /// Where people look.
    pub console: Console,
    /// The right to act.
    pub lease: Lease,
    /// Whether the API server answers.
    pub gate: Gate,
    /// Who may start the ticks of schedules.
    pub permits: Option<Permits>,
    /// Whether the cluster's own clock gets those schedules that it keeps as well as we do.
    pub clock: bool,
}

impl Access {
    /// To the namespace of this cluster, with these settings.
    pub fn new(
        client: Client,
        namespace: String,
        template: Template,
        keys: KeyMaker,
        console: Console,
    ) -> Self {
        Self {
            client,
            namespace,
            template: Arc::new(template),
            starts: Arc::new(Semaphore::new(STARTS)),
            keys,
            console,
            lease: Lease::alone(),
            gate: Gate::new(link::PACE),
            permits: None,
            clock: false,
        }
    }

    /// The Pods.
    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The CronJobs.
    pub fn cronjobs(&self) -> Api<CronJob> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The Jobs of CronJobs.
    pub fn jobs(&self) -> Api<Job> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The Secrets.
    pub fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Whoever may have taken over the right to act since the start was begun would start the bot too.
    ///
    /// # Errors
    /// This agent may not act any more.
    pub fn may_act(&self) -> Result<(), NotStarted> {
        if self.lease.may_act() {
            return Ok(());
        }
        let why = "this agent has lost the lease: who has it starts the bot";
        Err(NotStarted::new(Outcome::Stopped, why))
    }

    /// Of a tick of a schedule, its Pod is made and not started: it is, when it is written that it is.
    ///
    /// # Errors
    /// That is not written: another agent may have gone on with the tick.
    pub async fn permit(&self, bot: &BotId, tick: Key) -> Result<(), NotStarted> {
        let Some(permits) = &self.permits else {
            return Ok(());
        };
        let taken = permits.take(bot, tick).await;
        taken.map_err(|why| NotStarted::new(Outcome::Stopped, why))
    }
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Access");
        shown.field("namespace", &self.namespace);
        shown.finish_non_exhaustive()
    }
}
