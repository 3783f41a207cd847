//! Writes a typed failure as an HTTP answer of the API's own shape. Which status it has is decided in `failure`.

use http::{HeaderValue, Response, StatusCode, header};
use tidegate_proto::gateway::v1::Fault;
use tidegate_responses::ErrorBody;

use super::body::ResponseBody;
use crate::{failure::CallError, headers};

/// Tells a caller how it can show who it is.
const BEARER: HeaderValue = HeaderValue::from_static("Bearer");

/// The answer to a call that did not get as far as a provider's answer.
pub(crate) fn response(error: &CallError, generation: u64) -> Response<ResponseBody> {
    let failure = error.failure();
    let mut response = plain(error.http_status(&failure), &failure.reason, &failure.message, generation);
    if response.status() == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, BEARER);
    }
    if failure.fault() == Fault::Overload {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// An error answer, with the state of the configuration that it is given under.
pub(crate) fn plain(
    status: StatusCode,
    code: &str,
    message: &str,
    generation: u64,
) -> Response<ResponseBody> {
    let kind = if status.is_server_error() { "server_error" } else { "invalid_request_error" };
    let body = ErrorBody::new(kind, code, message).to_bytes();
    let mut response = Response::new(ResponseBody::full(body));
    *response.status_mut() = status;
    response.headers_mut().insert(headers::GENERATION, generation.into());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The answer to a known path with another method.
pub(crate) fn method_not_allowed(allowed: &'static str, generation: u64) -> Response<ResponseBody> {
    let message = format!("this path takes {allowed} only");
    let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", &message, generation);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    response
}
