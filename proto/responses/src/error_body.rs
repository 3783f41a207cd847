//! Reads and writes the API's error bodies, and the `response.failed` event that tells an error mid-stream.
//!
//! Which status or code an error deserves is decided elsewhere.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;

use crate::event::ApiError;
use crate::lenient;

#[cfg(test)]
mod tests;

/// The content of `{"error": {..}}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorBody {
    /// Text for people.
    pub message: String,
    /// The class of error, on the wire `type`.
    pub kind: Option<String>,
    /// The stable code.
    pub code: Option<String>,
    /// The request field that is meant.
    pub param: Option<String>,
}

#[derive(Deserialize)]
struct Wire {
    #[serde(default, deserialize_with = "lenient::option")]
    error: Option<ApiError>,
    /// AWS services and some servers put the text at the top, under one of these names.
    #[serde(default, alias = "Message", alias = "detail", deserialize_with = "lenient::text")]
    message: Option<String>,
}

impl ErrorBody {
    /// An error without a field it refers to.
    pub fn new(kind: impl Into<String>, code: impl Into<String>, message: impl Into<String>) -> ErrorBody {
        ErrorBody { message: message.into(), kind: Some(kind.into()), code: Some(code.into()), param: None }
    }

    /// The same, about one request field.
    #[must_use]
    pub fn with_param(mut self, param: impl Into<String>) -> ErrorBody {
        self.param = Some(param.into());
        self
    }

    /// Reads an upstream's body; none when it is not JSON or tells no error in a way that we know.
    pub fn parse(body: &[u8]) -> Option<ErrorBody> {
        let wire: Wire = serde_json::from_slice(body).ok()?;
        match (wire.error, wire.message) {
            (Some(ApiError { code, kind, message, param }), _)
                if code.is_some() || kind.is_some() || message.is_some() =>
            {
                Some(ErrorBody { message: message.unwrap_or_default(), kind, code, param })
            }
            (_, Some(message)) => Some(ErrorBody { message, kind: None, code: None, param: None }),
            _ => None,
        }
    }

    /// The JSON body; fields that are none are null, as the API writes them.
    pub fn to_bytes(&self) -> Bytes {
        let [message, kind] = [Value::from(self.message.as_str()), Value::from(self.kind.as_deref())];
        let [code, param] = [Value::from(self.code.as_deref()), Value::from(self.param.as_deref())];
        Bytes::from(format!(
            r#"{{"error":{{"message":{message},"type":{kind},"code":{code},"param":{param}}}}}"#
        ))
    }
}

/// The payload of a `response.failed` event for a stream that cannot go on, with its number in the stream; Codex reads the
/// code and the message.
pub fn failed_event(response_id: &str, number: u64, code: &str, message: &str) -> Bytes {
    // Written as text so that `type` comes first, where scanners look for it.
    let [id, code, message] = [response_id, code, message].map(|text| Value::from(text).to_string());
    Bytes::from(format!(
        r#"{{"type":"response.failed","sequence_number":{number},"response":{{"id":{id},"object":"response","status":"failed","error":{{"code":{code},"message":{message}}},"incomplete_details":null,"output":[],"usage":null}}}}"#
    ))
}
