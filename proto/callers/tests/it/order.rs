//! Which proof counts when several are shown, and what is passed on.

use std::path::Path;

use http::HeaderName;
use secrecy::ExposeSecret as _;
use serde_json::json;
use tidegate_callers::{Callers, HEADER_DEFAULT, KeysFile, NewKey, Proof, Refusal, Via};

use crate::{
    signer::{Signer, claims, claims_with},
    support::{ask, build, certificate, named, now, try_build, who},
};

const ALL: &str = r#"
[authentication]
anonymous = true
keys_file = "keys.toml"

[[authentication.issuers]]
name = "corp"
issuer = "https://issuer.example"
audience = "tidegate"
secret_env = "SHARED_SECRET"

[[callers]]
issuer = "corp"
tenant = "by-token"

[[callers]]
spiffe = "spiffe://example.org/ns/agents/*"
tenant = "by-certificate"
"#;

fn key(directory: &Path, tenant: &str) -> String {
    let new = NewKey { tenant: tenant.to_owned(), subject: "ci".to_owned(), ..NewKey::default() };
    let created = KeysFile::at(directory.join("keys.toml")).create(new, now()).unwrap();
    created.key.expose_secret().to_owned()
}

struct World {
    callers: Callers,
    key: String,
    token: String,
    _files: tempfile::TempDir,
}

fn world() -> World {
    let files = tempfile::tempdir().unwrap();
    let key = format!("Bearer {}", key(files.path(), "by-key"));
    let callers = try_build(None, ALL, files.path()).unwrap();
    let token = format!("Bearer {}", Signer::secret().token(&claims()));
    World { callers, key, token, _files: files }
}

/// A login of another service, as clients carry it.
fn foreign() -> String {
    format!("Bearer {}", Signer::secret().token(&claims_with(json!({"iss": "https://auth.example.com"}))))
}

#[tokio::test]
async fn the_separate_header_comes_first_and_the_rest_is_passed_on_if_it_is_not_ours() {
    let world = world();
    let foreign = foreign();
    let cases = [
        (vec![(HEADER_DEFAULT, world.key.as_str())], false),
        (vec![(HEADER_DEFAULT, &world.key), ("authorization", &foreign)], true),
        (vec![(HEADER_DEFAULT, &world.key), ("authorization", "Bearer sk-other")], true),
        (vec![(HEADER_DEFAULT, &world.key), ("authorization", "Basic eDp5")], true),
        (vec![(HEADER_DEFAULT, &world.key), ("authorization", &world.token)], false),
        (vec![(HEADER_DEFAULT, &world.key), ("authorization", &world.key)], false),
        (vec![(HEADER_DEFAULT, &world.key), ("authorization", "bearer   tg_nonsense")], false),
    ];
    for (headers, passes) in cases {
        let agent = certificate(&["spiffe://example.org/ns/agents/x"]);
        let caller = ask(&world.callers, &headers, Some(&agent), true).await.unwrap();
        assert_eq!(caller.via, Via::Header(HeaderName::from_static(HEADER_DEFAULT)));
        assert_eq!(
            (&*caller.principal.tenant, caller.foreign_authorization),
            ("by-key", passes),
            "{headers:?}"
        );
    }
}

#[tokio::test]
async fn then_authorization_then_the_certificate_then_the_desk() {
    let world = world();
    let agent = certificate(&["spiffe://example.org/ns/agents/x"]);
    let foreign = foreign();
    let World { callers, key, token, .. } = &world;
    for value in [key, token] {
        let caller = ask(callers, &[("authorization", value)], Some(&agent), true).await.unwrap();
        assert_eq!((caller.via, caller.foreign_authorization), (Via::Authorization, false));
    }
    for value in [&foreign, "Bearer sk-other", "Basic eDp5"] {
        let caller = ask(callers, &[("authorization", value)], Some(&agent), true).await.unwrap();
        assert_eq!((&caller.via, caller.foreign_authorization), (&Via::Certificate, true));
        assert_eq!(caller.principal.proof, Proof::Certificate("spiffe://example.org/ns/agents/x".into()));
        assert_eq!(who(Ok(caller)), named("by-certificate", "ns/agents/x"));
        let caller = ask(callers, &[("authorization", value)], None, true).await.unwrap();
        assert_eq!((caller.via, caller.foreign_authorization), (Via::Nobody, true));
    }
    let caller = ask(callers, &[], None, true).await.unwrap();
    assert_eq!((&caller.via, &caller.principal.proof), (&Via::Nobody, &Proof::Desk));
    assert_eq!(who(Ok(caller)), named("local", "local"));
}

