//! Bounds how many calls run at once. A call beyond the bound is refused at once: no queue can grow here.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::failure::CallError;

/// Hands out the right to run a call.
#[derive(Debug, Clone)]
pub(crate) struct Admission {
    slots: Arc<Semaphore>,
}

/// The right to run one call; given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    _slot: OwnedSemaphorePermit,
}

impl Admission {
    pub(crate) fn new(concurrent_calls_max: usize) -> Self {
        let slots = concurrent_calls_max.min(Semaphore::MAX_PERMITS);
        Self { slots: Arc::new(Semaphore::new(slots)) }
    }

    pub(crate) fn admit(&self) -> Result<Permit, CallError> {
        let slot = Arc::clone(&self.slots).try_acquire_owned().map_err(|_| CallError::Busy)?;
        Ok(Permit { _slot: slot })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_comes_back_when_its_call_ends() {
        let admission = Admission::new(1);
        let first = admission.admit().unwrap();
        assert!(matches!(admission.admit(), Err(CallError::Busy)));
        drop(first);
        assert!(admission.admit().is_ok());
    }
}
