//! What a caller is told on its socket: the provider's events as they came, and the few that are ours.
//!
//! What an answer over HTTP says in its status and its headers has no place of its own here. Codex reads it from events:
//! `error` with a status and headers, `response.metadata`, and `codex.rate_limits`.

use bytes::Bytes;
use gateway_providers::SendError;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};
use tidegate_proto::gateway::v1::Fault;
use tidegate_responses::{
    ErrorBody, Frame, Kind, Span, headers as names, json as text,
    rate_limit::{RateLimit, Window},
    retry_after,
};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::failure::{CallError, retry_delay};

/// The limit that an account has as a whole.
const ACCOUNT_LIMIT: &str = "codex";
/// The headers of an answer that Codex reads from an event.
const TOLD: [&str; 5] = [
    names::X_CODEX_TURN_STATE,
    names::OPENAI_MODEL,
    "x-openai-model",
    names::X_MODELS_ETAG,
    names::X_REASONING_INCLUDED,
];

/// A provider's event, byte for byte; none if it is a comment or the end of an event stream, which a socket does not have.
pub(super) fn event(frame: &Frame) -> Option<Utf8Bytes> {
    match frame.kind() {
        Kind::Comment | Kind::Done => None,
        _ => Some(message(frame.data())),
    }
}

/// The same for a response that nobody keeps and that came over HTTP. Its id is taken out of the event that completes it:
/// on a socket Codex goes on from a response by its id, which would be refused every time, and sends its whole input where
/// there is no id. The id still stands in the events before.
pub(super) fn event_of_unkept(frame: &Frame) -> Option<Utf8Bytes> {
    if frame.kind() != Kind::Completed {
        return event(frame);
    }
    let data = frame.data();
    let whole = Span::new(0, data.len());
    let response = text::member(&data, whole, "response");
    let Some(id) = response.and_then(|response| text::member(&data, response, "id")) else {
        return Some(message(data));
    };
    let parts = [data.get(..id.start), Some(br#""""#.as_slice()), data.get(id.end..)];
    Some(message(parts.into_iter().flatten().collect::<Vec<_>>().concat().into()))
}

/// What is not UTF-8 cannot be sent as text; a reader of an event stream replaces it in the same way.
pub(super) fn message(data: Bytes) -> Utf8Bytes {
    Utf8Bytes::try_from(data.clone())
        .unwrap_or_else(|_| Utf8Bytes::from(String::from_utf8_lossy(&data).into_owned()))
}

/// The error of a call that did not get as far as a provider's answer.
pub(super) fn error(error: &CallError) -> Utf8Bytes {
    let failure = error.failure();
    if matches!(error, CallError::Send(SendError::ContinuationLost)) {
        // The name by which clients know that they have to send the whole input.
        let body = ErrorBody::new("invalid_request_error", "previous_response_not_found", &failure.message);
        let body = body.with_param("previous_response_id");
        return wrapped(StatusCode::BAD_REQUEST, &body.to_bytes(), &HeaderMap::new());
    }
    let status = error.http_status(&failure);
    let mut headers = HeaderMap::new();
    if failure.fault() == Fault::Overload {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    wrapped(status, &body(status, &failure.reason, &failure.message), &headers)
}

/// The error of a caller that asks for a response before the last one is over.
pub(super) fn busy() -> Utf8Bytes {
    let status = StatusCode::BAD_REQUEST;
    let message = "a response is running on this socket, and it carries one at a time";
    wrapped(status, &body(status, "response_in_progress", message), &HeaderMap::new())
}

/// The error of a provider that answered with something that is no stream of events.
pub(super) fn not_a_stream() -> Utf8Bytes {
    let status = StatusCode::BAD_GATEWAY;
    let message = "the provider answered with something that is no stream of events";
    wrapped(status, &body(status, "upstream_malformed", message), &HeaderMap::new())
}

/// A provider's refusal, with the headers that the caller may see.
pub(super) fn refused(status: StatusCode, seen: &HeaderMap, told: &[u8]) -> Utf8Bytes {
    let mut headers = seen.clone();
    for name in [header::CONTENT_TYPE, header::CONTENT_LENGTH, header::CONTENT_ENCODING] {
        headers.remove(name);
    }
    let whole = |value: &HeaderValue| value.to_str().is_ok_and(|text| text.parse::<u64>().is_ok());
    // Codex comes back after a 429 only if it is told when, in whole seconds.
    if status == StatusCode::TOO_MANY_REQUESTS
        && !headers.get(header::RETRY_AFTER).is_some_and(whole)
        && let Some(delay) = retry_delay(seen, told)
    {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(retry_after::header_value(delay)));
    }
    if error_of(told).is_some() {
        return wrapped(status, told, &headers);
    }
    let said = ErrorBody::parse(told).map(|told| told.message).filter(|said| !said.is_empty());
    let said = said.unwrap_or_else(|| format!("the provider answered with status {}", status.as_u16()));
    wrapped(status, &body(status, "upstream_refused", &said), &headers)
}

/// What an answer over HTTP tells in its headers, as the event that tells it on a socket; none if it tells nothing.
pub(super) fn metadata(seen: &HeaderMap) -> Option<Utf8Bytes> {
    let told =
        TOLD.iter().filter_map(|name| Some(((*name).to_owned(), seen.get(*name)?.to_str().ok()?.into())));
    let told: Map<String, Value> = told.collect();
    let event = || format!(r#"{{"type":"response.metadata","headers":{}}}"#, Value::Object(told.clone()));
    (!told.is_empty()).then(|| event().into())
}

/// How far an account's limit is used, as the event that tells it on a socket.
pub(super) fn rate_limits(limits: &[RateLimit]) -> Option<Utf8Bytes> {
    let limit = limits.iter().find(|limit| limit.limit_id == ACCOUNT_LIMIT)?;
    let window = |window: &Option<Window>| {
        window.map(|window| {
            json!({"used_percent": window.used_percent, "window_minutes": window.window_minutes,
                   "reset_at": window.resets_at})
        })
    };
    let limits = json!({"primary": window(&limit.primary), "secondary": window(&limit.secondary)});
    let credits = limit.credits.as_ref().map(|credits| {
        json!({"has_credits": credits.has_credits, "unlimited": credits.unlimited, "balance": credits.balance})
    });
    let credits = Value::from(credits);
    Some(format!(r#"{{"type":"codex.rate_limits","rate_limits":{limits},"credits":{credits}}}"#).into())
}

fn body(status: StatusCode, code: &str, message: &str) -> Bytes {
    let kind = if status.is_server_error() { "server_error" } else { "invalid_request_error" };
    ErrorBody::new(kind, code, message).to_bytes()
}

/// The error in an error body, as it stands there.
fn error_of(body: &[u8]) -> Option<&[u8]> {
    let error = text::member(body, text::document(body).ok()?, "error")?;
    (text::kind(body, error) == Some(text::ValueKind::Object) && std::str::from_utf8(body).is_ok())
        .then(|| error.of(body))
}

/// An answer that is an error, as one event.
fn wrapped(status: StatusCode, body: &[u8], headers: &HeaderMap) -> Utf8Bytes {
    let told =
        headers.iter().filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.into())));
    let told = Value::Object(told.collect());
    let error = String::from_utf8_lossy(error_of(body).unwrap_or(b"null"));
    format!(r#"{{"type":"error","status":{},"error":{error},"headers":{told}}}"#, status.as_u16()).into()
}

#[cfg(test)]
mod tests {
    use tidegate_responses::{Framer, sse};

    use super::*;

    fn frame(kind: &str, data: &str) -> Frame {
        let bytes = sse::encode(kind, data.as_bytes());
        let block = Framer::new(1 << 20).push(bytes).unwrap().into_iter().next().unwrap();
        block.frames().next().unwrap()
    }

    #[test]
    fn only_the_event_that_completes_an_unkept_response_loses_its_id() {
        let completed =
            r#"{"type":"response.completed","x":1.0,"response":{"output":[{"id":"a"}], "id" : "resp_1"}}"#;
        let told = event_of_unkept(&frame("response.completed", completed)).unwrap();
        assert_eq!(told.as_str(), completed.replace(r#""resp_1""#, r#""""#));
        let created = r#"{"type":"response.created","response":{"id":"resp_1"}}"#;
        assert_eq!(event_of_unkept(&frame("response.created", created)).unwrap().as_str(), created);
        let strange = r#"{"type":"response.completed"}"#;
        assert_eq!(event_of_unkept(&frame("response.completed", strange)).unwrap().as_str(), strange);
    }

    #[test]
    fn what_a_socket_does_not_have_is_left_out() {
        for bytes in [": ping\n\n", "data: [DONE]\n\n", "event: x\n\n"] {
            let block = Framer::new(100).push(Bytes::from_static(bytes.as_bytes())).unwrap();
            let frame = block.into_iter().next().unwrap().frames().next().unwrap();
            assert_eq!(event(&frame), None, "{bytes}");
        }
    }

    #[test]
    fn a_refusal_keeps_its_error_and_tells_when_to_come_back() {
        let mut headers = HeaderMap::new();
        headers.insert("content-length", HeaderValue::from_static("7"));
        headers.insert("x-request-id", HeaderValue::from_static("req_1"));
        let told = br#"{"error": {"code":"rate_limit_exceeded","message":"Try again in 1.5s."}}"#;
        let event = refused(StatusCode::TOO_MANY_REQUESTS, &headers, told);
        assert_eq!(
            event.as_str(),
            r#"{"type":"error","status":429,"error":{"code":"rate_limit_exceeded","message":"Try again in 1.5s."},"headers":{"x-request-id":"req_1","retry-after":"2"}}"#
        );
        for (told, message) in [("", "status 502"), ("<html>", "status 502"), (r#"{"message":"no"}"#, "no")] {
            let event: Value =
                serde_json::from_str(&refused(StatusCode::BAD_GATEWAY, &HeaderMap::new(), told.as_bytes()))
                    .unwrap();
            assert!(event["error"]["message"].as_str().unwrap().contains(message), "{event}");
            assert_eq!(event["error"]["code"], "upstream_refused");
        }
    }

    #[test]
    fn a_lost_continuation_has_the_name_that_clients_know() {
        let event: Value =
            serde_json::from_str(&error(&CallError::Send(SendError::ContinuationLost))).unwrap();
        assert_eq!(event["status"], 400);
        assert_eq!(event["error"]["code"], "previous_response_not_found");
        let event: Value = serde_json::from_str(&error(&CallError::Busy)).unwrap();
        assert_eq!((&event["status"], &event["headers"]["retry-after"]), (&json!(503), &json!("1")));
    }

    #[test]
    fn headers_that_codex_reads_become_events() {
        let mut seen = HeaderMap::new();
        assert_eq!(metadata(&seen), None);
        seen.insert("x-codex-turn-state", HeaderValue::from_static("sticky"));
        seen.insert("x-request-id", HeaderValue::from_static("req_1"));
        let event = metadata(&seen).unwrap();
        assert_eq!(
            event.as_str(),
            r#"{"type":"response.metadata","headers":{"x-codex-turn-state":"sticky"}}"#
        );
        let limits = RateLimit::from_headers([
            ("x-codex-primary-used-percent", "12.5"),
            ("x-codex-primary-window-minutes", "300"),
        ]);
        let event: Value = serde_json::from_str(&rate_limits(&limits).unwrap()).unwrap();
        assert_eq!(event["rate_limits"]["primary"]["used_percent"], 12.5);
        assert_eq!(event["rate_limits"]["secondary"], Value::Null);
        assert_eq!(rate_limits(&[]), None);
    }
}
