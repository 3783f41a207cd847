//! Codex's own two ways to let WebSocket clients in, as its app-server's flags name them: one token that all clients share,
//! and JWTs signed with a shared secret.
//!
//! What is taken and what is answered follow `codex app-server --ws-auth`, word for word. It is stricter in one thing: a
//! JWT whose header asks for an extension or brings its own key is never taken.

use std::{path::Path, time::SystemTime};

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::{
    config::Algorithm,
    presented::Authorization,
    token::{Claims, Compact, SigningKey, since_epoch},
};

/// What `[[callers]]` rows call whoever is let in by these flags.
pub(crate) const ISSUER: &str = "ws-auth";
/// How far clocks may be apart where nobody says.
const SKEW_SECONDS_DEFAULT: u64 = 30;
/// The largest file of a token or a secret.
const FILE_BYTES_MAX: u64 = 64 << 10;
const SUBJECT_CLAIM: &str = "sub";

/// What a process knows of the app-server's flags.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Flags<'a> {
    /// It has none.
    Foreign,
    /// It has them, and was started with these.
    Own(Option<&'a WebSocketAuth>),
}

/// How WebSocket clients are let in by the app-server's own flags.
#[derive(Clone)]
pub struct WebSocketAuth(Kind);

#[derive(Clone)]
enum Kind {
    /// The SHA-256 digest of the one token.
    Capability([u8; 32]),
    Signed(Signed),
}

#[derive(Clone)]
struct Signed {
    key: std::sync::Arc<SigningKey>,
    expected: SignedBearer,
}

/// What a signed token must say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SignedBearer {
    /// Its `iss`, if that is looked at.
    pub issuer: Option<String>,
    /// One of its `aud`, if that is looked at.
    pub audience: Option<String>,
    /// How far clocks may be apart; 30 s otherwise.
    pub max_clock_skew_seconds: Option<u64>,
}

/// Why the flags cannot be used. All are the operator's to fix.
#[derive(Debug, thiserror::Error)]
pub enum WebSocketAuthError {
    /// The file is not there, or not to be read.
    #[error("failed to read websocket auth secret {file}")]
    Unreadable {
        /// The file.
        file: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file has nothing in it.
    #[error("websocket auth secret {0} must not be empty")]
    Empty(String),
    /// The file is no token.
    #[error("websocket auth secret {0} must not be over 64 KiB")]
    TooLarge(String),
    /// The secret can be guessed.
    #[error("signed websocket bearer secret {0} must be at least 32 bytes")]
    TooShort(String),
    /// The digest is not one.
    #[error("--ws-token-sha256 must be a 64-character hex SHA-256 digest")]
    NoDigest,
}

/// Why a client is not let in, in the words of Codex.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WebSocketRefusal {
    /// There is no `Authorization`.
    #[error("missing websocket bearer token")]
    MissingToken,
    /// `Authorization` is something else.
    #[error("invalid authorization header")]
    InvalidHeader,
    /// It is another token.
    #[error("invalid websocket bearer token")]
    InvalidToken,
    /// It is no JWT, or not signed with this secret, or lacks what it must have.
    #[error("invalid websocket jwt")]
    InvalidJwt,
    /// Its time is over.
    #[error("expired websocket jwt")]
    ExpiredJwt,
    /// Its time has not come.
    #[error("websocket jwt is not valid yet")]
    NotYetValid,
    /// Somebody else has issued it.
    #[error("websocket jwt issuer mismatch")]
    IssuerMismatch,
    /// It is meant for another service.
    #[error("websocket jwt audience mismatch")]
    AudienceMismatch,
}

impl WebSocketRefusal {
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::MissingToken => "credential_missing",
            Self::InvalidHeader => "credential_malformed",
            Self::InvalidToken => "websocket_token_wrong",
            Self::InvalidJwt => "websocket_jwt_invalid",
            Self::ExpiredJwt => "token_expired",
            Self::NotYetValid => "token_not_yet_valid",
            Self::IssuerMismatch => "issuer_unknown",
            Self::AudienceMismatch => "audience_wrong",
        }
    }
}

impl std::fmt::Debug for WebSocketAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mode = match &self.0 {
            Kind::Capability(_) => "capability-token",
            Kind::Signed(_) => "signed-bearer-token",
        };
        f.debug_tuple("WebSocketAuth").field(&mode).finish()
    }
}

impl WebSocketAuth {
    /// The token that stands in this file, without the white space around it.
    pub fn token_file(file: &Path) -> Result<Self, WebSocketAuthError> {
        Ok(Self(Kind::Capability(Sha256::digest(secret(file)?.as_bytes()).into())))
    }

