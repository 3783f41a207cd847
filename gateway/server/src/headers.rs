//! Which headers cross the gateway, in both directions.
//!
//! Towards the provider an allow-list: what is not named here stays behind, so neither a caller's credential nor a header
//! that the gateway sets or trusts can be smuggled out. Towards the caller: what clients of the Responses API read.

use gateway_providers::CallerCredential;
use http::{HeaderMap, HeaderName, HeaderValue, header::AUTHORIZATION};
use tidegate_responses::headers::{
    CF_RAY, CHATGPT_ACCOUNT_ID, X_AMZN_REQUESTID, X_OAI_ATTESTATION, X_OAI_REQUEST_ID, X_REQUEST_ID,
};

use crate::trace::{TRACEPARENT, TRACESTATE};

const CODEX_PREFIX: &str = "x-codex-";
/// As many headers as the gateway adds in either direction.
const OWN_MAX: usize = 6;
/// Where providers write their own id of a request. Names are made while compiling: to look a text up it is parsed first.
const REQUEST_IDS: [HeaderName; 4] = [
    HeaderName::from_static(X_REQUEST_ID),
    HeaderName::from_static(X_OAI_REQUEST_ID),
    HeaderName::from_static(X_AMZN_REQUESTID),
    HeaderName::from_static(CF_RAY),
];

/// Which state of the gateway's configuration an answer is of.
pub(crate) const GENERATION: HeaderName = HeaderName::from_static("x-tidegate-generation");

/// The caller's headers that the provider may see.
pub(crate) fn towards_provider(inbound: &HeaderMap) -> HeaderMap {
    copy(inbound, passes_to_provider)
}

/// The provider's headers that the caller may see. With `reroute` the model is called by that name: Codex takes another
/// one for the sign of an abused account.
pub(crate) fn towards_caller(outbound: &HeaderMap, reroute: Option<&str>) -> HeaderMap {
    let mut headers = copy(outbound, passes_to_caller);
    if let Some(slug) = reroute {
        for name in ["openai-model", "x-openai-model"] {
            if headers.remove(name).is_some()
                && let Ok(slug) = HeaderValue::from_str(slug)
            {
                headers.insert(HeaderName::from_static(name), slug);
            }
        }
    }
    headers
}

/// Headers from names and texts. A value that cannot be a header is left out: it describes the call, it does not decide it.
pub(crate) fn from_pairs<'a>(pairs: impl Iterator<Item = (&'static str, &'a str)>) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(10);
    for (name, value) in pairs.filter(|(_, value)| !value.is_empty()) {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    headers
}

/// The credential that a caller brought for a provider that takes it.
pub(crate) fn caller_credential(inbound: &HeaderMap) -> Option<CallerCredential> {
    let sensitive = |name: HeaderName| {
        let mut value = inbound.get(name)?.clone();
        value.set_sensitive(true);
        Some(value)
    };
    Some(CallerCredential {
        authorization: sensitive(AUTHORIZATION)?,
        account: sensitive(const { HeaderName::from_static(CHATGPT_ACCOUNT_ID) }),
    })
}

/// The attestation that a caller sent; it goes on only to a provider that wants it.
pub(crate) fn attestation(inbound: &HeaderMap) -> Option<HeaderValue> {
    let mut value = inbound.get(const { HeaderName::from_static(X_OAI_ATTESTATION) })?.clone();
    value.set_sensitive(true);
    Some(value)
}

/// The trace that a caller's call belongs to, for a call whose other headers are made anew.
pub(crate) fn pass_trace(inbound: &HeaderMap, headers: &mut HeaderMap) {
    for name in [TRACEPARENT, TRACESTATE] {
        for value in inbound.get_all(&name) {
            headers.append(name.clone(), value.clone());
        }
    }
}

/// The provider's own id of a request.
pub(crate) fn request_id(headers: &HeaderMap) -> Option<&str> {
    REQUEST_IDS.iter().find_map(|name| headers.get(name)?.to_str().ok())
}