#[tokio::test]
async fn what_is_ours_and_wrong_is_refused_and_never_anonymous() {
    let world = world();
    let agent = certificate(&["spiffe://example.org/ns/agents/x"]);
    let mut wrong = world.key.clone();
    wrong.replace_range(wrong.len() - 1.., if wrong.ends_with('0') { "1" } else { "0" });
    let late = format!("Bearer {}", Signer::secret().token(&claims_with(json!({"exp": 1}))));
    let cases = [
        (vec![("authorization", wrong.as_str())], Refusal::UnknownKey),
        (vec![("authorization", "Bearer tg_")], Refusal::UnknownKey),
        (vec![("authorization", "Bearer tg_x, Bearer sk-other")], Refusal::UnknownKey),
        (vec![("authorization", &late)], Refusal::Expired),
        (vec![(HEADER_DEFAULT, &wrong), ("authorization", &world.key)], Refusal::UnknownKey),
    ];
    for (headers, refusal) in cases {
        let refused = ask(&world.callers, &headers, Some(&agent), true).await;
        assert_eq!(refused.map(drop), Err(refusal), "{headers:?}");
    }
    let foreign = foreign();
    assert_eq!(
        ask(&world.callers, &[(HEADER_DEFAULT, &foreign)], None, true).await.map(drop),
        Err(Refusal::WrongIssuer)
    );
    for headers in [
        vec![(HEADER_DEFAULT, "Bearer sk-other")],
        vec![(HEADER_DEFAULT, "tg_no_scheme")],
        vec![(HEADER_DEFAULT, "Bearer")],
        vec![(HEADER_DEFAULT, &world.key), (HEADER_DEFAULT, &world.key)],
        vec![("authorization", &world.key), ("authorization", "Bearer sk-other")],
    ] {
        let refused = ask(&world.callers, &headers, Some(&agent), true).await.unwrap_err();
        assert_eq!(refused.reason(), "credential_malformed", "{headers:?} {refused:?}");
    }
    for value in ["tg_no_scheme", "Bearer"] {
        let refused = ask(&world.callers, &[(HEADER_DEFAULT, value)], Some(&agent), true).await.unwrap_err();
        let told = refused.to_string();
        assert!(
            told.ends_with("the header `x-tidegate-authorization` does not read `Bearer <token>`"),
            "{told}"
        );
    }
}

#[tokio::test]
async fn a_certificate_that_names_nobody_here_is_refused() {
    let World { callers, _files, .. } = world();
    for (uris, refusal) in [
        (&["spiffe://example.org/ns/other/x"][..], Refusal::UnknownCaller),
        (&["spiffe://example.com/ns/agents/x"], Refusal::UnknownCaller),
        (&[], Refusal::CertificateUnacceptable),
        (
            &["spiffe://example.org/ns/agents/x", "spiffe://example.org/ns/agents/y"],
            Refusal::CertificateUnacceptable,
        ),
        (&["spiffe://example.org/ns/agents/x", "https://example.org/"], Refusal::CertificateUnacceptable),
        (&["spiffe://example.org/ns/agents/*"], Refusal::CertificateUnacceptable),
    ] {
        let refused = ask(&callers, &[], Some(&certificate(uris)), true).await;
        assert_eq!(refused.map(drop), Err(refusal), "{uris:?}");
    }
}

#[tokio::test]
async fn the_first_row_that_fits_a_certificate_or_a_key_decides() {
    let files = tempfile::tempdir().unwrap();
    let key = format!("Bearer {}", key(files.path(), "by-file"));
    let id = KeysFile::at(files.path().join("keys.toml")).list().unwrap().remove(0).id;
    let row = |what: &str, tenant: &str| format!("[[callers]]\n{what}\ntenant = \"{tenant}\"\n");
    let spiffe = |pattern: &str| format!("spiffe = \"spiffe://example.org/{pattern}\"");
    let rows = [
        row(&spiffe("ns/agents/x"), "one-agent"),
        row(&spiffe("ns/agents/*"), "agents"),
        row(&spiffe("ns/agents/y"), "too-late"),
        row(&spiffe("*"), "everybody"),
        row(&format!("key = \"{id}\""), "first"),
        row(&format!("key = \"{id}\""), "second"),
    ];
    let text = format!("[authentication]\nkeys_file = \"keys.toml\"\n{}", rows.concat());
    let callers = try_build(None, &text, files.path()).unwrap();
    for (path, tenant) in [
        ("ns/agents/x", "one-agent"),
        ("ns/agents/y", "agents"),
        ("ns/agents/x/y", "agents"),
        ("ns/agents", "everybody"),
        ("ns/agentsx", "everybody"),
    ] {
        let agent = certificate(&[&format!("spiffe://example.org/{path}")]);
        assert_eq!(who(ask(&callers, &[], Some(&agent), false).await), named(tenant, path), "{path}");
    }
    assert_eq!(who(ask(&callers, &[("authorization", &key)], None, false).await), named("first", &id));
}

#[tokio::test]
async fn the_desk_is_only_for_its_own_listeners_and_only_if_nobody_else_is_known() {
    let (desk, _files) = build("");
    assert!(desk.admits_anonymous() && !desk.knows_credentials());
    assert!(ask(&desk, &[("authorization", "Bearer dummy")], None, true).await.is_ok());
    assert_eq!(ask(&desk, &[], None, false).await.map(drop), Err(Refusal::Missing));
    assert_eq!(
        ask(&desk, &[("authorization", "Bearer tg_x")], None, true).await.map(drop),
        Err(Refusal::UnknownKey)
    );
    let known = "[[callers]]\nspiffe = \"spiffe://example.org/a\"\ntenant = \"acme\"\n";
    let (door, _files) = build(known);
    assert!(!door.admits_anonymous() && door.knows_credentials() && door.knows_certificates());
    assert_eq!(ask(&door, &[], None, true).await.map(drop), Err(Refusal::Missing));
    let (closed, _files) = build("[authentication]\nanonymous = false\n");
    assert_eq!(
        ask(&closed, &[("authorization", "Bearer dummy")], None, true).await.map(drop),
        Err(Refusal::Missing)
    );
}
