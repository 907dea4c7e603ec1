//! Names to addresses without the C library, whose own way crashes in a static binary: `/etc/hosts`, then the
//! servers of `/etc/resolv.conf`.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, anyhow};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::ResolverConfig;
use hickory_resolver::net::runtime::TokioRuntimeProvider;

/// The addresses of `host`, which may be one itself.
///
/// # Errors
/// The name is unknown, or nobody can be asked about it.
pub async fn addresses(host: &str, port: u16) -> anyhow::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let found = resolver()?.lookup_ip(host).await.map_err(|err| {
        // The library's text for this repeats the question in its own notation, twice.
        if err.is_no_records_found() {
            anyhow!("the name {host:?} is known neither to /etc/hosts nor to the servers of /etc/resolv.conf")
        } else {
            anyhow!("the name {host:?} cannot be resolved: {err}")
        }
    })?;
    Ok(found
        .iter()
        .map(|address| SocketAddr::new(address, port))
        .collect())
}

fn resolver() -> anyhow::Result<TokioResolver> {
    let builder = TokioResolver::builder_tokio().unwrap_or_else(|_| {
        // No usable /etc/resolv.conf: what is in /etc/hosts is still known.
        let nobody = ResolverConfig::from_parts(None, Vec::new(), Vec::new());
        TokioResolver::builder_with_config(nobody, TokioRuntimeProvider::default())
    });
    builder.build().context("set up the resolver")
}
