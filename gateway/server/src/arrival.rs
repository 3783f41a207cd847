//! A call from its arrival until it is opened. One that does not come so far is counted and logged here, with its reason,
//! also when its caller goes away before.

use std::{sync::Arc, time::Duration};

use tidegate_callers::Principal;
use tokio::time::Instant;

use crate::{
    codex_ids::CodexIds,
    failure::{CallError, DEADLINE_EXCEEDED},
    metrics::Metrics,
    phases::Phases,
    settle,
};

/// How much before its own deadline a caller may leave and still be taken for one that leaves because of it: its clock
/// started first.
const EARLY_MAX: Duration = Duration::from_millis(100);

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
    /// The model that is asked for, once it is known that the call is not opened.
    model: Option<Box<str>>,
    /// When the caller stops waiting, if it said so.
    pub(crate) deadline: Option<Instant>,
    over: bool,
}

impl Arrival {
    pub(crate) fn new(metrics: &Metrics, surface: &'static str, generation: u64, ids: CodexIds) -> Self {
        let phases = Phases::begin();
        Self {
            metrics: metrics.clone(),
            generation,
            surface,
            ids,
            phases,
            principal: None,
            model: None,
            deadline: None,
            over: false,
        }
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

    /// What was asked for was no call, and is answered: there is nothing to account for.
    pub(crate) fn answered(mut self) {
        self.over = true;
    }

    /// The call, which is not opened, is for this model.
    pub(crate) fn asked_for(&mut self, model: &str) {
        self.model = Some(settle::short(model).into());
    }

    /// The call is not opened.
    pub(crate) fn rejected(&mut self, error: &CallError) {
        let (reason, _, _) = error.kind();
        self.reject(reason, error.rule());
    }

    fn reject(&mut self, reason: &'static str, rule: Option<&str>) {
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
            model = self.model.as_deref(),
            thread = self.ids.thread(),
            session = self.ids.session(),
            turn = self.ids.turn(),
            originator = self.ids.originator(),
            reason,
            rule,
            duration_ms = settle::millis(self.phases.elapsed()),
            "call rejected"
        );
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        let late = is_over(self.deadline);
        self.reject(if late { DEADLINE_EXCEEDED } else { "caller_gone" }, None);
    }
}

/// Whether a caller that leaves now has come to its own deadline.
pub(crate) fn is_over(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| Instant::now() + EARLY_MAX >= deadline)
}
