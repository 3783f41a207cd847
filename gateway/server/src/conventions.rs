//! The names that telemetry of calls carries, in one place.
//!
//! `gen_ai.*` as of OpenTelemetry's GenAI semantic conventions in their own repository, `semantic-conventions-genai` (after
//! v1.41 of the general ones, from which they moved; status: development). `error.type`, `server.address`, `session.id` and
//! `http.response.status_code` are stable or older and come from the general conventions. `tidegate.*` is ours.

use gateway_providers::Operation;

pub(crate) const OPERATION: &str = "gen_ai.operation.name";
pub(crate) const PROVIDER_NAME: &str = "gen_ai.provider.name";
pub(crate) const REQUEST_MODEL: &str = "gen_ai.request.model";
pub(crate) const REQUEST_STREAM: &str = "gen_ai.request.stream";
pub(crate) const RESPONSE_MODEL: &str = "gen_ai.response.model";
pub(crate) const RESPONSE_ID: &str = "gen_ai.response.id";
pub(crate) const RESPONSE_FIRST_CHUNK: &str = "gen_ai.response.time_to_first_chunk";
pub(crate) const CONVERSATION: &str = "gen_ai.conversation.id";
pub(crate) const INPUT_TOKENS: &str = "gen_ai.usage.input_tokens";
pub(crate) const OUTPUT_TOKENS: &str = "gen_ai.usage.output_tokens";
pub(crate) const CACHE_READ_TOKENS: &str = "gen_ai.usage.cache_read.input_tokens";
pub(crate) const CACHE_CREATION_TOKENS: &str = "gen_ai.usage.cache_creation.input_tokens";
pub(crate) const REASONING_TOKENS: &str = "gen_ai.usage.reasoning.output_tokens";
pub(crate) const TOKEN_TYPE: &str = "gen_ai.token.type";
pub(crate) const SERVICE_TIER: &str = "openai.response.service_tier";

pub(crate) const TOKEN_USAGE: &str = "gen_ai.client.token.usage";
pub(crate) const OPERATION_DURATION: &str = "gen_ai.client.operation.duration";
pub(crate) const TIME_TO_FIRST_CHUNK: &str = "gen_ai.client.operation.time_to_first_chunk";

pub(crate) const ERROR_TYPE: &str = "error.type";
pub(crate) const SERVER_ADDRESS: &str = "server.address";
pub(crate) const SESSION: &str = "session.id";
pub(crate) const STATUS: &str = "http.response.status_code";

pub(crate) const CALL: &str = "tidegate.call.id";
pub(crate) const TENANT: &str = "tidegate.tenant";
pub(crate) const SUBJECT: &str = "tidegate.subject";
pub(crate) const GENERATION: &str = "tidegate.generation";
pub(crate) const SURFACE: &str = "tidegate.surface";
pub(crate) const PROVIDER: &str = "tidegate.provider";
pub(crate) const OUTCOME: &str = "tidegate.outcome";
pub(crate) const ATTEMPTS: &str = "tidegate.attempts";
pub(crate) const REASON: &str = "tidegate.reason";
pub(crate) const PHASE: &str = "tidegate.phase";
pub(crate) const TURN: &str = "tidegate.turn.id";
pub(crate) const WINDOW: &str = "tidegate.window.id";
pub(crate) const ORIGINATOR: &str = "tidegate.originator";
pub(crate) const REQUEST_KIND: &str = "tidegate.request.kind";
pub(crate) const REQUEST_BYTES: &str = "tidegate.request.bytes";
pub(crate) const RESPONSE_BYTES: &str = "tidegate.response.bytes";
pub(crate) const UPSTREAM_REQUEST: &str = "tidegate.upstream.request.id";
pub(crate) const OVERHEAD: &str = "tidegate.overhead";
/// The phases of a call, in seconds and in their order.
pub(crate) const PHASES: [&str; 7] = [
    "tidegate.phase.auth",
    "tidegate.phase.queue",
    "tidegate.phase.body",
    "tidegate.phase.credential",
    "tidegate.phase.connect",
    "tidegate.phase.first_byte",
    "tidegate.phase.stream",
];

/// What a model call is in the conventions' words, a compaction too. For a count of tokens, which generates nothing, they
/// have no word.
pub(crate) fn operation(operation: Operation) -> &'static str {
    match operation {
        Operation::Responses | Operation::Compact => "chat",
        Operation::InputTokens => "input_tokens",
        Operation::Models => "models",
    }
}

/// A provider's name in the conventions' words: well-known services have one, others keep the id of the configuration.
pub(crate) fn provider_name(id: &str) -> &str {
    match id {
        "amazon-bedrock" | "amazon-bedrock-runtime" => "aws.bedrock",
        other => other,
    }
}

/// The type of an error status; a provider may send any number, so rare ones share a name.
pub(crate) fn status_type(status: u16) -> &'static str {
    match status {
        400 => "400",
        401 => "401",
        402 => "402",
        403 => "403",
        404 => "404",
        408 => "408",
        409 => "409",
        413 => "413",
        422 => "422",
        429 => "429",
        500 => "500",
        502 => "502",
        503 => "503",
        504 => "504",
        529 => "529",
        _ => "_OTHER",
    }
}
