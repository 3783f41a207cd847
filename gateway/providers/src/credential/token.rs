//! What a bearer token must look like that somebody else has made, and when it ends.
//!
//! A token is not verified, that is the provider's business. The errors say what is wrong and show nothing of it.

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use secrecy::SecretString;
use serde::Deserialize;

use super::Proof;

/// The longest token; longer ones do not pass the header limits of servers.
const TOKEN_MAX: usize = 16 * 1024;
/// Takes what issuers write, also what the standard does not allow.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// A token that can be sent.
pub(super) struct Token {
    pub(super) proof: Proof,
    /// Its own word on when it ends, if it is a JWT that says so.
    pub(super) expires_at: Option<SystemTime>,
}

impl Token {
    /// The token in what a command printed or a file holds.
    pub(super) fn parse(bytes: &[u8]) -> Result<Token, String> {
        let bytes = bytes.trim_ascii();
        if bytes.is_empty() {
            return Err("gave nothing where a token should be".to_owned());
        }
        if bytes.len() > TOKEN_MAX {
            return Err(format!("gave a token of more than {TOKEN_MAX} bytes"));
        }
        if bytes.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
            return Err("gave more than one line where a token should be".to_owned());
        }
        let plain = |byte: &u8| matches!(byte, b' '..=b'~');
        let text = std::str::from_utf8(bytes).ok().filter(|_| bytes.iter().all(plain));
        let proof = text.and_then(|text| Proof::bearer(&SecretString::from(text)));
        let Some((text, proof)) = text.zip(proof) else {
            return Err("gave a token with bytes that cannot stand in a header".to_owned());
        };
        Ok(Token { proof, expires_at: expiry(text) })
    }
}

#[derive(Deserialize)]
struct Claims {
    exp: f64,
}

/// The `exp` of a JWT; none if it is no JWT or says nothing that makes sense.
fn expiry(token: &str) -> Option<SystemTime> {
    let mut parts = token.split('.');
    let (_, payload, _, None) = (parts.next()?, parts.next()?, parts.next()?, parts.next()) else {
        return None;
    };
    let claims: Claims = serde_json::from_slice(&LENIENT.decode(payload).ok()?).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(claims.exp).ok()?)
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    fn jwt(payload: &str) -> String {
        format!("e30.{}.c2ln", LENIENT.encode(payload))
    }

    fn sent(bytes: &[u8]) -> Result<String, String> {
        match Token::parse(bytes)?.proof {
            Proof::Bearer(value) => Ok(value.to_str().unwrap().to_owned()),
            _ => Err("no bearer".to_owned()),
        }
    }

    #[test]
    fn white_space_around_a_token_is_no_part_of_it() {
        for bytes in [&b"tok"[..], b"tok\n", b"  tok\r\n\r\n", b"\ttok "] {
            assert_eq!(sent(bytes).unwrap(), "Bearer tok");
        }
        assert_eq!(sent(b"error: not logged in").unwrap(), "Bearer error: not logged in");
    }

    #[test]
    fn what_cannot_be_sent_is_refused_and_not_shown() {
        let long = vec![b'a'; TOKEN_MAX + 1];
        let bad =
            [&b""[..], b" \r\n", b"canary\nb", b"canary\r\nb", b"canary\0b", b"canary\x7f", b"canary\tb"];
        let more: [&[u8]; 4] = [b"canary\xff\xfe", "canary-\u{e9}".as_bytes(), b"canary\x1b[0m", &long];
        for bytes in bad.into_iter().chain(more) {
            let why = sent(bytes).unwrap_err();
            assert!(why.starts_with("gave ") && !why.contains("canary"), "{why}");
        }
        assert!(sent(&long[1..]).is_ok());
    }

    #[test]
    fn the_end_of_a_jwt_is_its_exp() {
        let at = |payload: &str| expiry(&jwt(payload));
        let time = |seconds| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(r#"{"sub":"x","exp":1900000000}"#), time(1_900_000_000));
        assert_eq!(at(r#"{"exp":1.9e9}"#), time(1_900_000_000));
        assert_eq!(at(r#"{"exp":0}"#), time(0));
        for odd in [r#"{"exp":"1900000000"}"#, r#"{"exp":-1}"#, r#"{"exp":1e300}"#, r#"{"exp":1e400}"#] {
            assert_eq!(at(odd), None, "{odd}");
        }
        for odd in [r#"{"exp":null}"#, r#"{"exp":[1]}"#, "{}", "[]", "", "{"] {
            assert_eq!(at(odd), None, "{odd}");
        }
        let padded = jwt(r#"{"exp":1900000000 }"#);
        assert!(padded.contains("==."), "{padded}");
        assert_eq!(expiry(&padded), time(1_900_000_000));
        assert_eq!(expiry(&padded.replace('=', "")), time(1_900_000_000));
        for odd in ["", "sk-abc", "a.b", "a.b.c", "a.b.c.d", "..", "a.!!.c"] {
            assert_eq!(expiry(odd), None, "{odd}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_token_or_an_error(bytes: Vec<u8>) {
            if let Ok(token) = Token::parse(&bytes) {
                let secret = SecretString::from(String::from_utf8(bytes).unwrap());
                let expected = format!("Bearer {}", secret.expose_secret().trim());
                let Proof::Bearer(value) = token.proof else { panic!("no bearer") };
                assert_eq!(value.to_str().unwrap(), expected);
            }
        }
    }
}
