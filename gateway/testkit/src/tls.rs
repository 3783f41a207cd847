//! TLS for the scripted upstream: an authority of its own, its server's certificate, and clients' certificates.
//!
//! Everything is made anew for each upstream and lives in memory only.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::wire::Wire;

const SERVER_NAMES: [&str; 2] = ["localhost", "127.0.0.1"];

/// What a TLS upstream asks for and offers. By default no client certificate, HTTP/2 and HTTP/1.1.
#[derive(Debug, Clone, Default)]
pub struct TlsOptions {
    names: Vec<String>,
    client_certificate: bool,
    only_http1: bool,
}

impl TlsOptions {
    /// The defaults.
    pub fn new() -> TlsOptions {
        TlsOptions::default()
    }

    /// Lets nobody in without a certificate of the upstream's authority.
    #[must_use]
    pub fn require_client_certificate(mut self) -> TlsOptions {
        self.client_certificate = true;
        self
    }

    /// Offers HTTP/1.1 alone.
    #[must_use]
    pub fn only_http1(mut self) -> TlsOptions {
        self.only_http1 = true;
        self
    }

    /// Certifies this name too, beside `localhost` and `127.0.0.1`.
    #[must_use]
    pub fn name(mut self, name: &str) -> TlsOptions {
        self.names.push(name.to_owned());
        self
    }
}

/// A certificate and its key, as files hold them.
#[derive(Clone)]
pub struct Identity {
    /// The certificate.
    pub certificate_pem: String,
    /// The key, in PKCS #8.
    pub key_pem: String,
}

/// TLS connections so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsCounts {
    /// Handshakes that failed.
    pub failed: usize,
    /// Connections by the protocol that was agreed on; empty where the client named none.
    pub by_protocol: BTreeMap<String, usize>,
    /// Connections by the subject of their client's certificate; empty where the client showed none.
    pub by_subject: BTreeMap<String, usize>,
}

impl TlsCounts {
    pub(crate) fn count(&mut self, connection: (String, String)) {
        *self.by_protocol.entry(connection.0).or_default() += 1;
        *self.by_subject.entry(connection.1).or_default() += 1;
    }
}

/// The TLS side of an upstream.
pub struct Tls {
    authority: CertifiedIssuer<'static, KeyPair>,
    acceptor: TlsAcceptor,
    /// The subject of each client certificate that was made.
    subjects: Mutex<HashMap<CertificateDer<'static>, String>>,
}

impl Tls {
    pub(crate) fn new(options: &TlsOptions) -> io::Result<Tls> {
        let mut params = named("testkit authority").map_err(io::Error::other)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let authority = CertifiedIssuer::self_signed(params, key).map_err(io::Error::other)?;
        let acceptor = acceptor(&authority, options)?;
        Ok(Tls { authority, acceptor, subjects: Mutex::default() })
    }

    /// The authority's certificate: what a client has to trust.
    pub fn authority_pem(&self) -> String {
        self.authority.pem()
    }

    /// Makes a client's certificate with this subject (its common name).
    pub fn client(&self, subject: &str) -> io::Result<Identity> {
        let mut params = named(subject).map_err(io::Error::other)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let certificate = params.signed_by(&key, &self.authority).map_err(io::Error::other)?;
        let mut subjects = self.subjects.lock().unwrap_or_else(PoisonError::into_inner);
        subjects.insert(certificate.der().clone(), subject.to_owned());
        Ok(Identity { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
    }

    /// Takes a connection; gives its protocol and its client's subject beside it.
    pub(crate) async fn accept(&self, wire: Wire) -> io::Result<(TlsStream<Wire>, (String, String))> {
        let stream = self.acceptor.accept(wire).await?;
        let session = stream.get_ref().1;
        let protocol = session.alpn_protocol().unwrap_or_default();
        let protocol = String::from_utf8_lossy(protocol).into_owned();
        let subjects = self.subjects.lock().unwrap_or_else(PoisonError::into_inner);
        let certificate = session.peer_certificates().and_then(<[_]>::first);
        let subject = certificate.and_then(|it| subjects.get(it)).cloned().unwrap_or_default();
        drop(subjects);
        Ok((stream, (protocol, subject)))
    }
}

fn named(subject: &str) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, subject);
    Ok(params)
}

fn acceptor(authority: &CertifiedIssuer<'static, KeyPair>, options: &TlsOptions) -> io::Result<TlsAcceptor> {
    let names = SERVER_NAMES.iter().map(|name| (*name).to_owned()).chain(options.names.iter().cloned());
    let mut params = CertificateParams::new(names.collect::<Vec<_>>()).map_err(io::Error::other)?;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate().map_err(io::Error::other)?;
    let certificate = params.signed_by(&key, authority).map_err(io::Error::other)?;

    let provider = Arc::new(default_provider());
    let config = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    let config = if options.client_certificate {
        let mut roots = RootCertStore::empty();
        roots.add(authority.der().clone()).map_err(io::Error::other)?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
        config.with_client_cert_verifier(verifier.map_err(io::Error::other)?)
    } else {
        config.with_no_client_auth()
    };
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut config =
        config.with_single_cert(vec![certificate.der().clone()], key).map_err(io::Error::other)?;
    let protocols: &[&[u8]] = if options.only_http1 { &[b"http/1.1"] } else { &[b"h2", b"http/1.1"] };
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(TlsAcceptor::from(Arc::new(config)))
}
