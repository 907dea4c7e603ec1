//! What every operation on the daemon needs; clones share it.

use std::collections::HashMap;
use std::sync::Arc;

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::{Network, NetworkCreateRequest};
use bollard::query_parameters::ListNetworksOptionsBuilder;
use contract::BotId;
use tokio::sync::{Mutex, Semaphore};

use super::image::Images;
use super::link;
use super::metadata;
use super::names;
use super::refusal::{NotStarted, has_status};
use super::template::Template;
use crate::breaker::Gate;
use crate::engine::keys::KeyMaker;
use crate::lease::Lease;
use crate::plan::Outcome;
use crate::schedule::ledger::Key;
use crate::schedule::permit::Permits;
use crate::show::Console;

/// The daemon, the operator's settings and the store.
#[derive(Debug, Clone)]
pub struct Access {
    /// The daemon.
    pub docker: Docker,
    /// Whether it is this machine's, so that its volumes may be folders here.
    pub is_near: bool,
    /// The operator's settings.
    pub template: Arc<Template>,
    /// The starts that may be under way at once.
    pub starts: Arc<Semaphore>,
    /// Who makes keys.
    pub keys: KeyMaker,
    /// What is known of images.
    pub images: Images,
    /// Where people look.
    pub console: Console,
    /// The right to act.
    pub lease: Lease,
    /// Whether the daemon answers.
    pub gate: Gate,
    /// Who may start the ticks of schedules.
    pub permits: Option<Permits>,
    network: Arc<Mutex<Known>>,
}

/// What is known of the bots' network.
#[derive(Debug, Default)]
struct Known {
    network: Option<Network>,
    /// Why metadata addresses are open, as it was told.
    open: Option<String>,
}

