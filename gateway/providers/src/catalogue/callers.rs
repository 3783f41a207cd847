//! Something for each of the callers that bring a credential, without keeping the credential.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sha2::{Digest as _, Sha256};

use crate::upstream::CallerCredential;

/// How many callers are remembered; the one that was away for longest is forgotten first.
const CALLERS_MAX: usize = 64;

/// A bounded map by the digest of a caller's credential.
pub(crate) struct Callers<T> {
    slots: Mutex<Slots<T>>,
}

struct Slots<T> {
    by_digest: HashMap<[u8; 32], Slot<T>>,
    /// Counts the uses.
    uses: u64,
}

struct Slot<T> {
    value: T,
    last_use: u64,
}

impl<T> Default for Callers<T> {
    fn default() -> Callers<T> {
        Callers { slots: Mutex::new(Slots { by_digest: HashMap::new(), uses: 0 }) }
    }
}

impl<T: Clone> Callers<T> {
    /// What is kept for a caller.
    pub(crate) fn get(&self, caller: &CallerCredential) -> Option<T> {
        self.slots().used(digest(caller))
    }

    /// The same, made anew if nothing is kept.
    pub(crate) fn get_or_insert_with(&self, caller: &CallerCredential, make: impl FnOnce() -> T) -> T {
        let digest = digest(caller);
        let mut slots = self.slots();
        slots.used(digest).unwrap_or_else(|| {
            let value = make();
            slots.insert(digest, value.clone());
            value
        })
    }

    /// Keeps something for a caller.
    pub(crate) fn insert(&self, caller: &CallerCredential, value: T) {
        self.slots().insert(digest(caller), value);
    }

    /// Changes what is kept, for all callers.
    pub(crate) fn for_each(&self, change: impl Fn(&mut T)) {
        self.slots().by_digest.values_mut().for_each(|slot| change(&mut slot.value));
    }

    fn slots(&self) -> MutexGuard<'_, Slots<T>> {
        // Nothing in here panics between two steps that belong together.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Clone> Slots<T> {
    fn used(&mut self, digest: [u8; 32]) -> Option<T> {
        self.uses += 1;
        let slot = self.by_digest.get_mut(&digest)?;
        slot.last_use = self.uses;
        Some(slot.value.clone())
    }

    fn insert(&mut self, digest: [u8; 32], value: T) {
        if self.by_digest.len() >= CALLERS_MAX && !self.by_digest.contains_key(&digest) {
            let oldest = self.by_digest.iter().min_by_key(|(_, slot)| slot.last_use);
            if let Some(oldest) = oldest.map(|(digest, _)| *digest) {
                self.by_digest.remove(&oldest);
            }
        }
        self.uses += 1;
        self.by_digest.insert(digest, Slot { value, last_use: self.uses });
    }
}

fn digest(caller: &CallerCredential) -> [u8; 32] {
    let mut hash = Sha256::new();
    // No header's value holds a line break, so two different pairs are never written alike.
    hash.update(caller.authorization.as_bytes());
    hash.update(b"\n");
    hash.update(caller.account.as_ref().map_or(&b"\n"[..], |account| account.as_bytes()));
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn caller(token: usize, account: Option<&'static str>) -> CallerCredential {
        CallerCredential {
            authorization: HeaderValue::try_from(format!("Bearer {token}")).unwrap(),
            account: account.map(HeaderValue::from_static),
        }
    }

    #[test]
    fn each_caller_has_its_own_and_the_oldest_is_forgotten() {
        let callers = Callers::default();
        for token in 0..CALLERS_MAX {
            assert_eq!(callers.get_or_insert_with(&caller(token, None), || token), token);
        }
        assert_eq!(callers.get(&caller(0, None)), Some(0));
        assert_eq!(callers.get(&caller(0, Some("a"))), None);
        callers.insert(&caller(0, Some("a")), 7);
        assert_eq!(callers.get(&caller(1, None)), None, "it was away for longest");
        assert_eq!(callers.get(&caller(0, None)), Some(0));
        assert_eq!(callers.get(&caller(0, Some("a"))), Some(7));
        callers.insert(&caller(2, None), 8);
        assert_eq!(callers.get(&caller(3, None)), Some(3), "nothing had to go for a caller that was there");
        assert_eq!(callers.slots().by_digest.len(), CALLERS_MAX);
    }
}
