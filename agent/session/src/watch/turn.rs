//! One turn, from its acceptance to its end: what its driver tells, and what becomes of it.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use agent_threads::{
    CallPurpose, Entry, LifecycleEvent, Settings, TenantId, Thread, ThreadId, TraceEvent, TraceKind,
    TraceOutcome, TraceRow, TracedCompaction, TracedLifecycle, TracedTurn, TurnId, Usage,
};
use opentelemetry::{
    Context, KeyValue,
    trace::{SpanKind, Status, TraceContextExt as _, Tracer as _},
};
use tokio::time::Instant;

use super::{
    Observer,
    call::{self, CallWatch},
    conventions as names,
    metrics::Ended,
};
use crate::{
    clock::now_ms,
    event::Event,
    gateway::{CallEvent, Failure},
    response::Told,
    trace_context::TraceContext,
    view::{TurnStatus, TurnView},
};

/// A commit that takes longer is shown in the turn's span.
const SLOW_COMMIT: Duration = Duration::from_millis(100);
/// How much of a reason is kept.
const REASON_CHARS: usize = 64;

/// Whose turn it is.
pub(crate) struct Subject {
    tenant: TenantId,
    thread_id: ThreadId,
    session_id: ThreadId,
    turn_id: TurnId,
    created_at_ms: i64,
    forked_from: Option<ThreadId>,
    originator: String,
    provider: String,
    model: String,
    /// Whether anything of the thread is kept.
    kept: bool,
    trace: TraceContext,
    /// Whether its user asked for a compaction and for nothing else.
    pub(crate) condenses: bool,
}

impl Subject {
    pub(crate) fn of(
        facts: &Thread,
        settings: &Settings,
        turn_id: TurnId,
        ephemeral: bool,
        trace: TraceContext,
    ) -> Self {
        Self {
            tenant: facts.tenant.clone(),
            thread_id: facts.id,
            session_id: facts.session_id,
            turn_id,
            created_at_ms: facts.created_at_ms,
            forked_from: facts.forked_from_id,
            originator: facts.origin.originator.clone(),
            provider: facts.origin.provider.clone(),
            model: settings.model.clone(),
            kept: !ephemeral,
            trace,
            condenses: false,
        }
    }
}

/// Takes note of one turn. One that never begins leaves no trace; one that is dropped before its end has failed.
pub(crate) struct TurnWatch {
    observer: Arc<Observer>,
    subject: Subject,
    started: Instant,
    started_at_ms: i64,
    /// Holds the turn's span, if that is sampled.
    span: Option<Context>,
    state: State,
    call: Option<CallWatch>,
    /// Calls so far, attempts at the present one, and attempts at all of them.
    calls: u32,
    attempt: u32,
    attempts: u32,
    /// Whether the present call is asked for again.
    again: bool,
    answered: bool,
    usage: Usage,
    /// Since when the conversation is being condensed, in Unix milliseconds.
    condensing: Option<i64>,
    commits: u32,
    commits_took: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Asked,
    Running,
    Over,
}

impl TurnWatch {
    pub(crate) fn new(observer: &Arc<Observer>, subject: Subject, started_at_ms: i64) -> Self {
        Self {
            observer: Arc::clone(observer),
            subject,
            started: Instant::now(),
            started_at_ms,
            span: None,
            state: State::Asked,
            call: None,
            calls: 0,
            attempt: 0,
            attempts: 0,
            again: false,
            answered: false,
            usage: Usage::default(),
            condensing: None,
            commits: 0,
            commits_took: Duration::ZERO,
        }
    }

    /// The turn is accepted.
    pub(crate) fn began(&mut self) {
        self.state = State::Running;
        let tracer = &self.observer.tracer;
        let builder = tracer
            .span_builder(format!("{} {}", names::INVOKE_AGENT, names::AGENT))
            .with_kind(SpanKind::Internal)
            .with_start_time(SystemTime::now() - self.started.elapsed());
        let span = tracer.build_with_context(builder, &self.subject.trace.told());
        use opentelemetry::trace::Span as _;
        self.span = span.is_recording().then(|| Context::new().with_span(span));
    }

    /// What closes the turn before, if that was found open: its process had died. A turn that a fork has copied while it
    /// was running is older than the fork, and goes on where it is.
    pub(crate) fn opens_with(&self, repairs: &[Entry]) {
        let open = repairs.iter().find_map(|entry| match entry {
            Entry::TurnEnded { turn_id, .. } => Some(turn_id.to_string()),
            _ => None,
        });
        if open.is_some_and(|turn| turn > self.subject.thread_id.to_string()) {
            self.lifecycle(LifecycleEvent::CrashFound, None, now_ms());
        }
    }

