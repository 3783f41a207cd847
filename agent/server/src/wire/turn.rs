//! Turns: what starts, steers and stops them, and how they are shown.

use std::collections::BTreeMap;

use agent_session::{ClientMetadata, TokenUsage, TurnStatus as DomainStatus, TurnView};
use agent_threads::{
    Item as DomainItem, ItemRecord, ServiceTier, ThreadId, TurnError as DomainError, TurnErrorKind, TurnId,
    Usage,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::item::{Input, Item};
use super::seconds;
use super::settings::{ApprovalPolicy, ApprovalsReviewer, CollaborationMode, SandboxPolicy};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StartParams {
    pub(crate) thread_id: String,
    pub(crate) input: Vec<Input>,
    #[serde(default)]
    pub(crate) client_user_message_id: Option<String>,
    #[serde(default)]
    pub(crate) service_tier_for_turn: Option<String>,
    #[serde(default)]
    pub(crate) output_schema: Option<Value>,
    #[serde(default)]
    pub(crate) root_turn_id: Option<String>,
    #[serde(flatten)]
    pub(crate) metadata: Metadata,
    #[serde(flatten)]
    pub(crate) settings: Settings,
}

/// What is told with each model call.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Metadata {
    /// Takes the place of what was given before; an empty table takes it away.
    #[serde(default)]
    responsesapi_client_metadata: Option<BTreeMap<String, String>>,
    /// Is added to that.
    #[serde(default)]
    responsesapi_client_metadata_patch: Option<BTreeMap<String, String>>,
}

impl From<Metadata> for ClientMetadata {
    fn from(metadata: Metadata) -> Self {
        Self {
            whole: metadata.responsesapi_client_metadata,
            patch: metadata.responsesapi_client_metadata_patch.unwrap_or_default(),
        }
    }
}

/// The settings that a turn and a change of settings share. A null leaves a setting as it is, except the service tier,
/// which it takes away.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Settings {
    #[serde(default)]
    pub(crate) cwd: Option<String>,
    #[serde(default)]
    pub(crate) approval_policy: Option<ApprovalPolicy>,
    #[serde(default)]
    pub(crate) approvals_reviewer: Option<ApprovalsReviewer>,
    #[serde(default)]
    pub(crate) sandbox_policy: Option<SandboxPolicy>,
    #[serde(default)]
    pub(crate) permissions: Option<String>,
    #[serde(default)]
    pub(crate) model: Option<String>,
    #[serde(default)]
    pub(crate) service_tier: ServiceTier,
    #[serde(default)]
    pub(crate) effort: Option<String>,
    #[serde(default)]
    pub(crate) summary: Option<Summary>,
    #[serde(default)]
    pub(crate) personality: Option<String>,
    #[serde(default)]
    pub(crate) collaboration_mode: Option<CollaborationMode>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Summary {
    Auto,
    Concise,
    Detailed,
    None,
}

