//! Where threads have begun: a thread stays with its provider and model when rules for new ones change.
//!
//! A thread's encrypted history is bound to the provider that wrote it. The memory is bounded and belongs to this process; a
//! thread that it has forgotten goes where a new one would.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    sync::{Mutex, PoisonError},
};

/// How many threads are remembered at least, if there have been so many.
const THREADS_MIN: usize = 50_000;
/// Longer ids are no thread's.
const ID_BYTES_MAX: usize = 256;

/// Where a thread's calls for a model go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) provider: String,
    /// The model's name there.
    pub(crate) model: String,
}

/// Remembers places in two halves: when the young one is full it becomes the old one, and the old one is forgotten.
#[derive(Debug, Default)]
pub(crate) struct Places {
    halves: Mutex<Halves>,
    hasher: RandomState,
}

#[derive(Debug, Default)]
struct Halves {
    young: HashMap<u64, Place>,
    old: HashMap<u64, Place>,
}

impl Places {
    /// Where this thread's calls for the model have gone.
    pub(crate) fn find(&self, tenant: &str, thread: &str, asked: &str) -> Option<Place> {
        let key = self.key(tenant, thread, asked)?;
        let mut halves = self.halves.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = halves.young.get(&key) {
            return Some(place.clone());
        }
        let place = halves.old.remove(&key)?;
        halves.insert(key, place.clone());
        Some(place)
    }

    /// Remembers where a thread's calls for the model go.
    pub(crate) fn remember(&self, tenant: &str, thread: &str, asked: &str, place: Place) {
        if let Some(key) = self.key(tenant, thread, asked) {
            self.halves.lock().unwrap_or_else(PoisonError::into_inner).insert(key, place);
        }
    }

    /// The key is keyed itself: nobody can find two threads that share one.
    fn key(&self, tenant: &str, thread: &str, asked: &str) -> Option<u64> {
        let usable = !thread.is_empty() && thread.len() <= ID_BYTES_MAX;
        usable.then(|| self.hasher.hash_one((tenant, thread, asked)))
    }
}

impl Halves {
    fn insert(&mut self, key: u64, place: Place) {
        if self.young.len() >= THREADS_MIN {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(provider: &str) -> Place {
        Place { provider: provider.to_owned(), model: "m".to_owned() }
    }

    #[test]
    fn a_thread_is_found_by_its_tenant_and_its_model() {
        let places = Places::default();
        places.remember("acme", "t", "fast", place("a"));
        assert_eq!(places.find("acme", "t", "fast"), Some(place("a")));
        for (tenant, thread, asked) in [("other", "t", "fast"), ("acme", "u", "fast"), ("acme", "t", "deep")]
        {
            assert_eq!(places.find(tenant, thread, asked), None);
        }
        places.remember("acme", "", "fast", place("a"));
        assert_eq!(places.find("acme", "", "fast"), None, "a call without a thread has no place");
    }

    #[test]
    fn the_memory_is_bounded_and_those_in_use_stay() {
        let places = Places::default();
        places.remember("acme", "busy", "m", place("a"));
        for thread in 0..3 * THREADS_MIN {
            places.remember("acme", &thread.to_string(), "m", place("b"));
            if thread % (THREADS_MIN / 2) == 0 {
                assert_eq!(places.find("acme", "busy", "m"), Some(place("a")));
            }
        }
        let halves = places.halves.lock().unwrap();
        assert!(halves.young.len() <= THREADS_MIN && halves.old.len() <= THREADS_MIN);
        drop(halves);
        assert_eq!(places.find("acme", "0", "m"), None);
    }
}
