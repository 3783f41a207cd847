//! Turns a typed failure into an HTTP answer of the API's own shape.
//!
//! Codex repeats 403, 404, 408 and 409 six times but 400 never, so an error that only the caller can mend is a 400 wherever
//! the API allows it.

use http::{HeaderValue, Response, StatusCode, header};
use tidegate_proto::gateway::v1::{Failure, Fault};
use tidegate_responses::ErrorBody;

use super::body::ResponseBody;
use crate::failure::CallError;

/// The answer to a call that did not get as far as a provider's answer.
pub(crate) fn response(error: &CallError) -> Response<ResponseBody> {
    let failure = error.failure();
    let mut response = plain(status(error, &failure), &failure.reason, &failure.message);
    if failure.fault() == Fault::Overload {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// An error answer.
pub(crate) fn plain(status: StatusCode, code: &str, message: &str) -> Response<ResponseBody> {
    let kind = if status.is_server_error() { "server_error" } else { "invalid_request_error" };
    let body = ErrorBody::new(kind, code, message).to_bytes();
    let mut response = Response::new(ResponseBody::full(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The answer to a known path with another method.
pub(crate) fn method_not_allowed(allowed: &'static str) -> Response<ResponseBody> {
    let message = format!("this path takes {allowed} only");
    let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", &message);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    response
}

fn status(error: &CallError, failure: &Failure) -> StatusCode {
    match error {
        CallError::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        CallError::BodyEncoded { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        CallError::BodyTimeout { .. } => StatusCode::REQUEST_TIMEOUT,
        CallError::Busy
        | CallError::Stopping
        | CallError::BodyCut
        | CallError::Request(_)
        | CallError::NoModel
        | CallError::Route(_)
        | CallError::Send(_)
        | CallError::Protocol(_)
        | CallError::Unreadable { .. } => by_fault(failure),
    }
}

fn by_fault(failure: &Failure) -> StatusCode {
    match failure.fault() {
        Fault::Caller => StatusCode::BAD_REQUEST,
        Fault::Policy => StatusCode::FORBIDDEN,
        Fault::Credential => StatusCode::BAD_GATEWAY,
        Fault::Upstream if failure.reason == "upstream_timeout" => StatusCode::GATEWAY_TIMEOUT,
        Fault::Upstream => StatusCode::BAD_GATEWAY,
        Fault::Overload => StatusCode::SERVICE_UNAVAILABLE,
        Fault::Bug | Fault::Unspecified => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
