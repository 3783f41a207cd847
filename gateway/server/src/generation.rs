//! What one state of the configuration decides about calls, and which state holds now.
//!
//! A generation is whole and never changes. A call takes the present one when it arrives and keeps it to its end, so no
//! call sees a mixture of two.

use std::sync::Arc;

use arc_swap::ArcSwap;
use gateway_policy::{Policy, Rules};
use gateway_providers::{Model, Providers};
use tidegate_callers::{Caller, Callers, Presented, Principal};

use crate::{ServerConfig, failure::CallError};

/// One state of the configuration.
#[derive(Debug, Clone)]
pub struct Configuration {
    /// Limits of calls.
    pub limits: ServerConfig,
    /// Where calls go.
    pub providers: Providers,
    /// Who may call.
    pub callers: Callers,
    /// What they may call.
    pub policy: Arc<Policy>,
}

/// A state and its place in the order of states.
#[derive(Debug)]
pub(crate) struct Generation {
    /// Counts from 1, the state that the process started with.
    pub(crate) number: u64,
    pub(crate) limits: ServerConfig,
    pub(crate) providers: Providers,
    callers: Callers,
    policy: Arc<Policy>,
}

/// Who calls, and the rules for it.
#[derive(Debug, Clone)]
pub(crate) struct Admitted {
    pub(crate) principal: Arc<Principal>,
    pub(crate) rules: Arc<Rules>,
    /// Whether the caller's `Authorization` is for the provider.
    pub(crate) foreign_authorization: bool,
}

impl Admitted {
    /// Whether a model is shown to the caller.
    pub(crate) fn sees(&self, model: &Model) -> bool {
        self.rules.visible_model(&model.slug) && self.rules.visible_provider(&model.provider)
    }

    /// What tells callers apart that are shown different models; empty for one who is shown all.
    pub(crate) fn viewer(&self) -> String {
        let Principal { tenant, subject, .. } = &*self.principal;
        if self.rules.hides_models() { format!("{tenant}\n{subject}") } else { String::new() }
    }
}

impl Generation {
    fn new(number: u64, configuration: Configuration) -> Self {
        let Configuration { limits, providers, callers, policy } = configuration;
        Self { number, limits, providers, callers, policy }
    }

    /// Who calls, and which rules hold for it.
    pub(crate) async fn authenticate(&self, presented: Presented<'_>) -> Result<Admitted, CallError> {
        let Caller { principal, foreign_authorization, .. } = self.callers.authenticate(presented).await?;
        let Principal { tenant, subject, scopes, .. } = &*principal;
        let rules = self.policy.rules(tenant, subject, scopes).map_err(CallError::Barred)?;
        Ok(Admitted { principal, rules, foreign_authorization })
    }
}

/// The state that holds for calls that arrive now.
#[derive(Debug)]
pub(crate) struct Present(ArcSwap<Generation>);

impl Present {
    pub(crate) fn new(configuration: Configuration) -> Self {
        Self(ArcSwap::from_pointee(Generation::new(1, configuration)))
    }

    pub(crate) fn generation(&self) -> Arc<Generation> {
        self.0.load_full()
    }

    /// Makes another state the present one and tells its number. Calls that have begun keep theirs.
    pub(crate) fn replace(&self, configuration: Configuration) -> u64 {
        let number = self.0.load().number + 1;
        self.0.store(Arc::new(Generation::new(number, configuration)));
        number
    }
}
