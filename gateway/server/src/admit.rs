//! Bounds how many calls run at once, in all and for each principal, and how many bytes they hold. A call beyond a bound is
//! refused at once: no queue can grow here.
//!
//! The right to run a call ends for all calls together, when the process has no more time for them.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use gateway_policy::Rules;
use tidegate_callers::Principal;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::failure::CallError;

/// Hands out the right to run a call.
#[derive(Debug, Clone)]
pub(crate) struct Admission {
    counts: Arc<Counts>,
    cut: CancellationToken,
}

#[derive(Debug, Default)]
struct Counts {
    calls: AtomicUsize,
    bytes: AtomicUsize,
    /// Calls of the principals whose number is bounded, by tenant and subject.
    principals: Mutex<HashMap<Name, usize>>,
}

type Name = (Arc<str>, Arc<str>);

/// What all calls together may have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) calls: usize,
    pub(crate) bytes: usize,
}

/// The right to run one call; given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    counts: Arc<Counts>,
    /// The principal, if its calls are counted.
    name: Option<Name>,
    held: Held,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

/// Bytes that are held for one caller; given back when dropped.
#[derive(Debug)]
pub(crate) struct Held {
    counts: Arc<Counts>,
    bytes: usize,
    bytes_max: usize,
}

impl Admission {
    /// `cut` revokes every permit.
    pub(crate) fn new(cut: CancellationToken) -> Self {
        Self { counts: Arc::default(), cut }
    }

    /// The right to run a call, under the bounds of the call's own configuration.
    pub(crate) fn admit(
        &self,
        bounds: Bounds,
        principal: &Principal,
        rules: &Rules,
    ) -> Result<Permit, CallError> {
        let counts = Arc::clone(&self.counts);
        if !take(&counts.calls, 1, bounds.calls) {
            return Err(CallError::Busy);
        }
        // A token of its own, so that calls do not meet at one lock each time they wait for their provider.
        let cut = Box::pin(self.cut.child_token().cancelled_owned());
        let held = self.hold(bounds.bytes);
        let mut permit = Permit { counts, name: None, held, cut };
        if let Some(max) = rules.max_concurrent_calls() {
            permit.name = permit.counts.count(principal, max);
            if let (None, Some(denied)) = (&permit.name, rules.too_many_calls()) {
                return Err(CallError::TooManyCalls(denied));
            }
        }
        Ok(permit)
    }

    /// Nothing yet of the bytes of which all callers together may hold so many.
    pub(crate) fn hold(&self, bytes_max: usize) -> Held {
        Held { counts: Arc::clone(&self.counts), bytes: 0, bytes_max }
    }

    /// How many bytes are held for all callers.
    pub(crate) fn bytes(&self) -> usize {
        self.counts.bytes.load(Ordering::Relaxed)
    }
}

impl Permit {
    /// Whether the call must come to its end now.
    pub(crate) fn poll_revoked(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.cut.as_mut().poll(cx)
    }

    /// Says how many bytes the call holds now. Fails if all calls together would hold too many; then nothing has changed.
    pub(crate) fn hold(&mut self, bytes: usize) -> Result<(), CallError> {
        self.held.set(bytes)
    }
}

impl Held {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Says how many bytes are held now. Fails if that would be too many for all together; then nothing has changed.
    pub(crate) fn set(&mut self, bytes: usize) -> Result<(), CallError> {
        match bytes.checked_sub(self.bytes) {
            None => drop(self.counts.bytes.fetch_sub(self.bytes - bytes, Ordering::Relaxed)),
            Some(more) if take(&self.counts.bytes, more, self.bytes_max) => {}
            Some(_) => return Err(CallError::Full),
        }
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.counts.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.counts.calls.fetch_sub(1, Ordering::Relaxed);
        if let Some(name) = &self.name {
            self.counts.uncount(name);
        }
    }
}

