//! How a provider is reached: certificates, proxy, what goes around the proxy.
//!
//! Certificates and keys are read here, once, and kept as values. No message holds anything of a file or of the
//! proxy's address: both may be secret.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, TrustAnchor};
use rustls::sign::CertifiedKey;
use secrecy::ExposeSecret as _;
use url::Url;

use super::Check;
use crate::transport::{Network, NoProxy, Proxy, Rule, crypto};

/// The largest file with certificates; the bundle of a whole operating system has a third of a megabyte.
const PEM_MAX: u64 = 4 * 1024 * 1024;

impl Check<'_> {
    /// The way to a provider at `base`.
    pub(super) fn network(&mut self, base: Option<&Url>) -> Option<Network> {
        let before = self.problems.len();
        let proxy = self.proxy();
        let no_proxy = self.no_proxy();
        let plain = base.is_some_and(|base| base.scheme() == "http");
        let plain_proxy = !proxy.as_ref().is_some_and(Proxy::is_secure);
        if plain && plain_proxy && self.config.ca_file.is_some() {
            let message = "no certificate is checked: base_url begins with http://";
            self.problem("ca_file", message, "use https:// in base_url, or remove the key");
        }
        if plain {
            self.refuse_identity();
        }
        let authorities = self.authorities();
        let identity = self.identity();
        (self.problems.len() == before).then_some(Network { authorities, identity, proxy, no_proxy })
    }

    fn proxy(&mut self) -> Option<Proxy> {
        let text = self.config.proxy.as_ref()?;
        match Proxy::parse(text.expose_secret()) {
            Ok(proxy) => Some(proxy),
            Err(reason) => {
                let fix =
                    "http://host:port or https://host:port, with user:password@ before the host if needed";
                self.problem("proxy", format!("not the address of an HTTP proxy: {reason}"), fix);
                None
            }
        }
    }

    fn no_proxy(&mut self) -> NoProxy {
        let config = self.config;
        if config.proxy.is_none() && !config.no_proxy.is_empty() {
            let fix = "set proxy, or remove the key";
            self.problem("no_proxy", "there is no proxy that anything could go around", fix);
        }
        let mut rules = Vec::new();
        for text in &config.no_proxy {
            match Rule::parse(text) {
                Ok(rule) => rules.push(rule),
                Err(reason) => {
                    let fix = "one host an entry: a name, .suffix, address, network such as 10.0.0.0/8, or *";
                    // What has a user in it may have a password too.
                    let shown = if text.contains('@') { "an entry" } else { text };
                    self.problem("no_proxy", format!("{shown:?} is not a host: {reason}"), fix);
                }
            }
        }
        rules.into_iter().collect()
    }

    fn refuse_identity(&mut self) {
        let config = self.config;
        let keys = [
            ("client_certificate_file", &config.client_certificate_file),
            ("client_key_file", &config.client_key_file),
        ];
        for (key, _) in keys.into_iter().filter(|(_, file)| file.is_some()) {
            let message = "no certificate can be shown: base_url begins with http://";
            self.problem(key, message, "use https:// in base_url, or remove the key");
        }
    }

    fn authorities(&mut self) -> Vec<TrustAnchor<'static>> {
        let Some(file) = &self.config.ca_file else { return Vec::new() };
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates("ca_file", file) {
            if roots.add(certificate).is_err() {
                let message = format!("{} holds a certificate that cannot be trusted", file.display());
                self.problem("ca_file", message, "keep X.509 certificates of authorities in it");
                break;
            }
        }
        roots.roots
    }

    fn identity(&mut self) -> Option<Arc<CertifiedKey>> {
        let config = self.config;
        let (certificate, key) = match (&config.client_certificate_file, &config.client_key_file) {
            (None, None) => return None,
            (Some(_), None) => {
                self.problem("client_key_file", "missing", "name the key of client_certificate_file");
                return None;
            }
            (None, Some(_)) => {
                let fix = "name the certificate of client_key_file";
                self.problem("client_certificate_file", "missing", fix);
                return None;
            }
            (Some(certificate), Some(key)) => (certificate, key),
        };
        let chain = self.certificates("client_certificate_file", certificate);
        let key = self.key("client_key_file", key)?;
        if chain.is_empty() {
            return None;
        }
        match CertifiedKey::from_der(chain, key, &crypto()) {
            Ok(identity) => Some(Arc::new(identity)),
            Err(rustls::Error::InconsistentKeys(_)) => {
                let message = "not the key of the first certificate in client_certificate_file";
                let fix = "put the gateway's own certificate first, then those of its issuers";
                self.problem("client_key_file", message, fix);
                None
            }
            Err(rustls::Error::InvalidCertificate(_)) => {
                let message =
                    format!("{} begins with something that is no certificate", certificate.display());
                let fix = "put the gateway's own certificate first, then those of its issuers";
                self.problem("client_certificate_file", message, fix);
                None
            }
            Err(error) => {
                let message = format!("the key cannot be used: {error}");
                self.problem("client_key_file", message, "use an RSA, ECDSA or Ed25519 key");
                None
            }
        }
    }

    /// The certificates of a file, at least one; none if there is a problem.
    fn certificates(&mut self, key: &str, file: &Path) -> Vec<CertificateDer<'static>> {
        let Some(pem) = self.read(key, file) else { return Vec::new() };
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        match found {
            Ok(found) if !found.is_empty() => found,
            _ => {
                let message = format!("{} is not a PEM file with certificates", file.display());
                self.problem(key, message, "it has to hold -----BEGIN CERTIFICATE-----");
                Vec::new()
            }
        }
    }

    fn key(&mut self, key: &str, file: &Path) -> Option<PrivateKeyDer<'static>> {
        let pem = self.read(key, file)?;
        let found = PrivateKeyDer::from_pem_slice(&pem);
        if found.is_err() {
            let message = format!("{} is not a PEM file with an unencrypted private key", file.display());
            self.problem(key, message, "it has to hold -----BEGIN PRIVATE KEY-----");
        }
        found.ok()
    }

    fn read(&mut self, key: &str, file: &Path) -> Option<Vec<u8>> {
        match read(file) {
            Ok(content) => Some(content),
            Err(error) => {
                let message = format!("cannot read {}: {error}", file.display());
                self.problem(key, message, "name a PEM file that the gateway may read");
                None
            }
        }
    }
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    File::open(file)?.take(PEM_MAX + 1).read_to_end(&mut content)?;
    match u64::try_from(content.len()) {
        Ok(length) if length <= PEM_MAX => Ok(content),
        _ => Err(io::Error::other("larger than 4 MiB")),
    }
}
