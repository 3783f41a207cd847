//! Whom TLS connections trust and what they show of the gateway.
//!
//! Certificates are values here: files are read when a configuration is checked. There is no way to switch
//! verification off.

use std::io;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore};

/// The settings of a provider's TLS connections, by what is spoken over them.
pub(super) struct Tls {
    /// HTTP/2 where offered.
    pub(super) http: Arc<ClientConfig>,
    /// HTTP/1.1 only: a WebSocket begins with its `Upgrade`.
    pub(super) websocket: Arc<ClientConfig>,
    /// To an HTTPS proxy, which never sees the client certificate.
    pub(super) proxy: Arc<ClientConfig>,
}

impl Tls {
    /// Trusts `roots`; shows `identity` to the provider if it asks.
    pub(super) fn new(
        roots: &Arc<RootCertStore>,
        identity: Option<Arc<CertifiedKey>>,
    ) -> Result<Tls, rustls::Error> {
        let builder = ClientConfig::builder_with_provider(crypto())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(Arc::clone(roots));
        let mut proxy = builder.clone().with_no_client_auth();
        let mut http = match identity {
            Some(identity) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity))),
            None => builder.with_no_client_auth(),
        };
        let mut websocket = http.clone();
        http.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        websocket.alpn_protocols = vec![b"http/1.1".to_vec()];
        proxy.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Tls { http: Arc::new(http), websocket: Arc::new(websocket), proxy: Arc::new(proxy) })
    }
}

/// The cryptography of all connections.
pub(crate) fn crypto() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// What this machine trusts.
pub(crate) fn roots_of_this_machine() -> io::Result<RootCertStore> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (_, unusable) = roots.add_parsable_certificates(found.certs);
    if !found.errors.is_empty() || unusable > 0 {
        tracing::warn!(errors = ?found.errors, unusable, "some of this machine's certificates cannot be used");
    }
    if roots.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "this machine has none"));
    }
    Ok(roots)
}
