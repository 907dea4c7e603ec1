//! Whether bots run as containers here, or as Pods. (Those of `agent dev` have ended with their agent.)

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use bollard::query_parameters::ListContainersOptionsBuilder;
use contract::BotId;

use crate::engine::docker::refusal::said;
use crate::engine::docker::{Engine, names};
use crate::engine::kubernetes::{connect, trial};

/// How long the daemon, or the API server, may take.
const LIMIT: Duration = Duration::from_secs(10);

/// Where they would run.
#[derive(Debug)]
pub enum Site {
    /// On this daemon, or the usual one.
    Docker(Option<String>),
    /// In this namespace.
    Kubernetes(String),
}

/// That none of these bots runs there, whichever agent has started it.
pub fn none(site: &Site, bots: &BTreeSet<BotId>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let running = match site {
        Site::Docker(host) => runtime.block_on(containers(host.as_deref())).context(
            "whether its bots run is not known: start Docker, or give --no-docker where none runs as a container",
        )?,
        Site::Kubernetes(namespace) => runtime.block_on(pods(namespace)).context(
            "whether its bots run is not known: name a kubeconfig that works in KUBECONFIG, or give --no-docker where none \
             runs as a Pod",
        )?,
    };
    let ours = running.into_iter().filter(|(bot, _)| bots.contains(bot));
    let ours: Vec<String> = ours.map(|(_, name)| name).collect();
    ensure!(
        ours.is_empty(),
        "bots of it run: {}: stop them first (`agent drain`, and end the agent)",
        ours.join(", ")
    );
    Ok(())
}

/// Bots that run as containers of any agent, and the names of these.
async fn containers(host: Option<&str>) -> Result<Vec<(BotId, String)>> {
    let docker = Engine::connect(host)?;
    let asked = async {
        let docker = docker.negotiate_version().await?;
        let filters = HashMap::from([("label", vec![format!("{}=true", names::MANAGED)])]);
        let options = ListContainersOptionsBuilder::default()
            .filters(&filters)
            .build();
        docker.list_containers(Some(options)).await
    };
    let found = tokio::time::timeout(LIMIT, asked).await;
    let found = found.context("the Docker daemon did not answer in time")?;
    let found = found.map_err(|err| anyhow!("{}", said(&err)))?;
    let bots = found.into_iter().filter_map(|container| {
        let bot = container.labels?.get(names::ID)?.parse().ok()?;
        let name = container.names?.into_iter().next()?;
        Some((bot, name.trim_start_matches('/').to_owned()))
    });
    Ok(bots.collect())
}

/// Bots that have Pods, or CronJobs that make them, of any agent, and the names of these.
async fn pods(namespace: &str) -> Result<Vec<(BotId, String)>> {
    let (client, _) = connect().await?;
    let asked = trial::present(&client, namespace);
    let found = tokio::time::timeout(LIMIT, asked).await;
    let found = found.context("the API server did not answer in time")?;
    found.map_err(|why| anyhow!(why))
}
