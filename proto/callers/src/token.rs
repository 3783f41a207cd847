//! Signed tokens (JWT in the compact JWS form): taken apart strictly, verified with keys whose algorithm is fixed.
//!
//! Follows RFC 7515, 7517, 7519 and the advice of RFC 8725. Knows no issuer and no configuration; encrypted tokens (JWE)
//! and tokens that bring their own key are never taken.

mod cache;
mod claims;
mod compact;
mod jwks;
mod signing_key;
mod strict;

#[cfg(test)]
mod tests;

pub(crate) use cache::{Cache, Verified};
pub(crate) use claims::{Claims, is_before, since_epoch};
pub(crate) use compact::{Compact, TOKEN_BYTES_MAX};
pub(crate) use jwks::{KeySet, parse as parse_jwks};
pub(crate) use signing_key::SigningKey;
