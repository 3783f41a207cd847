//! Why a caller is not let in.
//!
//! No variant holds any part of what was presented, so that a message can go to the caller and into a log as it is.

use http::HeaderName;

use crate::websocket::WebSocketRefusal;

/// Why a caller is not let in. All but [`Refusal::KeysUnavailable`] are the caller's to fix, and a retry does not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nothing was presented that this service knows.
    #[error(
        "no credential of this service was presented; send `Authorization: Bearer` with a key or token that its operator gave you"
    )]
    Missing,
    /// There is no such key. Also said of a known id with a wrong secret.
    #[error("the key is unknown; ask the operator for a new one")]
    UnknownKey,
    /// The key was revoked.
    #[error("the key was revoked; ask the operator for a new one")]
    RevokedKey,
    /// The key's time is over.
    #[error("the key has expired; ask the operator for a new one")]
    ExpiredKey,
    /// What was presented is not a credential, or one of a form that is never taken.
    #[error("the credential is malformed: {0}")]
    Malformed(&'static str),
    /// The separate header is of a form that is never taken.
    #[error("the credential is malformed: the header `{name}` {message}")]
    Header {
        /// Which it is.
        name: HeaderName,
        /// What is wrong with it.
        message: &'static str,
    },
    /// The token's time is over.
    #[error("the token has expired; get a new one from its issuer")]
    Expired,
    /// The token's time has not come.
    #[error("the token is not valid yet; check the clocks of this machine and of its issuer")]
    NotYetValid,
    /// The token comes from nobody that the configuration names.
    #[error("the token's issuer is not one that this service trusts")]
    WrongIssuer,
    /// The token was given out for another service.
    #[error(
        "the token is meant for another audience; ask its issuer for one that names this service in `aud`"
    )]
    WrongAudience,
    /// The issuer has no such signing key.
    #[error("the token is signed with a key that its issuer does not publish; get a new one from its issuer")]
    UnknownSigningKey,
    /// The issuer had no such signing key when it was last asked, which a token can bring about once a minute.
    #[error(
        "the token is signed with a key that its issuer does not publish; if the key is new, try again in {seconds} s, when \
         the issuer will be asked again, or else get a new token from it"
    )]
    UnpublishedSigningKey {
        /// When it may be asked again.
        seconds: u64,
    },
    /// The signature does not fit.
    #[error("the token's signature does not fit; get a new one from its issuer")]
    BadSignature,
    /// The credential proves something that no row of the callers table names.
    #[error(
        "the credential is genuine but stands for nobody here; the operator can add a `[[callers]]` row for it"
    )]
    UnknownCaller,
    /// The claim that names tenant or subject is missing or cannot be a name.
    #[error(
        "the claim that names the tenant or the subject is missing or cannot be a name; ask the operator which claim is used"
    )]
    UnusableName,
    /// The client certificate does not have exactly one SPIFFE id.
    #[error("the client certificate must carry exactly one URI name, and it must be a SPIFFE id")]
    CertificateUnacceptable,
    /// The issuer's keys cannot be fetched now.
    #[error("the issuer's signing keys cannot be fetched now; try again in a few seconds")]
    KeysUnavailable,
    /// The app-server's own flags do not let the client in.
    #[error(transparent)]
    WebSocket(#[from] WebSocketRefusal),
}

impl Refusal {
    /// Whether the same credential may be accepted a little later: then the fault is on this side.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::KeysUnavailable => true,
            Self::Missing
            | Self::UnknownKey
            | Self::RevokedKey
            | Self::ExpiredKey
            | Self::Malformed(_)
            | Self::Header { .. }
            | Self::Expired
            | Self::NotYetValid
            | Self::WrongIssuer
            | Self::WrongAudience
            | Self::UnknownSigningKey
            | Self::UnpublishedSigningKey { .. }
            | Self::BadSignature
            | Self::UnknownCaller
            | Self::UnusableName
            | Self::CertificateUnacceptable
            | Self::WebSocket(_) => false,
        }
    }

    /// A name for programs and metrics that never changes.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Missing => "credential_missing",
            Self::UnknownKey => "key_unknown",
            Self::RevokedKey => "key_revoked",
            Self::ExpiredKey => "key_expired",
            Self::Malformed(_) | Self::Header { .. } => "credential_malformed",
            Self::Expired => "token_expired",
            Self::NotYetValid => "token_not_yet_valid",
            Self::WrongIssuer => "issuer_unknown",
            Self::WrongAudience => "audience_wrong",
            Self::UnknownSigningKey | Self::UnpublishedSigningKey { .. } => "signing_key_unknown",
            Self::BadSignature => "signature_bad",
            Self::UnknownCaller => "caller_unknown",
            Self::UnusableName => "name_unusable",
            Self::CertificateUnacceptable => "certificate_unacceptable",
            Self::KeysUnavailable => "signing_keys_unavailable",
            Self::WebSocket(refusal) => refusal.reason(),
        }
    }
}
