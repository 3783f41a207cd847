//! A thread's call that no socket takes: what only a socket can do is done in another way, or refused in time.
//!
//! Two things need a socket: to read input ahead of a call (`generate: false`), and to go on from a response that nobody
//! stores. Everything else goes over HTTP as it is.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{HeaderName, StatusCode};
use memchr::memmem;
use tidegate_responses::{Request, sse};

use crate::body::Body;
use crate::provider::Capabilities;
use crate::send::SendError;
use crate::upstream::{Answer, Call, Timing};

const OPENAI_BETA: HeaderName = HeaderName::from_static("openai-beta");
/// How the name of the protocol on a socket begins.
const BETA_NAME: &[u8] = b"responses_websockets=";
/// A response of which nothing came. It has no id, so nobody can go on from it.
const NOTHING: [(&str, &str); 2] = [
    (
        "response.created",
        r#"{"type":"response.created","response":{"id":"","object":"response","status":"in_progress","output":[]}}"#,
    ),
    (
        "response.completed",
        r#"{"type":"response.completed","response":{"id":"","object":"response","status":"completed","output":[],"usage":null}}"#,
    ),
];

/// Prepares a call for HTTP, or answers it. `ContinuationLost` if it goes on from a response that the provider does not
/// know.
pub(crate) fn without(call: &mut Call, can: Capabilities) -> Result<Option<Answer>, SendError> {
    if call.headers.get(OPENAI_BETA).is_some_and(|beta| beta.as_bytes().starts_with(BETA_NAME)) {
        call.headers.remove(OPENAI_BETA);
    }
    let names = |member: &[u8]| memmem::find(&call.body, member).is_some();
    if !names(b"\"generate\"") && !names(b"\"previous_response_id\"") {
        return Ok(None);
    }
    // What is no request is told best by the provider.
    let Ok(request) = Request::scan(call.body.clone()) else { return Ok(None) };
    if request.raw("generate") == Some(b"false") {
        return Ok(Some(nothing()));
    }
    let goes_on = matches!(request.previous_response_id(), Ok(Some(_)));
    // A provider that stores responses may have stored that one.
    if goes_on && !can.continuation && request.raw("store") == Some(b"false") {
        return Err(SendError::ContinuationLost);
    }
    Ok(None)
}

fn nothing() -> Answer {
    let frames = NOTHING.map(|(kind, data)| sse::encode(kind, data.as_bytes()));
    Answer {
        status: StatusCode::OK,
        headers: HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"))]),
        body: Body::whole(Bytes::from(frames.concat())),
        attempts: 0,
        timing: Timing::default(),
    }
}