fn copy(from: &HeaderMap, passes: fn(&str) -> bool) -> HeaderMap {
    // A grown map is moved, so the room for what the gateway adds is made once.
    let mut to = HeaderMap::with_capacity(from.len() + OWN_MAX);
    for (name, value) in from {
        if passes(name.as_str()) {
            to.append(name.clone(), value.clone());
        }
    }
    to
}

/// Whether a caller's header of this name, in lower case, may be seen by the provider.
pub(crate) fn passes_to_provider(name: &str) -> bool {
    name.starts_with(CODEX_PREFIX)
        || matches!(
            name,
            "session-id"
                | "thread-id"
                | "x-client-request-id"
                | "originator"
                | "user-agent"
                | "version"
                | "openai-beta"
                | "idempotency-key"
                | "x-openai-subagent"
                | "x-openai-memgen-request"
                | "x-openai-internal-codex-responses-lite"
                | "x-responsesapi-include-timing-metrics"
                | "x-amzn-mantle-client-agent"
                | "traceparent"
                | "tracestate"
        )
}

fn passes_to_caller(name: &str) -> bool {
    [CODEX_PREFIX, "x-ratelimit-", "openai-", "x-openai-"].iter().any(|prefix| name.starts_with(prefix))
        || matches!(
            name,
            "content-type"
                | "content-encoding"
                | "content-length"
                | "retry-after"
                | "retry-after-ms"
                | "x-should-retry"
                | "x-request-id"
                | "x-oai-request-id"
                | "x-ms-request-id"
                | "x-amzn-requestid"
                | "cf-ray"
                | "x-models-etag"
                | "x-reasoning-included"
                | "x-error-json"
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_and_trusted_headers_stay_behind() {
        let mut inbound = HeaderMap::new();
        for name in [
            "authorization",
            "cookie",
            "x-api-key",
            "proxy-authorization",
            "x-oai-attestation",
            "chatgpt-account-id",
            "x-forwarded-for",
            "forwarded",
            "host",
            "connection",
            "transfer-encoding",
            "x_codex_window_id",
        ] {
            inbound.append(name, HeaderValue::from_static("secret"));
        }
        assert_eq!(towards_provider(&inbound), HeaderMap::new());
    }

    #[test]
    fn what_codex_sends_about_its_thread_passes() {
        let mut inbound = HeaderMap::new();
        for name in ["x-codex-turn-metadata", "session-id", "thread-id", "originator", "user-agent"] {
            inbound.append(name, HeaderValue::from_static("v"));
        }
        assert_eq!(towards_provider(&inbound), inbound);
    }

    #[test]
    fn cookies_of_the_provider_stay_behind() {
        let mut outbound = HeaderMap::new();
        outbound.append("set-cookie", HeaderValue::from_static("a=b"));
        outbound.append("x-codex-primary-used-percent", HeaderValue::from_static("12"));
        let seen = towards_caller(&outbound, None);
        assert_eq!(seen.len(), 1);
        assert!(seen.contains_key("x-codex-primary-used-percent"));
    }

    #[test]
    fn a_model_that_was_routed_elsewhere_keeps_the_caller_s_name() {
        let mut outbound = HeaderMap::new();
        outbound.append("openai-model", HeaderValue::from_static("openai.gpt-6-sol"));
        assert_eq!(towards_caller(&outbound, Some("gpt-6-sol"))["openai-model"], "gpt-6-sol");
        assert_eq!(towards_caller(&outbound, None)["openai-model"], "openai.gpt-6-sol");
        assert_eq!(towards_caller(&HeaderMap::new(), Some("gpt-6-sol")), HeaderMap::new());
    }

    #[test]
    fn a_value_that_cannot_be_a_header_is_left_out() {
        let headers =
            from_pairs([("originator", "bad\nvalue"), ("thread-id", "t"), ("session-id", "")].into_iter());
        assert_eq!(headers.len(), 1);
        assert_eq!(headers["thread-id"], "t");
    }
}
