//! A thread's trace as one JSON document for machines.

use serde_json::{Map, Value, json};
use tidegate_proto::agent::v1::{
    CallPurpose, LifecycleEvent, Thread, TraceOutcome, TraceRecord, trace_record::Record,
};

/// The document: one object with the thread and its records, in their order.
pub(super) fn of(thread: &Thread, records: &[TraceRecord]) -> anyhow::Result<String> {
    let records: Vec<Value> = records.iter().map(record).collect();
    let document = json!({
        "thread": {"id": thread.id, "provider": thread.provider, "model": thread.model},
        "records": records,
    });
    Ok(format!("{}\n", serde_json::to_string_pretty(&document)?))
}

fn record(record: &TraceRecord) -> Value {
    let (kind, mut fields) = match &record.record {
        Some(Record::Turn(turn)) => {
            let mut fields = ended(turn.outcome(), &turn.reason, turn.started_at.as_ref());
            fields.insert("model".to_owned(), json!(turn.model));
            fields.insert("commits".to_owned(), json!(turn.commits));
            fields.insert("commits_us".to_owned(), json!(turn.commits_us));
            ("turn", fields)
        }
        Some(Record::ModelCall(call)) => {
            let mut fields = ended(call.outcome(), &call.reason, call.started_at.as_ref());
            let purpose = match call.purpose() {
                CallPurpose::Compaction => "compaction",
                CallPurpose::Turn | CallPurpose::Unspecified => "turn",
            };
            let tokens = call.tokens.as_ref().map(|tokens| {
                json!({
                    "input": tokens.input_tokens,
                    "cached_input": tokens.cached_input_tokens,
                    "output": tokens.output_tokens,
                    "reasoning_output": tokens.reasoning_output_tokens,
                })
            });
            fields.extend(object(json!({
                "purpose": purpose,
                "call": call.call,
                "attempt": call.attempt,
                "provider": call.provider,
                "model": call.model,
                "first_event_ms": call.first_event_ms,
                "tokens": tokens,
            })));
            ("model_call", fields)
        }
        Some(Record::Compaction(compaction)) => {
            let mut fields = ended(compaction.outcome(), &compaction.reason, compaction.started_at.as_ref());
            fields.insert("asked_for".to_owned(), json!(compaction.asked_for));
            fields.insert("remote".to_owned(), json!(compaction.remote));
            ("compaction", fields)
        }
        Some(Record::Lifecycle(lifecycle)) => {
            let event = match lifecycle.event() {
                LifecycleEvent::Started => "started",
                LifecycleEvent::Forked => "forked",
                LifecycleEvent::Loaded => "loaded",
                LifecycleEvent::Unloaded => "unloaded",
                LifecycleEvent::Resumed => "resumed",
                LifecycleEvent::Reverted => "reverted",
                LifecycleEvent::CrashFound => "crash_found",
                LifecycleEvent::Unspecified => "unknown",
            };
            let other = Some(&lifecycle.other_thread_id).filter(|id| !id.is_empty());
            ("lifecycle", object(json!({"event": event, "other_thread_id": other})))
        }
        None => ("unknown", Map::new()),
    };
    fields.insert("kind".to_owned(), json!(kind));
    fields.insert("number".to_owned(), json!(record.number));
    fields.insert("at_ms".to_owned(), json!(record.at.as_ref().map(ms)));
    fields.insert("turn_id".to_owned(), json!(Some(&record.turn_id).filter(|id| !id.is_empty())));
    Value::Object(fields)
}

fn ended(outcome: TraceOutcome, reason: &str, from: Option<&prost_types::Timestamp>) -> Map<String, Value> {
    let outcome = match outcome {
        TraceOutcome::Completed => "completed",
        TraceOutcome::Interrupted => "interrupted",
        TraceOutcome::Failed => "failed",
        TraceOutcome::Unspecified => "unknown",
    };
    let reason = Some(reason).filter(|reason| !reason.is_empty());
    object(json!({"outcome": outcome, "reason": reason, "started_at_ms": from.map(ms)}))
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

fn ms(at: &prost_types::Timestamp) -> i64 {
    at.seconds.saturating_mul(1_000).saturating_add(i64::from(at.nanos) / 1_000_000)
}

#[cfg(test)]
mod tests {
    use prost_types::Timestamp;
    use tidegate_proto::agent::v1::{ModelCallTrace, TraceTokens};

    use super::*;

    #[test]
    fn a_call_is_told_with_all_that_is_known_of_it() {
        let at = |nanos| Some(Timestamp { seconds: 7, nanos });
        let call = ModelCallTrace {
            started_at: at(1_000_000),
            first_event_ms: Some(20),
            purpose: CallPurpose::Compaction.into(),
            call: 2,
            attempt: 3,
            provider: "p".to_owned(),
            model: "m".to_owned(),
            outcome: TraceOutcome::Failed.into(),
            reason: "stream_closed".to_owned(),
            tokens: Some(TraceTokens {
                input_tokens: 10,
                cached_input_tokens: 20,
                output_tokens: 30,
                reasoning_output_tokens: 40,
            }),
        };
        let record = |record| TraceRecord { number: 5, at: at(9_000_000), turn_id: "t".to_owned(), record };
        let records = [record(Some(Record::ModelCall(call))), record(None)];
        let thread = Thread { id: "id".to_owned(), ..Thread::default() };
        let document: Value = serde_json::from_str(&of(&thread, &records).unwrap()).unwrap();
        let expected = json!({
            "kind": "model_call", "number": 5, "turn_id": "t", "started_at_ms": 7_001, "at_ms": 7_009,
            "outcome": "failed", "reason": "stream_closed", "purpose": "compaction", "call": 2, "attempt": 3,
            "provider": "p", "model": "m", "first_event_ms": 20,
            "tokens": {"input": 10, "cached_input": 20, "output": 30, "reasoning_output": 40},
        });
        assert_eq!(document["records"][0], expected);
        assert_eq!(document["records"][1]["kind"], "unknown");
        assert_eq!(document["thread"]["id"], "id");
    }
}
