//! Carries a typed [`Failure`] inside a gRPC status and reads it back.
//!
//! Which status code fits a failure is decided here and nowhere else, so that both services answer alike.

use bytes::Bytes;
use prost::Message as _;
use tonic::{Code, Status};

use crate::agent::v1::SubscriptionEnd;
use crate::gateway::v1::{Failure, Fault};

const TYPE_URL: &str = "type.googleapis.com/tidegate.gateway.v1.Failure";
const END_TYPE_URL: &str = "type.googleapis.com/tidegate.agent.v1.SubscriptionEnd";

/// The status that carries `failure` as its detail.
#[must_use]
pub fn status_with(failure: &Failure) -> Status {
    status_of(failure, Vec::new())
}

/// The status that ends a subscription which can go on elsewhere: with `failure`, and where to go on.
#[must_use]
pub fn status_at(failure: &Failure, end: SubscriptionEnd) -> Status {
    let value = end.encode_to_vec();
    status_of(failure, vec![prost_types::Any { type_url: END_TYPE_URL.to_owned(), value }])
}

fn status_of(failure: &Failure, more: Vec<prost_types::Any>) -> Status {
    let code = code_of(failure);
    let mut details =
        vec![prost_types::Any { type_url: TYPE_URL.to_owned(), value: failure.encode_to_vec() }];
    details.extend(more);
    let status = tonic_types::pb::Status { code: i32::from(code), message: failure.message.clone(), details };
    Status::with_details(code, failure.message.clone(), Bytes::from(status.encode_to_vec()))
}

/// Where a subscription that ended with `status` can go on, if it says so.
#[must_use]
pub fn end_of(status: &Status) -> Option<SubscriptionEnd> {
    let details = tonic_types::pb::Status::decode(status.details()).ok()?.details;
    let detail = details.into_iter().find(|detail| detail.type_url == END_TYPE_URL)?;
    SubscriptionEnd::decode(detail.value.as_slice()).ok()
}

/// The failure that `status` carries. A status from elsewhere (a transport, a proxy) is described as one.
#[must_use]
pub fn failure_of(status: &Status) -> Failure {
    carried(status).unwrap_or_else(|| described(status))
}

fn carried(status: &Status) -> Option<Failure> {
    let details = tonic_types::pb::Status::decode(status.details()).ok()?.details;
    let detail = details.into_iter().find(|detail| detail.type_url == TYPE_URL)?;
    Failure::decode(detail.value.as_slice()).ok()
}

fn described(status: &Status) -> Failure {
    let (reason, fault, retryable) = match status.code() {
        Code::Unavailable => ("gateway_unavailable", Fault::Upstream, true),
        Code::DeadlineExceeded => ("deadline_exceeded", Fault::Upstream, true),
        Code::Cancelled => ("cancelled", Fault::Caller, false),
        Code::ResourceExhausted => ("resource_exhausted", Fault::Overload, true),
        Code::Unauthenticated => ("unauthenticated", Fault::Caller, false),
        Code::PermissionDenied => ("permission_denied", Fault::Policy, false),
        Code::InvalidArgument | Code::NotFound | Code::FailedPrecondition | Code::OutOfRange => {
            ("invalid_request", Fault::Caller, false)
        }
        Code::Unimplemented => ("unimplemented", Fault::Caller, false),
        Code::Ok | Code::Unknown | Code::AlreadyExists | Code::Aborted | Code::Internal | Code::DataLoss => {
            ("stream_broken", Fault::Upstream, true)
        }
    };
    Failure {
        reason: reason.to_owned(),
        fault: fault.into(),
        message: status.message().to_owned(),
        retryable,
        retry_delay: None,
        upstream: None,
    }
}

fn code_of(failure: &Failure) -> Code {
    match failure.fault() {
        Fault::Caller => match failure.reason.as_str() {
            "model_not_found" | "provider_not_found" | "thread_not_found" | "turn_not_found" => {
                Code::NotFound
            }
            "unauthenticated" => Code::Unauthenticated,
            "unimplemented" => Code::Unimplemented,
            "body_too_large" | "sequence_unknown" => Code::OutOfRange,
            "no_active_turn" => Code::FailedPrecondition,
            _ => Code::InvalidArgument,
        },
        Fault::Policy => Code::PermissionDenied,
        Fault::Credential => Code::FailedPrecondition,
        Fault::Upstream if failure.reason == "upstream_timeout" => Code::DeadlineExceeded,
        Fault::Upstream => Code::Unavailable,
        Fault::Overload => Code::ResourceExhausted,
        Fault::Bug | Fault::Unspecified => Code::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_survives_the_trip_through_a_status() {
        let failure = Failure {
            reason: "model_not_found".to_owned(),
            fault: Fault::Caller.into(),
            message: "no provider serves `x`".to_owned(),
            retryable: false,
            retry_delay: None,
            upstream: None,
        };
        let status = status_with(&failure);
        assert_eq!(status.code(), Code::NotFound);
        assert_eq!(failure_of(&status), failure);
    }

    #[test]
    fn a_foreign_status_is_described() {
        let failure = failure_of(&Status::unavailable("connection refused"));
        assert_eq!(failure.reason, "gateway_unavailable");
        assert!(failure.retryable);
        assert_eq!(failure.message, "connection refused");
    }

    #[test]
    fn a_damaged_detail_does_not_hide_the_status() {
        let status = Status::with_details(Code::Internal, "odd", Bytes::from_static(&[0xff, 0xff, 0x01]));
        assert_eq!(failure_of(&status).message, "odd");
    }
}