    /// The token with this SHA-256 digest.
    pub fn token_sha256(digest: &str) -> Result<Self, WebSocketAuthError> {
        let mut bytes = [0; 32];
        let digits = digest.as_bytes().chunks(2);
        if digest.len() != 2 * bytes.len() {
            return Err(WebSocketAuthError::NoDigest);
        }
        for (byte, digits) in bytes.iter_mut().zip(digits) {
            let digits = std::str::from_utf8(digits).map_err(|_| WebSocketAuthError::NoDigest)?;
            let hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
            let value = u8::from_str_radix(digits, 16).map_err(|_| WebSocketAuthError::NoDigest);
            *byte =
                value.and_then(|value| if hex { Ok(value) } else { Err(WebSocketAuthError::NoDigest) })?;
        }
        Ok(Self(Kind::Capability(bytes)))
    }

    /// JWTs that are signed with the secret in this file and say what is expected.
    pub fn shared_secret_file(file: &Path, expected: SignedBearer) -> Result<Self, WebSocketAuthError> {
        let key = SigningKey::secret(secret(file)?.as_bytes());
        let key = key.ok_or_else(|| WebSocketAuthError::TooShort(file.display().to_string()))?;
        Ok(Self(Kind::Signed(Signed { key: key.into(), expected })))
    }

    /// What the caller's credential says of it.
    pub(crate) fn judge(
        &self,
        authorization: Authorization<'_>,
        now: SystemTime,
    ) -> Result<Claims, WebSocketRefusal> {
        let token = match authorization {
            Authorization::Absent => return Err(WebSocketRefusal::MissingToken),
            Authorization::Other | Authorization::Several => return Err(WebSocketRefusal::InvalidHeader),
            Authorization::Bearer(token) => token,
        };
        let claims = match &self.0 {
            Kind::Capability(digest) => {
                let shown: [u8; 32] = Sha256::digest(token.as_bytes()).into();
                match bool::from(shown.ct_eq(digest)) {
                    true => Claims::default(),
                    false => return Err(WebSocketRefusal::InvalidToken),
                }
            }
            Kind::Signed(signed) => signed.claims(token, now)?,
        };
        Ok(claims.or_with(SUBJECT_CLAIM, ISSUER))
    }
}

impl Signed {
    fn claims(&self, token: &str, now: SystemTime) -> Result<Claims, WebSocketRefusal> {
        const INVALID: WebSocketRefusal = WebSocketRefusal::InvalidJwt;
        let token = Compact::of(token).ok_or(INVALID)?;
        let hint = token.hint().map_err(|_| INVALID)?;
        if hint.algorithm != Algorithm::HS256 || !self.key.verifies(token.message, token.signature) {
            return Err(INVALID);
        }
        let claims = token.claims;
        let expires = claims.whole("exp").ok_or(INVALID)?.ok_or(INVALID)?;
        let begins = claims.whole("nbf").ok_or(INVALID)?;
        if claims.get("iss").is_some_and(|issuer| !issuer.is_string()) {
            return Err(INVALID);
        }
        let audiences = claims.audiences().map_err(|_| INVALID)?;
        let skew = self.expected.max_clock_skew_seconds.unwrap_or(SKEW_SECONDS_DEFAULT);
        let (now, skew) = (since_epoch(now), i64::try_from(skew).unwrap_or(i64::MAX));
        if now > expires.saturating_add(skew) {
            return Err(WebSocketRefusal::ExpiredJwt);
        }
        if begins.is_some_and(|begins| now.saturating_add(skew) < begins) {
            return Err(WebSocketRefusal::NotYetValid);
        }
        let SignedBearer { issuer, audience, .. } = &self.expected;
        if issuer.is_some() && claims.issuer() != issuer.as_deref() {
            return Err(WebSocketRefusal::IssuerMismatch);
        }
        if audience.as_deref().is_some_and(|audience| !audiences.contains(&audience)) {
            return Err(WebSocketRefusal::AudienceMismatch);
        }
        drop(audiences);
        Ok(claims)
    }
}

fn secret(file: &Path) -> Result<String, WebSocketAuthError> {
    let name = || file.display().to_string();
    let unreadable = |source| WebSocketAuthError::Unreadable { file: name(), source };
    if std::fs::metadata(file).map_err(unreadable)?.len() > FILE_BYTES_MAX {
        return Err(WebSocketAuthError::TooLarge(name()));
    }
    let text = std::fs::read_to_string(file).map_err(unreadable)?;
    match text.trim() {
        "" => Err(WebSocketAuthError::Empty(name())),
        text => Ok(text.to_owned()),
    }
}
