//! Reads what a caller says on its socket: the request for a response, as the body that a POST would have.
//!
//! Over a socket the headers of the handshake are soon old, so Codex puts those of the moment into `client_metadata`. They
//! take the place of the handshake's; the body keeps them too.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use tidegate_responses::{Request, Splices, envelope, headers as names, json};

use crate::{
    failure::CallError,
    headers,
    trace::{TRACEPARENT, TRACESTATE, Trace},
};

/// Keys of `client_metadata` that have the names of the headers which say the same over HTTP.
const HEADERS: [&str; 6] = [
    names::X_CODEX_TURN_METADATA,
    names::X_CODEX_TURN_STATE,
    names::X_CODEX_WINDOW_ID,
    names::X_CODEX_PARENT_THREAD_ID,
    names::X_CODEX_ROOT_TURN_ID,
    names::X_OPENAI_SUBAGENT,
];
/// How other keys begin that stand for headers; the rest of the key is the header's name with underscores.
const HEADER_PREFIX: &str = "ws_request_header_";
/// Asks for a response.
const CREATE: &str = "response.create";
/// Tells that a response has arrived. Nobody waits for it here, and it has no answer.
const PROCESSED: &str = "response.processed";

/// A request for a response.
pub(super) struct Create {
    /// The request, as a POST has it.
    pub(super) body: Bytes,
    /// What describes the call, as headers.
    headers: HeaderMap,
    /// Whether the message says at all what it belongs to.
    described: bool,
    /// Whether the provider is to keep the response, so that it is known to others than the socket.
    pub(super) kept: bool,
}

impl Create {
    /// The request in a message; none if the message asks for nothing.
    pub(super) fn read(message: Bytes) -> Result<Option<Create>, CallError> {
        let request = Request::scan(message)?;
        match request.string("type")?.as_deref() {
            Some(CREATE) => {}
            Some(PROCESSED) => return Ok(None),
            _ => return Err(CallError::Protocol("a message on this socket has the type `response.create`")),
        }
        let mut splices = Splices::new();
        splices.remove_member(&request, "type");
        if !request.stream()? {
            // There is no other way to answer here, so some clients do not say it.
            splices.set_member(&request, "stream", "true");
        }
        let (headers, described) = describe(&request);
        let kept = request.raw("store") != Some(b"false");
        Ok(Some(Create { body: splices.apply(request.body()), headers, described, kept }))
    }

    /// The trace that the call belongs to. Codex says it with each message, as long as it has one.
    pub(super) fn trace<'a>(&'a self, handshake: &'a HeaderMap) -> Trace<'a> {
        match self.headers.contains_key(TRACEPARENT) {
            true => Trace::Of(&self.headers),
            false => Trace::Beside(handshake),
        }
    }

    /// The call's headers: those of the handshake, and instead of them the newer ones. The trace of the handshake is not
    /// that of the call.
    pub(super) fn context(&self, handshake: &HeaderMap) -> HeaderMap {
        let mut context = handshake.clone();
        for name in [TRACEPARENT, TRACESTATE] {
            context.remove(name);
        }
        if self.described {
            // It was that of another turn, unless the message repeats it.
            context.remove(names::X_CODEX_TURN_STATE);
        }
        for (name, value) in &self.headers {
            context.insert(name.clone(), value.clone());
        }
        context
    }
}

