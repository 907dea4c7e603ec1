//! Whether bots run as containers here. (Those of `agent dev` have ended with their agent.)

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use bollard::query_parameters::ListContainersOptionsBuilder;
use contract::BotId;

use crate::engine::docker::refusal::said;
use crate::engine::docker::{Engine, names};

/// How long the daemon may take.
const LIMIT: Duration = Duration::from_secs(10);

/// That none of these bots runs on the daemon at `host`, whichever agent has started it.
pub fn none(host: Option<&str>, bots: &BTreeSet<BotId>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let running = runtime.block_on(running(host)).context(
        "whether its bots run is not known: start Docker, or give --no-docker where none runs as a container",
    )?;
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
async fn running(host: Option<&str>) -> Result<Vec<(BotId, String)>> {
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
