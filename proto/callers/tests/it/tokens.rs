//! Signed tokens: what is taken, and every way in which one is refused.

use proptest::prelude::*;
use serde_json::{Value, json};
use tidegate_callers::{Callers, Proof, Refusal};

use crate::{
    signer::{Signer, claims, claims_with, encode, hmac_of, jwks},
    support::{NOW, build, in_time, named, show, try_build, who},
};

const SECRET: &str = r#"
[[authentication.issuers]]
name = "corp"
issuer = "https://issuer.example"
audience = ["tidegate", "tidegate-eu"]
secret_env = "SHARED_SECRET"

[[callers]]
issuer = "corp"
tenant_claim = "tenant"
"#;

/// Callers whose issuer's keys stand in a file.
fn with_file(signers: &[&Signer], more: &str, rows: &str) -> (Callers, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("keys.json"), jwks(signers).to_string()).unwrap();
    let text = format!(
        "[[authentication.issuers]]\nname = \"corp\"\nissuer = \"https://issuer.example\"\naudience = \"tidegate\"\n\
         jwks_file = \"keys.json\"\n{more}\n{rows}"
    );
    (try_build(None, &text, directory.path()).unwrap(), directory)
}

const ROW: &str = "[[callers]]\nissuer = \"corp\"\ntenant_claim = \"tenant\"\n";

fn malformed(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::Malformed(_))
}

#[tokio::test]
async fn each_algorithm_lets_its_own_token_in_twice() {
    in_time(async {
        for signer in [Signer::rsa("r"), Signer::p256("p"), Signer::ed25519("e")] {
            let (callers, _files) = with_file(&[&signer], "", ROW);
            let token = signer.token(&claims());
            for _ in 0..2 {
                let caller = show(&callers, &token).await.unwrap();
                assert_eq!(caller.principal.proof, Proof::Token("corp".into()));
                assert_eq!(who(Ok(caller)), named("acme", "ada"));
            }
        }
        let (callers, _files) = build(SECRET);
        assert_eq!(who(show(&callers, &Signer::secret().token(&claims())).await), named("acme", "ada"));
    })
    .await;
}

#[tokio::test]
async fn claims_decide_whether_a_token_is_taken() {
    let (callers, _files) = build(SECRET);
    let signer = Signer::secret();
    let cases = [
        (json!({"exp": NOW - 59}), Ok(())),
        (json!({"exp": NOW - 60}), Err(Refusal::Expired)),
        (json!({"exp": -5}), Err(Refusal::Expired)),
        (json!({"exp": 1_800_000_000.5}), Ok(())),
        (json!({"nbf": NOW + 60}), Ok(())),
        (json!({"nbf": NOW + 61}), Err(Refusal::NotYetValid)),
        (json!({"aud": "other"}), Err(Refusal::WrongAudience)),
        (json!({"aud": []}), Err(Refusal::WrongAudience)),
        (json!({"aud": ["other", "tidegate-eu"]}), Ok(())),
        (json!({"aud": "Tidegate"}), Err(Refusal::WrongAudience)),
        (json!({"iss": "https://issuer.example/"}), Err(Refusal::WrongIssuer)),
        (json!({"iss": null}), Err(Refusal::WrongIssuer)),
        (json!({"tenant": null}), Err(Refusal::UnusableName)),
        (json!({"tenant": 7}), Err(Refusal::UnusableName)),
        (json!({"tenant": "a/../b"}), Err(Refusal::UnusableName)),
        (json!({"tenant": ""}), Err(Refusal::UnusableName)),
        (json!({"sub": "a b"}), Err(Refusal::UnusableName)),
        (json!({"sub": "x".repeat(129)}), Err(Refusal::UnusableName)),
    ];
    for (change, expected) in cases {
        let token = signer.token(&claims_with(change.clone()));
        // The second time it may come from the cache.
        for _ in 0..2 {
            assert_eq!(show(&callers, &token).await.map(drop), expected, "{change}");
        }
    }
    for change in [
        json!({"exp": null}),
        json!({"exp": "1800000600"}),
        json!({"exp": [NOW]}),
        json!({"exp": true}),
        json!({"nbf": "0"}),
        json!({"nbf": {}}),
        json!({"iat": "0"}),
        json!({"aud": null}),
        json!({"aud": 7}),
        json!({"aud": ["tidegate", 7]}),
        json!({"sub": null}),
        json!({"sub": ""}),
        json!({"sub": 7}),
    ] {
        let refusal = show(&callers, &signer.token(&claims_with(change.clone()))).await.unwrap_err();
        assert!(malformed(&refusal), "{change} {refusal:?}");
    }
    let huge = claims().to_string().replace(&(NOW + 600).to_string(), "1e400");
    let refusal = show(&callers, &signer.sign(&signer.header().to_string(), &huge)).await.unwrap_err();
    assert!(malformed(&refusal), "{refusal:?}");
}

