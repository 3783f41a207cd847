//! Names of the headers that Codex sends and reads, in lower case.
//!
//! Only names: which of them are forwarded, trusted or removed is decided where requests are built.

/// Identifies the thread; not unique per request.
pub const X_CLIENT_REQUEST_ID: &str = "x-client-request-id";
/// The session a thread belongs to.
pub const SESSION_ID: &str = "session-id";
/// The thread.
pub const THREAD_ID: &str = "thread-id";
/// The client program.
pub const ORIGINATOR: &str = "originator";
/// Version of the client, sent to the built-in OpenAI provider.
pub const VERSION: &str = "version";
/// Features that the client opts in to.
pub const X_CODEX_BETA_FEATURES: &str = "x-codex-beta-features";
/// Thread id and number of the context window.
pub const X_CODEX_WINDOW_ID: &str = "x-codex-window-id";
/// Compact JSON about the turn; contains local paths.
pub const X_CODEX_TURN_METADATA: &str = "x-codex-turn-metadata";
/// Sticky routing state: set by the server, echoed for the rest of the turn.
pub const X_CODEX_TURN_STATE: &str = "x-codex-turn-state";
/// The thread that started this one.
pub const X_CODEX_PARENT_THREAD_ID: &str = "x-codex-parent-thread-id";
/// The turn that began a tree of turns.
pub const X_CODEX_ROOT_TURN_ID: &str = "x-codex-root-turn-id";
/// The installation; a key of `client_metadata`.
pub const X_CODEX_INSTALLATION_ID: &str = "x-codex-installation-id";
/// One inference call.
pub const X_CODEX_INFERENCE_CALL_ID: &str = "x-codex-inference-call-id";
/// A hint that names the model, sent with ChatGPT accounts.
pub const X_CODEX_ROUTING_HINT: &str = "x-codex-routing-hint";
/// The kind of sub-agent that calls.
pub const X_OPENAI_SUBAGENT: &str = "x-openai-subagent";
/// Tools travel in the input instead of at the top.
pub const X_OPENAI_INTERNAL_CODEX_RESPONSES_LITE: &str = "x-openai-internal-codex-responses-lite";
/// Proof of a genuine client.
pub const X_OAI_ATTESTATION: &str = "x-oai-attestation";
/// The ChatGPT account.
pub const CHATGPT_ACCOUNT_ID: &str = "chatgpt-account-id";
/// The organization to bill.
pub const OPENAI_ORGANIZATION: &str = "openai-organization";
/// The project to bill.
pub const OPENAI_PROJECT: &str = "openai-project";
/// Beta opt-in, used on WebSocket upgrades.
pub const OPENAI_BETA: &str = "openai-beta";
/// Names the client program to Amazon Bedrock.
pub const X_AMZN_MANTLE_CLIENT_AGENT: &str = "x-amzn-mantle-client-agent";

/// The upstream's id of a request.
pub const X_REQUEST_ID: &str = "x-request-id";
/// The same where [`X_REQUEST_ID`] is missing.
pub const X_OAI_REQUEST_ID: &str = "x-oai-request-id";
/// The id that the network in front of the upstream gave.
pub const CF_RAY: &str = "cf-ray";
/// The same on Azure.
pub const X_MS_REQUEST_ID: &str = "x-ms-request-id";
/// The same on AWS.
pub const X_AMZN_REQUESTID: &str = "x-amzn-requestid";
/// When to come back, in whole seconds or as a date.
pub const RETRY_AFTER: &str = "retry-after";
/// The same in milliseconds.
pub const RETRY_AFTER_MS: &str = "retry-after-ms";
/// The model that really answers. Codex warns its user when it is not the one that was asked for.
pub const OPENAI_MODEL: &str = "openai-model";
/// Tells that the list of models has changed; Codex then reads it again.
pub const X_MODELS_ETAG: &str = "x-models-etag";
/// Tells that the server keeps the reasoning.
pub const X_REASONING_INCLUDED: &str = "x-reasoning-included";
/// Why a credential was refused.
pub const X_OPENAI_AUTHORIZATION_ERROR: &str = "x-openai-authorization-error";
/// An error as base64 JSON.
pub const X_ERROR_JSON: &str = "x-error-json";
/// The limit family that a refusal is about.
pub const X_CODEX_ACTIVE_LIMIT: &str = "x-codex-active-limit";
/// Text to show when a limit is reached.
pub const X_CODEX_PROMO_MESSAGE: &str = "x-codex-promo-message";
/// Which kind of limit was reached.
pub const X_CODEX_RATE_LIMIT_REACHED_TYPE: &str = "x-codex-rate-limit-reached-type";
