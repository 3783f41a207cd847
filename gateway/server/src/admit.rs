//! Bounds how many calls run at once. A call beyond the bound is refused at once: no queue can grow here.
//!
//! The right to run a call ends for all calls together, when the process has no more time for them.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::failure::CallError;

/// Hands out the right to run a call.
#[derive(Debug, Clone)]
pub(crate) struct Admission {
    slots: Arc<Semaphore>,
    cut: CancellationToken,
}

/// The right to run one call; given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    _slot: OwnedSemaphorePermit,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Permit {
    /// Whether the call must come to its end now.
    pub(crate) fn poll_revoked(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.cut.as_mut().poll(cx)
    }
}

impl Admission {
    /// `cut` revokes every permit.
    pub(crate) fn new(concurrent_calls_max: usize, cut: CancellationToken) -> Self {
        let slots = concurrent_calls_max.min(Semaphore::MAX_PERMITS);
        Self { slots: Arc::new(Semaphore::new(slots)), cut }
    }

    pub(crate) fn admit(&self) -> Result<Permit, CallError> {
        let slot = Arc::clone(&self.slots).try_acquire_owned().map_err(|_| CallError::Busy)?;
        // A token of its own, so that calls do not meet at one lock each time they wait for their provider.
        Ok(Permit { _slot: slot, cut: Box::pin(self.cut.child_token().cancelled_owned()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_comes_back_when_its_call_ends() {
        let admission = Admission::new(1, CancellationToken::new());
        let first = admission.admit().unwrap();
        assert!(matches!(admission.admit(), Err(CallError::Busy)));
        drop(first);
        assert!(admission.admit().is_ok());
    }
}