impl Counts {
    fn count(&self, principal: &Principal, max: usize) -> Option<Name> {
        let name = (Arc::clone(&principal.tenant), Arc::clone(&principal.subject));
        let mut principals = self.principals.lock().unwrap_or_else(PoisonError::into_inner);
        let calls = principals.get(&name).copied().unwrap_or_default();
        (calls < max).then(|| {
            principals.insert(name.clone(), calls + 1);
            name
        })
    }

    fn uncount(&self, name: &Name) {
        let mut principals = self.principals.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(calls) = principals.get_mut(name) {
            *calls -= 1;
            if *calls == 0 {
                principals.remove(name);
            }
        }
    }
}

/// Adds to a count unless it would go beyond `max`.
fn take(count: &AtomicUsize, more: usize, max: usize) -> bool {
    let add = |now: usize| now.checked_add(more).filter(|sum| more == 0 || *sum <= max);
    count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok()
}

#[cfg(test)]
mod tests {
    use gateway_policy::{Policy, PolicyConfig};

    use super::*;

    const MANY: Bounds = Bounds { calls: 100, bytes: 100 };

    fn principal(subject: &str) -> Principal {
        Principal { subject: subject.into(), ..Principal::desk() }
    }

    fn rules(text: &str) -> Arc<Rules> {
        let config: PolicyConfig = toml::from_str(text).unwrap();
        Policy::build(&config).unwrap().rules("local", "a", &[]).unwrap()
    }

    #[test]
    fn a_place_comes_back_when_its_call_ends() {
        let admission = Admission::new(CancellationToken::new());
        let (one, rules) = (Bounds { calls: 1, bytes: 0 }, rules(""));
        let first = admission.admit(one, &principal("a"), &rules).unwrap();
        assert!(matches!(admission.admit(one, &principal("a"), &rules), Err(CallError::Busy)));
        drop(first);
        assert!(admission.admit(one, &principal("a"), &rules).is_ok());
    }

    #[test]
    fn one_principal_does_not_take_the_places_of_another() {
        let admission = Admission::new(CancellationToken::new());
        let rules = rules("default.max_concurrent_calls = 2");
        let admit = |subject: &str| admission.admit(MANY, &principal(subject), &rules);
        let held = [admit("a").unwrap(), admit("a").unwrap()];
        let refused = admit("a").unwrap_err();
        assert!(
            matches!(&refused, CallError::TooManyCalls(denied) if denied.to_string().contains("default.max_concurrent_calls")),
            "{refused}"
        );
        assert!(admit("b").is_ok());
        let namesake = Principal { tenant: "other".into(), ..principal("a") };
        assert!(admission.admit(MANY, &namesake, &rules).is_ok(), "another tenant's subject of that name");
        drop(held);
        assert!(admission.counts.principals.lock().unwrap().is_empty(), "nobody is counted who has no call");
        assert!(admit("a").is_ok());
        assert_eq!(admission.counts.calls.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_limit_of_nothing_leaves_no_trace() {
        let admission = Admission::new(CancellationToken::new());
        let rules = rules("default.max_concurrent_calls = 1");
        let first = admission.admit(MANY, &principal("a"), &rules).unwrap();
        assert!(admission.admit(MANY, &principal("a"), &rules).is_err());
        drop(first);
        assert!(admission.counts.principals.lock().unwrap().is_empty());
    }

    #[test]
    fn all_calls_share_the_bytes() {
        let admission = Admission::new(CancellationToken::new());
        let rules = rules("");
        let mut first = admission.admit(MANY, &principal("a"), &rules).unwrap();
        let mut second = admission.admit(MANY, &principal("b"), &rules).unwrap();
        first.hold(80).unwrap();
        assert!(matches!(second.hold(21), Err(CallError::Full)));
        second.hold(20).unwrap();
        first.hold(10).unwrap();
        second.hold(90).unwrap();
        assert_eq!(admission.bytes(), 100);
        drop((first, second));
        assert_eq!(admission.bytes(), 0);
    }
}
