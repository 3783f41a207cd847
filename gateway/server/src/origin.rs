//! What a request shows of its caller besides its payload.

use http::{Extensions, HeaderMap};
use tidegate_callers::{PeerCertificate, Presented};

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
}