#[tokio::test]
async fn a_claim_that_stands_twice_is_nobody_s() {
    let (callers, _files) = build(SECRET);
    let signer = Signer::secret();
    let twice = claims().to_string().replacen('{', r#"{"tenant":"other","#, 1);
    let refusal = show(&callers, &signer.sign(&signer.header().to_string(), &twice)).await.unwrap_err();
    assert!(malformed(&refusal), "{refusal:?}");
}

#[tokio::test]
async fn the_key_decides_the_algorithm() {
    let (rsa, p256) = (Signer::rsa("r"), Signer::p256("p"));
    let (callers, _files) = with_file(&[&rsa, &p256], "", ROW);
    let payload = claims().to_string();
    // The public key as a shared secret.
    for signer in [&rsa, &p256] {
        let mut header = signer.header();
        header["alg"] = json!("HS256");
        let message = format!("{}.{}", encode(header.to_string()), encode(&payload));
        let token = format!("{message}.{}", encode(hmac_of(&signer.public_bytes(), message.as_bytes())));
        let refusal = show(&callers, &token).await.unwrap_err();
        assert!(malformed(&refusal), "{refusal:?}");
    }
    // One key's id with the other's signature.
    let token = rsa.sign(r#"{"alg":"RS256","kid":"p"}"#, &payload);
    assert!(malformed(&show(&callers, &token).await.unwrap_err()));
    let token = rsa.sign(r#"{"alg":"ES256","kid":"p"}"#, &payload);
    assert_eq!(show(&callers, &token).await, Err(Refusal::BadSignature));
    // No algorithm and no signature.
    let token = format!("{}.{}.", encode(r#"{"alg":"none"}"#), encode(&payload));
    assert!(malformed(&show(&callers, &token).await.unwrap_err()));
    let stranger = Signer::rsa("s");
    assert_eq!(show(&callers, &stranger.token(&claims())).await, Err(Refusal::UnknownSigningKey));
    let impostor = Signer::rsa("r");
    assert_eq!(show(&callers, &impostor.token(&claims())).await, Err(Refusal::BadSignature));
}

#[tokio::test]
async fn the_configuration_narrows_the_algorithms() {
    let (rsa, p256) = (Signer::rsa("r"), Signer::p256("p"));
    let (callers, _files) = with_file(&[&rsa, &p256], "algorithms = [\"ES256\"]", ROW);
    assert!(show(&callers, &p256.token(&claims())).await.is_ok());
    assert_eq!(show(&callers, &rsa.token(&claims())).await, Err(Refusal::UnknownSigningKey));
}

#[tokio::test]
async fn keys_for_other_uses_and_secrets_in_public_documents_are_left_out() {
    let (good, other) = (Signer::p256("p"), Signer::p256("o"));
    let mut encryption = other.jwk();
    encryption["use"] = json!("enc");
    let mut wrapping = other.jwk();
    wrapping["key_ops"] = json!(["wrapKey"]);
    let document = json!({"keys": [
        {"kty": "EC", "crv": "P-521", "kid": "o", "x": "AA", "y": "AA"}, {"kty": "new", "kid": "o"}, 7,
        encryption, wrapping, Signer::secret().jwk(), good.jwk(),
    ]});
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("keys.json"), document.to_string()).unwrap();
    let text = format!("{}{ROW}", SECRET.split("[[callers]]").next().unwrap())
        .replace("secret_env = \"SHARED_SECRET\"", "jwks_file = \"keys.json\"");
    let callers = try_build(None, &text, directory.path()).unwrap();
    assert!(show(&callers, &good.token(&claims())).await.is_ok());
    assert_eq!(show(&callers, &other.token(&claims())).await, Err(Refusal::UnknownSigningKey));
    assert!(show(&callers, &Signer::secret().token(&claims())).await.is_err());
}

#[tokio::test]
async fn a_token_without_key_id_is_tried_with_each_key() {
    let (one, two) = (Signer::p256("1"), Signer::p256("2"));
    let (callers, _files) = with_file(&[&one, &two], "", ROW);
    let token = two.sign(r#"{"alg":"ES256"}"#, &claims().to_string());
    assert_eq!(who(show(&callers, &token).await), named("acme", "ada"));
}

#[tokio::test]
async fn the_first_row_that_fits_decides() {
    let rows = r#"
[[callers]]
issuer = "corp"
claims = { groups = "admins", level = 3, beta = true }
tenant = "ops"
subject_claim = "email"
scopes = ["admin"]

[[callers]]
issuer = "corp"
service_account = "agents/builder"
tenant = "builders"

[[callers]]
issuer = "corp"
claims = { "/kubernetes.io/namespace" = "ci" }
tenant = "ci"
subject = "bot"

[[callers]]
issuer = "corp"
claims = { tenant = "acme" }
tenant_claim = "tenant"
"#;
    let signer = Signer::p256("p");
    let (callers, _files) = with_file(&[&signer], "", rows);
    let admin =
        json!({"groups": ["users", "admins"], "level": 3.0, "beta": true, "email": "ada@example.org"});
    let without = |name: &str| {
        let mut changed = admin.clone();
        changed[name] = Value::Null;
        changed
    };
    let cases = [
        (admin.clone(), named("ops", "ada@example.org")),
        (without("level"), named("acme", "ada")),
        (without("beta"), named("acme", "ada")),
        (without("groups"), named("acme", "ada")),
        (json!({"groups": "admins", "level": "3", "beta": true}), named("acme", "ada")),
        (
            json!({"sub": "system:serviceaccount:agents:builder", "tenant": null}),
            named("builders", "system:serviceaccount:agents:builder"),
        ),
        (
            json!({"sub": "system:serviceaccount:agents:builder2", "tenant": null}),
            Err(Refusal::UnknownCaller),
        ),
        (json!({"kubernetes.io": {"namespace": "ci"}, "tenant": null}), named("ci", "bot")),
        (json!({"tenant": "other"}), Err(Refusal::UnknownCaller)),
    ];
    for (change, expected) in cases {
        let token = signer.token(&claims_with(change.clone()));
        for _ in 0..2 {
            assert_eq!(who(show(&callers, &token).await), expected, "{change}");
        }
    }
    let caller = show(&callers, &signer.token(&claims_with(admin))).await.unwrap();
    assert_eq!(caller.principal.scopes.to_vec(), vec![Box::from("admin")]);
}

#[tokio::test]
async fn a_remembered_token_still_expires() {
    use std::{
        sync::atomic::{AtomicU64, Ordering},
        time::{Duration, SystemTime, UNIX_EPOCH},
    };
    static LATER: AtomicU64 = AtomicU64::new(0);
    fn clock() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(NOW + LATER.load(Ordering::SeqCst))
    }
    let host = tidegate_callers::Host {
        directory: std::path::Path::new("."),
        environment: &|_| Some("a secret that is at least 32 bytes long".to_owned()),
        clock,
    };
    let callers = Callers::build(&toml::from_str(SECRET).unwrap(), &host).unwrap();
    let token = Signer::secret().token(&claims());
    for (later, expected) in [(0, Ok(())), (659, Ok(())), (660, Err(Refusal::Expired)), (0, Ok(()))] {
        LATER.store(later, Ordering::SeqCst);
        assert_eq!(show(&callers, &token).await.map(drop), expected, "{later}");
    }
}

#[tokio::test]
async fn refusals_never_repeat_what_was_shown() {
    let (callers, _files) = build(SECRET);
    let canary = "canaryCanaryCanary";
    for token in [
        Signer::secret().token(&claims_with(json!({"tenant": format!("{canary} x")}))),
        Signer::secret().token(&claims_with(json!({"aud": canary}))),
        format!("tg_{canary}_{canary}"),
        format!("{canary}.{canary}.{canary}"),
    ] {
        let refusal = show(&callers, &token).await.unwrap_err();
        let said = format!("{refusal} {refusal:?} {}", refusal.reason());
        assert!(!said.contains(canary), "{said}");
        assert!(!refusal.is_retryable());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_token_with_any_byte_changed_is_refused(place in any::<prop::sample::Index>(), other in 33u8..127, which in 0..4usize) {
        thread_local! {
            static SIGNERS: [Signer; 4] = [Signer::secret(), Signer::rsa("r"), Signer::p256("p"), Signer::ed25519("e")];
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        SIGNERS.with(|signers| {
            let signer = &signers[which];
            let (callers, _files) = match which {
                0 => build(SECRET),
                _ => with_file(&[signer], "", ROW),
            };
            let token = signer.token(&claims());
            let mut bytes = token.clone().into_bytes();
            let at = place.index(bytes.len());
            prop_assume!(bytes[at] != other);
            bytes[at] = other;
            let changed = String::from_utf8(bytes).unwrap();
            runtime.block_on(async {
                prop_assert!(show(&callers, &token).await.is_ok());
                prop_assert!(show(&callers, &changed).await.is_err(), "{changed}");
                Ok(())
            })
        })?;
    }
}
