//! What a client certificate proves: exactly one SPIFFE id.
//!
//! The handshake has verified the certificate before it gets here. Follows the SPIFFE-ID and X.509-SVID documents.

use std::sync::Arc;

use crate::refusal::Refusal;

const SCHEME: &str = "spiffe://";
/// The longest SPIFFE id in bytes, and the longest trust domain.
const ID_MAX: usize = 2048;
const TRUST_DOMAIN_MAX: usize = 255;

/// A client certificate that the handshake has verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerCertificate {
    /// Its subject alternative names of the type URI, all of them.
    pub uris: Arc<[Box<str>]>,
}

impl PeerCertificate {
    /// The one SPIFFE id that it is for.
    pub(crate) fn spiffe(&self) -> Result<Spiffe<'_>, Refusal> {
        match &*self.uris {
            [only] => Spiffe::parse(only).ok_or(Refusal::CertificateUnacceptable),
            _ => Err(Refusal::CertificateUnacceptable),
        }
    }
}

/// A well-formed SPIFFE id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spiffe<'a> {
    /// The whole id.
    pub(crate) id: &'a str,
    /// What follows the trust domain, without the first slash.
    pub(crate) path: &'a str,
}

impl<'a> Spiffe<'a> {
    /// `None` unless `id` is a SPIFFE id with a path: a trust domain alone is no workload.
    pub(crate) fn parse(id: &'a str) -> Option<Self> {
        let (domain, path) = id.strip_prefix(SCHEME)?.split_once('/')?;
        (id.len() <= ID_MAX && is_trust_domain(domain) && path.split('/').all(is_segment))
            .then_some(Self { id, path })
    }
}

/// Whether `pattern` is a SPIFFE id, or one whose last segment is `*`.
pub(crate) fn is_pattern(pattern: &str) -> bool {
    match pattern.strip_suffix("/*") {
        Some(prefix) => {
            Spiffe::parse(prefix).is_some() || prefix.strip_prefix(SCHEME).is_some_and(is_trust_domain)
        }
        None => Spiffe::parse(pattern).is_some(),
    }
}

/// Whether `id` is `pattern`, or lies below it where it ends in `/*`.
pub(crate) fn fits(pattern: &str, id: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => id.len() > prefix.len() && id.starts_with(prefix),
        None => pattern == id,
    }
}

fn is_trust_domain(domain: &str) -> bool {
    (1..=TRUST_DOMAIN_MAX).contains(&domain.len())
        && domain.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
}

fn is_segment(segment: &str) -> bool {
    !segment.is_empty()
        && segment != "."
        && segment != ".."
        && segment.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_well_formed_ids_with_a_path_are_taken() {
        for good in ["spiffe://example.org/a", "spiffe://example.org/ns/x/sa/y", "spiffe://a_b-c.1/A.b_c-1"] {
            assert_eq!(Spiffe::parse(good).map(|spiffe| spiffe.id), Some(good));
        }
        assert_eq!(Spiffe::parse("spiffe://example.org/ns/x").unwrap().path, "ns/x");
        for bad in [
            "",
            "spiffe://",
            "spiffe://example.org",
            "spiffe://example.org/",
            "spiffe://example.org/a/",
            "spiffe://example.org//a",
            "spiffe://example.org/../a",
            "spiffe://example.org/a/./b",
            "spiffe://Example.org/a",
            "SPIFFE://example.org/a",
            "https://example.org/a",
            "spiffe://example.org/a?b",
            "spiffe://example.org/a#b",
            "spiffe://example.org/a%2fb",
            "spiffe://user@example.org/a",
            "spiffe://example.org:1/a",
            "spiffe://example.org/*",
        ] {
            assert_eq!(Spiffe::parse(bad), None, "{bad}");
        }
        assert_eq!(Spiffe::parse(&format!("spiffe://a/{}", "x".repeat(ID_MAX))), None);
    }

    #[test]
    fn a_prefix_ends_at_a_slash() {
        for pattern in ["spiffe://a.b/c", "spiffe://a.b/c/*", "spiffe://a.b/*"] {
            assert!(is_pattern(pattern), "{pattern}");
        }
        for pattern in
            ["spiffe://*/c", "spiffe://a.b*", "spiffe://a.b/c*", "spiffe://a.b/*/c", "*", "spiffe:///*"]
        {
            assert!(!is_pattern(pattern), "{pattern}");
        }
        assert!(fits("spiffe://a.b/c/*", "spiffe://a.b/c/d/e"));
        assert!(fits("spiffe://a.b/*", "spiffe://a.b/c"));
        assert!(!fits("spiffe://a.b/c/*", "spiffe://a.b/c"));
        assert!(!fits("spiffe://a.b/c/*", "spiffe://a.b/cd"));
        assert!(!fits("spiffe://a.b/c", "spiffe://a.b/c/d"));
        assert!(!fits("spiffe://a.b/*", "spiffe://a.bc/d"));
    }

    #[test]
    fn exactly_one_name_counts() {
        let certificate =
            |uris: &[&str]| PeerCertificate { uris: uris.iter().map(|uri| Box::from(*uri)).collect() };
        assert!(certificate(&["spiffe://a.b/c"]).spiffe().is_ok());
        for uris in [
            &[][..],
            &["spiffe://a.b/c", "spiffe://a.b/c"],
            &["spiffe://a.b/c", "https://a.b/"],
            &["https://a.b/c"],
        ] {
            assert_eq!(certificate(uris).spiffe(), Err(Refusal::CertificateUnacceptable), "{uris:?}");
        }
    }
}
