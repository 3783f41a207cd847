//! Reads certificates and keys from their files and makes of them what handshakes go by. Nothing here is kept.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{RootCertStore, ServerConfig};
use secrecy::{ExposeSecret as _, SecretSlice};

use super::{ClientCertificates, TlsConfig};

/// The largest file that is read.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Why the files cannot be used. It is the operator's to put right; the next change of a file is a new try.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("cannot read {}", file.display())]
    Unreadable {
        /// The key that names it.
        key: &'static str,
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file does not hold what it should in PEM.
    #[error("{} is not PEM with {wanted}", file.display())]
    NotPem {
        /// The key that names it.
        key: &'static str,
        /// The file.
        file: PathBuf,
        /// What it should hold.
        wanted: &'static str,
    },
    /// The certificate and the key cannot be used together.
    #[error("{} cannot be used with its key", file.display())]
    Certificate {
        /// The certificate's file.
        file: PathBuf,
        /// What is wrong.
        source: rustls::Error,
    },
    /// An authority is none.
    #[error("{} cannot be used to verify clients", file.display())]
    Authority {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The cryptography refuses its settings.
    #[error("cannot set TLS up")]
    Setup(#[source] rustls::Error),
    /// The process is going down.
    #[error("reading was interrupted")]
    Interrupted,
}

impl Error {
    /// The key of the table that has to be looked at.
    pub fn key(&self) -> &'static str {
        match self {
            Self::Unreadable { key, .. } | Self::NotPem { key, .. } => key,
            Self::Authority { .. } => "client_ca_file",
            Self::Certificate { .. } | Self::Setup(_) | Self::Interrupted => "certificate_file",
        }
    }
}

/// Everything, from the files as they are now.
pub(super) fn load(config: &TlsConfig) -> Result<Arc<ServerConfig>, Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let identity = identity(config, &provider)?;
    let clients = match &config.client_ca_file {
        Some(file) => Some(verifier(file, config.client_certificates, &provider)?),
        None => None,
    };
    let verifies_clients = clients.is_some();
    let builder = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(Error::Setup)?;
    let builder = match clients {
        Some(clients) => builder.with_client_cert_verifier(clients),
        None => builder.with_no_client_auth(),
    };
    let mut server = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(identity)));
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // No memory for each client: what a session needs travels in its ticket, under keys that change every six hours
    // and with every reload.
    server.session_storage = Arc::new(NoServerSessionStorage {});
    if verifies_clients {
        // A resumed session would not show its certificate again, and it may have expired or lost its authority.
        server.send_tls13_tickets = 0;
    } else {
        server.ticketer = aws_lc_rs::Ticketer::new().map_err(Error::Setup)?;
    }
    Ok(Arc::new(server))
}

fn identity(config: &TlsConfig, provider: &CryptoProvider) -> Result<CertifiedKey, Error> {
    let chain = certificates("certificate_file", &config.certificate_file)?;
    let file = &config.key_file;
    let text = SecretSlice::from(read("key_file", file)?);
    let key = PrivateKeyDer::from_pem_slice(text.expose_secret()).map_err(|_| Error::NotPem {
        key: "key_file",
        file: file.clone(),
        wanted: "a private key that is not encrypted",
    })?;
    CertifiedKey::from_der(chain, key, provider)
        .map_err(|source| Error::Certificate { file: config.certificate_file.clone(), source })
}

fn verifier(
    file: &Path,
    certificates_are: Option<ClientCertificates>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("client_ca_file", file)? {
        roots
            .add(certificate)
            .map_err(|source| Error::Authority { file: file.to_owned(), source: source.into() })?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let builder = match certificates_are.unwrap_or(ClientCertificates::Optional) {
        ClientCertificates::Optional => builder.allow_unauthenticated(),
        ClientCertificates::Required => builder,
    };
    builder.build().map_err(|source: VerifierBuilderError| Error::Authority {
        file: file.to_owned(),
        source: source.into(),
    })
}

/// All certificates of a file; at least one.
fn certificates(key: &'static str, file: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&read(key, file)?).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(Error::NotPem { key, file: file.to_owned(), wanted: "a certificate" }),
    }
}

fn read(key: &'static str, file: &Path) -> Result<Vec<u8>, Error> {
    let failed = |source| Error::Unreadable { key, file: file.to_owned(), source };
    let mut bytes = Vec::new();
    let mut open = File::open(file).map_err(failed)?.take(FILE_BYTES_MAX + 1);
    let read = open.read_to_end(&mut bytes).map_err(failed)?;
    match u64::try_from(read) {
        Ok(read) if read <= FILE_BYTES_MAX => Ok(bytes),
        _ => Err(failed(io::ErrorKind::FileTooLarge.into())),
    }
}
