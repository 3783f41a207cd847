//! Why a request is refused, and how AWS says so.

use serde_json::json;

use crate::reply::Reply;

/// What is wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refusal {
    /// It has no `Authorization`.
    Unsigned,
    /// Its `Authorization` or its date is not of the form that it has to be.
    Malformed,
    /// Its access key id is not known, or its session token is not the key's.
    UnknownKey,
    /// Its credentials have expired.
    Expired,
    /// Its date is more than five minutes away from the service's clock.
    Skewed,
    /// It was signed for another region, service or day.
    WrongScope,
    /// It signs too few headers, or one that proxies and clients change.
    WrongHeaders,
    /// Its signature does not fit what came.
    WrongSignature,
    /// Its bearer token is not known.
    WrongBearer,
    /// Its model is not served at its path.
    WrongRoute,
}

impl Refusal {
    /// The name that AWS gives to it.
    fn error_type(self) -> &'static str {
        match self {
            Refusal::Unsigned => "MissingAuthenticationTokenException",
            Refusal::Malformed => "IncompleteSignatureException",
            Refusal::UnknownKey => "UnrecognizedClientException",
            Refusal::Expired => "ExpiredTokenException",
            Refusal::Skewed | Refusal::WrongScope | Refusal::WrongHeaders => "InvalidSignatureException",
            Refusal::WrongSignature => "SignatureDoesNotMatch",
            Refusal::WrongBearer => "AccessDeniedException",
            Refusal::WrongRoute => "ResourceNotFoundException",
        }
    }

    /// The answer; a test may give the error another name.
    pub(crate) fn reply(self, name: Option<&str>, message: &str) -> Reply {
        let name = name.unwrap_or(self.error_type());
        match self {
            Refusal::WrongBearer => {
                Reply::json(401, &json!({"error": {"code": "invalid_api_key", "message": message}}))
            }
            Refusal::WrongRoute => {
                Reply::json(404, &json!({"error": {"code": "not_found_error", "message": message}}))
            }
            _ => Reply::json(403, &json!({"__type": name, "message": message})),
        }
        .header("x-amzn-errortype", name)
    }
}
