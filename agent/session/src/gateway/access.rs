//! What an agent shows to its gateway: a bearer token, a client certificate. Provider keys are none of its business.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::Instant;
use tonic::{
    Request, Status,
    metadata::MetadataValue,
    service::Interceptor,
    transport::{Certificate, ClientTlsConfig, Identity},
};

/// The longest token that is sent.
const TOKEN_BYTES_MAX: u64 = 16 * 1024;
/// How often a token's file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What an agent shows to its gateway, and whom it trusts to be the gateway.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// A file with a bearer token, which is read again when it changes, as mounted service-account tokens do.
    pub token_file: Option<PathBuf>,
    /// Certificate authorities in PEM form, instead of the machine's.
    pub authorities: Option<Vec<u8>>,
    /// A client certificate with its key.
    pub certificate: Option<ClientCertificate>,
}

/// A client certificate with its key, in PEM form.
#[derive(Clone)]
pub struct ClientCertificate {
    /// The certificate and those between it and its authority.
    pub chain: Vec<u8>,
    /// Its key.
    pub key: SecretString,
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCertificate").finish_non_exhaustive()
    }
}

impl Access {
    /// How the connection is secured.
    pub(super) fn tls(&self) -> ClientTlsConfig {
        let tls = match &self.authorities {
            Some(pem) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)),
            None => ClientTlsConfig::new().with_enabled_roots(),
        };
        match &self.certificate {
            Some(ClientCertificate { chain, key }) => {
                tls.identity(Identity::from_pem(chain, key.expose_secret()))
            }
            None => tls,
        }
    }

    /// What puts the token into each request.
    pub(super) fn bearer(&self) -> Bearer {
        Bearer(self.token_file.as_deref().map(|path| Arc::new(TokenFile::at(path))))
    }
}

/// Puts the token into each request, if there is one.
#[derive(Clone, Default)]
pub(super) struct Bearer(Option<Arc<TokenFile>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(file) = &self.0 {
            request.metadata_mut().insert("authorization", file.value()?);
        }
        Ok(request)
    }
}

type Value = MetadataValue<tonic::metadata::Ascii>;

struct TokenFile {
    path: PathBuf,
    known: Mutex<Option<Known>>,
}

struct Known {
    value: Value,
    modified: Option<SystemTime>,
    looked_at: Instant,
}

impl TokenFile {
    fn at(path: &Path) -> Self {
        Self { path: path.to_owned(), known: Mutex::new(None) }
    }

    /// The token as it is now. The file is small and local: it is read where it is needed.
    fn value(&self) -> Result<Value, Status> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = &*known
            && known.looked_at.elapsed() < LOOK_EVERY
        {
            return Ok(known.value.clone());
        }
        let found = std::fs::metadata(&self.path).map_err(|error| self.unreadable(&error))?;
        let modified = found.modified().ok();
        if let Some(known) = &mut *known
            && known.modified == modified
            && modified.is_some()
        {
            known.looked_at = Instant::now();
            return Ok(known.value.clone());
        }
        if found.len() > TOKEN_BYTES_MAX {
            return Err(self.unreadable("it is too large for a token"));
        }
        let text = std::fs::read_to_string(&self.path).map_err(|error| self.unreadable(&error))?;
        let text = SecretString::from(format!("Bearer {}", text.trim()));
        let mut value: Value =
            text.expose_secret().parse().map_err(|_| self.unreadable("it does not hold a token"))?;
        value.set_sensitive(true);
        *known = Some(Known { value: value.clone(), modified, looked_at: Instant::now() });
        Ok(value)
    }

    fn unreadable(&self, reason: impl fmt::Display) -> Status {
        Status::unauthenticated(format!(
            "cannot read the token for the gateway from {}: {reason}",
            self.path.display()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(bearer: &mut Bearer) -> Result<String, Status> {
        let request = bearer.call(Request::new(()))?;
        Ok(request.metadata().get("authorization").unwrap().to_str().unwrap().to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_changes_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let mut bearer = Access { token_file: Some(path.clone()), ..Access::default() }.bearer();
        let missing = shown(&mut bearer).unwrap_err();
        assert!(missing.message().contains("token"), "{missing}");
        std::fs::write(&path, "first\n").unwrap();
        assert_eq!(shown(&mut bearer).unwrap(), "Bearer first");
        let later = SystemTime::now() + Duration::from_secs(5);
        std::fs::write(&path, "second\n").unwrap();
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(later).unwrap();
        assert_eq!(shown(&mut bearer).unwrap(), "Bearer first", "it was looked at just now");
        tokio::time::advance(LOOK_EVERY).await;
        assert_eq!(shown(&mut bearer).unwrap(), "Bearer second");
        std::fs::write(&path, "a\u{0}b").unwrap();
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(later + LOOK_EVERY).unwrap();
        tokio::time::advance(LOOK_EVERY).await;
        let odd = shown(&mut bearer).unwrap_err();
        assert!(!odd.message().contains("a\u{0}b"));
    }

    #[test]
    fn without_a_token_nothing_is_shown() {
        let request = Access::default().bearer().call(Request::new(())).unwrap();
        assert!(request.metadata().is_empty());
    }
}
