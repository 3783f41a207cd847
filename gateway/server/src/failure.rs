//! Why a call did not succeed, as the contract's typed failure. The one place where errors of the steps get their stable
//! reason and their fault; the surfaces only translate a [`Failure`] into their own form.

use std::{
    error::Error,
    time::{Duration, SystemTime},
};

use gateway_policy::Denied;
use gateway_providers::{BodyError, CredentialError, RouteError, SendError};
use http::{HeaderMap, StatusCode};
use tidegate_callers::Refusal;
use tidegate_proto::gateway::v1::{Failure, Fault, UpstreamError};
use tidegate_responses::{ErrorBody, request, retry_after};

/// How much of a provider's error body is kept.
pub(crate) const UPSTREAM_BODY_BYTES_MAX: usize = 64 * 1024;

/// The reason of a call that its caller's own deadline ended.
pub(crate) const DEADLINE_EXCEEDED: &str = "deadline_exceeded";

/// What an error is: its reason in a stable word, whose fault it is, and whether a repetition can help.
pub(crate) type FailureKind = (&'static str, Fault, bool);

/// Why a step of the pipeline stopped a call.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// As many calls run as may.
    #[error("the gateway runs as many calls as it may")]
    Busy,
    /// As many bytes are held as may be.
    #[error("the calls of the gateway hold as many bytes as they may")]
    Full,
    /// The process has no more time for calls.
    #[error("the gateway stops")]
    Stopping,
    /// Nobody knows who calls.
    #[error(transparent)]
    Unauthenticated(#[from] Refusal),
    /// The caller may call nothing at all.
    #[error(transparent)]
    Barred(Denied),
    /// A rule says no to the call.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The principal runs as many calls as its rules allow.
    #[error(transparent)]
    TooManyCalls(Denied),
    #[error("the request body is larger than {limit} bytes")]
    BodyTooLarge { limit: usize },
    #[error("the request body did not arrive within {seconds} s")]
    BodyTimeout { seconds: u64 },
    #[error("the request body ended early")]
    BodyCut,
    #[error("the content encoding `{encoding}` is not supported, send zstd, gzip, or the body as it is")]
    BodyEncoded { encoding: String },
    #[error("the request body is not a whole {encoding} stream")]
    BodyCorrupt { encoding: &'static str },
    #[error("the request body is more than {ratio} times larger than what was sent")]
    BodyBomb { ratio: usize },
    #[error(transparent)]
    Request(#[from] request::Error),
    #[error("the request names no model")]
    NoModel,
    #[error(transparent)]
    Route(#[from] RouteError),
    #[error(transparent)]
    Send(#[from] SendError),
    /// The caller broke the order of the contract's messages.
    #[error("{0}")]
    Protocol(&'static str),
    /// A message of the caller's is none of the contract's.
    #[error("a message cannot be read: {reason}")]
    Unreadable { reason: String },
}

impl CallError {
    pub(crate) fn kind(&self) -> FailureKind {
        match self {
            Self::Busy => ("gateway_busy", Fault::Overload, true),
            Self::Full => ("gateway_full", Fault::Overload, true),
            Self::Stopping => ("gateway_stopping", Fault::Overload, true),
            Self::Unauthenticated(refusal) if refusal.is_retryable() => {
                (refusal.reason(), Fault::Overload, true)
            }
            Self::Unauthenticated(_) => ("unauthenticated", Fault::Caller, false),
            Self::Barred(_) | Self::Denied(_) => ("policy_denied", Fault::Policy, false),
            Self::TooManyCalls(_) => ("too_many_calls", Fault::Overload, true),
            Self::BodyTooLarge { .. } => ("body_too_large", Fault::Caller, false),
            Self::BodyTimeout { .. } => ("body_timeout", Fault::Caller, true),
            Self::BodyCut => ("body_cut", Fault::Caller, true),
            Self::BodyEncoded { .. } => ("body_encoding_unsupported", Fault::Caller, false),
            Self::BodyCorrupt { .. } => ("body_encoding_invalid", Fault::Caller, false),
            Self::BodyBomb { .. } => ("body_too_large", Fault::Caller, false),
            Self::Request(_) => ("invalid_request", Fault::Caller, false),
            Self::NoModel => ("model_missing", Fault::Caller, false),
            Self::Route(error) => (route_reason(error), fault_of(error.fault()), error.is_retryable()),
            Self::Send(error) => (send_reason(error), fault_of(error.fault()), error.is_retryable()),
            Self::Protocol(_) | Self::Unreadable { .. } => ("protocol", Fault::Caller, false),
        }
    }

    /// The rule that says no, by the name that the caller is told.
    pub(crate) fn rule(&self) -> Option<&str> {
        match self {
            Self::Barred(denied) | Self::Denied(denied) | Self::TooManyCalls(denied) => Some(&denied.rule),
            _ => None,
        }
    }

    /// The failure that the caller is told.
    pub(crate) fn failure(&self) -> Failure {
        failure(self.kind(), with_causes(self))
    }
}

impl CallError {
    /// The status of the HTTP answer. Codex repeats 403, 404, 408 and 409 six times but 400 never, so an error that only
    /// the caller can mend is a 400 wherever the API allows it. On gRPC the fault decides, in the contract's own crate.
    pub(crate) fn http_status(&self, failure: &Failure) -> StatusCode {
        match (self, failure.fault()) {
            (Self::BodyTooLarge { .. } | Self::BodyBomb { .. }, _) => StatusCode::PAYLOAD_TOO_LARGE,
            (Self::BodyEncoded { .. }, _) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            (Self::TooManyCalls(_), _) => StatusCode::TOO_MANY_REQUESTS,
            // Codex asks its command for another token and repeats.
            (Self::Unauthenticated(refusal), _) if !refusal.is_retryable() => StatusCode::UNAUTHORIZED,
            (Self::BodyTimeout { .. }, _) => StatusCode::REQUEST_TIMEOUT,
            // What Codex answers by asking its command for another token.
            (Self::Send(SendError::Credential(CredentialError::CallerBringsNone)), _) => {
                StatusCode::UNAUTHORIZED
            }
            // A rule that denies a call denies its repetitions too, and Codex repeats a 403.
            (_, Fault::Caller | Fault::Policy) => StatusCode::BAD_REQUEST,
            (Self::Send(SendError::Timeout { .. }), Fault::Upstream) => StatusCode::GATEWAY_TIMEOUT,
            (_, Fault::Credential | Fault::Upstream) => StatusCode::BAD_GATEWAY,
            (_, Fault::Overload) => StatusCode::SERVICE_UNAVAILABLE,
            (_, Fault::Bug | Fault::Unspecified) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// The failure behind a provider's body that broke off.
pub(crate) fn broke(error: &BodyError) -> FailureKind {
    let reason = match error {
        BodyError::Idle { .. } => "upstream_silent",
        BodyError::Reset { .. } => "upstream_disconnected",
        BodyError::Closed { .. } => "upstream_closed",
        BodyError::Malformed { .. } => "upstream_malformed",
        BodyError::TooLarge { .. } => "upstream_too_large",
    };
    (reason, fault_of(error.fault()), error.is_retryable())
}

fn route_reason(error: &RouteError) -> &'static str {
    match error {
        RouteError::UnknownModel { .. }
        | RouteError::ProviderDoesNotServe { .. }
        | RouteError::NotDescribed { .. } => "model_not_found",
        RouteError::UnknownProvider { .. } => "provider_not_found",
    }
}

fn send_reason(error: &SendError) -> &'static str {
    match error {
        SendError::Resolve { .. }
        | SendError::Proxy { .. }
        | SendError::Connect { .. }
        | SendError::ConnectTimeout { .. } => "upstream_unreachable",
        SendError::Tls { .. } => "upstream_tls",
        SendError::Timeout { .. } => "upstream_timeout",
        SendError::ClosedBeforeHeaders { .. } => "upstream_disconnected",
        SendError::Malformed { .. } => "upstream_malformed",
        SendError::ContinuationLost => "continuation_lost",
        SendError::Closed { .. } => "upstream_closed",
        SendError::Credential(error) => match error.fault() {
            gateway_providers::Fault::Caller => "caller_credential_missing",
            _ => "credential_unavailable",
        },
        SendError::NotOffered => "operation_not_offered",
        SendError::Request { .. } => "bug",
    }
}

fn fault_of(fault: gateway_providers::Fault) -> Fault {
    match fault {
        gateway_providers::Fault::Caller => Fault::Caller,
        gateway_providers::Fault::Credential => Fault::Credential,
        gateway_providers::Fault::Upstream => Fault::Upstream,
        gateway_providers::Fault::Bug => Fault::Bug,
    }
}

/// When a provider wants to be asked again, by its headers or else by the words of its error.
pub(crate) fn retry_delay(headers: &HeaderMap, body: &[u8]) -> Option<Duration> {
    let header = |name: &str| headers.get(name)?.to_str().ok();
    retry_after::from_headers(header, SystemTime::now())
        .or_else(|| retry_after::from_text(&ErrorBody::parse(body)?.message))
}

/// The failure behind a provider's answer with an error status.
pub(crate) fn refused(status: u16, request_id: &str, retry_after: Option<Duration>, body: &[u8]) -> Failure {
    let told = ErrorBody::parse(body);
    let code =
        told.as_ref().and_then(|told| told.code.clone().or_else(|| told.kind.clone())).unwrap_or_default();
    let message = match told {
        Some(told) if !told.message.is_empty() => told.message,
        _ => format!("the provider answered with status {status}"),
    };
    let kind = match status {
        401 | 403 => ("upstream_unauthorized", Fault::Credential, false),
        408 | 504 => ("upstream_timeout", Fault::Upstream, true),
        429 if matches!(
            code.as_str(),
            "usage_limit_reached" | "usage_not_included" | "insufficient_quota"
        ) =>
        {
            ("usage_limit_exceeded", Fault::Credential, false)
        }
        429 => ("upstream_rate_limited", Fault::Overload, retry_after.is_some()),
        503 | 529 => ("upstream_overloaded", Fault::Overload, true),
        500..=599 => ("upstream_failed", Fault::Upstream, true),
        _ => ("upstream_refused", Fault::Caller, false),
    };
    let body = body.get(..body.len().min(UPSTREAM_BODY_BYTES_MAX)).unwrap_or_default().to_vec().into();
    let upstream = UpstreamError { status: status.into(), request_id: request_id.to_owned(), body, code };
    let retry_delay = retry_after.and_then(delay);
    Failure { retry_delay, upstream: Some(upstream), ..failure(kind, message) }
}

/// The failure that a provider told with its stream's last event.
pub(crate) fn told(code: String, message: String) -> Failure {
    let kind = match code.as_str() {
        "context_length_exceeded" => ("context_window_exceeded", Fault::Caller, false),
        "insufficient_quota" | "usage_limit_reached" | "usage_not_included" => {
            ("usage_limit_exceeded", Fault::Credential, false)
        }
        "rate_limit_exceeded" => ("upstream_rate_limited", Fault::Overload, true),
        "server_is_overloaded" | "slow_down" => ("upstream_overloaded", Fault::Overload, true),
        "invalid_prompt" => ("upstream_refused", Fault::Caller, false),
        _ => ("upstream_failed", Fault::Upstream, true),
    };
    let retry_delay = retry_after::from_text(&message).filter(|_| kind.2).and_then(delay);
    let upstream = UpstreamError { status: 200, code, ..UpstreamError::default() };
    Failure { retry_delay, upstream: Some(upstream), ..failure(kind, message) }
}

/// A failure of this kind, of which no more is known.
pub(crate) fn failure((reason, fault, retryable): FailureKind, message: String) -> Failure {
    let (reason, fault) = (reason.to_owned(), fault.into());
    Failure { reason, fault, message, retryable, retry_delay: None, upstream: None }
}

fn delay(delay: Duration) -> Option<prost_types::Duration> {
    delay.try_into().ok()
}

/// An error and what caused it, in one line.
pub(crate) fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        // A transparent error repeats its source's words.
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}
