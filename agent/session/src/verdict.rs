//! Decides what a failed model call means for its turn: the error that clients see, and whether a repeat can help.
//!
//! The one place where the gateway's reasons and a provider's codes meet the error kinds that clients know.

use agent_threads::{TurnError, TurnErrorKind};
use tidegate_responses::{Status, Terminal};

use crate::gateway::{Failure, FailureFault};

/// What a failed call means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// What clients are told.
    pub(crate) error: TurnError,
    /// Whether the same call can succeed later.
    pub(crate) retry: bool,
}

/// Judges a failure, together with the last words of the provider's stream if there were any.
pub(crate) fn judge(failure: &Failure, terminal: Option<&Terminal>) -> Verdict {
    if let Some(Terminal { status: Status::Incomplete, incomplete_reason, .. }) = terminal {
        return incomplete(incomplete_reason.as_deref());
    }
    let said = terminal.and_then(|terminal| terminal.error.as_ref());
    let code = failure.code.as_deref().or_else(|| said?.code.as_deref());
    let by_code = code.and_then(known_code).or_else(|| known_code(&failure.reason));
    let (kind, retry) = match by_code {
        Some((kind, Repeat::Never)) => (kind, false),
        Some((kind, Repeat::AsTold)) => (kind, failure.retryable),
        None => (by_fault(failure), failure.retryable && !is_final(failure)),
    };
    let message = said.and_then(|said| said.message.clone()).unwrap_or_else(|| failure.message.clone());
    let error = TurnError { kind, reason: failure.reason.clone(), message, http_status: failure.http_status };
    Verdict { error, retry }
}

/// A response that ended before its end: a repeat would end the same way.
fn incomplete(reason: Option<&str>) -> Verdict {
    let reason = reason.unwrap_or("unknown");
    let error = TurnError {
        kind: TurnErrorKind::Other,
        reason: "response_incomplete".to_owned(),
        message: format!("incomplete response returned, reason: {reason}"),
        http_status: None,
    };
    Verdict { error, retry: false }
}

enum Repeat {
    Never,
    AsTold,
}

fn known_code(code: &str) -> Option<(TurnErrorKind, Repeat)> {
    Some(match code {
        "context_length_exceeded" | "context_window_exceeded" => {
            (TurnErrorKind::ContextWindowExceeded, Repeat::Never)
        }
        "insufficient_quota"
        | "usage_limit_reached"
        | "usage_not_included"
        | "usage_limit_exceeded"
        | "billing_hard_limit_reached" => (TurnErrorKind::UsageLimitExceeded, Repeat::Never),
        "server_is_overloaded" | "slow_down" => (TurnErrorKind::ServerOverloaded, Repeat::Never),
        "rate_limit_exceeded" => (TurnErrorKind::RateLimitExceeded, Repeat::AsTold),
        "model_not_found" => (TurnErrorKind::ModelNotFound, Repeat::Never),
        "cyber_policy" => (TurnErrorKind::CyberPolicy, Repeat::Never),
        "invalid_prompt" | "invalid_request" | "invalid_request_error" => {
            (TurnErrorKind::BadRequest, Repeat::Never)
        }
        "unauthenticated" | "invalid_api_key" | "credential_unavailable" | "upstream_unauthorized" => {
            (TurnErrorKind::Unauthorized, Repeat::AsTold)
        }
        "gateway_unavailable" | "upstream_unreachable" => (TurnErrorKind::ConnectionFailed, Repeat::AsTold),
        // Calls carry the whole context, so one whose continuation is lost is repeated as it is.
        "stream_closed" | "stream_idle" | "stream_broken" | "continuation_lost" => {
            (TurnErrorKind::StreamDisconnected, Repeat::AsTold)
        }
        _ => return None,
    })
}

fn by_fault(failure: &Failure) -> TurnErrorKind {
    match (failure.fault, failure.http_status) {
        (FailureFault::Policy, _) => TurnErrorKind::PolicyDenied,
        (FailureFault::Credential, _) | (_, Some(401 | 403)) => TurnErrorKind::Unauthorized,
        (_, Some(429)) => TurnErrorKind::TooManyFailedAttempts,
        (FailureFault::Overload, _) => TurnErrorKind::ServerOverloaded,
        (FailureFault::Caller, _) | (_, Some(400..=499)) => TurnErrorKind::BadRequest,
        (FailureFault::Upstream, None) => TurnErrorKind::StreamDisconnected,
        (FailureFault::Upstream, Some(_)) | (FailureFault::Bug, _) => TurnErrorKind::InternalServerError,
    }
}