impl Access {
    /// To this daemon, with these settings.
    pub fn new(docker: Docker, template: Template, keys: KeyMaker, console: Console) -> Self {
        Self {
            docker,
            is_near: false,
            template: Arc::new(template),
            starts: Arc::new(Semaphore::new(STARTS)),
            keys,
            images: Images::default(),
            console,
            lease: Lease::alone(),
            gate: Gate::new(link::PACE),
            permits: None,
            network: Arc::default(),
        }
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

    /// Of a tick of a schedule, its container is made and not started: it is, when it is written that it is.
    ///
    /// # Errors
    /// That is not written: another agent may have gone on with the tick.
    pub async fn permit(&self, bot: &BotId, tick: Option<Key>) -> Result<(), NotStarted> {
        let (Some(tick), Some(permits)) = (tick, &self.permits) else {
            return Ok(());
        };
        let taken = permits.take(bot, tick).await;
        taken.map_err(|why| NotStarted::new(Outcome::Stopped, why))
    }

    /// The id of the bots' network: the one that the operator names, or the stack's own, which is made where it is not
    /// there. The addresses of the machine's own metadata are kept from it. It is looked for once, and again after
    /// [`Access::forget_network`].
    ///
    /// # Errors
    /// There is none, and the daemon makes none.
    pub async fn network(&self) -> Result<String, NotStarted> {
        let mut known = self.network.lock().await;
        if let Some(network) = &known.network {
            return Ok(network.id.clone().unwrap_or_default());
        }
        let network = match &self.template.network {
            Some(name) => self.named(name).await?,
            None => self.own().await?,
        };
        self.close(&network);
        self.block(&mut known, &network).await;
        let id = network.id.clone().unwrap_or_default();
        known.network = Some(network);
        Ok(id)
    }

    /// The network may have been removed, or the daemon started anew.
    pub async fn forget_network(&self) {
        self.network.lock().await.network = None;
    }

    /// Whoever loads the machine's rules anew takes ours away: they are made again where they are missing.
    pub async fn guard(&self) {
        let mut known = self.network.lock().await;
        if let Some(network) = known.network.clone() {
            self.block(&mut known, &network).await;
        }
    }

    async fn block(&self, known: &mut Known, network: &Network) {
        let blocked = metadata::block(&bridge_of(network), &self.template.stack).await;
        let why = blocked.err().map(|why| why.to_string());
        if let (Some(why), true) = (&why, why != known.open) {
            self.console.warn(&format!(
                "bots are not kept from metadata addresses (169.254.0.0/16): {why}"
            ));
        }
        known.open = why;
    }

    /// Tells when bots in the network are not kept from each other.
    fn close(&self, network: &Network) {
        let icc = network
            .options
            .as_ref()
            .and_then(|options| options.get(ICC));
        if icc.is_none_or(|icc| icc != "false") {
            let name = network.name.as_deref().unwrap_or_default();
            self.console.warn(&format!(
                "network {name} lets its containers reach each other, so bots in it are not kept apart: the stack's own, without DOCKER_NETWORK and made by the agent, does not"
            ));
        }
    }

    async fn named(&self, name: &str) -> Result<Network, NotStarted> {
        let failed = |err| NotStarted::by_engine(&format!("network {name}"), &err);
        let found = self.find(name).await.map_err(failed)?;
        let Some(network) = found.into_iter().next() else {
            return Err(NotStarted {
                outcome: Outcome::Failed,
                why: format!(
                    "network {name} is not there: make it, or leave DOCKER_NETWORK unset for the stack's own"
                ),
            });
        };
        Ok(network)
    }

    async fn own(&self) -> Result<Network, NotStarted> {
        let name = self.template.stack.network();
        let failed = |err| NotStarted::by_engine(&format!("make network {name}"), &err);
        if self.find(&name).await.map_err(failed)?.is_empty() {
            match self.docker.create_network(self.request(&name)).await {
                // Another agent has made it meanwhile: daemons after API 1.43 have one of a name.
                Err(err) if !has_status(&err, 409) => return Err(failed(err)),
                _ => {}
            }
        }
        let found = self.find(&name).await.map_err(failed)?;
        self.single(found).await.ok_or_else(|| {
            let why = format!("network {name} was made and is gone again");
            NotStarted::new(Outcome::Failed, why)
        })
    }

    /// The one of these networks that stays. Two agents, or one that was killed and its successor, can make two of one
    /// name, and the daemon starts no container then: those that nobody uses go.
    async fn single(&self, mut networks: Vec<Network>) -> Option<Network> {
        let mut at = networks.len();
        while networks.len() > 1 && at > 0 {
            at -= 1;
            let id = networks[at].id.clone().unwrap_or_default();
            match self.docker.remove_network(&id).await {
                Err(err) if !has_status(&err, 404) => {}
                _ => drop(networks.remove(at)),
            }
        }
        networks.into_iter().next()
    }

    /// The networks of that name, oldest first: daemons of API 1.43 and before let several have one.
    async fn find(&self, name: &str) -> Result<Vec<Network>, Error> {
        let filters = HashMap::from([("name", vec![name.to_owned()])]);
        let options = ListNetworksOptionsBuilder::default()
            .filters(&filters)
            .build();
        let found = self.docker.list_networks(Some(options)).await?;
        let mut found: Vec<Network> = found
            .into_iter()
            .filter(|n| n.name.as_deref() == Some(name))
            .collect();
        found.sort_by(|a, b| a.created.cmp(&b.created));
        Ok(found)
    }

    fn request(&self, name: &str) -> NetworkCreateRequest {
        let labels = [
            (names::MANAGED, "true"),
            (names::STACK, self.template.stack.as_str()),
        ];
        let owned = |pairs: &[(&str, &str)]| -> HashMap<String, String> {
            pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect()
        };
        NetworkCreateRequest {
            name: name.to_owned(),
            driver: Some("bridge".into()),
            options: Some(owned(&[(ICC, "false")])),
            labels: Some(owned(&labels)),
            ..NetworkCreateRequest::default()
        }
    }
}

/// The kernel's name of a network's bridge.
fn bridge_of(network: &Network) -> String {
    let given = network
        .options
        .as_ref()
        .and_then(|options| options.get(BRIDGE))
        .cloned();
    let id: String = network
        .id
        .iter()
        .flat_map(|id| id.chars())
        .take(12)
        .collect();
    given.unwrap_or_else(|| format!("br-{id}"))
}

/// Starts under way at once: more of them take no less time, and the daemon answers others meanwhile.
const STARTS: usize = 8;
const ICC: &str = "com.docker.network.bridge.enable_icc";
const BRIDGE: &str = "com.docker.network.bridge.name";
