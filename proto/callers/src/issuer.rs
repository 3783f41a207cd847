//! An issuer of tokens: its name, whom its tokens are for, and where its keys come from.

mod fetch;
mod remote;

use std::{path::PathBuf, sync::Arc};

use arc_swap::ArcSwap;

pub(crate) use fetch::{Place, Spec, is_safe};
pub(crate) use remote::Remote;

use crate::{
    config::Algorithm,
    file::{Followed, Follower, Trouble, follow},
    refusal::Refusal,
    token::{Compact, KeySet, SigningKey, parse_jwks},
};

/// The largest file of keys or of a secret, and the largest document that is fetched.
pub(crate) const DOCUMENT_BYTES_MAX: usize = 256 << 10;

/// An issuer of tokens.
pub(crate) struct Issuer {
    pub(crate) name: Arc<str>,
    /// The exact `iss`.
    pub(crate) url: Box<str>,
    pub(crate) audiences: Vec<Box<str>>,
    pub(crate) keys: Keys,
}

/// Where an issuer's keys come from.
pub(crate) enum Keys {
    /// From the environment, which never changes.
    Fixed(Arc<KeySet>),
    File(FileKeys),
    Remote(Arc<Remote>),
}

/// Keys from a file.
pub(crate) struct FileKeys {
    follower: Follower,
    /// What is taken of a JWKS; `None` if the file is a secret.
    algorithms: Option<Vec<Algorithm>>,
    set: ArcSwap<KeySet>,
}

impl Issuer {
    /// The key that has signed a token.
    pub(crate) async fn verify(&self, token: &Compact<'_>) -> Result<Arc<SigningKey>, Refusal> {
        let hint = token.hint()?;
        let check = |keys: &KeySet| keys.verify(&hint, token.message, token.signature);
        match &self.keys {
            Keys::Fixed(keys) => check(keys),
            Keys::File(file) => check(&file.set.load()),
            Keys::Remote(remote) => {
                let known = remote.keys().map(|keys| check(&keys));
                match known {
                    Some(Err(Refusal::UnknownSigningKey)) | None => match check(&*remote.newer().await?) {
                        Err(Refusal::UnknownSigningKey) => Err(remote.unpublished()),
                        checked => checked,
                    },
                    Some(checked) => checked,
                }
            }
        }
    }

    /// Whether a key that has verified a token is still the issuer's.
    pub(crate) fn has(&self, key: &Arc<SigningKey>) -> bool {
        match &self.keys {
            Keys::Fixed(keys) => keys.has(key),
            Keys::File(file) => file.set.load().has(key),
            Keys::Remote(remote) => remote.keys().is_some_and(|keys| keys.has(key)),
        }
    }

    /// Keeps the keys fresh, for ever.
    pub(crate) async fn watch(&self) {
        match &self.keys {
            Keys::Fixed(_) => std::future::pending().await,
            Keys::File(file) => follow(file).await,
            Keys::Remote(remote) => remote.follow().await,
        }
    }

    pub(crate) fn trouble(&self) -> Option<Trouble> {
        match &self.keys {
            Keys::Fixed(_) => None,
            Keys::File(file) => file.follower.trouble(),
            Keys::Remote(remote) => remote.trouble(),
        }
    }
}

impl FileKeys {
    /// Reads the file; the message says why it cannot be used.
    pub(crate) fn open(path: PathBuf, algorithms: Option<Vec<Algorithm>>) -> Result<Self, String> {
        let bytes_max = u64::try_from(DOCUMENT_BYTES_MAX).unwrap_or(u64::MAX);
        let follower = Follower::new(path, bytes_max);
        let text = follower.read_now()?;
        let set = ArcSwap::from_pointee(keys(&text, algorithms.as_deref())?);
        Ok(Self { follower, algorithms, set })
    }
}

impl Followed for FileKeys {
    fn follower(&self) -> &Follower {
        &self.follower
    }

    fn take(&self, text: &str) -> Result<(), String> {
        let keys = keys(text, self.algorithms.as_deref())?;
        self.set.store(Arc::new(keys.succeeding(Some(&self.set.load()))));
        Ok(())
    }
}

fn keys(text: &str, algorithms: Option<&[Algorithm]>) -> Result<KeySet, String> {
    match algorithms {
        Some(algorithms) => parse_jwks(text.as_bytes(), algorithms),
        None => secret(text),
    }
}

/// The key of a shared secret. One line end after it does not belong to it.
pub(crate) fn secret(text: &str) -> Result<KeySet, String> {
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    let key = SigningKey::secret(text.as_bytes());
    key.map(KeySet::of_secret).ok_or_else(|| "the secret is shorter than 32 bytes".to_owned())
}
