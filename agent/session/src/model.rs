//! What the gateway tells about models, providers and usage limits, as this crate's callers see it.

/// A model and the facts that are needed to use it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Model {
    /// What a request names.
    pub slug: String,
    /// For people.
    pub display_name: String,
    /// For people.
    pub description: String,
    /// The id of the provider that serves it.
    pub provider: String,
    /// Whether it is used when nobody names one.
    pub is_default: bool,
    /// From least to most.
    pub reasoning_efforts: Vec<ReasoningEffort>,
    /// The effort that is used when nobody names one.
    pub default_reasoning_effort: Option<String>,
    /// In tokens, if known.
    pub context_window: Option<u64>,
    /// Whether it may call several tools at once.
    pub supports_parallel_tool_calls: bool,
    /// Whether it can summarize its reasoning.
    pub supports_reasoning_summaries: bool,
    /// The developer message that a conversation with it begins with.
    pub base_instructions: Option<String>,
}

/// How hard a model thinks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReasoningEffort {
    /// What a request names.
    pub effort: String,
    /// For people.
    pub description: String,
}

/// A provider behind the gateway, without anything secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provider {
    /// Its id.
    pub id: String,
    /// For people.
    pub display_name: String,
    /// Whether it serves models that no other provider names.
    pub is_default: bool,
    /// How the gateway identifies to it.
    pub account_kind: AccountKind,
    /// How often a broken stream may be begun again, if the gateway tells.
    pub stream_max_retries: Option<u32>,
    /// Whether it condenses a conversation itself when the input ends with a `compaction_trigger`.
    pub compacts: bool,
}

/// How the gateway identifies to a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccountKind {
    /// Not told.
    Unknown,
    /// No credential is needed.
    None,
    /// By an API key.
    ApiKey,
    /// By a ChatGPT account.
    ChatGpt,
    /// By AWS credentials.
    Aws,
}

/// A usage limit as the provider reported it.
#[derive(Debug, Clone, PartialEq)]
pub struct RateLimit {
    /// Stable id of the limit, for example `codex`.
    pub id: String,
    /// For people.
    pub name: Option<String>,
    /// The shorter window.
    pub primary: Option<RateLimitWindow>,
    /// The longer window.
    pub secondary: Option<RateLimitWindow>,
    /// Which kind of limit was reached, in the provider's words, if one was.
    pub reached_type: Option<String>,
}

/// How far a usage limit is used up.
#[derive(Debug, Clone, PartialEq)]
pub struct RateLimitWindow {
    /// In percent.
    pub used_percent: f64,
    /// The window's length, if known.
    pub window_minutes: Option<u64>,
    /// When it starts anew, in Unix seconds, if known.
    pub resets_at: Option<i64>,
}
