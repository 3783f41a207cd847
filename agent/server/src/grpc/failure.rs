//! Errors as the contract's typed failures.

use agent_session::{Error, Failure as GatewayFailure, FailureFault};
use agent_threads::{TurnError, TurnErrorKind};
use tidegate_callers::Refusal;
use tidegate_proto::agent::v1::SubscriptionEnd;
use tidegate_proto::gateway::v1::{Failure, Fault, UpstreamError};
use tidegate_proto::{status_at, status_with};
use tonic::Status;

use crate::seats::Full;

/// A session's error as a status with its failure.
pub(super) fn status(error: Error) -> Status {
    let message = error.to_string();
    let retryable = error.is_retryable();
    let (reason, fault) = match error {
        Error::Gateway(failure) => return status_with(&of_gateway(failure)),
        Error::NotFound(_) => ("thread_not_found", Fault::Caller),
        Error::NotMaterialized(_) => ("thread_not_materialized", Fault::Caller),
        Error::Ephemeral(_) => ("thread_is_ephemeral", Fault::Caller),
        Error::Archived(_) => ("thread_is_archived", Fault::Caller),
        Error::TurnNotFound(_) => ("turn_not_found", Fault::Caller),
        Error::ReadStateChanged(_) => ("read_state_changed", Fault::Caller),
        Error::NoActiveTurn => ("no_active_turn", Fault::Caller),
        Error::OtherTurn { .. } => ("other_turn_active", Fault::Caller),
        Error::Invalid(_) => ("invalid_request", Fault::Caller),
        Error::BadCursor => ("invalid_cursor", Fault::Caller),
        Error::UnknownSequence(_) => ("sequence_unknown", Fault::Caller),
        Error::Overloaded { .. } => ("overloaded", Fault::Overload),
        Error::Stopping => ("stopping", Fault::Overload),
        Error::Store(source) => {
            let source: &(dyn std::error::Error + 'static) = &source;
            tracing::warn!(error = source, "the thread store failed");
            ("store_failed", if retryable { Fault::Overload } else { Fault::Bug })
        }
    };
    status_with(&failure(reason, fault, message, retryable))
}

/// A caller that is not let in.
pub(super) fn of_stranger(refusal: &Refusal) -> Status {
    let (reason, fault) = match refusal.is_retryable() {
        true => (refusal.reason(), Fault::Overload),
        false => ("unauthenticated", Fault::Caller),
    };
    status_with(&failure(reason, fault, refusal.to_string(), refusal.is_retryable()))
}

/// A tenant that has as many connections as it may.
pub(super) fn full(full: Full) -> Status {
    status_with(&failure("too_many_connections", Fault::Overload, full.to_string(), true))
}

/// A call that nobody was asked about, which the door lets through by mistake.
pub(super) fn unasked() -> Status {
    status_with(&failure("bug", Fault::Bug, "nobody knows whose call this is".to_owned(), false))
}

/// A request that cannot be right.
pub(super) fn invalid(message: &str) -> Status {
    status_with(&failure("invalid_request", Fault::Caller, message.to_owned(), false))
}

/// A subscriber that fell behind; it can go on from the last sequence number that it has seen.
pub(super) fn too_slow(told: u64) -> Status {
    let message = format!("the subscriber did not keep up; subscribe again after {told}");
    ended(failure("subscriber_too_slow", Fault::Overload, message, true), told)
}

/// A follower of a service that stops; another process goes on from there.
pub(super) fn stopping(told: u64) -> Status {
    let message = format!("the service is stopping; subscribe again after {told}");
    ended(failure("stopping", Fault::Overload, message, true), told)
}

/// A follower whose credential was taken back.
pub(super) fn barred(told: u64) -> Status {
    let message = "the credential does not hold any more".to_owned();
    ended(failure("unauthenticated", Fault::Caller, message, false), told)
}

/// A follower whose thread cannot be read.
pub(super) fn unreadable(error: &agent_threads::Error, told: u64) -> Status {
    let source: &(dyn std::error::Error + 'static) = error;
    tracing::warn!(error = source, "a thread's events cannot be read");
    let (fault, retryable) = match error.is_retryable() {
        true => (Fault::Overload, true),
        false => (Fault::Bug, false),
    };
    let message = format!("the thread's events cannot be read; subscribe again after {told}");
    ended(failure("store_failed", fault, message, retryable), told)
}

fn ended(failure: Failure, told: u64) -> Status {
    status_at(&failure, SubscriptionEnd { after_sequence: told })
}

/// Why a turn failed.
pub(super) fn of_turn(error: &TurnError) -> Failure {
    let fault = match error.kind {
        TurnErrorKind::ContextWindowExceeded | TurnErrorKind::BadRequest | TurnErrorKind::ModelNotFound => {
            Fault::Caller
        }
        TurnErrorKind::PolicyDenied => Fault::Policy,
        TurnErrorKind::UsageLimitExceeded
        | TurnErrorKind::RateLimitExceeded
        | TurnErrorKind::TooManyFailedAttempts
        | TurnErrorKind::ServerOverloaded => Fault::Overload,
        TurnErrorKind::Unauthorized => Fault::Credential,
        TurnErrorKind::ConnectionFailed
        | TurnErrorKind::StreamDisconnected
        | TurnErrorKind::InternalServerError
        | TurnErrorKind::CyberPolicy
        | TurnErrorKind::Other => Fault::Upstream,
    };
    let upstream =
        error.http_status.map(|status| UpstreamError { status: status.into(), ..Default::default() });
    Failure { upstream, ..failure(&error.reason, fault, error.message.clone(), false) }
}

fn of_gateway(error: GatewayFailure) -> Failure {
    let fault = match error.fault {
        FailureFault::Caller => Fault::Caller,
        FailureFault::Policy => Fault::Policy,
        FailureFault::Credential => Fault::Credential,
        FailureFault::Upstream => Fault::Upstream,
        FailureFault::Overload => Fault::Overload,
        FailureFault::Bug => Fault::Bug,
    };
    let upstream = error.http_status.map(|status| UpstreamError {
        status: status.into(),
        code: error.code.clone().unwrap_or_default(),
        ..Default::default()
    });
    let retry_delay = error.retry_delay.and_then(|delay| delay.try_into().ok());
    Failure { upstream, retry_delay, ..failure(&error.reason, fault, error.message, error.retryable) }
}

fn failure(reason: &str, fault: Fault, message: String, retryable: bool) -> Failure {
    Failure {
        reason: reason.to_owned(),
        fault: fault.into(),
        message,
        retryable,
        retry_delay: None,
        upstream: None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tidegate_proto::failure_of;

    use super::*;

    #[test]
    fn a_failure_of_the_gateway_is_passed_on_whole() {
        let status = status(Error::Gateway(GatewayFailure {
            reason: "upstream_rate_limited".to_owned(),
            fault: FailureFault::Overload,
            message: "slow down".to_owned(),
            retryable: true,
            retry_delay: Some(Duration::from_millis(1_500)),
            http_status: Some(429),
            code: Some("rate_limit_exceeded".to_owned()),
        }));
        let failure = failure_of(&status);
        assert_eq!((failure.reason.as_str(), failure.retryable), ("upstream_rate_limited", true));
        assert_eq!((failure.fault(), failure.message.as_str()), (Fault::Overload, "slow down"));
        let delay = failure.retry_delay.unwrap();
        assert_eq!((delay.seconds, delay.nanos), (1, 500_000_000));
        let upstream = failure.upstream.unwrap();
        assert_eq!((upstream.status, upstream.code.as_str()), (429, "rate_limit_exceeded"));
    }
}
