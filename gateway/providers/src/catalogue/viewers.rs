//! Something for each of those who see a list of their own, without keeping what tells them apart.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sha2::{Digest as _, Sha256};

use crate::upstream::CallerCredential;

/// Who looks at a list, as far as that makes a difference.
#[derive(Clone, Copy, Default)]
pub struct Viewer<'a> {
    /// The credential that it brought for the provider.
    pub credential: Option<&'a CallerCredential>,
    /// Those who are shown the same models have the same name; empty for those who are shown all.
    pub name: &'a str,
}

impl Viewer<'_> {
    /// Everybody who is shown all models.
    pub const EVERYBODY: Viewer<'static> = Viewer { credential: None, name: "" };
}

impl<'a> From<&'a CallerCredential> for Viewer<'a> {
    fn from(credential: &'a CallerCredential) -> Self {
        Viewer { credential: Some(credential), name: "" }
    }
}

/// A bounded map by the digest of a viewer; who was away for longest is forgotten first.
pub(crate) struct Viewers<T> {
    slots: Mutex<Slots<T>>,
    max: usize,
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

impl<T: Clone> Viewers<T> {
    /// Room for so many.
    pub(crate) fn new(max: usize) -> Viewers<T> {
        Viewers { slots: Mutex::new(Slots { by_digest: HashMap::new(), uses: 0 }), max }
    }

    /// What is kept for a viewer.
    pub(crate) fn get<'a>(&self, viewer: impl Into<Viewer<'a>>) -> Option<T> {
        self.slots().used(digest(viewer.into()))
    }

    /// The same, made anew if nothing is kept.
    pub(crate) fn get_or_insert_with<'a>(
        &self,
        viewer: impl Into<Viewer<'a>>,
        make: impl FnOnce() -> T,
    ) -> T {
        let digest = digest(viewer.into());
        let mut slots = self.slots();
        slots.used(digest).unwrap_or_else(|| {
            let value = make();
            slots.insert(digest, value.clone(), self.max);
            value
        })
    }

    /// Keeps something for a viewer.
    pub(crate) fn insert<'a>(&self, viewer: impl Into<Viewer<'a>>, value: T) {
        self.slots().insert(digest(viewer.into()), value, self.max);
    }

    /// Changes what is kept, for all of them.
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

    fn insert(&mut self, digest: [u8; 32], value: T, max: usize) {
        if self.by_digest.len() >= max && !self.by_digest.contains_key(&digest) {
            let oldest = self.by_digest.iter().min_by_key(|(_, slot)| slot.last_use);
            if let Some(oldest) = oldest.map(|(digest, _)| *digest) {
                self.by_digest.remove(&oldest);
            }
        }
        self.uses += 1;
        self.by_digest.insert(digest, Slot { value, last_use: self.uses });
    }
}

fn digest(viewer: Viewer<'_>) -> [u8; 32] {
    let Viewer { credential, name } = viewer;
    let mut hash = Sha256::new();
    // No header's value holds a line break, so two different triples are never written alike.
    hash.update(credential.map_or(&b"\n"[..], |credential| credential.authorization.as_bytes()));
    hash.update(b"\n");
    let account = credential.and_then(|credential| credential.account.as_ref());
    hash.update(account.map_or(&b"\n"[..], |account| account.as_bytes()));
    hash.update(b"\n");
    hash.update(name);
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const MAX: usize = 64;

    fn caller(token: usize, account: Option<&'static str>) -> CallerCredential {
        CallerCredential {
            authorization: HeaderValue::try_from(format!("Bearer {token}")).unwrap(),
            account: account.map(HeaderValue::from_static),
        }
    }

    #[test]
    fn each_caller_has_its_own_and_the_oldest_is_forgotten() {
        let own = caller(0, None);
        let callers = Viewers::new(MAX);
        for token in 0..MAX {
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
        assert_eq!(callers.slots().by_digest.len(), MAX);
        let named = |name| Viewer { name, ..Viewer::from(&own) };
        callers.insert(named("acme"), 9);
        assert_eq!((callers.get(named("acme")), callers.get(named(""))), (Some(9), Some(0)));
    }
}
