//! What a caller presents, and what is read from its headers before anything is proven.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, header::AUTHORIZATION};

use crate::{certificate::PeerCertificate, principal::Principal, refusal::Refusal};

/// What a caller presents.
#[derive(Debug, Clone, Copy)]
pub struct Presented<'a> {
    /// The headers of its request.
    pub headers: &'a HeaderMap,
    /// The certificate of its connection, verified by the handshake.
    pub certificate: Option<&'a PeerCertificate>,
    /// Whether it came by a loopback address or a unix socket.
    pub trusted_listener: bool,
}

/// A caller who has shown who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Who it is.
    pub principal: Arc<Principal>,
    /// Where its credential stood.
    pub via: Via,
    /// Whether it also sent an `Authorization` that is none of this service's: the only one that may be passed on.
    pub foreign_authorization: bool,
}

/// Where a caller's credential stood. A header named here is never passed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Via {
    /// It showed none, on a listener that lets everybody in who can reach it.
    Nobody,
    /// The header `Authorization`.
    Authorization,
    /// The separate header.
    Header(HeaderName),
    /// The client certificate of its connection.
    Certificate,
}

/// What `Authorization` holds.
#[derive(Clone, Copy)]
pub(crate) enum Authorization<'a> {
    /// There is none.
    Absent,
    /// One value, `Bearer` and then this.
    Bearer(&'a str),
    /// Another scheme or no text: never this service's.
    Other,
    /// Several values, which HTTP does not allow: whose they are cannot be told.
    Several,
}

pub(crate) fn authorization(headers: &HeaderMap) -> Authorization<'_> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    match (values.next(), values.next()) {
        (None, _) => Authorization::Absent,
        (Some(value), None) => {
            value.to_str().ok().and_then(bearer).map_or(Authorization::Other, Authorization::Bearer)
        }
        (Some(_), Some(_)) => Authorization::Several,
    }
}

/// The token of the separate header, whose name says that it is this service's.
pub(crate) fn separate<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Refusal::Header { name: name.clone(), message: "is there more than once" });
    }
    let token = value.to_str().ok().and_then(bearer);
    let message = "does not read `Bearer <token>`";
    token.map(Some).ok_or_else(|| Refusal::Header { name: name.clone(), message })
}

/// What follows `Bearer`, in any case.
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.trim().split_once(' ')?;
    let token = token.trim_start();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}
