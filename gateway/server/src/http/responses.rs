//! `POST /v1/responses`: hands the call to the pipeline and the provider's answer to the caller.

use gateway_providers::Answer;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header};
use hyper::body::Incoming;

use super::{body::ResponseBody, error, read_body};
use crate::{
    headers,
    pipeline::{Answered, Inbound, Pipeline},
    relay::Relay,
};

const CALL_ID: HeaderName = HeaderName::from_static("x-tidegate-call-id");
const EVENT_STREAM: &[u8] = b"text/event-stream";

/// Answers a Responses call.
pub(crate) async fn create(pipeline: &Pipeline, request: Request<Incoming>) -> Response<ResponseBody> {
    let (head, body) = request.into_parts();
    let inbound =
        Inbound { surface: "http", headers: headers::towards_provider(&head.headers), provider_hint: None };
    let read = read_body::read(&pipeline.config, &head.headers, body);
    match pipeline.call(inbound, read).await {
        Ok(answered) => relayed(pipeline, answered),
        Err(error) => error::response(&error),
    }
}

fn relayed(pipeline: &Pipeline, answered: Answered) -> Response<ResponseBody> {
    let Answered { answer, settlement, permit } = answered;
    let Answer { status, headers, body, .. } = answer;
    let call_id = settlement.id();
    let stream = status.is_success() && is_event_stream(&headers);
    let body = if stream {
        let relay = Relay::new(body, pipeline.config.event_bytes_max, settlement, permit);
        ResponseBody::stream(relay)
    } else {
        ResponseBody::document(body, settlement, permit, !status.is_success())
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers::towards_caller(&headers);
    if stream {
        // A stream that breaks is ended with an event of ours, so its length is not the provider's to tell.
        response.headers_mut().remove(header::CONTENT_LENGTH);
    }
    if let Ok(id) =
        HeaderValue::from_str(call_id.as_hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer()))
    {
        response.headers_mut().insert(CALL_ID, id);
    }
    response
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.as_bytes().get(..EVENT_STREAM.len()))
        .is_some_and(|value| value.eq_ignore_ascii_case(EVENT_STREAM))
}
