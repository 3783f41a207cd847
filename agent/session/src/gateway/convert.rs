//! Turns the contract's generated types into this crate's own and back.

use std::time::Duration;

use bytes::Bytes;
use secrecy::ExposeSecret as _;
use tidegate_proto::gateway::v1 as wire;

use super::{Call, CallEvent, Envelope, Failure, FailureFault, RequestKind};
use crate::attestation::{Attestation, AttestationProblem};
use crate::model::{AccountKind, Model, Provider, RateLimit, RateLimitWindow, ReasoningEffort};

pub(super) fn start(call: Call) -> (wire::ResponseStart, Bytes) {
    let start = wire::ResponseStart {
        envelope: Some(envelope(call.envelope)),
        provider_hint: call.provider,
        can_attest: call.attesters.can_attest(),
        turn_state: call.turn_state.unwrap_or_default(),
        operation: wire::Operation::Respond.into(),
        traceparent: call.trace.traceparent,
        tracestate: call.trace.tracestate,
    };
    (start, call.body)
}

fn envelope(envelope: Envelope) -> wire::Envelope {
    let optional = |id: Option<agent_threads::ThreadId>| id.map(|id| id.to_string()).unwrap_or_default();
    let thread_id = envelope.thread_id.to_string();
    wire::Envelope {
        installation_id: envelope.installation_id,
        session_id: envelope.session_id.to_string(),
        root_turn_id: envelope.root_turn_id.to_string(),
        turn_id: envelope.turn_id.to_string(),
        parent_thread_id: optional(envelope.parent_id),
        forked_from_thread_id: optional(envelope.forked_from_id),
        window_id: format!("{thread_id}:{}", envelope.window),
        window_number: envelope.window,
        thread_id,
        thread_source: envelope.thread_source.unwrap_or_default(),
        originator: envelope.originator,
        user_agent: envelope.user_agent,
        request_kind: match envelope.kind {
            RequestKind::Turn => wire::RequestKind::Turn.into(),
            RequestKind::Compaction => wire::RequestKind::Compaction.into(),
        },
        turn_started_at: Some(timestamp(envelope.turn_started_at_ms)),
        sandbox: envelope.sandbox.unwrap_or_default(),
        extra: envelope.extra.into_iter().collect(),
    }
}

pub(super) fn attestation(id: u64, attestation: Attestation) -> wire::AttestationAnswer {
    use wire::attestation_answer::Answer;

    let problem = |problem: wire::AttestationProblem| Answer::Problem(problem.into());
    let answer = match attestation {
        Attestation::Token(token) => Answer::Token(token.expose_secret().to_owned()),
        Attestation::Problem(AttestationProblem::Timeout) => problem(wire::AttestationProblem::Timeout),
        Attestation::Problem(AttestationProblem::RequestFailed) => {
            problem(wire::AttestationProblem::RequestFailed)
        }
        Attestation::Problem(AttestationProblem::Cancelled) => problem(wire::AttestationProblem::Cancelled),
        Attestation::Problem(AttestationProblem::Malformed) => problem(wire::AttestationProblem::Malformed),
    };
    wire::AttestationAnswer { id, answer: Some(answer) }
}

fn timestamp(at_ms: i64) -> prost_types::Timestamp {
    let nanos = i32::try_from(at_ms.rem_euclid(1000) * 1_000_000).unwrap_or_default();
    prost_types::Timestamp { seconds: at_ms.div_euclid(1000), nanos }
}

pub(super) fn head(head: wire::ResponseHead) -> CallEvent {
    CallEvent::Head {
        provider: head.provider,
        turn_state: some(head.turn_state),
        rate_limits: head.rate_limits.into_iter().map(rate_limit).collect(),
        continues: head.continues,
    }
}

pub(super) fn rate_limit(limit: wire::RateLimit) -> RateLimit {
    let window = |window: wire::RateLimitWindow| RateLimitWindow {
        used_percent: window.used_percent,
        window_minutes: Some(window.window_minutes).filter(|minutes| *minutes > 0),
        resets_at: window.resets_at.map(|at| at.seconds),
    };
    RateLimit {
        id: limit.id,
        name: some(limit.name),
        primary: limit.primary.map(window),
        secondary: limit.secondary.map(window),
        reached_type: some(limit.reached_type),
    }
}

pub(super) fn usage(usage: wire::Usage) -> agent_threads::Usage {
    agent_threads::Usage {
        input_tokens: usage.input_tokens,
        cached_input_tokens: usage.cached_input_tokens,
        output_tokens: usage.output_tokens,
        reasoning_output_tokens: usage.reasoning_output_tokens,
        total_tokens: usage.total_tokens,
    }
}

pub(super) fn failure(mut failure: wire::Failure) -> Failure {
    // It is the agent that the gateway does not know; whoever asked the agent may be known very well.
    if failure.reason == "unauthenticated" {
        failure.set_fault(wire::Fault::Credential);
        failure.message.insert_str(0, "the gateway does not know the agent: ");
    }
    let fault = match failure.fault() {
        wire::Fault::Caller => FailureFault::Caller,
        wire::Fault::Policy => FailureFault::Policy,
        wire::Fault::Credential => FailureFault::Credential,
        wire::Fault::Upstream => FailureFault::Upstream,
        wire::Fault::Overload => FailureFault::Overload,
        wire::Fault::Bug | wire::Fault::Unspecified => FailureFault::Bug,
    };
    let (status, code) =
        failure.upstream.map(|upstream| (upstream.status, upstream.code)).unwrap_or_default();
    Failure {
        fault,
        retryable: failure.retryable,
        retry_delay: failure.retry_delay.and_then(delay),
        http_status: u16::try_from(status).ok().filter(|status| *status > 0),
        code: some(code),
        message: some(failure.message).unwrap_or_else(|| failure.reason.clone()),
        reason: failure.reason,
    }
}

fn delay(delay: prost_types::Duration) -> Option<Duration> {
    Duration::try_from(delay).ok()
}

pub(super) fn model(model: wire::Model) -> Model {
    Model {
        display_name: some(model.display_name).unwrap_or_else(|| model.slug.clone()),
        slug: model.slug,
        description: model.description,
        provider: model.provider,
        is_default: model.is_default,
        reasoning_efforts: model
            .reasoning_efforts
            .into_iter()
            .map(|wire::ReasoningEffort { effort, description }| ReasoningEffort { effort, description })
            .collect(),
        default_reasoning_effort: some(model.default_reasoning_effort),
        context_window: Some(model.context_window).filter(|tokens| *tokens > 0),
        supports_parallel_tool_calls: model.supports_parallel_tool_calls,
        supports_reasoning_summaries: model.supports_reasoning_summaries,
        base_instructions: some(model.base_instructions),
    }
}

pub(super) fn provider(provider: wire::Provider) -> Provider {
    let account_kind = match provider.account_kind() {
        wire::AccountKind::Unspecified => AccountKind::Unknown,
        wire::AccountKind::None => AccountKind::None,
        wire::AccountKind::ApiKey => AccountKind::ApiKey,
        wire::AccountKind::Chatgpt => AccountKind::ChatGpt,
        wire::AccountKind::Aws => AccountKind::Aws,
    };
    Provider {
        display_name: some(provider.display_name).unwrap_or_else(|| provider.id.clone()),
        id: provider.id,
        is_default: provider.is_default,
        account_kind,
        stream_max_retries: Some(provider.stream_max_retries),
        compacts: provider.supports_compaction,
    }
}

fn some(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}