    /// The thread is stored from now on.
    pub(crate) fn stored(&self) {
        let Subject { created_at_ms, forked_from, .. } = self.subject;
        let event = if forked_from.is_some() { LifecycleEvent::Forked } else { LifecycleEvent::Started };
        self.lifecycle(event, forked_from, created_at_ms);
    }

    fn lifecycle(&self, event: LifecycleEvent, other: Option<ThreadId>, at_ms: i64) {
        let Subject { tenant, thread_id, kept, .. } = &self.subject;
        if *kept {
            self.observer.lifecycle_with(tenant, *thread_id, TracedLifecycle { event, other }, at_ms);
        }
    }

    /// The store has written something that it was given at `since`.
    pub(crate) fn committed(&mut self, since: Instant) {
        let took = since.elapsed();
        self.commits += 1;
        self.commits_took += took;
        self.observer.metrics.committed(took);
        if let Some(span) = self.span.as_ref().filter(|_| took >= SLOW_COMMIT) {
            let took = KeyValue::new(names::COMMIT_TIME, took.as_secs_f64());
            span.span().add_event("slow commit", vec![took]);
        }
    }

    /// The model is called; tells the trace that the call belongs to. What the client sent goes on as it is where nobody
    /// samples the turn.
    pub(crate) fn calls(&mut self, purpose: CallPurpose) -> TraceContext {
        self.cancelled();
        match self.again {
            true => {
                self.attempt += 1;
                self.observer.metrics.retried();
            }
            false => (self.calls, self.attempt) = (self.calls + 1, 1),
        }
        self.attempts += 1;
        if purpose == CallPurpose::Compaction {
            self.condensing.get_or_insert_with(now_ms);
        }
        let Subject { provider, model, trace, .. } = &self.subject;
        let place = (self.calls, self.attempt);
        let call = CallWatch::begin(
            &self.observer.tracer,
            self.span.as_ref(),
            place,
            purpose,
            (provider.as_str(), model.as_str()),
        );
        let context = call.context().unwrap_or_else(|| trace.clone());
        self.call = Some(call);
        context
    }

    /// The call brings something.
    pub(crate) fn event(&mut self, event: &CallEvent) {
        match event {
            CallEvent::Head { provider, .. } => {
                self.answered = true;
                if let Some(call) = &mut self.call {
                    call.taken(provider);
                }
            }
            CallEvent::Event { .. } => {
                if let Some(call) = &mut self.call {
                    call.event();
                }
            }
            CallEvent::Completed { usage, .. } => self.call_ended(TraceOutcome::Completed, None, *usage),
            CallEvent::Failed { failure, usage } => {
                self.call_ended(TraceOutcome::Failed, Some(failure), *usage);
            }
        }
    }

    /// The call broke off.
    pub(crate) fn failed(&mut self, failure: &Failure) {
        self.call_ended(TraceOutcome::Failed, Some(failure), None);
    }

    /// The call is let go, if one is under way.
    pub(crate) fn cancelled(&mut self) {
        if self.call.is_some() {
            self.call_ended(TraceOutcome::Interrupted, None, None);
        }
    }

    fn call_ended(&mut self, outcome: TraceOutcome, failure: Option<&Failure>, usage: Option<Usage>) {
        self.again = outcome == TraceOutcome::Failed;
        if let Some(usage) = usage {
            self.usage = self.usage.plus(usage);
        }
        let Some(call) = self.call.take() else { return };
        let reason = failure.map(|failure| failure.reason.chars().take(REASON_CHARS).collect());
        let call = call.end(outcome, reason, usage);
        self.keep(TraceKind::ModelCall(call));
    }

    /// The conversation was replaced by a shorter one, which the model or, if `remote`, its provider has made.
    pub(crate) fn compacted(&mut self, remote: bool) {
        self.condensed(remote, TraceOutcome::Completed, None);
    }

    fn condensed(&mut self, remote: bool, outcome: TraceOutcome, reason: Option<String>) {
        let Some(started_at_ms) = self.condensing.take() else { return };
        let asked_for = self.subject.condenses;
        self.keep(TraceKind::Compaction(TracedCompaction {
            started_at_ms,
            asked_for,
            remote,
            outcome,
            reason,
        }));
    }

    /// The turn is over, as its subscribers are told.
    pub(crate) fn ended(&mut self, told: &[Told]) {
        let turn = told.iter().find_map(|told| match &told.event {
            Event::TurnCompleted { turn } => Some(turn),
            _ => None,
        });
        self.over(turn);
    }

