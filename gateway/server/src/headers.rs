//! Which headers cross the gateway, in both directions.
//!
//! Towards the provider an allow-list: what is not named here stays behind, so neither a caller's credential nor a header
//! that the gateway sets or trusts can be smuggled out. Towards the caller: what clients of the Responses API read.

use http::{HeaderMap, HeaderName, HeaderValue};
use tidegate_proto::gateway::v1::Envelope;

const CODEX_PREFIX: &str = "x-codex-";

/// The caller's headers that the provider may see.
pub(crate) fn towards_provider(inbound: &HeaderMap) -> HeaderMap {
    copy(inbound, passes_to_provider)
}

/// The provider's headers that the caller may see.
pub(crate) fn towards_caller(outbound: &HeaderMap) -> HeaderMap {
    copy(outbound, passes_to_caller)
}

/// The same headers for a call that came with a typed envelope.
pub(crate) fn from_envelope(envelope: &Envelope, turn_state: &str) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(8);
    let window = match envelope.window_id.as_str() {
        "" => String::new(),
        id => format!("{id}:{}", envelope.window_number),
    };
    for (name, value) in [
        ("session-id", envelope.session_id.as_str()),
        ("thread-id", &envelope.thread_id),
        ("x-client-request-id", &envelope.thread_id),
        ("originator", &envelope.originator),
        ("user-agent", &envelope.user_agent),
        ("x-codex-window-id", &window),
        ("x-codex-turn-state", turn_state),
        ("x-codex-parent-thread-id", &envelope.parent_thread_id),
    ] {
        if value.is_empty() {
            continue;
        }
        // A value that cannot be a header is left out: it describes the call, it does not decide it.
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    headers
}

fn copy(from: &HeaderMap, passes: fn(&str) -> bool) -> HeaderMap {
    let mut to = HeaderMap::with_capacity(from.len());
    for (name, value) in from {
        if passes(name.as_str()) {
            to.append(name.clone(), value.clone());
        }
    }
    to
}

fn passes_to_provider(name: &str) -> bool {
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
        let seen = towards_caller(&outbound);
        assert_eq!(seen.len(), 1);
        assert!(seen.contains_key("x-codex-primary-used-percent"));
    }

    #[test]
    fn an_envelope_becomes_the_headers_that_codex_sends() {
        let envelope = Envelope {
            thread_id: "t".to_owned(),
            window_id: "t".to_owned(),
            window_number: 2,
            originator: "bad\nvalue".to_owned(),
            ..Envelope::default()
        };
        let headers = from_envelope(&envelope, "state");
        assert_eq!(headers["x-codex-window-id"], "t:2");
        assert_eq!(headers["x-codex-turn-state"], "state");
        assert_eq!(headers["x-client-request-id"], "t");
        assert!(!headers.contains_key("originator"));
    }
}
