//! The keys that are valid now: follows the keys file, and answers whom a key stands for.
//!
//! A file that cannot be read leaves the keys as they were, so that a mistake neither lets anybody in nor locks everybody out.

use std::{collections::HashMap, path::PathBuf, sync::Arc, time::SystemTime};

use arc_swap::ArcSwap;
use subtle::ConstantTimeEq as _;
use time::OffsetDateTime;

use super::{
    form::{Hash, Parts},
    stored::{FILE_BYTES_MAX, KeyEntry, Stored},
};
use crate::{
    file::{Followed, Follower, Trouble},
    principal::{Principal, Proof},
    refusal::Refusal,
};

/// What a `[[callers]]` row says of one key instead of the file.
#[derive(Debug, Clone)]
pub(crate) struct Override {
    pub(crate) tenant: Arc<str>,
    pub(crate) subject: Option<Arc<str>>,
    pub(crate) scopes: Arc<[Box<str>]>,
}

/// The keys of one file.
pub(crate) struct KeyRing {
    follower: Follower,
    overrides: HashMap<Box<str>, Override>,
    keys: ArcSwap<HashMap<Box<str>, Known>>,
}

struct Known {
    hash: Hash,
    principal: Arc<Principal>,
    expires_at: Option<OffsetDateTime>,
    revoked: bool,
}

impl KeyRing {
    /// Reads the file; the message says why it cannot be used.
    pub(crate) fn open(path: PathBuf, overrides: HashMap<Box<str>, Override>) -> Result<Self, String> {
        let follower = Follower::new(path, FILE_BYTES_MAX);
        let text = follower.read_now()?;
        let keys = ArcSwap::from_pointee(known(&text, &overrides)?);
        Ok(Self { follower, overrides, keys })
    }

    pub(crate) fn trouble(&self) -> Option<Trouble> {
        self.follower.trouble()
    }

    /// Whom a key stands for. Whether it was revoked or is too old is only said to who knows the secret.
    pub(crate) fn prove(&self, key: &str, now: SystemTime) -> Result<Arc<Principal>, Refusal> {
        let parts = Parts::of(key).ok_or(Refusal::UnknownKey)?;
        let keys = self.keys.load();
        let known = keys.get(parts.id).ok_or(Refusal::UnknownKey)?;
        if !bool::from(parts.hash().ct_eq(&known.hash)) {
            return Err(Refusal::UnknownKey);
        }
        if known.revoked {
            return Err(Refusal::RevokedKey);
        }
        if known.expires_at.is_some_and(|end| OffsetDateTime::from(now) >= end) {
            return Err(Refusal::ExpiredKey);
        }
        Ok(known.principal.clone())
    }
}

impl Followed for KeyRing {
    fn follower(&self) -> &Follower {
        &self.follower
    }

    fn take(&self, text: &str) -> Result<(), String> {
        self.keys.store(Arc::new(known(text, &self.overrides)?));
        Ok(())
    }
}

fn known(text: &str, overrides: &HashMap<Box<str>, Override>) -> Result<HashMap<Box<str>, Known>, String> {
    let one = |entry: KeyEntry| {
        let id = Box::from(entry.id.as_str());
        let (hash, expires_at, revoked) = (entry.sha256, entry.expires_at, entry.revoked_at.is_some());
        let over = overrides.get(&id);
        (id, Known { hash, principal: Arc::new(principal(entry, over)), expires_at, revoked })
    };
    Ok(Stored::parse(text)?.keys.into_iter().map(one).collect())
}

fn principal(entry: KeyEntry, over: Option<&Override>) -> Principal {
    let proof = Proof::Key(entry.id.as_str().into());
    match over {
        Some(over) => Principal {
            tenant: over.tenant.clone(),
            subject: over.subject.clone().unwrap_or_else(|| entry.id.as_str().into()),
            scopes: over.scopes.clone(),
            proof,
        },
        None => Principal {
            tenant: entry.tenant.into(),
            subject: entry.subject.into(),
            scopes: entry.scopes.into_iter().map(String::into_boxed_str).collect(),
            proof,
        },
    }
}
