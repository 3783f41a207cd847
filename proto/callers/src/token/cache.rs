//! Remembers tokens that were verified, so that a repeated one costs a hash instead of a signature check.
//!
//! Bounded: two generations a shard, of which the older is dropped when the younger is full. Only verified tokens get in, so
//! nobody without a token can push others out. It never holds a token, only its hash.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use sha2::{Digest as _, Sha256};

use super::signing_key::SigningKey;
use crate::{principal::Principal, refusal::Refusal};

const SHARDS: usize = 16;
/// How many tokens one generation of a shard holds: 8,192 in all.
const GENERATION_MAX: usize = 256;

type Print = [u8; 32];

/// What is remembered of a token.
pub(crate) struct Verified {
    /// The index of its issuer.
    pub(crate) issuer: usize,
    /// The key that it was verified with; the token is forgotten when the issuer drops the key.
    pub(crate) key: Arc<SigningKey>,
    /// When it expires, in seconds of the epoch.
    pub(crate) expires: f64,
    /// Whom it stands for.
    pub(crate) outcome: Result<Arc<Principal>, Refusal>,
}

/// Tokens that were verified.
#[derive(Default)]
pub(crate) struct Cache {
    shards: [RwLock<Shard>; SHARDS],
}

#[derive(Default)]
struct Shard {
    young: HashMap<Print, Arc<Verified>>,
    old: HashMap<Print, Arc<Verified>>,
}

impl Cache {
    pub(crate) fn print(token: &str) -> Print {
        Sha256::digest(token.as_bytes()).into()
    }

    pub(crate) fn get(&self, print: &Print) -> Option<Arc<Verified>> {
        let shard = self.shard(print)?.read().unwrap_or_else(PoisonError::into_inner);
        shard.young.get(print).or_else(|| shard.old.get(print)).cloned()
    }

    pub(crate) fn put(&self, print: Print, verified: Verified) {
        let Some(shard) = self.shard(&print) else { return };
        let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
        if shard.young.len() >= GENERATION_MAX {
            shard.old = std::mem::take(&mut shard.young);
        }
        shard.young.insert(print, Arc::new(verified));
    }

    fn shard(&self, print: &Print) -> Option<&RwLock<Shard>> {
        self.shards.get(usize::from(*print.first()?) % SHARDS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_bounded_and_keeps_the_young() {
        let cache = Cache::default();
        let key = Arc::new(SigningKey::secret(&[7; 32]).unwrap());
        let total = 4 * 2 * SHARDS * GENERATION_MAX;
        for number in 0..total {
            let verified = Verified {
                issuer: number,
                key: key.clone(),
                expires: 0.0,
                outcome: Err(Refusal::UnknownCaller),
            };
            cache.put(Cache::print(&number.to_string()), verified);
        }
        let held: usize = cache
            .shards
            .iter()
            .map(|shard| shard.read().unwrap())
            .map(|shard| shard.young.len() + shard.old.len())
            .sum();
        assert!(held <= 2 * SHARDS * GENERATION_MAX, "{held}");
        let last = total - 1;
        assert_eq!(cache.get(&Cache::print(&last.to_string())).map(|found| found.issuer), Some(last));
        assert!(cache.get(&Cache::print("0")).is_none());
    }
}
