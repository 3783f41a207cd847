//! What a provider means by refusing a request's authorization, and so whether another attempt can help.
//!
//! AWS says it in a header, in `__type` or `code`, or in a sentence only; a proxy in between may have turned 403 into
//! 401. What is not known is not repeated.

use http::StatusCode;
use http::header::HeaderMap;
use serde_json::Value;

use crate::credential::Proof;

const ERROR_TYPE: &str = "x-amzn-errortype";
/// Names of errors that another credential can heal.
const CREDENTIAL_ERRORS: [&str; 4] =
    ["expiredtoken", "invalidclienttokenid", "requestexpired", "unrecognizedclient"];
/// The beginning of AWS's sentence about a bad or expired session token.
const CREDENTIAL_SENTENCE: &str = "security token included in the request is";
/// Names and sentences of errors that come from a wrong clock.
const CLOCK_ERRORS: [&str; 3] = ["requesttimetooskewed", "signature expired", "signature not yet current"];
/// Names of errors that stay whatever is tried.
const FINAL_ERRORS: [&str; 3] = ["accessdenied", "signaturedoesnotmatch", "not authorized to perform"];

/// Why a provider refused a request's authorization.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The credential is not good any more.
    Credential,
    /// The time of the signature is not near the provider's.
    Clock,
    /// Another attempt would be refused too.
    Final,
}

impl Refusal {
    /// Whether the body of an answer with this status has to be read to know.
    pub(crate) fn is_in_body(status: StatusCode, proof: &Proof) -> bool {
        matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) && matches!(proof, Proof::Aws(_))
    }

    /// Why a provider refused; none if it did not refuse the authorization. `body` is the beginning of its answer, or
    /// nothing where [`Refusal::is_in_body`] says that it does not matter.
    pub(crate) fn of(status: StatusCode, proof: &Proof, headers: &HeaderMap, body: &[u8]) -> Option<Refusal> {
        if !Refusal::is_in_body(status, proof) {
            return (status == StatusCode::UNAUTHORIZED).then_some(Refusal::Credential);
        }
        let mut said = headers.get(ERROR_TYPE).map(|value| value.as_bytes().to_vec()).unwrap_or_default();
        said.push(b'\n');
        said.extend(sentences(body));
        let said = String::from_utf8_lossy(&said).to_ascii_lowercase();
        let says = |known: &[&str]| known.iter().any(|known| said.contains(known));
        let unexplained = status == StatusCode::UNAUTHORIZED && !says(&FINAL_ERRORS);
        Some(if says(&CLOCK_ERRORS) {
            Refusal::Clock
        } else if says(&CREDENTIAL_ERRORS) || says(&[CREDENTIAL_SENTENCE]) || unexplained {
            Refusal::Credential
        } else {
            Refusal::Final
        })
    }
}

/// What a body says about an error, of all the places where AWS and OpenAI say it; all of it if it is not JSON.
fn sentences(body: &[u8]) -> Vec<u8> {
    let Ok(Value::Object(top)) = serde_json::from_slice(body) else { return body.to_vec() };
    let nested = top.get("error").and_then(Value::as_object);
    let mut said = String::new();
    for object in std::iter::once(&top).chain(nested) {
        for (_, value) in object.iter().filter(|(name, _)| {
            matches!(name.as_str(), "__type" | "code" | "type" | "message" | "Message" | "error")
        }) {
            said.push_str(value.as_str().unwrap_or_default());
            said.push('\n');
        }
    }
    said.into_bytes()
}

#[cfg(test)]
mod tests {
    use aws_credential_types::Credentials;
    use http::HeaderValue;

    use super::*;

    fn of(status: u16, kind: Option<&'static str>, body: &str) -> Option<Refusal> {
        let proof = Proof::Aws(Credentials::new("AKID", "secret", None, None, "test"));
        let mut headers = HeaderMap::new();
        headers.extend(
            kind.map(|kind| (http::HeaderName::from_static(ERROR_TYPE), HeaderValue::from_static(kind))),
        );
        Refusal::of(StatusCode::from_u16(status).unwrap(), &proof, &headers, body.as_bytes())
    }

    #[test]
    fn each_way_to_say_it() {
        use Refusal::{Clock, Credential, Final};
        let cases = [
            (403, Some("ExpiredTokenException:http://internal/"), "", Credential),
            (403, None, r#"{"__type":"com.amazon.coral.service#ExpiredTokenException"}"#, Credential),
            (
                403,
                Some("UnrecognizedClientException"),
                r#"{"message":"The security token included in the request is invalid."}"#,
                Credential,
            ),
            (
                401,
                None,
                r#"{"error":{"message":"The security token included in the request is expired","type":"x"}}"#,
                Credential,
            ),
            (403, None, r#"{"error":{"code":"InvalidClientTokenId"}}"#, Credential),
            (403, None, "<Error><Code>ExpiredToken</Code></Error>", Credential),
            (401, None, "", Credential),
            (403, None, "", Final),
            (403, Some("AccessDeniedException"), r#"{"Message":"User is not authorized to perform"}"#, Final),
            (401, None, r#"{"error":{"message":"is not authorized to perform: bedrock:X"}}"#, Final),
            (
                403,
                Some("InvalidSignatureException"),
                r#"{"message":"The request signature we calculated does not match the signature you provided."}"#,
                Final,
            ),
            (401, None, r#"{"code":"SignatureDoesNotMatch"}"#, Final),
            (403, None, r#"{"code":"RequestTimeTooSkewed"}"#, Clock),
            (
                403,
                Some("InvalidSignatureException"),
                r#"{"message":"Signature expired: 20261120T100000Z is now earlier than 20261120T101000Z"}"#,
                Clock,
            ),
            (403, None, r#"{"message":"Signature not yet current: 20261120T1"}"#, Clock),
        ];
        for (status, kind, body, expected) in cases {
            assert_eq!(of(status, kind, body), Some(expected), "{status} {kind:?} {body}");
        }
        assert_eq!(of(429, None, r#"{"code":"ExpiredToken"}"#), None);
    }

    #[test]
    fn what_a_model_says_is_not_what_aws_says() {
        let body = r#"{"error":{"message":"no"},"echo":"ExpiredToken"}"#;
        assert_eq!(of(403, None, body), Some(Refusal::Final));
    }

    #[test]
    fn without_signatures_only_401_counts() {
        let bearer = Proof::None;
        let headers = HeaderMap::new();
        assert_eq!(Refusal::of(StatusCode::UNAUTHORIZED, &bearer, &headers, b""), Some(Refusal::Credential));
        assert_eq!(Refusal::of(StatusCode::FORBIDDEN, &bearer, &headers, b"ExpiredToken"), None);
    }
}