/// A rule says the same the next time. And a provider that limits without saying for how long would only refuse again.
fn is_final(failure: &Failure) -> bool {
    failure.fault == FailureFault::Policy
        || (failure.http_status == Some(429) && failure.retry_delay.is_none())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tidegate_responses::ApiError;

    use super::*;

    fn failure(reason: &str, fault: FailureFault, http_status: Option<u16>, code: Option<&str>) -> Failure {
        Failure {
            reason: reason.to_owned(),
            fault,
            message: "words".to_owned(),
            retryable: true,
            retry_delay: None,
            http_status,
            code: code.map(str::to_owned),
        }
    }

    #[test]
    fn every_kind_of_failure_has_its_verdict() {
        use FailureFault::{Bug, Caller, Credential, Overload, Policy, Upstream};
        use TurnErrorKind as Kind;
        let table = [
            (
                failure("upstream_refused", Upstream, Some(400), Some("context_length_exceeded")),
                Kind::ContextWindowExceeded,
                false,
            ),
            (
                failure("upstream_refused", Overload, Some(429), Some("usage_limit_reached")),
                Kind::UsageLimitExceeded,
                false,
            ),
            (
                failure("response_failed", Upstream, None, Some("insufficient_quota")),
                Kind::UsageLimitExceeded,
                false,
            ),
            (
                failure("upstream_refused", Overload, Some(503), Some("server_is_overloaded")),
                Kind::ServerOverloaded,
                false,
            ),
            (
                failure("response_failed", Overload, None, Some("rate_limit_exceeded")),
                Kind::RateLimitExceeded,
                true,
            ),
            (failure("upstream_refused", Overload, Some(429), None), Kind::TooManyFailedAttempts, false),
            (failure("upstream_refused", Credential, Some(401), None), Kind::Unauthorized, true),
            (failure("upstream_refused", Upstream, Some(403), None), Kind::Unauthorized, true),
            (failure("upstream_refused", Upstream, Some(500), None), Kind::InternalServerError, true),
            (failure("upstream_reset", Upstream, None, None), Kind::StreamDisconnected, true),
            (failure("gateway_unavailable", Upstream, None, None), Kind::ConnectionFailed, true),
            (failure("credential_unavailable", Credential, None, None), Kind::Unauthorized, true),
            (failure("upstream_unauthorized", Credential, Some(403), None), Kind::Unauthorized, true),
            (failure("usage_limit_exceeded", Overload, Some(429), None), Kind::UsageLimitExceeded, false),
            (failure("context_window_exceeded", Caller, None, None), Kind::ContextWindowExceeded, false),
            (failure("continuation_lost", Bug, None, None), Kind::StreamDisconnected, true),
            (failure("model_not_found", Caller, None, None), Kind::ModelNotFound, false),
            (failure("upstream_refused", Caller, Some(400), None), Kind::BadRequest, true),
            (failure("response_failed", Upstream, None, Some("cyber_policy")), Kind::CyberPolicy, false),
            (failure("overloaded", Overload, None, None), Kind::ServerOverloaded, true),
            (failure("tool_denied", Policy, None, None), Kind::PolicyDenied, false),
            (failure("internal", Bug, None, None), Kind::InternalServerError, true),
        ];
        for (failure, kind, retry) in table {
            let verdict = judge(&failure, None);
            assert_eq!((verdict.error.kind, verdict.retry), (kind, retry), "{failure:?}");
            assert_eq!(verdict.error.http_status, failure.http_status);
        }
    }

    #[test]
    fn a_limit_that_says_for_how_long_is_waited_for() {
        let mut limited = failure("upstream_refused", FailureFault::Overload, Some(429), None);
        limited.retry_delay = Some(Duration::from_secs(2));
        assert!(judge(&limited, None).retry);
    }

    #[test]
    fn what_the_gateway_calls_final_is_final() {
        let mut refused = failure("upstream_refused", FailureFault::Upstream, Some(500), None);
        refused.retryable = false;
        assert!(!judge(&refused, None).retry);
    }

    #[test]
    fn the_streams_last_words_count() {
        let error = ApiError {
            code: Some("context_length_exceeded".to_owned()),
            message: Some("too long".to_owned()),
            ..ApiError::default()
        };
        let terminal = Terminal { status: Status::Failed, error: Some(error), ..Terminal::default() };
        let verdict = judge(&failure("response_failed", FailureFault::Upstream, None, None), Some(&terminal));
        assert_eq!(verdict.error.kind, TurnErrorKind::ContextWindowExceeded);
        assert_eq!(verdict.error.message, "too long");
        let cut = Terminal {
            status: Status::Incomplete,
            incomplete_reason: Some("max_output_tokens".to_owned()),
            ..Terminal::default()
        };
        let verdict = judge(&failure("response_failed", FailureFault::Upstream, None, None), Some(&cut));
        assert!(!verdict.retry && verdict.error.message.contains("max_output_tokens"));
    }
}