/// The headers in a request's metadata, and whether it has metadata.
fn describe(request: &Request) -> (HeaderMap, bool) {
    let mut described = HeaderMap::new();
    let Some(metadata) = request.client_metadata() else { return (described, false) };
    let body = request.body();
    for member in json::members(body, metadata).map_while(Result::ok) {
        let Ok(key) = json::string(body, member.key) else { continue };
        let name = match key.strip_prefix(HEADER_PREFIX) {
            Some(name) => name.replace('_', "-"),
            None if HEADERS.contains(&&*key) => key.into_owned(),
            None => continue,
        };
        if headers::passes_to_provider(&name)
            && json::kind(body, member.value) == Some(json::ValueKind::String)
            && let Ok(text) = json::string(body, member.value)
            && let Ok(name) = HeaderName::try_from(name)
            && let Ok(value) = HeaderValue::try_from(envelope::header_text(&text))
        {
            described.insert(name, value);
        }
    }
    (described, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(message: &str) -> Create {
        Create::read(Bytes::copy_from_slice(message.as_bytes())).unwrap().unwrap()
    }

    #[test]
    fn a_message_is_a_body_with_a_type() {
        for (message, body) in [
            (r#"{"type":"response.create","model":"m","stream":true}"#, r#"{"model":"m","stream":true}"#),
            (r#"{"model":"m","type":"response.create","stream":true}"#, r#"{"model":"m","stream":true}"#),
            (
                r#"{ "stream":true,"x":[1, 2.0],  "type":"response.create" }"#,
                r#"{ "stream":true,"x":[1, 2.0] }"#,
            ),
            (
                r#"{"type":"response.create","model":"m","generate":false,"stream":false}"#,
                r#"{"model":"m","generate":false,"stream":true}"#,
            ),
        ] {
            assert_eq!(read(message).body, body, "{message}");
        }
        let silent: serde_json::Value =
            serde_json::from_slice(&read(r#"{"type":"response.create","model":"m"}"#).body).unwrap();
        assert_eq!(silent, serde_json::json!({"model": "m", "stream": true}));
    }

    #[test]
    fn what_asks_for_nothing_and_what_nobody_understands() {
        let said = |message: &str| Create::read(Bytes::copy_from_slice(message.as_bytes()));
        assert!(said(r#"{"type":"response.processed","response_id":"r"}"#).unwrap().is_none());
        for message in ["", "[]", "hello", "{}", r#"{"type":"response.cancel"}"#, r#"{"type":7}"#] {
            assert!(said(message).is_err(), "{message}");
        }
    }

    #[test]
    fn newer_headers_stand_in_the_metadata() {
        let handshake: HeaderMap =
            [("x-codex-turn-metadata", "old"), ("x-codex-turn-state", "old"), ("session-id", "s")]
                .into_iter()
                .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
                .collect();
        let create = read(
            r#"{"type":"response.create","client_metadata":{"x-codex-turn-metadata":"{\"path\":\"/höhe\"}",
               "ws_request_header_traceparent":"00-1","ws_request_header_authorization":"Bearer x",
               "ws_request_header_x_openai_internal_codex_responses_lite":"true","x-codex-installation-id":"i",
               "x-codex-window-id":7,"session_id":"t"}}"#,
        );
        let context = create.context(&handshake);
        assert_eq!(context["x-codex-turn-metadata"], r#"{"path":"/h\u00f6he"}"#);
        assert_eq!(context["traceparent"], "00-1");
        assert_eq!(context["x-openai-internal-codex-responses-lite"], "true");
        assert_eq!(context["session-id"], "s");
        assert_eq!(context.len(), 4, "{context:?}");
        assert!(matches!(create.trace(&handshake), Trace::Of(headers) if headers["traceparent"] == "00-1"));
        let silent = read(r#"{"type":"response.create"}"#);
        assert_eq!(silent.context(&handshake), handshake);
    }

    #[test]
    fn the_trace_of_the_handshake_is_not_that_of_the_call() {
        let mut handshake =
            HeaderMap::from_iter([(HeaderName::from_static("session-id"), HeaderValue::from_static("s"))]);
        let without = handshake.clone();
        for name in [TRACEPARENT, TRACESTATE] {
            handshake.insert(name, HeaderValue::from_static("of the handshake"));
        }
        let silent =
            read(r#"{"type":"response.create","client_metadata":{"ws_request_header_tracestate":"a=b"}}"#);
        assert!(matches!(silent.trace(&handshake), Trace::Beside(headers) if headers == &handshake));
        let mut expected = without;
        expected.insert("tracestate", HeaderValue::from_static("a=b"));
        assert_eq!(silent.context(&handshake), expected);
    }

    #[test]
    fn a_response_is_kept_unless_it_is_not_to_be_stored() {
        for (message, kept) in [
            (r#"{"type":"response.create","store":false}"#, false),
            (r#"{"type":"response.create","store":true}"#, true),
            (r#"{"type":"response.create"}"#, true),
        ] {
            assert_eq!(read(message).kept, kept, "{message}");
        }
    }
}
