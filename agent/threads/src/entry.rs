//! The entries of a thread's log.
//!
//! The log holds both what a person sees (`Item`) and what the next model call has to contain (`ModelItem`), because the
//! second has to be byte-identical from call to call.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{Item, TurnId, thread::Settings};

/// An entry together with its place in the log.
#[derive(Debug, Clone)]
pub struct Record {
    /// Starts at 1 and grows by one with every entry of the thread.
    pub sequence: u64,
    /// When it was accepted, in Unix milliseconds.
    pub at_ms: i64,
    /// The entry.
    pub entry: Entry,
}

/// One entry of a thread's log. Tagged from outside: an inside tag would make serde parse the raw JSON of a model item.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// A turn began.
    TurnStarted(Box<TurnStart>),
    /// An item is complete.
    Item {
        /// The turn it belongs to.
        turn_id: TurnId,
        /// The item.
        item: Item,
    },
    /// An item of the model's input from now on, exactly as it is sent.
    ModelItem {
        /// The turn it belongs to. What came from outside, between turns, has an id of its own.
        turn_id: TurnId,
        /// The JSON.
        json: Box<RawValue>,
    },
    /// An item of the model's input that says what holds: told once, and again when it has changed. What was told before
    /// stays in the input.
    ContextItem {
        /// The turn it belongs to.
        turn_id: TurnId,
        /// What it tells.
        part: ContextPart,
        /// The JSON.
        json: Box<RawValue>,
    },
    /// The model's input begins anew: what came before is no part of it any more. What takes its place follows in the same
    /// write.
    Compacted {
        /// The turn it belongs to.
        turn_id: TurnId,
        /// The context window that begins; a thread's first one is 0.
        window: u32,
    },
    /// A response of the model was accounted for.
    Usage {
        /// The turn it belongs to.
        turn_id: TurnId,
        /// Of this response.
        last: Usage,
        /// Of the thread so far.
        total: Usage,
    },
    /// A turn ended.
    TurnEnded {
        /// The turn.
        turn_id: TurnId,
        /// How.
        end: TurnEnd,
    },
    /// Everything after a place in the log was taken out of it.
    Reverted {
        /// The first turn that was taken out.
        turn_id: TurnId,
        /// The last sequence number that was kept.
        keep: u64,
    },
}

impl Entry {
    /// The turn that the entry belongs to.
    #[must_use]
    pub fn turn_id(&self) -> TurnId {
        match self {
            Self::TurnStarted(start) => start.turn_id,
            Self::Item { turn_id, .. }
            | Self::ModelItem { turn_id, .. }
            | Self::ContextItem { turn_id, .. }
            | Self::Compacted { turn_id, .. }
            | Self::Usage { turn_id, .. }
            | Self::TurnEnded { turn_id, .. }
            | Self::Reverted { turn_id, .. } => *turn_id,
        }
    }
}

/// What a context item tells the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContextPart {
    /// What it may do.
    Permissions,
    /// What the project's own files ask of it.
    ProjectDocs,
    /// Where it works.
    Environment,
    /// Which state of a repository it works on.
    Git,
    /// What was said before its input began anew.
    Summary,
}

/// A turn and what was in force when it began.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TurnStart {
    /// The turn.
    pub turn_id: TurnId,
    /// What was in force.
    pub settings: Settings,
}

/// How a turn ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "end", rename_all = "snake_case")]
pub enum TurnEnd {
    /// As it should.
    Completed,
    /// By the user, or because its process died.
    Interrupted,
    /// With an error.
    Failed {
        /// What went wrong.
        error: TurnError,
    },
}

/// Why a turn failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurnError {
    /// What clients branch on.
    pub kind: TurnErrorKind,
    /// The gateway's stable reason.
    pub reason: String,
    /// For people.
    pub message: String,
    /// The provider's HTTP status, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_status: Option<u16>,
}

/// The kinds of turn errors that clients know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TurnErrorKind {
    /// The conversation does not fit the model.
    ContextWindowExceeded,
    /// The account's usage limit is reached.
    UsageLimitExceeded,
    /// The provider has no capacity.
    ServerOverloaded,
    /// The account sends too much at once.
    RateLimitExceeded,
    /// The provider went on refusing for want of capacity until the retries were used up.
    TooManyFailedAttempts,
    /// There is no such model.
    ModelNotFound,
    /// A rule of the gateway forbids the request.
    PolicyDenied,
    /// The provider takes the request for an abuse of its models.
    CyberPolicy,
    /// The request is wrong.
    BadRequest,
    /// The gateway's credential or the caller's was refused.
    Unauthorized,
    /// The gateway or the provider could not be reached.
    ConnectionFailed,
    /// The stream broke and the retries are used up.
    StreamDisconnected,
    /// The provider or the gateway failed.
    InternalServerError,
    /// Anything else.
    Other,
}

/// Tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Input, cached included.
    pub input_tokens: u64,
    /// Part of the input that came from the provider's cache.
    pub cached_input_tokens: u64,
    /// Output, reasoning included.
    pub output_tokens: u64,
    /// Part of the output that was reasoning.
    pub reasoning_output_tokens: u64,
    /// All.
    pub total_tokens: u64,
}

impl Usage {
    /// Both together. A provider may report any number.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            input_tokens: self.input_tokens.saturating_add(other.input_tokens),
            cached_input_tokens: self.cached_input_tokens.saturating_add(other.cached_input_tokens),
            output_tokens: self.output_tokens.saturating_add(other.output_tokens),
            reasoning_output_tokens: self
                .reasoning_output_tokens
                .saturating_add(other.reasoning_output_tokens),
            total_tokens: self.total_tokens.saturating_add(other.total_tokens),
        }
    }
}
