//! Takes a token apart: three parts, a header with nothing in it that would change how it is verified.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use super::{claims::Claims, strict};
use crate::{config::Algorithm, refusal::Refusal};

/// The longest token in bytes; a header line has about as much room.
pub(crate) const TOKEN_BYTES_MAX: usize = 16 << 10;
/// The longest key id in bytes.
const KEY_ID_BYTES_MAX: usize = 256;

/// Header parameters with which a token would bring its own key, or change what is signed.
const NEVER: [&str; 8] = ["jku", "jwk", "x5u", "x5c", "crit", "b64", "enc", "zip"];
/// The types of token that are taken; one without a type is.
const TYPES: [&str; 4] = ["jwt", "at+jwt", "application/jwt", "application/at+jwt"];

/// A token that was taken apart. Nothing in it is proven.
pub(crate) struct Compact<'a> {
    /// Header and payload as they were signed.
    pub(crate) message: &'a [u8],
    /// The signature in base64.
    pub(crate) signature: &'a str,
    header: &'a str,
    /// The payload, of which nothing is proven yet.
    pub(crate) claims: Claims,
}

/// What the header says of the key: a hint where to look, never how to verify.
pub(crate) struct Hint {
    pub(crate) algorithm: Algorithm,
    pub(crate) key_id: Option<Box<str>>,
}

impl<'a> Compact<'a> {
    /// `None` if `token` is not of the form of a signed token at all, so that it is somebody else's.
    pub(crate) fn of(token: &'a str) -> Option<Self> {
        if token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let (message, signature) = token.rsplit_once('.')?;
        let (header, payload) = message.split_once('.')?;
        let claims = Claims::new(part(payload)?);
        Some(Self { message: message.as_bytes(), signature, header, claims })
    }

    /// Reads the header. Only for tokens of a known issuer: it says what is wrong.
    pub(crate) fn hint(&self) -> Result<Hint, Refusal> {
        let header =
            part(self.header).ok_or(Refusal::Malformed("the token's header is not one JSON object"))?;
        if NEVER.iter().any(|name| header.contains_key(*name)) {
            return Err(Refusal::Malformed(
                "the token's header brings its own key or asks for an extension; neither is ever taken",
            ));
        }
        match header.get("typ") {
            None => {}
            Some(Value::String(typ)) if TYPES.iter().any(|known| typ.eq_ignore_ascii_case(known)) => {}
            Some(_) => return Err(Refusal::Malformed("the token's `typ` is not that of an access token")),
        }
        let key_id = match header.get("kid") {
            None => None,
            Some(Value::String(id)) if id.len() <= KEY_ID_BYTES_MAX => Some(id.as_str().into()),
            Some(_) => {
                return Err(Refusal::Malformed("the token's `kid` is not a string of at most 256 bytes"));
            }
        };
        let algorithm = match header.get("alg").and_then(Value::as_str) {
            Some("HS256") => Algorithm::HS256,
            Some("RS256") => Algorithm::RS256,
            Some("ES256") => Algorithm::ES256,
            Some("EdDSA") => Algorithm::EdDSA,
            _ => return Err(Refusal::Malformed("the token's `alg` is not HS256, RS256, ES256 or EdDSA")),
        };
        Ok(Hint { algorithm, key_id })
    }
}

fn part(text: &str) -> Option<Map<String, Value>> {
    strict::object(&URL_SAFE_NO_PAD.decode(text).ok()?)
}
