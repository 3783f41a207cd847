//! What a thread did and cost, in the contract's messages.

use agent_threads::{
    CallPurpose as Purpose, LifecycleEvent as Event, ThreadId, TraceEvent, TraceKind,
    TraceOutcome as Outcome, TraceRecord as Domain, TracedCall, TracedCompaction, TracedLifecycle,
    TracedTurn, Usage,
};
use tidegate_proto::agent::v1::{
    CallPurpose, CompactionTrace, LifecycleEvent, LifecycleTrace, ModelCallTrace, TraceOutcome, TraceRecord,
    TraceTokens, TurnTrace, trace_record,
};

use super::convert::timestamp;

/// A record of a thread's trace.
pub(super) fn record(record: Domain) -> TraceRecord {
    use trace_record::Record;
    let TraceEvent { at_ms, turn_id, kind } = record.event;
    TraceRecord {
        number: record.number,
        at: Some(timestamp(at_ms)),
        turn_id: turn_id.map(|id| id.to_string()).unwrap_or_default(),
        record: Some(match kind {
            TraceKind::Turn(turn) => Record::Turn(self::turn(turn)),
            TraceKind::ModelCall(call) => Record::ModelCall(self::call(call)),
            TraceKind::Compaction(compaction) => Record::Compaction(self::compaction(compaction)),
            TraceKind::Lifecycle(lifecycle) => Record::Lifecycle(self::lifecycle(lifecycle)),
        }),
    }
}

fn turn(turn: TracedTurn) -> TurnTrace {
    let TracedTurn { started_at_ms, model, outcome, reason, commits, commits_us } = turn;
    TurnTrace {
        started_at: Some(timestamp(started_at_ms)),
        model,
        outcome: self::outcome(outcome).into(),
        reason: reason.unwrap_or_default(),
        commits,
        commits_us,
    }
}

fn call(call: TracedCall) -> ModelCallTrace {
    let purpose = match call.purpose {
        Purpose::Turn => CallPurpose::Turn,
        Purpose::Compaction => CallPurpose::Compaction,
    };
    let tokens = |usage: Usage| TraceTokens {
        input_tokens: usage.input_tokens,
        cached_input_tokens: usage.cached_input_tokens,
        output_tokens: usage.output_tokens,
        reasoning_output_tokens: usage.reasoning_output_tokens,
    };
    ModelCallTrace {
        started_at: Some(timestamp(call.started_at_ms)),
        first_event_ms: call.first_event_ms,
        purpose: purpose.into(),
        call: call.call,
        attempt: call.attempt,
        provider: call.provider,
        model: call.model,
        outcome: outcome(call.outcome).into(),
        reason: call.reason.unwrap_or_default(),
        tokens: call.usage.map(tokens),
    }
}

fn compaction(compaction: TracedCompaction) -> CompactionTrace {
    let TracedCompaction { started_at_ms, asked_for, remote, outcome, reason } = compaction;
    CompactionTrace {
        started_at: Some(timestamp(started_at_ms)),
        asked_for,
        remote,
        outcome: self::outcome(outcome).into(),
        reason: reason.unwrap_or_default(),
    }
}

fn lifecycle(lifecycle: TracedLifecycle) -> LifecycleTrace {
    let event = match lifecycle.event {
        Event::Started => LifecycleEvent::Started,
        Event::Forked => LifecycleEvent::Forked,
        Event::Loaded => LifecycleEvent::Loaded,
        Event::Unloaded => LifecycleEvent::Unloaded,
        Event::Resumed => LifecycleEvent::Resumed,
        Event::Reverted => LifecycleEvent::Reverted,
        Event::CrashFound => LifecycleEvent::CrashFound,
    };
    let other = lifecycle.other.map(|id: ThreadId| id.to_string());
    LifecycleTrace { event: event.into(), other_thread_id: other.unwrap_or_default() }
}

fn outcome(outcome: Outcome) -> TraceOutcome {
    match outcome {
        Outcome::Completed => TraceOutcome::Completed,
        Outcome::Interrupted => TraceOutcome::Interrupted,
        Outcome::Failed => TraceOutcome::Failed,
    }
}
