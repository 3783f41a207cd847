//! What is told of sessions to those who run them: spans, metrics, a line for each turn, and the trace that threads keep.
//!
//! One place takes note of what happens, so that none of the four can disagree with another. It is told and decides
//! nothing; nothing here can fail, slow or stop a turn, and nothing that was said is in any of it.

mod call;
mod conventions;
mod labels;
mod metrics;
mod recorder;
#[cfg(test)]
mod tests;
mod turn;

use std::sync::Arc;

use agent_threads::{
    LifecycleEvent, TenantId, ThreadId, ThreadStore, TraceEvent, TraceKind, TraceRow, TracedLifecycle,
};
use opentelemetry::global::{self, BoxedTracer};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::clock::now_ms;
use metrics::Metrics;
pub(crate) use metrics::Numbers;
use recorder::Recorder;
pub(crate) use turn::{Subject, TurnWatch};

/// Takes note of what happens in all sessions of a process.
pub(crate) struct Observer {
    tracer: BoxedTracer,
    metrics: Metrics,
    recorder: Recorder,
}

impl Observer {
    /// Takes note where the process does; what threads keep goes into `store` from a task of `tasks`.
    pub(crate) fn new(store: &Arc<dyn ThreadStore>, tasks: &TaskTracker, stop: &CancellationToken) -> Self {
        let (recorder, writer) = Recorder::over(Arc::clone(store));
        tasks.spawn(writer.run(stop.clone()));
        Self { tracer: global::tracer("agent"), metrics: Metrics::new(&recorder), recorder }
    }

    /// Shows how many threads and turns there are, as often as somebody looks.
    pub(crate) fn show(&self, numbers: Numbers) {
        self.metrics.show(numbers);
    }

    /// Takes note of what becomes of a stored thread as a whole.
    pub(crate) fn lifecycle(&self, tenant: &TenantId, thread_id: ThreadId, event: LifecycleEvent) {
        self.lifecycle_with(tenant, thread_id, TracedLifecycle { event, other: None }, now_ms());
    }

    /// The same with more about it.
    pub(crate) fn lifecycle_with(
        &self,
        tenant: &TenantId,
        thread_id: ThreadId,
        lifecycle: TracedLifecycle,
        at_ms: i64,
    ) {
        let event = TraceEvent { at_ms, turn_id: None, kind: TraceKind::Lifecycle(lifecycle) };
        self.recorder.keep(TraceRow { tenant: tenant.clone(), thread_id, event });
    }

    /// Waits until everything that was noted so far is written, or a moment.
    pub(crate) async fn settle(&self) {
        self.recorder.flush().await;
    }
}
