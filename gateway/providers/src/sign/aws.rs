//! Signs requests for AWS, version 4.
//!
//! Few headers are signed: what AWS requires and what it reads itself. Everything else may be changed, appended or
//! dropped between here and AWS without harm. The time of a signature is the machine's clock, moved by what AWS has
//! said the time is.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{self, SignableBody, SignableRequest, SigningError, SigningSettings};
use aws_sigv4::sign::v4;
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use http::header::{CONTENT_TYPE, DATE, HeaderMap, HeaderName, HeaderValue};

use super::Subject;
use crate::credential::sensitive;

/// Signed besides `host`, which the connection sets from the address, and `x-amz-…`.
const SIGNED: [HeaderName; 2] = [CONTENT_TYPE, HeaderName::from_static("x-amzn-mantle-client-agent")];
const SIGNED_PREFIX: &str = "x-amz-";
/// Headers that a signature makes anew.
const MADE: [&str; 3] = ["x-amz-content-sha256", "x-amz-date", "x-amz-security-token"];
/// A clock that is this near to AWS's is not why a signature was refused.
const SKEW_MIN_MS: u64 = 30_000;

/// Signs for one region.
pub(crate) struct Signer {
    region: Arc<str>,
    /// How far AWS's clock is ahead of this machine's, in milliseconds.
    ahead_ms: AtomicI64,
}

/// Why a request could not be signed: always an error in this program.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SignError {
    #[error("aws credentials without a region to sign for")]
    NoSigner,
    #[error("an endpoint without a service name to sign for")]
    NoService,
    #[error("the header {name} is not text")]
    Header { name: HeaderName },
    #[error("the request cannot be signed")]
    Signing(#[from] SigningError),
    #[error("the signature lacks a parameter")]
    Parameters(#[from] v4::signing_params::BuildError),
    #[error("what was signed cannot stand in a header")]
    Value,
}

impl Signer {
    pub(crate) fn new(region: &str) -> Signer {
        Signer { region: region.into(), ahead_ms: AtomicI64::new(0) }
    }

    /// Adds the headers of a signature that is made now.
    pub(super) fn sign(
        &self,
        headers: &mut HeaderMap,
        subject: &Subject<'_>,
        credentials: &Credentials,
    ) -> Result<(), SignError> {
        self.sign_at(self.now(), headers, subject, credentials)
    }

    fn sign_at(
        &self,
        time: SystemTime,
        headers: &mut HeaderMap,
        subject: &Subject<'_>,
        credentials: &Credentials,
    ) -> Result<(), SignError> {
        for name in MADE {
            headers.remove(name);
        }
        normalize(headers);
        let service = subject.endpoint.service.as_deref().ok_or(SignError::NoService)?;
        let identity = credentials.clone().into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(service)
            .time(time)
            .settings(SigningSettings::default())
            .build()?
            .into();
        let signed = signed_headers(headers)?;
        let request = SignableRequest::new(
            subject.method.as_str(),
            subject.endpoint.uri.to_string(),
            signed.into_iter(),
            SignableBody::Precomputed(subject.payload.digest().to_owned()),
        )?;
        let (instructions, _) = http_request::sign(request, &params)?.into_parts();
        for header in instructions.into_parts().0 {
            let value = sensitive(header.value()).ok_or(SignError::Value)?;
            headers.insert(HeaderName::from_static(header.name()), value);
        }
        Ok(())
    }

    /// Takes over AWS's clock from an answer that refused a signature because of its time. Says whether that changes
    /// anything: then the same request can be signed again.
    pub(crate) fn follow(&self, answered: &HeaderMap) -> bool {
        let date = answered.get(DATE).and_then(|value| value.to_str().ok());
        let Some(theirs) = date.and_then(|text| DateTime::from_str(text, Format::HttpDate).ok()) else {
            return false;
        };
        let ours = DateTime::from(SystemTime::now());
        let (Ok(theirs), Ok(ours)) = (theirs.to_millis(), ours.to_millis()) else { return false };
        let ahead = theirs.saturating_sub(ours);
        let before = self.ahead_ms.load(Ordering::Relaxed);
        if ahead.abs_diff(before) < SKEW_MIN_MS {
            return false;
        }
        self.ahead_ms.store(ahead, Ordering::Relaxed);
        tracing::warn!(ahead_ms = ahead, "this machine's clock is not aws's: signatures follow aws's");
        true
    }

    fn now(&self) -> SystemTime {
        let ahead = self.ahead_ms.load(Ordering::Relaxed);
        let by = Duration::from_millis(ahead.unsigned_abs());
        let now = SystemTime::now();
        let moved = if ahead < 0 { now.checked_sub(by) } else { now.checked_add(by) };
        moved.unwrap_or(now)
    }
}

fn is_signed(name: &HeaderName) -> bool {
    SIGNED.contains(name) || name.as_str().starts_with(SIGNED_PREFIX)
}

/// The headers that are signed, as text.
fn signed_headers(headers: &HeaderMap) -> Result<Vec<(&str, &str)>, SignError> {
    let signed = headers.iter().filter(|(name, _)| is_signed(name));
    signed
        .map(|(name, value)| match std::str::from_utf8(value.as_bytes()) {
            Ok(value) => Ok((name.as_str(), value)),
            Err(_) => Err(SignError::Header { name: name.clone() }),
        })
        .collect()
}

/// Writes the values of signed headers with single spaces, as verifiers do before they compare: what is sent and what is
/// signed are then the same for each of them, whichever white space it collapses.
fn normalize(headers: &mut HeaderMap) {
    for (_, value) in headers.iter_mut().filter(|(name, _)| is_signed(name)) {
        let Ok(text) = std::str::from_utf8(value.as_bytes()) else { continue };
        let single = text.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
        if single != text
            && let Ok(mut normal) = HeaderValue::from_bytes(single.as_bytes())
        {
            normal.set_sensitive(value.is_sensitive());
            *value = normal;
        }
    }
}

#[cfg(test)]
mod tests;
