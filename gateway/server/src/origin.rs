//! What a request shows of its caller besides its payload.

use http::{Extensions, HeaderMap, HeaderValue};
use tidegate_callers::{PeerCertificate, Presented};

use crate::trace::{TRACEPARENT, TRACESTATE};

/// Whether a request came by a listener that only this machine reaches.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Nearby(pub(crate) bool);

/// What a request shows. A request that says nothing of its listener came from afar.
pub(crate) fn presented<'a>(headers: &'a HeaderMap, extensions: &'a Extensions) -> Presented<'a> {
    let trusted_listener = extensions.get::<Nearby>().is_some_and(|nearby| nearby.0);
    Presented { headers, certificate: extensions.get::<PeerCertificate>(), trusted_listener }
}

/// The same, kept for a stream that outlives its request.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) headers: HeaderMap,
    pub(crate) extensions: Extensions,
}

impl Origin {
    pub(crate) fn presented(&self) -> Presented<'_> {
        presented(&self.headers, &self.extensions)
    }

    /// What comes now belongs to this trace, if one is named; otherwise to the one before.
    pub(crate) fn goes_on_in(&mut self, traceparent: &str, tracestate: &str) {
        if traceparent.is_empty() {
            return;
        }
        for (name, value) in [(TRACEPARENT, traceparent), (TRACESTATE, tracestate)] {
            match HeaderValue::try_from(value) {
                Ok(value) if !value.is_empty() => drop(self.headers.insert(name, value)),
                Ok(_) | Err(_) => drop(self.headers.remove(name)),
            }
        }
    }
}
