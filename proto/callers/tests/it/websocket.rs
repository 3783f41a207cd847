//! Codex's own ways to let WebSocket clients in. The answers are those that codex app-server 0.169.0 was seen to give.

use std::path::Path;

use serde_json::{Value, json};
use tidegate_callers::{Callers, CallersConfig, Host, Problem, SignedBearer, Via, WebSocketAuth};

use crate::{
    signer::{Signer, claims, claims_with, encode},
    support::{NOW, ask, named, now, who},
};

fn build(auth: &WebSocketAuth, tables: &str) -> Result<Callers, Vec<Problem>> {
    let config: CallersConfig = toml::from_str(tables).unwrap();
    let host = Host { directory: Path::new(""), environment: &|_| Some("x".repeat(40)), clock: now };
    Callers::build_with(Some(auth), &config, &host)
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

/// What a caller is told who shows this `Authorization`, if it is not let in.
async fn refusal(callers: &Callers, authorization: Option<&str>) -> String {
    let headers: Vec<_> = authorization.map(|value| ("authorization", value)).into_iter().collect();
    ask(callers, &headers, None, true).await.err().map(|refusal| refusal.to_string()).unwrap_or_default()
}

#[tokio::test]
async fn one_token_for_all() {
    let file = file(" tok-1 \n");
    let digest = "82c3abe8a3d2bd5faca8ffa1d9f0a8cd12e7b9a93b97bb47bb5cf9e0b27f31d8";
    let from_file = WebSocketAuth::token_file(file.path()).unwrap();
    let callers = build(&from_file, "").unwrap();
    for (shown, expected) in [
        (None, "missing websocket bearer token"),
        (Some("Bearer x"), "invalid websocket bearer token"),
        (Some("Bearer tok-1x"), "invalid websocket bearer token"),
        (Some("Basic x"), "invalid authorization header"),
        (Some("Bearer"), "invalid authorization header"),
        (Some("Bearer\ttok-1"), "invalid authorization header"),
        (Some("Bearer tok-1"), ""),
        (Some("bearer  tok-1"), ""),
    ] {
        assert_eq!(refusal(&callers, shown).await, expected, "{shown:?}");
    }
    let other = build(&WebSocketAuth::token_sha256(digest).unwrap(), "").unwrap();
    assert_eq!(refusal(&other, Some("Bearer tok-1")).await, "invalid websocket bearer token");
    assert!(callers.knows_credentials() && !callers.admits_anonymous());
}

#[tokio::test]
async fn a_digest_stands_for_its_token() {
    let digest = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    for digest in [digest.to_owned(), digest.to_uppercase()] {
        let callers = build(&WebSocketAuth::token_sha256(&digest).unwrap(), "").unwrap();
        assert_eq!(refusal(&callers, Some("Bearer hello")).await, "");
    }
    for bad in ["", "zz", &digest[1..], &format!("{digest}00"), &digest.replace('2', "+"), &"é".repeat(32)] {
        assert!(WebSocketAuth::token_sha256(bad).is_err(), "{bad}");
    }
}

#[test]
fn files_that_cannot_be_used_are_told() {
    let told = |file: &Path| WebSocketAuth::token_file(file).unwrap_err().to_string();
    assert!(told(Path::new("/nonexistent")).starts_with("failed to read websocket auth secret /nonexistent"));
    assert!(told(file(" \n").path()).ends_with("must not be empty"));
    assert!(told(file(&"x".repeat((64 << 10) + 1)).path()).ends_with("must not be over 64 KiB"));
    let short = WebSocketAuth::shared_secret_file(file(&"x".repeat(31)).path(), SignedBearer::default());
    assert!(short.unwrap_err().to_string().ends_with("must be at least 32 bytes"));
}

fn signed(expected: SignedBearer) -> WebSocketAuth {
    let Signer::Secret(secret) = Signer::secret() else { unreachable!() };
    WebSocketAuth::shared_secret_file(file(&format!("{secret}\n")).path(), expected).unwrap()
}

fn expected() -> SignedBearer {
    SignedBearer {
        issuer: Some("https://issuer.example".to_owned()),
        audience: Some("tidegate".to_owned()),
        max_clock_skew_seconds: None,
    }
}

#[tokio::test]
async fn signed_tokens_are_judged_as_codex_does() {
    let callers = build(&signed(expected()), "").unwrap();
    let (invalid, expired) = ("invalid websocket jwt", "expired websocket jwt");
    let (issuer, audience) = ("websocket jwt issuer mismatch", "websocket jwt audience mismatch");
    let early = "websocket jwt is not valid yet";
    let table: [(Value, &str); 22] = [
        (json!({}), ""),
        (json!({"aud": ["x", "tidegate"], "sub": null, "iat": NOW + 9999}), ""),
        (json!({"exp": NOW - 30}), ""),
        (json!({"exp": NOW - 31}), expired),
        (json!({"nbf": NOW + 30}), ""),
        (json!({"nbf": NOW + 31}), early),
        (json!({"exp": null}), invalid),
        (json!({"exp": "soon"}), invalid),
        (json!({"exp": 9.5e9}), invalid),
        (json!({"nbf": "soon"}), invalid),
        (json!({"aud": 5}), invalid),
        (json!({"aud": [5]}), invalid),
        (json!({"iss": 5}), invalid),
        (json!({"iss": "x"}), issuer),
        (json!({"iss": null}), issuer),
        (json!({"aud": "x"}), audience),
        (json!({"aud": null}), audience),
        (json!({"aud": []}), audience),
        (json!({"exp": NOW - 99, "iss": "x", "aud": "x"}), expired),
        (json!({"nbf": NOW + 99, "iss": "x"}), early),
        (json!({"iss": "x", "aud": "x"}), issuer),
        (json!({"exp": i64::MAX}), ""),
    ];
    for (changes, expected) in table {
        let token = Signer::secret().token(&claims_with(changes.clone()));
        assert_eq!(refusal(&callers, Some(&format!("Bearer {token}"))).await, expected, "{changes}");
    }
    let payload = claims().to_string();
    let other = Signer::Secret("x".repeat(32)).token(&claims());
    let wrong = [
        "x".to_owned(),
        other,
        Signer::secret().sign(r#"{"alg":"HS512"}"#, &payload),
        Signer::secret().sign(r#"{"alg":"RS256"}"#, &payload),
        Signer::secret().sign(r#"{"alg":"HS256","crit":["x"]}"#, &payload),
        format!("{}.{}.", encode(r#"{"alg":"none"}"#), encode(&payload)),
        Signer::rsa("a").token(&claims()),
    ];
    for token in wrong {
        assert_eq!(refusal(&callers, Some(&format!("Bearer {token}"))).await, invalid, "{token}");
    }
    assert_eq!(refusal(&callers, None).await, "missing websocket bearer token");
}

#[tokio::test]
async fn what_is_not_expected_is_not_looked_at() {
    let lenient = SignedBearer { max_clock_skew_seconds: Some(0), ..SignedBearer::default() };
    let callers = build(&signed(lenient), "").unwrap();
    for (changes, expected) in [
        (json!({"iss": "anybody", "aud": ["any"]}), ""),
        (json!({"iss": null, "aud": null}), ""),
        (json!({"exp": NOW - 1}), "expired websocket jwt"),
        (json!({"exp": NOW}), ""),
    ] {
        let token = Signer::secret().token(&claims_with(changes));
        assert_eq!(refusal(&callers, Some(&format!("Bearer {token}"))).await, expected);
    }
}

#[tokio::test]
async fn rows_say_whom_they_stand_for() {
    let bearer = |changes| format!("Bearer {}", Signer::secret().token(&claims_with(changes)));
    let show = async |callers: &Callers, value: &str| {
        who(ask(callers, &[("authorization", value)], None, false).await)
    };
    let desk = build(&signed(expected()), "").unwrap();
    assert_eq!(show(&desk, &bearer(json!({}))).await, named("local", "local"));

    let rows = "[[callers]]\nissuer = \"ws-auth\"\nclaims = { group = \"ops\" }\ntenant = \"ops\"\n\
                [[callers]]\nissuer = \"ws-auth\"\ntenant_claim = \"tenant\"\n";
    let callers = build(&signed(expected()), rows).unwrap();
    assert_eq!(show(&callers, &bearer(json!({}))).await, named("acme", "ada"));
    assert_eq!(show(&callers, &bearer(json!({"group": "ops"}))).await, named("ops", "ada"));
    assert_eq!(show(&callers, &bearer(json!({"sub": null}))).await, named("acme", "ws-auth"));
    show(&callers, &bearer(json!({"tenant": "../x"}))).await.unwrap_err();

    let token = WebSocketAuth::token_file(file("tok").path()).unwrap();
    let row = "[[callers]]\nissuer = \"ws-auth\"\ntenant = \"acme\"\nsubject = \"shared\"\n";
    assert_eq!(show(&build(&token, row).unwrap(), "Bearer tok").await, named("acme", "shared"));

    let others = "[[callers]]\nspiffe = \"spiffe://example.org/a\"\ntenant = \"acme\"\n";
    let problems = build(&token, others).unwrap_err();
    assert!(problems[0].fix.contains("issuer = \"ws-auth\""), "{problems:?}");
    let taken = "[[authentication.issuers]]\nname = \"ws-auth\"\nissuer = \"i\"\naudience = \"a\"\nsecret_env = \"S\"\n";
    assert!(build(&token, taken).unwrap_err()[0].message.contains("`ws-auth`"));
    let unknown: CallersConfig = toml::from_str(row).unwrap();
    let host = Host { directory: Path::new(""), environment: &|_| None, clock: now };
    assert!(Callers::build(&unknown, &host).is_err(), "a gateway knows nobody of that name");
    let without = Callers::build_with(None, &unknown, &host).unwrap();
    assert!(!without.knows_credentials() && !without.admits_anonymous());
}

#[tokio::test]
async fn issuers_and_the_desk_go_on_beside_them() {
    let tables = "[authentication]\nanonymous = true\n\
        [[authentication.issuers]]\nname = \"corp\"\nissuer = \"https://issuer.example\"\naudience = \"tidegate\"\n\
        secret_env = \"S\"\n[[callers]]\nissuer = \"corp\"\ntenant = \"by-issuer\"\n\
        [[callers]]\nissuer = \"ws-auth\"\ntenant = \"by-flag\"\n";
    let token = WebSocketAuth::token_file(file("tok").path()).unwrap();
    let callers = build(&token, tables).unwrap();
    let jwt = format!("Bearer {}", Signer::Secret("x".repeat(40)).token(&claims()));
    for (shown, tenant) in [(jwt.as_str(), "by-issuer"), ("Bearer tok", "by-flag")] {
        let caller = ask(&callers, &[("authorization", shown)], None, true).await.unwrap();
        assert_eq!((&*caller.principal.tenant, caller.via), (tenant, Via::Authorization));
    }
    // Nothing is not a wrong token where the operator lets nobody in particular in.
    assert_eq!(ask(&callers, &[], None, true).await.unwrap().via, Via::Nobody);
    assert_eq!(refusal(&callers, Some("Bearer no")).await, "invalid websocket bearer token");
    assert!(ask(&callers, &[], None, false).await.is_err());
}
