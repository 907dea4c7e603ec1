//! Names to addresses without the C library, whose own way crashes in a static binary: `/etc/hosts`, then the
//! servers of `/etc/resolv.conf`.

use std::io;
use std::net::{IpAddr, SocketAddr};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::ResolverConfig;
use hickory_resolver::net::runtime::TokioRuntimeProvider;

/// The addresses of `host`, which may be one itself.
pub(super) async fn addresses(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let found = resolver()?.lookup_ip(host).await.map_err(|error| {
        io::Error::other(if error.is_no_records_found() {
            format!("the name {host:?} is known neither to /etc/hosts nor to the servers of /etc/resolv.conf")
        } else {
            format!("the name {host:?} cannot be resolved: {error}")
        })
    })?;
    Ok(found
        .iter()
        .map(|address| SocketAddr::new(address, port))
        .collect())
}

fn resolver() -> io::Result<TokioResolver> {
    let builder = TokioResolver::builder_tokio().unwrap_or_else(|_| {
        // No usable /etc/resolv.conf: what is in /etc/hosts is still known.
        let nobody = ResolverConfig::from_parts(None, Vec::new(), Vec::new());
        TokioResolver::builder_with_config(nobody, TokioRuntimeProvider::default())
    });
    builder
        .build()
        .map_err(|error| io::Error::other(format!("the resolver cannot be set up: {error}")))
}
