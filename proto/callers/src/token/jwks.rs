//! An issuer's keys: the JWKS document, and finding the key of a token.
//!
//! Keys of other kinds or for other uses are left out, because issuers publish them side by side. A secret in a public
//! document is never a key.

use std::sync::Arc;

use serde::Deserialize;

use super::{compact::Hint, signing_key::SigningKey};
use crate::{config::Algorithm, refusal::Refusal};

/// The most keys of one issuer.
const KEYS_MAX: usize = 128;
/// How many keys without an id are tried for a token without one.
const TRIES_MAX: usize = 4;

/// All keys of one issuer.
#[derive(Default)]
pub(crate) struct KeySet {
    keys: Vec<Arc<SigningKey>>,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    kid: Option<Box<str>>,
    crv: Option<String>,
    #[serde(default)]
    n: String,
    #[serde(default)]
    e: String,
    #[serde(default)]
    x: String,
    #[serde(default)]
    y: String,
}

/// Reads a JWKS document and keeps what can verify with one of `algorithms`.
pub(crate) fn parse(text: &[u8], algorithms: &[Algorithm]) -> Result<KeySet, String> {
    let document: Document =
        serde_json::from_slice(text).map_err(|_| "it is not a JWKS document: no list `keys`".to_owned())?;
    if document.keys.len() > KEYS_MAX {
        return Err(format!("it has over {KEYS_MAX} keys"));
    }
    let usable = |value| Jwk::deserialize(value).ok().and_then(Jwk::into_key);
    let keys: Vec<_> = document
        .keys
        .into_iter()
        .filter_map(usable)
        .filter(|key| algorithms.contains(&key.algorithm))
        .map(Arc::new)
        .collect();
    match keys.is_empty() {
        true => {
            Err("it has no key for verifying RS256, ES256 or EdDSA signatures that the configuration allows"
                .to_owned())
        }
        false => Ok(KeySet { keys }),
    }
}

impl Jwk {
    fn into_key(self) -> Option<SigningKey> {
        let verifies = self.usage.is_none_or(|usage| usage == "sig")
            && self.key_ops.is_none_or(|all| all.iter().any(|one| one == "verify"));
        if !verifies {
            return None;
        }
        match (self.kty.as_str(), self.crv.as_deref(), self.alg.as_deref()) {
            ("RSA", _, None | Some("RS256")) => SigningKey::rsa(self.kid, &self.n, &self.e),
            ("EC", Some("P-256"), None | Some("ES256")) => SigningKey::p256(self.kid, &self.x, &self.y),
            ("OKP", Some("Ed25519"), None | Some("EdDSA" | "Ed25519")) => {
                SigningKey::ed25519(self.kid, &self.x)
            }
            _ => None,
        }
    }
}

impl KeySet {
    /// The one shared secret of an issuer.
    pub(crate) fn of_secret(key: SigningKey) -> Self {
        Self { keys: vec![Arc::new(key)] }
    }

    /// Keeps the handles of keys that were there before, so that what they have verified stays verified.
    pub(crate) fn succeeding(self, before: Option<&Self>) -> Self {
        let Some(before) = before else { return self };
        let same = |key: Arc<SigningKey>| before.keys.iter().find(|old| old.is(&key)).cloned().unwrap_or(key);
        Self { keys: self.keys.into_iter().map(same).collect() }
    }

    /// Whether a key is still one of the issuer's.
    pub(crate) fn has(&self, key: &Arc<SigningKey>) -> bool {
        self.keys.iter().any(|known| Arc::ptr_eq(known, key))
    }

    /// The key that has signed `message`.
    pub(crate) fn verify(
        &self,
        hint: &Hint,
        message: &[u8],
        signature: &str,
    ) -> Result<Arc<SigningKey>, Refusal> {
        // A secret has no id in the configuration, so whatever id the token names is this one.
        let named = |key: &&Arc<SigningKey>| {
            hint.key_id.is_none() || key.algorithm == Algorithm::HS256 || key.id == hint.key_id
        };
        let mut candidates = self.keys.iter().filter(named).peekable();
        if candidates.peek().is_none() {
            return Err(Refusal::UnknownSigningKey);
        }
        let mut candidates = candidates.filter(|key| key.algorithm == hint.algorithm).peekable();
        if candidates.peek().is_none() {
            return Err(Refusal::Malformed("the token's `alg` is not the algorithm of its signing key"));
        }
        candidates
            .take(TRIES_MAX)
            .find(|key| key.verifies(message, signature))
            .cloned()
            .ok_or(Refusal::BadSignature)
    }
}
