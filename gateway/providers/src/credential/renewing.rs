//! Keeps one credential good: makes it on first use, renews it before it ends, gets another when it was rejected.
//!
//! Owns the task in which the mint runs; a caller only waits, so one that goes away neither stops a renewal nor
//! leaves others waiting. What is to be done when is decided in `state`.

mod state;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::task::JoinSet;
use tokio::time::Instant;

use self::state::{Decision, Landed, Moment, State, Step, Takeoff};
use super::{Credential, CredentialError, Generation, Mint, MintError, Minted};
use crate::provider::AccountKind;

/// How one credential is renewed.
pub(crate) struct Policy {
    /// The source, as people know it, for example `command corp-token`. Never holds a secret.
    pub(crate) what: String,
    /// How long a mint may take, and so how long a caller waits at most.
    pub(crate) mint_max: Duration,
}

/// A source whose credential is made anew from time to time.
pub(crate) struct Renewing {
    shared: Arc<Shared>,
    account: AccountKind,
    /// The newest generation that was noted as accepted, so that most notes need no lock.
    accepted: AtomicU64,
    /// At most one that runs; aborted with this source.
    tasks: Mutex<JoinSet<()>>,
}

/// What callers and the task have in common.
struct Shared {
    mint: Arc<dyn Mint>,
    policy: Policy,
    state: Mutex<State>,
}

/// A flight under way. However it ends, also by a panic or an abort, those who wait for it are told.
struct Running {
    shared: Arc<Shared>,
    takeoff: Option<Takeoff>,
}

impl Renewing {
    /// A source that asks `mint`; nothing is made before the first call needs it.
    pub(crate) fn new(mint: Arc<dyn Mint>, account: AccountKind, policy: Policy) -> Renewing {
        let shared = Arc::new(Shared { mint, policy, state: Mutex::default() });
        Renewing { shared, account, accepted: AtomicU64::new(0), tasks: Mutex::default() }
    }

    pub(crate) fn account(&self) -> AccountKind {
        self.account
    }

    /// The credential to use now. Waits only if there is none that can be used.
    pub(crate) async fn current(&self) -> Result<Credential, CredentialError> {
        self.follow(|state, at| state.current(at)).await
    }

    /// The credential to use after `rejected` was rejected; of the same generation if there is no other to be had.
    pub(crate) async fn recover(&self, rejected: Generation) -> Result<Credential, CredentialError> {
        self.follow(|state, at| state.recover(rejected, at)).await
    }

    /// Notes that the provider has taken a credential of this generation.
    pub(crate) fn accepted(&self, generation: Generation) {
        if self.accepted.load(Ordering::Relaxed) < generation.0
            && self.accepted.fetch_max(generation.0, Ordering::Relaxed) < generation.0
        {
            self.shared.state().accepted(generation);
        }
    }

    async fn follow(
        &self,
        decide: impl FnOnce(&mut State, &Moment<'_>) -> Decision,
    ) -> Result<Credential, CredentialError> {
        let Decision { step, takeoff } = {
            let at = Moment { now: Instant::now(), inputs: &|| self.shared.mint.inputs() };
            decide(&mut self.shared.state(), &at)
        };
        if let Some(takeoff) = takeoff {
            self.start(takeoff);
        }
        let result = match step {
            Step::Use(credential) => Ok(credential),
            Step::Fail(error) => Err(error),
            Step::Wait(mut flight) => match flight.wait_for(Option::is_some).await {
                Ok(result) => result.clone().unwrap_or_else(|| Err(self.shared.broken_off())),
                Err(_) => Err(self.shared.broken_off()),
            },
        };
        result.map_err(|source| CredentialError::Mint { source })
    }

    fn start(&self, takeoff: Takeoff) {
        let running = Running { shared: Arc::clone(&self.shared), takeoff: Some(takeoff) };
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(running.run());
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn broken_off(&self) -> MintError {
        MintError::passing(&self.policy.what, "the renewal was broken off")
    }

    async fn mint(&self) -> Result<Minted, MintError> {
        let limit = self.policy.mint_max;
        let late =
            || MintError::passing(&self.policy.what, format!("gave nothing within {} ms", limit.as_millis()));
        let minted = tokio::time::timeout(limit, self.mint.mint()).await.unwrap_or_else(|_| Err(late()))?;
        match minted.expires_at.map(|at| SystemTime::now().duration_since(at)) {
            Some(Ok(past)) => {
                let why = format!("what it gave expired {} s ago by this machine's clock", past.as_secs());
                Err(MintError::passing(&self.policy.what, why))
            }
            _ => Ok(minted),
        }
    }
}

impl Running {
    async fn run(mut self) {
        let minted = self.shared.mint().await;
        self.land(minted);
    }

    fn land(&mut self, minted: Result<Minted, MintError>) {
        let Some(takeoff) = self.takeoff.take() else { return };
        let (now, clock) = (Instant::now(), SystemTime::now());
        let landed = self.shared.state().land(takeoff, minted, now, clock);
        let what = &*self.shared.policy.what;
        match landed {
            Landed::Renewed(generation) => {
                tracing::info!(what, generation = generation.0, "credential renewed");
            }
            Landed::Unchanged => tracing::debug!(what, "the source gave the same credential again"),
            Landed::Kept(error) => {
                tracing::warn!(what, why = error.why, "credential not renewed, the one at hand is kept");
            }
            Landed::Failed(error) => tracing::warn!(what, why = error.why, "no credential"),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.takeoff.is_some() {
            let broken = self.shared.broken_off();
            self.land(Err(broken));
        }
    }
}
