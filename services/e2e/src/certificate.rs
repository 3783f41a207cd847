//! A certificate for a service on loopback, as files that it reads, with an authority of its own; and clients and servers of
//! ours that go by it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::home::Home;

/// Whom the certificate is for.
pub const SERVER_NAME: &str = "127.0.0.1";

/// Writes a certificate and its key into a home, as `tls.crt` and `tls.key`, and the certificate of their authority under
/// this name; the authority's file.
pub fn certify(home: &Home, authority: &str) -> anyhow::Result<PathBuf> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec![SERVER_NAME.to_owned()])?;
    // OpenSSL takes a certificate that has its authority's name for one that has signed itself.
    params.distinguished_name.push(DnType::CommonName, "gateway");
    params.use_authority_key_identifier_extension = true;
    let certificate = params.signed_by(&key, &issuer)?;
    // The key comes last, so that a pair which does not belong together is seen and refused before.
    std::fs::write(home.path("tls.crt"), certificate.pem())?;
    std::fs::write(home.path("tls.key"), key.serialize_pem())?;
    let file = home.path(authority);
    std::fs::write(&file, issuer.pem())?;
    Ok(file)
}

/// The table of a service's configuration that names the files in a home.
pub fn table(home: &Home) -> String {
    format!("\n[tls]\ncertificate_file = {:?}\nkey_file = {:?}\n", home.path("tls.crt"), home.path("tls.key"))
}

/// A client that trusts this authority alone.
pub fn client(authority: &Path) -> anyhow::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority)?)?;
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
    let config = builder.with_safe_default_protocol_versions()?.with_root_certificates(roots);
    Ok(Arc::new(config.with_no_client_auth()))
}

/// A server with the certificate in a home.
pub fn server(home: &Home) -> anyhow::Result<Arc<ServerConfig>> {
    let chain = vec![CertificateDer::from_pem_file(home.path("tls.crt"))?];
    let key = PrivateKeyDer::from_pem_file(home.path("tls.key"))?;
    let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()));
    let config = builder.with_safe_default_protocol_versions()?.with_no_client_auth();
    Ok(Arc::new(config.with_single_cert(chain, key)?))
}