    fn over(&mut self, turn: Option<&TurnView>) {
        if std::mem::replace(&mut self.state, State::Over) != State::Running {
            return;
        }
        self.cancelled();
        let error = turn.and_then(|turn| turn.error.as_ref());
        let (outcome, reason, error_type) = match turn.map(|turn| turn.status) {
            Some(TurnStatus::Completed) => (TraceOutcome::Completed, None, None),
            Some(TurnStatus::Interrupted) => (TraceOutcome::Interrupted, None, None),
            Some(TurnStatus::Failed | TurnStatus::InProgress) | None => (
                TraceOutcome::Failed,
                Some(error.map_or_else(
                    || "driver_gone".to_owned(),
                    |error| error.reason.chars().take(REASON_CHARS).collect(),
                )),
                Some(error.map_or("_OTHER", |error| names::error_type(error.kind))),
            ),
        };
        let duration = self.started.elapsed();
        self.observer.metrics.ended(&Ended {
            tenant: self.subject.tenant.as_str(),
            model: &self.subject.model,
            answered: self.answered,
            outcome,
            error: error_type,
            duration,
            calls: self.attempts,
            usage: self.usage,
        });
        // A compaction that has not ended by now ends with its turn.
        self.condensed(false, outcome, reason.clone());
        self.log(outcome, reason.as_deref(), duration);
        self.close_span(outcome, reason.as_deref(), error_type);
        self.keep(TraceKind::Turn(TracedTurn {
            started_at_ms: self.started_at_ms,
            model: self.subject.model.clone(),
            outcome,
            reason,
            commits: self.commits,
            commits_us: u64::try_from(self.commits_took.as_micros()).unwrap_or(u64::MAX),
        }));
    }

    fn log(&self, outcome: TraceOutcome, reason: Option<&str>, duration: Duration) {
        // The line is joined to the span as long as that is the current one.
        let _joined = self.span.as_ref().map(|span| span.clone().attach());
        let Subject { tenant, thread_id, session_id, turn_id, originator, provider, model, .. } =
            &self.subject;
        let Usage { input_tokens, cached_input_tokens, output_tokens, reasoning_output_tokens, .. } =
            self.usage;
        tracing::info!(
            target: "tidegate::turn",
            tenant = tenant.as_str(),
            thread = %thread_id,
            session = %session_id,
            turn = %turn_id,
            originator = originator.as_str(),
            provider = provider.as_str(),
            model = model.as_str(),
            outcome = names::outcome(outcome),
            reason,
            calls = self.calls,
            attempts = self.attempts,
            input_tokens,
            cached_input_tokens,
            output_tokens,
            reasoning_output_tokens,
            commits = self.commits,
            duration_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
            "turn ended"
        );
    }

    fn close_span(&mut self, outcome: TraceOutcome, reason: Option<&str>, error: Option<&'static str>) {
        let Some(context) = self.span.take() else { return };
        let span = context.span();
        let Subject { tenant, thread_id, session_id, turn_id, originator, provider, model, .. } =
            &self.subject;
        span.set_attributes([
            KeyValue::new(names::OPERATION, names::INVOKE_AGENT),
            KeyValue::new(names::AGENT_NAME, names::AGENT),
            KeyValue::new(names::PROVIDER_NAME, provider.clone()),
            KeyValue::new(names::REQUEST_MODEL, model.clone()),
            KeyValue::new(names::CONVERSATION, thread_id.to_string()),
            KeyValue::new(names::SESSION, session_id.to_string()),
            KeyValue::new(names::TURN, turn_id.to_string()),
            KeyValue::new(names::TENANT, tenant.as_str().to_owned()),
            KeyValue::new(names::ORIGINATOR, originator.clone()),
            KeyValue::new(names::OUTCOME, names::outcome(outcome)),
            KeyValue::new(names::CALLS, i64::from(self.calls)),
            KeyValue::new(names::COMMITS, i64::from(self.commits)),
            KeyValue::new(names::COMMIT_TIME, self.commits_took.as_secs_f64()),
        ]);
        span.set_attributes(call::tokens(self.usage));
        if let (Some(error), Some(reason)) = (error, reason) {
            span.set_attribute(KeyValue::new(names::ERROR_TYPE, error));
            span.set_attribute(KeyValue::new(names::REASON, reason.to_owned()));
            span.set_status(Status::error(error));
        }
        span.end();
    }

    fn keep(&self, kind: TraceKind) {
        let Subject { tenant, thread_id, turn_id, kept, .. } = &self.subject;
        if *kept {
            let event = TraceEvent { at_ms: now_ms(), turn_id: Some(*turn_id), kind };
            let row = TraceRow { tenant: tenant.clone(), thread_id: *thread_id, event };
            self.observer.recorder.keep(row);
        }
    }
}

impl Drop for TurnWatch {
    fn drop(&mut self) {
        self.over(None);
    }
}
