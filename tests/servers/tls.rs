//! A private CA and a certificate of a server, where MinIO looks for them.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

/// Writes `public.crt` and `private.key` into `folder` and gives the path of the CA's certificate.
pub(super) fn write(folder: &Path) -> PathBuf {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let name = "a private CA of the tests";
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().expect("a key");
    let ca = CertifiedIssuer::self_signed(params, key).expect("a CA");

    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let params = CertificateParams::new(names).expect("names");
    let key = KeyPair::generate().expect("a key");
    let own = params.signed_by(&key, &ca).expect("a certificate");
    fs::write(folder.join("public.crt"), own.pem()).expect("a certificate");
    fs::write(folder.join("private.key"), key.serialize_pem()).expect("a key");
    // Not `CAs/`, whose certificates MinIO would trust itself.
    let path = folder.join("ca.pem");
    fs::write(&path, ca.pem()).expect("a CA's certificate");
    path
}
