//! The cluster that is meant.
//!
//! A watch says nothing while nothing changes, so a connection whose other end has gone without a word (a node that
//! fails, a route that changes) would look like one to a quiet cluster until the watch's time is over. The kernel asks the
//! other end instead, and what is sent and not taken ends the connection as well.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hyper_util::client::legacy::Client as Http;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ConfigExt};
use kube::{Client, Config};
use tower::{BoxError, ServiceBuilder};

/// Time for a connection to the API server.
const CONNECT: Duration = Duration::from_secs(10);
/// After so long without a word the other end is asked whether it is there, and after each such pause again.
const QUIET: Duration = Duration::from_secs(5);
/// So often, before it is taken to be gone.
const ASKED: u32 = 3;

/// The cluster, and the namespace that is ours in it without a word.
///
/// # Errors
/// There is neither a cluster around us nor a kubeconfig, or it cannot be used.
pub async fn connect() -> Result<(Client, String)> {
    let config = Config::infer().await;
    let config = config.context(
        "there is no cluster: run the controller in one, or name a kubeconfig in KUBECONFIG",
    )?;
    ensure!(
        config.proxy_url.is_none(),
        "the kubeconfig or HTTPS_PROXY names a proxy: the API server is reached without one"
    );
    let client = client(&config).context("the client of the API server")?;
    Ok((client, config.default_namespace))
}

/// Who asks again, and when, is the engine's.
fn client(config: &Config) -> Result<Client> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_connect_timeout(Some(CONNECT));
    tcp.set_keepalive(Some(QUIET));
    tcp.set_keepalive_interval(Some(QUIET));
    tcp.set_keepalive_retries(Some(ASKED));
    tcp.set_tcp_user_timeout(Some(QUIET * ASKED));
    let tls = config.rustls_https_connector_with_connector(tcp)?;
    let http: Http<_, Body> = Http::builder(TokioExecutor::new()).build(tls);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(http);
    Ok(Client::new(service, config.default_namespace.clone()))
}
