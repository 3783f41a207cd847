//! Which headers a call to a provider has, and in which order they win.
//!
//! The caller's headers, already reduced to an allow-list, come first; then the ones that this crate sets, then
//! the configured ones, and the credential last. Names that belong to one connection or that this crate owns
//! are taken out of the caller's headers whatever the caller's list says.

use http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE,
    COOKIE, EXPECT, FORWARDED, HOST, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHORIZATION, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE, USER_AGENT, VIA,
};

/// Never taken from a caller, and never to be configured.
const OWNED: [HeaderName; 23] = [
    ACCEPT,
    ACCEPT_ENCODING,
    AUTHORIZATION,
    CONNECTION,
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    COOKIE,
    EXPECT,
    FORWARDED,
    HOST,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    VIA,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("x-oai-attestation"),
];

/// Says that a credential is one of ChatGPT. Never taken from a caller, unless the caller's credential is.
pub(crate) const CHATGPT_ACCOUNT_ID: HeaderName = HeaderName::from_static("chatgpt-account-id");

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream");
const OURSELVES: HeaderValue = HeaderValue::from_static(concat!("tidegate/", env!("CARGO_PKG_VERSION")));

/// Whether a configuration may not set this header.
pub(crate) fn is_owned(name: &HeaderName) -> bool {
    OWNED.contains(name)
}

/// What the answer to a call shall be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accept {
    Json,
    EventStream,
}

/// The headers of a call, except the credential.
pub(crate) fn for_call(mut headers: HeaderMap, configured: &HeaderMap, accept: Accept) -> HeaderMap {
    if !headers.is_empty() {
        for name in &OWNED {
            headers.remove(name);
        }
        headers.remove(CHATGPT_ACCOUNT_ID);
    }
    // A grown map is moved, so the room for what follows is made once.
    headers.reserve(configured.len() + 4);
    headers.insert(CONTENT_TYPE, JSON);
    match accept {
        Accept::Json => headers.insert(ACCEPT, JSON),
        Accept::EventStream => headers.insert(ACCEPT, EVENT_STREAM),
    };
    for (name, value) in configured {
        headers.insert(name.clone(), value.clone());
    }
    headers.entry(USER_AGENT).or_insert(OURSELVES);
    headers
}
