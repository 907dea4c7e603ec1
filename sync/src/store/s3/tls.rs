//! Whom to trust: the public authorities, and those of a file.

use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

/// A connector that trusts the public authorities and those in `ca_file`.
pub(super) fn connector(ca_file: Option<&Path>) -> io::Result<TlsConnector> {
    let mut roots: RootCertStore = webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect();
    if let Some(path) = ca_file {
        add(&mut roots, path).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("THE0_CA_FILE {}: {error}", path.display()),
            )
        })?;
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn add(roots: &mut RootCertStore, path: &Path) -> io::Result<()> {
    let text = std::fs::read(path)?;
    let mut added = 0;
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|error| invalid(&error))?;
        roots.add(certificate).map_err(|error| invalid(&error))?;
        added += 1;
    }
    if added == 0 {
        return Err(invalid(&"no certificate in PEM form is in it"));
    }
    Ok(())
}

fn invalid(why: &impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_string())
}

/// What went wrong in a handshake, with what to do about a certificate.
pub(super) fn explain(error: &io::Error) -> String {
    let inner = error
        .get_ref()
        .and_then(|e| e.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(why)) => format!(
            "its certificate is not accepted ({why}): put the certificate of a private authority into the file \
             that THE0_CA_FILE names, and check the name in MINIO_ENDPOINT and this machine's clock"
        ),
        Some(rustls::Error::InvalidMessage(_)) => {
            "it does not speak TLS on that port: check MINIO_USE_SSL and the port in MINIO_ENDPOINT"
                .to_owned()
        }
        _ => format!("TLS handshake: {error}"),
    }
}
