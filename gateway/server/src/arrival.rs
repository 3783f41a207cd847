//! A call from its arrival until it is opened. One that does not come so far is counted and logged here, with its reason,
//! also when its caller goes away before.

use std::sync::Arc;

use tidegate_callers::Principal;

use crate::{codex_ids::CodexIds, failure::CallError, metrics::Metrics, phases::Phases, settle};

/// A call that has arrived.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) metrics: Metrics,
    /// The state of the configuration that the call is bound to.
    pub(crate) generation: u64,
    pub(crate) surface: &'static str,
    pub(crate) ids: CodexIds,
    pub(crate) phases: Phases,
    /// Who calls, once that is known.
    pub(crate) principal: Option<Arc<Principal>>,
    over: bool,
}

impl Arrival {
    pub(crate) fn new(metrics: &Metrics, surface: &'static str, generation: u64, ids: CodexIds) -> Self {
        let phases = Phases::begin();
        Self { metrics: metrics.clone(), generation, surface, ids, phases, principal: None, over: false }
    }

    /// It is known who calls.
    pub(crate) fn authenticated(&mut self, principal: &Arc<Principal>) {
        self.principal = Some(Arc::clone(principal));
        self.phases.authenticated();
    }

    /// The call is opened: from here on somebody else accounts for it.
    pub(crate) fn opened(&mut self) -> Phases {
        self.over = true;
        self.phases.opened();
        self.phases
    }

    /// The call is not opened.
    pub(crate) fn rejected(&mut self, error: &CallError) {
        let (reason, _, _) = error.kind();
        self.reject(reason);
    }

    fn reject(&mut self, reason: &'static str) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        self.metrics.rejected(self.surface, reason);
        tracing::info!(
            target: "tidegate::access",
            tenant = self.principal.as_ref().map(|principal| &*principal.tenant),
            subject = self.principal.as_ref().map(|principal| settle::short(&principal.subject)),
            generation = self.generation,
            surface = self.surface,
            thread = self.ids.thread(),
            session = self.ids.session(),
            turn = self.ids.turn(),
            originator = self.ids.originator(),
            reason,
            duration_ms = settle::millis(self.phases.elapsed()),
            "call rejected"
        );
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        self.reject("caller_gone");
    }
}
