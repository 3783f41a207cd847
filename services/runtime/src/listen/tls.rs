//! TLS for TCP listeners: which certificate is shown and whose certificates are asked for, taken over anew whenever the
//! files change.
//!
//! TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1 by ALPN. A reload is whole or not at all: what cannot be used changes nothing, is
//! logged, and shows in `/readyz` until it is put right. Connections keep what they began with.

mod files;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

pub use files::Error;

use crate::cli::chain;
use crate::config::Problem;
use crate::drain::Drain;
use crate::health::Ready;
use crate::watch::Watched;

/// TLS, as configured. It applies to every TCP listener; unix sockets stay plain. The files are watched, and new
/// connections see what changed within a second.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// The certificate to show, in PEM, followed by those that lead to its authority.
    pub certificate_file: PathBuf,
    /// Its private key, in PEM: PKCS #8, SEC 1 or PKCS #1, not encrypted.
    pub key_file: PathBuf,
    /// The authorities whose client certificates are accepted, in PEM; without it clients are not asked for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_ca_file: Option<PathBuf>,
    /// Whether clients must show a certificate; `optional` when `client_ca_file` is set. One that is shown is always
    /// verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificates: Option<ClientCertificates>,
}

/// Whether clients must show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientCertificates {
    /// They may.
    Optional,
    /// Nobody is let in without.
    Required,
}

impl TlsConfig {
    /// Reads the files, or says what is wrong; `at` is the dotted key of this table.
    pub fn build(&self, at: &str) -> Result<Tls, Vec<Problem>> {
        if self.client_certificates.is_some() && self.client_ca_file.is_none() {
            let problem =
                Problem::new(format!("{at}.client_certificates"), "has nothing to verify them with")
                    .fix("name the authorities in client_ca_file");
            return Err(vec![problem]);
        }
        let current = files::load(self)
            .map_err(|error| vec![Problem::new(format!("{at}.{}", error.key()), chain(&error))])?;
        let (current, trouble) = (RwLock::new(current), RwLock::default());
        Ok(Tls(Arc::new(Inner { config: self.clone(), current, trouble, asked: Notify::new() })))
    }

    /// Its paths, to let relative ones start at the configuration file's directory.
    pub fn paths_mut(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        [&mut self.certificate_file, &mut self.key_file].into_iter().chain(&mut self.client_ca_file)
    }

    fn files(&self) -> impl Iterator<Item = PathBuf> {
        [&self.certificate_file, &self.key_file].into_iter().chain(&self.client_ca_file).cloned()
    }
}

struct Inner {
    config: TlsConfig,
    current: RwLock<Arc<ServerConfig>>,
    /// Why the files as they are now cannot be used.
    trouble: RwLock<Option<String>>,
    asked: Notify,
}

/// The TLS of a process's listeners; clones share it.
#[derive(Clone)]
pub struct Tls(Arc<Inner>);

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tls").field(&self.0.config).finish()
    }
}

impl Tls {
    /// What a handshake that begins now goes by.
    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Why the certificate from before is shown, if the files as they are now cannot be used.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.0.trouble.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks for the files to be read now; [`keep_fresh`](Self::keep_fresh) does it.
    pub fn reload(&self) {
        self.0.asked.notify_one();
    }

    /// Takes the files over whenever they change or somebody asks, until connections are no longer taken; tells through
    /// `ready` what could not be used.
    pub async fn keep_fresh(self, ready: Ready, drain: Drain) {
        let mut watched = Watched::new(self.0.config.files());
        // What has changed since the files were first read was not watched.
        loop {
            let trouble = self.take_over().await.err().map(|error| chain(&error));
            *self.0.trouble.write().unwrap_or_else(PoisonError::into_inner) = trouble.clone();
            match trouble {
                None => ready.ready(),
                Some(error) => {
                    tracing::error!(error, "the TLS files cannot be used; the certificate stays as it is");
                    ready.ready_with(format!("serving the certificate from before: {error}"));
                }
            }
            tokio::select! {
                biased;
                () = drain.closing() => return,
                () = watched.changed() => {}
                () = self.0.asked.notified() => {}
            }
        }
    }

    async fn take_over(&self) -> Result<(), Error> {
        let config = self.0.config.clone();
        let loaded = tokio::task::spawn_blocking(move || files::load(&config)).await;
        let loaded = loaded.unwrap_or(Err(Error::Interrupted))?;
        *self.0.current.write().unwrap_or_else(PoisonError::into_inner) = loaded;
        tracing::info!(
            certificate_file = %self.0.config.certificate_file.display(),
            "new connections are served with the certificate as it is now"
        );
        Ok(())
    }
}
