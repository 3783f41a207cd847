//! Reads an error that comes instead of a response, so that it can be told as HTTP tells it.

use std::collections::BTreeMap;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::StatusCode;
use http::header::{
    CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
    TRANSFER_ENCODING, UPGRADE,
};
use serde_json::Value;
use tidegate_responses::json;
use tidegate_responses::{ErrorBody, Kind};

/// How many headers of an error message are read.
const HEADERS_MAX: usize = 64;
/// Tells that a socket has served its time or its number of responses.
const LIMIT_REACHED: &str = "websocket_connection_limit_reached";

/// An answer that is not a response.
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Refusal {
    /// The refusal in a message; none if it is no error, or one without an error's status.
    pub(crate) fn read(message: &[u8]) -> Option<Refusal> {
        if Kind::from_data(message) != Kind::Error {
            return None;
        }
        let object = json::document(message).ok()?;
        let member = |name: &str| json::member(message, object, name).map(|value| value.of(message));
        let status = member("status").or_else(|| member("status_code"))?;
        let status: StatusCode = std::str::from_utf8(status).ok()?.parse().ok()?;
        if !status.is_client_error() && !status.is_server_error() {
            return None;
        }
        let headers = member("headers").map(told_headers).unwrap_or_default();
        let body = match member("error") {
            Some(error) => {
                let mut body = BytesMut::with_capacity(error.len() + 10);
                body.put_slice(br#"{"error":"#);
                body.put_slice(error);
                body.put_slice(b"}");
                body.freeze()
            }
            None => Bytes::copy_from_slice(message),
        };
        Some(Refusal { status, headers, body })
    }

    /// Whether another socket is all that is asked for.
    pub(crate) fn asks_for_another_socket(&self) -> bool {
        ErrorBody::parse(&self.body).and_then(|error| error.code).as_deref() == Some(LIMIT_REACHED)
    }
}

/// The headers that a message tells, without those that belong to a connection or to another body.
fn told_headers(object: &[u8]) -> HeaderMap {
    let told: BTreeMap<String, Value> = serde_json::from_slice(object).unwrap_or_default();
    let headers = told.into_iter().take(HEADERS_MAX).filter_map(|(name, value)| {
        let text = match value {
            Value::String(text) => text,
            Value::Number(number) => number.to_string(),
            Value::Bool(value) => value.to_string(),
            Value::Null | Value::Array(_) | Value::Object(_) => return None,
        };
        Some((HeaderName::try_from(name).ok()?, HeaderValue::try_from(text).ok()?))
    });
    let mut headers: HeaderMap = headers.collect();
    for name in [CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING, UPGRADE] {
        headers.remove(name);
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(message: &str) -> Option<Refusal> {
        Refusal::read(message.as_bytes())
    }

    #[test]
    fn an_error_becomes_an_answer() {
        let refusal = read(
            r#"{"type":"error","status":429,"error":{ "code":"rate_limit_exceeded","message":"é" },
                "headers":{"Retry-After":"3","x-codex-primary-used-percent":99.5,"a b":"c","content-length":"7","x":null}}"#,
        )
        .unwrap();
        assert_eq!(refusal.status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(refusal.body, r#"{"error":{ "code":"rate_limit_exceeded","message":"é" }}"#);
        let expected: HeaderMap = [("retry-after", "3"), ("x-codex-primary-used-percent", "99.5")]
            .into_iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        assert_eq!(refusal.headers, expected);
        assert!(!refusal.asks_for_another_socket());
    }

    #[test]
    fn the_status_has_two_names_and_must_be_an_errors() {
        assert_eq!(read(r#"{"type":"error","status_code":400,"error":{}}"#).unwrap().status, 400);
        for message in [
            r#"{"type":"error","error":{"message":"m"}}"#,
            r#"{"type":"error","status":200}"#,
            r#"{"type":"error","status":"no"}"#,
            r#"{"type":"response.failed","status":400}"#,
            "error",
        ] {
            assert!(read(message).is_none(), "{message}");
        }
    }

    #[test]
    fn a_message_without_an_error_object_is_handed_on_whole() {
        let message = r#"{"type":"error","status":500,"message":"m"}"#;
        assert_eq!(read(message).unwrap().body, message);
    }

    #[test]
    fn a_used_up_socket_is_told_apart() {
        let message =
            r#"{"type":"error","status":400,"error":{"code":"websocket_connection_limit_reached"}}"#;
        assert!(read(message).unwrap().asks_for_another_socket());
    }
}
