//! The cluster that is meant.

use std::time::Duration;

use anyhow::{Context, Result};
use kube::{Client, Config};

/// Time for a connection to the API server.
const CONNECT: Duration = Duration::from_secs(10);

/// The cluster, and the namespace that is ours in it without a word.
///
/// # Errors
/// There is neither a cluster around us nor a kubeconfig.
pub async fn connect() -> Result<(Client, String)> {
    let config = Config::infer().await;
    let mut config = config.context(
        "there is no cluster: run the controller in one, or name a kubeconfig in KUBECONFIG",
    )?;
    config.connect_timeout = Some(CONNECT);
    // Who asks again, and when, is the engine's.
    config.default_retry = false;
    let own = config.default_namespace.clone();
    let client = Client::try_from(config).context("the client of the API server")?;
    Ok((client, own))
}
