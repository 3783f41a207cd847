//! Makes the message that asks for a response out of a request's body.

use bytes::{BufMut as _, Bytes, BytesMut};
use tidegate_responses::{Request, Splices};
use tokio_tungstenite::tungstenite::Utf8Bytes;

/// The start of a message; the body's own members follow as they are.
const START: &[u8] = br#"{"type":"response.create""#;
const KIND: &[u8] = br#""response.create""#;

/// A request, as a WebSocket carries it.
pub(crate) struct Create {
    pub(crate) text: Utf8Bytes,
    /// Whether it goes on from a response that only the socket of that response knows: one that is not stored.
    pub(crate) bound: bool,
}

impl Create {
    /// The message for a body; none if the body is no request, which the provider can tell best over HTTP.
    pub(crate) fn of(body: &Bytes) -> Option<Create> {
        let request = Request::scan(body.clone()).ok()?;
        let continues = request.previous_response_id().ok()?.is_some();
        let bound = continues && request.raw("store") == Some(b"false");
        let message = if request.entry("type").is_some() {
            let mut splices = Splices::new();
            splices.set_member(&request, "type", KIND);
            splices.apply(body)
        } else {
            let members = body.get(request.object().start + 1..).unwrap_or_default();
            let mut message = BytesMut::with_capacity(START.len() + 1 + members.len());
            message.put_slice(START);
            if !request.members().is_empty() {
                message.put_u8(b',');
            }
            message.put_slice(members);
            message.freeze()
        };
        Some(Create { text: Utf8Bytes::try_from(message).ok()?, bound })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create(body: &str) -> Create {
        Create::of(&Bytes::copy_from_slice(body.as_bytes())).unwrap()
    }

    #[test]
    fn the_type_comes_first_and_every_other_byte_stays() {
        for (body, message) in [
            (r#"{"model":"m"}"#, r#"{"type":"response.create","model":"m"}"#),
            (
                "\n {  \"model\" : \"m\" ,\"é\":1.0}",
                "{\"type\":\"response.create\",  \"model\" : \"m\" ,\"é\":1.0}",
            ),
            ("{}", r#"{"type":"response.create"}"#),
            (r#"{"a":1,"type":"response.create"}"#, r#"{"a":1,"type":"response.create"}"#),
            (r#"{"type":null,"a":1}"#, r#"{"type":"response.create","a":1}"#),
        ] {
            assert_eq!(create(body).text.as_str(), message);
        }
    }

    #[test]
    fn what_is_no_request_has_no_message() {
        for body in ["", "[]", "{", r#"{"a":1,"a":2}"#, r#"{"previous_response_id":1}"#] {
            assert!(Create::of(&Bytes::copy_from_slice(body.as_bytes())).is_none(), "{body}");
        }
    }

    #[test]
    fn only_a_response_that_is_not_stored_is_bound_to_its_socket() {
        for (body, bound) in [
            (r#"{"previous_response_id":"resp_1","store":false}"#, true),
            (r#"{"previous_response_id":"resp_1","store":true}"#, false),
            (r#"{"previous_response_id":"resp_1"}"#, false),
            (r#"{"previous_response_id":null,"store":false}"#, false),
            (r#"{"store":false}"#, false),
        ] {
            assert_eq!(create(body).bound, bound, "{body}");
        }
    }
}
