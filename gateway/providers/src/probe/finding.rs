//! What a probe can find, told by the status of an answer or by what stood in its way.

use std::fmt;

use http::StatusCode;

use crate::provider::Operation;
use crate::send::SendError;
use crate::transport::Step;

/// What a probe found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// The provider was reached and the credential is good.
    Reached,
    /// The same, and a limit is used up.
    Limited,
    /// The provider took the call although it is wrong. It was reached, and it may have spent tokens.
    Accepted,
    /// The provider is reached with its callers' credentials: a connection was made and no credential was tried.
    CallersCredential,
    /// The provider answers in this process.
    InProcess,
    /// The credential is not good.
    Unauthorized,
    /// The credential is known and may not do this.
    Forbidden,
    /// There is no such path, or no such model.
    NotFound,
    /// The provider failed.
    ServerError,
    /// What answers is not such an API.
    Strange,
    /// The connection was made and no answer came.
    Silent,
    /// The name has no address.
    Dns,
    /// Nothing can be connected to.
    Connect,
    /// The proxy gives no way through.
    Proxy,
    /// No secure connection could be made.
    Tls,
    /// There is no credential.
    Credential,
    /// An error in this service.
    Bug,
}

impl Finding {
    pub(super) fn of_status(operation: Operation, status: StatusCode) -> Finding {
        match (status.as_u16(), operation) {
            (200..=299, Operation::Models) => Self::Reached,
            (200..=299, Operation::Responses | Operation::Compact | Operation::InputTokens) => Self::Accepted,
            (400 | 422, Operation::Responses | Operation::Compact | Operation::InputTokens) => Self::Reached,
            // The first one is told by providers that are paid in advance.
            (402 | 429, _) => Self::Limited,
            (401, _) => Self::Unauthorized,
            (403, _) => Self::Forbidden,
            (404 | 405 | 410, _) => Self::NotFound,
            (500.., _) => Self::ServerError,
            _ => Self::Strange,
        }
    }

    pub(super) fn of_error(error: &SendError) -> Finding {
        match error {
            SendError::Resolve { .. } => Self::Dns,
            SendError::Proxy { .. } | SendError::ConnectTimeout { step: Step::Proxy } => Self::Proxy,
            SendError::Connect { .. } | SendError::ConnectTimeout { .. } => Self::Connect,
            SendError::Tls { .. } => Self::Tls,
            SendError::Timeout { .. } | SendError::ClosedBeforeHeaders { .. } => Self::Silent,
            SendError::Malformed { .. } => Self::Strange,
            SendError::Credential(_) => Self::Credential,
            // The last two belong to WebSockets, which are not tried.
            SendError::NotOffered
            | SendError::Request { .. }
            | SendError::ContinuationLost
            | SendError::Closed { .. } => Self::Bug,
        }
    }

    /// Whether calls can be made, as far as a probe can tell.
    #[must_use]
    pub fn is_fine(self) -> bool {
        match self {
            Self::Reached | Self::Limited | Self::Accepted | Self::CallersCredential | Self::InProcess => {
                true
            }
            Self::Unauthorized
            | Self::Forbidden
            | Self::NotFound
            | Self::ServerError
            | Self::Strange
            | Self::Silent
            | Self::Dns
            | Self::Connect
            | Self::Proxy
            | Self::Tls
            | Self::Credential
            | Self::Bug => false,
        }
    }

    /// Whether every other probe of the same provider would find the same.
    pub(super) fn is_in_every_way(self) -> bool {
        matches!(
            self,
            Self::CallersCredential | Self::Dns | Self::Connect | Self::Proxy | Self::Tls | Self::Credential
        )
    }

    /// A stable name for machines.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Reached => "reached",
            Self::Limited => "limited",
            Self::Accepted => "accepted",
            Self::CallersCredential => "callers_credential",
            Self::InProcess => "in_process",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::ServerError => "server_error",
            Self::Strange => "strange",
            Self::Silent => "silent",
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Proxy => "proxy",
            Self::Tls => "tls",
            Self::Credential => "credential",
            Self::Bug => "bug",
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reached => "reached and authorized",
            Self::Limited => "reached and authorized, and a limit is used up",
            Self::Accepted => "reached, and a wrong request was accepted",
            Self::CallersCredential => "connected; the credential is the caller's and was not tried",
            Self::InProcess => "answers in this process, no network",
            Self::Unauthorized => "the credential is not good",
            Self::Forbidden => "the credential may not do this",
            Self::NotFound => "no such path or model",
            Self::ServerError => "the provider failed",
            Self::Strange => "what answers is not such an API",
            Self::Silent => "no answer",
            Self::Dns => "the name has no address",
            Self::Connect => "cannot connect",
            Self::Proxy => "the proxy gives no way through",
            Self::Tls => "no secure connection",
            Self::Credential => "there is no credential",
            Self::Bug => "the request cannot be made",
        })
    }
}
