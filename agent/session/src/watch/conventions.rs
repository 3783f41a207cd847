//! The names that telemetry of turns carries, in one place.
//!
//! `gen_ai.*` as of OpenTelemetry's GenAI semantic conventions in their own repository, `semantic-conventions-genai` (v0.1.0,
//! status: development); `error.type` and `session.id` come from the general conventions. `tidegate.*` is ours. The gateway
//! has the same ones for what is its: tokens and times of calls are counted there, and not here once more.

pub(super) const OPERATION: &str = "gen_ai.operation.name";
pub(super) const AGENT_NAME: &str = "gen_ai.agent.name";
pub(super) const PROVIDER_NAME: &str = "gen_ai.provider.name";
pub(super) const REQUEST_MODEL: &str = "gen_ai.request.model";
pub(super) const REQUEST_STREAM: &str = "gen_ai.request.stream";
pub(super) const RESPONSE_FIRST_CHUNK: &str = "gen_ai.response.time_to_first_chunk";
pub(super) const CONVERSATION: &str = "gen_ai.conversation.id";
pub(super) const INPUT_TOKENS: &str = "gen_ai.usage.input_tokens";
pub(super) const OUTPUT_TOKENS: &str = "gen_ai.usage.output_tokens";
pub(super) const CACHE_READ_TOKENS: &str = "gen_ai.usage.cache_read.input_tokens";
pub(super) const REASONING_TOKENS: &str = "gen_ai.usage.reasoning.output_tokens";
pub(super) const TOKEN_TYPE: &str = "gen_ai.token.type";

pub(super) const ERROR_TYPE: &str = "error.type";
pub(super) const SESSION: &str = "session.id";

pub(super) const TENANT: &str = "tidegate.tenant";
pub(super) const TURN: &str = "tidegate.turn.id";
pub(super) const ORIGINATOR: &str = "tidegate.originator";
pub(super) const OUTCOME: &str = "tidegate.outcome";
pub(super) const REASON: &str = "tidegate.reason";
pub(super) const REQUEST_KIND: &str = "tidegate.request.kind";
/// Which call of its turn, from 1 on, and which attempt at it.
pub(super) const CALL: &str = "tidegate.turn.call";
pub(super) const ATTEMPT: &str = "tidegate.turn.attempt";
pub(super) const CALLS: &str = "tidegate.turn.calls";
pub(super) const COMMITS: &str = "tidegate.turn.commits";
pub(super) const COMMIT_TIME: &str = "tidegate.store.commit.duration";

pub(super) const INVOKE_DURATION: &str = "gen_ai.invoke_agent.duration";
pub(super) const INVOKE_CALLS: &str = "gen_ai.invoke_agent.inference_calls";

/// What a turn is in the conventions' words, what a model call is, and who runs turns.
pub(super) const INVOKE_AGENT: &str = "invoke_agent";
pub(super) const CHAT: &str = "chat";
pub(super) const AGENT: &str = "tidegate";

/// How something ended.
pub(super) fn outcome(outcome: agent_threads::TraceOutcome) -> &'static str {
    match outcome {
        agent_threads::TraceOutcome::Completed => "completed",
        agent_threads::TraceOutcome::Interrupted => "interrupted",
        agent_threads::TraceOutcome::Failed => "failed",
    }
}

/// The type of a turn's error, in a word of a bounded set.
pub(super) fn error_type(kind: agent_threads::TurnErrorKind) -> &'static str {
    use agent_threads::TurnErrorKind as Kind;
    match kind {
        Kind::ContextWindowExceeded => "context_window_exceeded",
        Kind::UsageLimitExceeded => "usage_limit_exceeded",
        Kind::ServerOverloaded => "server_overloaded",
        Kind::RateLimitExceeded => "rate_limit_exceeded",
        Kind::TooManyFailedAttempts => "too_many_failed_attempts",
        Kind::ModelNotFound => "model_not_found",
        Kind::PolicyDenied => "policy_denied",
        Kind::CyberPolicy => "cyber_policy",
        Kind::BadRequest => "bad_request",
        Kind::Unauthorized => "unauthorized",
        Kind::ConnectionFailed => "connection_failed",
        Kind::StreamDisconnected => "stream_disconnected",
        Kind::InternalServerError => "internal_server_error",
        Kind::Other => "_OTHER",
    }
}
