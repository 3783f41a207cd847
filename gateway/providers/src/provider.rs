//! What a provider is: where a call goes, what it can do, what must change in its bytes.
//!
//! Facts and edits only. A provider never opens a socket, never reads a clock and never sees a credential, so
//! each one is tested with bytes alone.

use std::sync::Arc;

use http::Uri;
use tidegate_responses::{Request, Splices};

use crate::config::ModelFacts;

/// How the gateway identifies to a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccountKind {
    /// No credential is needed.
    None,
    /// A key or another bearer token.
    ApiKey,
    /// A ChatGPT account.
    ChatGpt,
    /// An AWS identity that signs.
    Aws,
}

impl AccountKind {
    /// Its name in headers and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::ApiKey => "api_key",
            Self::ChatGpt => "chatgpt",
            Self::Aws => "aws",
        }
    }
}

/// What a provider can do: an upper bound that policy may narrow and never widen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Whether the provider's Responses WebSocket can be used.
    pub websockets: bool,
    /// Whether the provider keeps responses, so that `previous_response_id` works.
    pub continuation: bool,
    /// Whether the provider condenses a conversation itself when its input ends with a `compaction_trigger`.
    pub compaction: bool,
    /// Whether the provider is OpenAI itself, which alone may see first-party metadata.
    pub first_party: bool,
}

/// Who can do something about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The request is wrong: the caller has to change it.
    Caller,
    /// The gateway's credential for the provider is missing, expired or refused.
    Credential,
    /// The provider failed or could not be reached.
    Upstream,
    /// An error in this service.
    Bug,
}

/// What a call asks of a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// `POST …/responses`.
    Responses,
    /// `POST …/responses/compact`.
    Compact,
    /// `POST …/responses/input_tokens`.
    InputTokens,
    /// `GET …/models`.
    Models,
}

/// Where a call goes.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    pub(crate) uri: Uri,
    /// The service name in an AWS signature, for endpoints that are signed for.
    pub(crate) service: Option<Arc<str>>,
}

/// One upstream's facts and edits. Never does IO.
pub(crate) trait Provider: Send + Sync {
    fn id(&self) -> &str;
    fn display_name(&self) -> &str;
    fn capabilities(&self) -> Capabilities;
    /// Where this model is served; none if the provider does not serve it, has no such operation, or answers in
    /// this process. `model` is of no meaning for `Models`.
    fn endpoint(&self, operation: Operation, model: &str) -> Option<Endpoint>;
    /// What must change in a request's bytes before this provider sees them.
    fn edits(&self, request: &Request) -> Splices;
    /// Whether a request may be given a service tier that it did not name: other servers refuse the field.
    fn has_service_tiers(&self) -> bool {
        self.capabilities().first_party
    }
    /// What is known of a model without asking the provider; none if the model cannot answer Responses calls.
    fn model_facts(&self, slug: &str) -> Option<ModelFacts>;
    /// An address of its host, for a connection that is made ahead of need.
    fn host(&self) -> Option<Uri> {
        let endpoint =
            self.endpoint(Operation::Models, "").or_else(|| self.endpoint(Operation::Responses, ""));
        Some(endpoint?.uri)
    }
    /// What people should know of it, for example what was chosen because nobody said it.
    fn note(&self) -> Option<&str> {
        None
    }
}