impl Summary {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Concise => "concise",
            Self::Detailed => "detailed",
            Self::None => "none",
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SteerParams {
    pub(crate) thread_id: String,
    pub(crate) input: Vec<Input>,
    #[serde(default)]
    pub(crate) client_user_message_id: Option<String>,
    pub(crate) expected_turn_id: String,
    #[serde(flatten)]
    pub(crate) metadata: Metadata,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SteerResponse {
    pub(crate) turn_id: TurnId,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct InterruptParams {
    pub(crate) thread_id: String,
    pub(crate) turn_id: String,
}

/// How much of its items a turn shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum ItemsView {
    NotLoaded,
    /// The first message of the user and the last of the model.
    Summary,
    Full,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Turn<'a> {
    id: TurnId,
    root_turn_id: TurnId,
    items: Vec<Item<'a>>,
    items_view: ItemsView,
    status: Status,
    error: Option<TurnError<'a>>,
    started_at: Option<i64>,
    completed_at: Option<i64>,
    duration_ms: Option<i64>,
}

#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
enum Status {
    InProgress,
    Completed,
    Interrupted,
    Failed,
}

impl<'a> Turn<'a> {
    /// A turn with as much of its items as `items` says.
    pub(crate) fn new(turn: &'a TurnView, items: ItemsView) -> Self {
        let status = match turn.status {
            DomainStatus::InProgress => Status::InProgress,
            DomainStatus::Completed => Status::Completed,
            DomainStatus::Interrupted => Status::Interrupted,
            DomainStatus::Failed => Status::Failed,
        };
        let duration = turn.completed_at_ms.zip(turn.started_at_ms).map(|(end, start)| (end - start).max(0));
        Self {
            id: turn.id,
            root_turn_id: turn.id,
            items: shown(&turn.items, items),
            items_view: items,
            status,
            error: turn.error.as_ref().map(|error| TurnError::new(error, None)),
            started_at: turn.started_at_ms.map(seconds),
            completed_at: turn.completed_at_ms.map(seconds),
            duration_ms: duration,
        }
    }

    /// A turn at its end: the final answer is all that is shown, and nothing when there is none.
    pub(crate) fn ended(turn: &'a TurnView) -> Self {
        Self::new(turn, if turn.items.is_empty() { ItemsView::NotLoaded } else { ItemsView::Summary })
    }
}

fn shown(items: &[ItemRecord], view: ItemsView) -> Vec<Item<'_>> {
    match view {
        ItemsView::NotLoaded => Vec::new(),
        ItemsView::Full => items.iter().map(Item::stored).collect(),
        ItemsView::Summary => {
            let is_user = |record: &&ItemRecord| matches!(record.item, DomainItem::UserMessage { .. });
            let is_agent = |record: &&ItemRecord| matches!(record.item, DomainItem::AgentMessage { .. });
            let first = items.iter().find(is_user);
            let last = items.iter().rev().find(is_agent);
            first.into_iter().chain(last).map(Item::stored).collect()
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TurnError<'a> {
    message: &'a str,
    codex_error_info: ErrorInfo,
    additional_details: Option<&'a str>,
    misalignment: (),
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
enum ErrorInfo {
    ContextWindowExceeded,
    UsageLimitExceeded,
    ServerOverloaded,
    RateLimitExceeded,
    ModelNotFound,
    CyberPolicy,
    /// How clients know that a rule of their organization forbids a request.
    InferenceHookDenied,
    InternalServerError,
    Unauthorized,
    BadRequest,
    Other,
    HttpConnectionFailed {
        http_status_code: Option<u16>,
    },
    ResponseStreamDisconnected {
        http_status_code: Option<u16>,
    },
    ResponseTooManyFailedAttempts {
        http_status_code: Option<u16>,
    },
}

impl<'a> TurnError<'a> {
    pub(crate) fn new(error: &'a DomainError, details: Option<&'a str>) -> Self {
        let http_status_code = error.http_status;
        let info = match error.kind {
            TurnErrorKind::ContextWindowExceeded => ErrorInfo::ContextWindowExceeded,
            TurnErrorKind::UsageLimitExceeded => ErrorInfo::UsageLimitExceeded,
            TurnErrorKind::ServerOverloaded => ErrorInfo::ServerOverloaded,
            TurnErrorKind::RateLimitExceeded => ErrorInfo::RateLimitExceeded,
            TurnErrorKind::TooManyFailedAttempts => {
                ErrorInfo::ResponseTooManyFailedAttempts { http_status_code }
            }
            TurnErrorKind::ModelNotFound => ErrorInfo::ModelNotFound,
            TurnErrorKind::PolicyDenied => ErrorInfo::InferenceHookDenied,
            TurnErrorKind::CyberPolicy => ErrorInfo::CyberPolicy,
            TurnErrorKind::BadRequest => ErrorInfo::BadRequest,
            TurnErrorKind::Unauthorized => ErrorInfo::Unauthorized,
            TurnErrorKind::ConnectionFailed => ErrorInfo::HttpConnectionFailed { http_status_code },
            TurnErrorKind::StreamDisconnected => ErrorInfo::ResponseStreamDisconnected { http_status_code },
            TurnErrorKind::InternalServerError => ErrorInfo::InternalServerError,
            TurnErrorKind::Other => ErrorInfo::Other,
        };
        Self {
            message: &error.message,
            codex_error_info: info,
            additional_details: details,
            misalignment: (),
        }
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct Response<'a> {
    pub(crate) turn: Turn<'a>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Notice<'a> {
    pub(crate) thread_id: ThreadId,
    pub(crate) turn: Turn<'a>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ErrorNotice<'a> {
    pub(crate) error: TurnError<'a>,
    pub(crate) will_retry: bool,
    pub(crate) thread_id: ThreadId,
    pub(crate) turn_id: TurnId,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UsageNotice {
    pub(crate) thread_id: ThreadId,
    pub(crate) turn_id: TurnId,
    pub(crate) token_usage: Tokens,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Tokens {
    total: Breakdown,
    last: Breakdown,
    model_context_window: Option<u64>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Breakdown {
    total_tokens: u64,
    input_tokens: u64,
    cached_input_tokens: u64,
    cache_write_input_tokens: u64,
    output_tokens: u64,
    reasoning_output_tokens: u64,
}

impl From<Usage> for Breakdown {
    fn from(usage: Usage) -> Self {
        Self {
            total_tokens: usage.total_tokens,
            input_tokens: usage.input_tokens,
            cached_input_tokens: usage.cached_input_tokens,
            cache_write_input_tokens: 0,
            output_tokens: usage.output_tokens,
            reasoning_output_tokens: usage.reasoning_output_tokens,
        }
    }
}

impl From<TokenUsage> for Tokens {
    fn from(tokens: TokenUsage) -> Self {
        Self {
            total: tokens.total.into(),
            last: tokens.last.into(),
            model_context_window: tokens.context_window,
        }
    }
}
