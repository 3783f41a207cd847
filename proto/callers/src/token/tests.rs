//! Signatures against the Wycheproof vectors of the four algorithms, and headers that are never taken.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use wycheproof::{TestResult, ecdsa, eddsa, mac, rsa_pkcs1_verify};

use super::{compact::Compact, signing_key::SigningKey};
use crate::refusal::Refusal;

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Compares one verdict with the vector's, and counts it.
fn judge(counts: &mut [usize; 2], case: (usize, &str), expected: TestResult, verified: bool) {
    match expected {
        TestResult::Valid => assert!(verified, "{case:?} is valid"),
        TestResult::Invalid => assert!(!verified, "{case:?} is invalid"),
        // Weak but not wrong: either verdict is right.
        TestResult::Acceptable => return,
    }
    counts[usize::from(verified)] += 1;
}

#[test]
fn hs256_verifies_as_wycheproof_says() {
    let set = mac::TestSet::load(mac::TestName::HmacSha256).unwrap();
    let mut counts = [0; 2];
    for group in set.test_groups.iter().filter(|group| group.tag_size == 256) {
        for test in &group.tests {
            // Shorter secrets are refused before anything is signed with them.
            let Some(key) = SigningKey::secret(&test.key) else {
                assert!(test.key.len() < 32);
                continue;
            };
            let verified = key.verifies(&test.msg, &encode(&*test.tag));
            judge(&mut counts, (test.tc_id, &test.comment), test.result, verified);
        }
    }
    assert!(counts.iter().all(|count| *count > 20), "{counts:?}");
}

#[test]
fn rs256_verifies_as_wycheproof_says() {
    use rsa_pkcs1_verify::{TestName, TestSet};
    let mut counts = [0; 2];
    for name in
        [TestName::Rsa2048Sha256, TestName::Rsa3072Sha256, TestName::Rsa4096Sha256, TestName::Rsa8192Sha256]
    {
        for group in TestSet::load(name).unwrap().test_groups {
            let key = SigningKey::rsa(None, &encode(&*group.key.n), &encode(&*group.key.e)).unwrap();
            for test in &group.tests {
                let verified = key.verifies(&test.msg, &encode(&*test.sig));
                judge(&mut counts, (test.tc_id, &test.comment), test.result, verified);
            }
        }
    }
    assert!(counts.iter().all(|count| *count > 20), "{counts:?}");
}

#[test]
fn es256_verifies_as_wycheproof_says() {
    let set = ecdsa::TestSet::load(ecdsa::TestName::EcdsaSecp256r1Sha256P1363).unwrap();
    let mut counts = [0; 2];
    for group in set.test_groups {
        let (x, y) = group.key.key[1..].split_at(32);
        let key = SigningKey::p256(None, &encode(x), &encode(y)).unwrap();
        for test in &group.tests {
            let verified = key.verifies(&test.msg, &encode(&*test.sig));
            judge(&mut counts, (test.tc_id, &test.comment), test.result, verified);
        }
    }
    assert!(counts.iter().all(|count| *count > 50), "{counts:?}");
}

#[test]
fn eddsa_verifies_as_wycheproof_says() {
    let set = eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap();
    let mut counts = [0; 2];
    for group in set.test_groups {
        let key = SigningKey::ed25519(None, &encode(&*group.key.pk)).unwrap();
        for test in &group.tests {
            let verified = key.verifies(&test.msg, &encode(&*test.sig));
            judge(&mut counts, (test.tc_id, &test.comment), test.result, verified);
        }
    }
    assert!(counts.iter().all(|count| *count > 50), "{counts:?}");
}

#[test]
fn weak_and_misshapen_keys_are_no_keys() {
    assert!(SigningKey::secret(&[1; 31]).is_none());
    assert!(SigningKey::rsa(None, &encode([0xff; 255]), "AQAB").is_none());
    assert!(SigningKey::rsa(None, &encode([0xff; 1025]), "AQAB").is_none());
    assert!(SigningKey::rsa(None, &encode([0xff; 256]), "").is_none());
    assert!(SigningKey::p256(None, &encode([1; 31]), &encode([1; 32])).is_none());
    assert!(SigningKey::ed25519(None, &encode([1; 33])).is_none());
}

fn hint(header: &str) -> Result<Option<Box<str>>, Refusal> {
    let token = format!("{}.{}.c2ln", encode(header), encode(r#"{"iss":"https://a.example"}"#));
    Compact::of(&token).unwrap().hint().map(|hint| hint.key_id)
}

#[test]
fn headers_that_would_change_the_verification_are_never_taken() {
    assert_eq!(hint(r#"{"alg":"RS256","kid":"one"}"#), Ok(Some("one".into())));
    assert_eq!(hint(r#"{"alg":"EdDSA","typ":"at+JWT","x5t":"abc"}"#), Ok(None));
    for bad in [
        r#"{"alg":"none"}"#,
        r#"{"alg":"None"}"#,
        r#"{"alg":"hs256"}"#,
        r#"{"alg":"HS512"}"#,
        r#"{"alg":"PS256"}"#,
        r#"{"alg":["HS256"]}"#,
        r#"{}"#,
        r#"{"alg":"HS256","alg":"RS256"}"#,
        r#"{"alg":"RS256","jku":"https://a.example/keys"}"#,
        r#"{"alg":"RS256","jwk":{"kty":"RSA"}}"#,
        r#"{"alg":"RS256","x5u":"https://a.example/x"}"#,
        r#"{"alg":"RS256","x5c":[]}"#,
        r#"{"alg":"RS256","crit":[]}"#,
        r#"{"alg":"RS256","crit":["exp"],"exp":1}"#,
        r#"{"alg":"RS256","b64":false}"#,
        r#"{"alg":"RS256","b64":true}"#,
        r#"{"alg":"dir","enc":"A128GCM"}"#,
        r#"{"alg":"RS256","kid":7}"#,
        r#"{"alg":"RS256","typ":"dpop+jwt"}"#,
        r#"{"alg":"RS256","typ":"logout+jwt"}"#,
        r#"["alg"]"#,
        "",
    ] {
        assert!(matches!(hint(bad), Err(Refusal::Malformed(_))), "{bad}");
    }
    let long = format!(r#"{{"alg":"RS256","kid":"{}"}}"#, "k".repeat(257));
    assert!(matches!(hint(&long), Err(Refusal::Malformed(_))));
}

#[test]
fn only_three_parts_with_an_object_are_a_token() {
    let part = encode("{}");
    assert!(Compact::of(&format!("{part}.{part}.")).is_some());
    for other in [
        String::new(),
        part.clone(),
        format!("{part}.{part}"),
        format!("{part}.{part}.{part}.{part}.{part}"),
        format!("{part}.{}.c2ln", encode("[]")),
        format!("{part}.{}=.c2ln", encode("{}x")),
        format!("{part}.e30 .c2ln"),
        format!("{part}.{part}.{}", "x".repeat(16 << 10)),
    ] {
        assert!(Compact::of(&other).is_none(), "{other}");
    }
}
