//! What is said of tables that cannot be used.

use std::{path::Path, time::SystemTime};

use super::*;

fn problems(text: &str) -> String {
    let config: CallersConfig = toml::from_str(text).unwrap();
    let host = Host {
        directory: Path::new("no-such-directory"),
        environment: &|name| (name == "SHORT").then(|| "short".to_owned()),
        clock: SystemTime::now,
    };
    let Err(problems) = check(&config, Flags::Foreign, &host, &[]) else { return "none".to_owned() };
    let lines = problems.iter().map(|Problem { key, message, fix }| format!("`{key}` {message}; {fix}\n"));
    lines.collect()
}

#[test]
fn rows_that_cannot_be_used_are_told_all_at_once() {
    insta::assert_snapshot!(
        "rows",
        problems(
            r#"
[[callers]]
tenant = "acme"
[[callers]]
key = "abc"
spiffe = "spiffe://example.org/a"
tenant = "acme"
[[callers]]
key = "abc"
tenant_claim = "org"
[[callers]]
spiffe = "spiffe://*/a"
tenant = "a/b"
subject = "*"
scopes = ["a b"]
[[callers]]
issuer = "nobody"
[[callers]]
issuer = "nobody"
tenant = "acme"
tenant_claim = "org"
subject = "x"
subject_claim = "sub"
service_account = "builder"
claims = { groups = ["a"] }
"#
        )
    );
}

#[test]
fn issuers_that_cannot_be_used_are_told_all_at_once() {
    insta::assert_snapshot!(
        "issuers",
        problems(
            r#"
[authentication]
header = "Authorization"
keys_file = "keys.toml"
[[authentication.issuers]]
name = ""
issuer = "https://a.example"
audience = []
[[authentication.issuers]]
name = "two"
issuer = "https://a.example"
audience = "x"
discovery = true
jwks_url = "https://a.example/keys"
[[authentication.issuers]]
name = "plain"
issuer = "http://b.example"
audience = "x"
discovery = true
[[authentication.issuers]]
name = "userinfo"
issuer = "c"
audience = "x"
jwks_url = "https://user:secret@c.example/keys"
[[authentication.issuers]]
name = "file"
issuer = "d"
audience = "x"
jwks_file = "keys.json"
ca_file = "ca.pem"
[[authentication.issuers]]
name = "short"
issuer = "e"
audience = "x"
secret_env = "SHORT"
[[authentication.issuers]]
name = "unset"
issuer = "f"
audience = "x"
secret_env = "UNSET"
[[authentication.issuers]]
name = "algorithms"
issuer = "g"
audience = "x"
jwks_url = "https://g.example/keys"
algorithms = ["HS256"]
[[authentication.issuers]]
name = "authority"
issuer = "h"
audience = "x"
jwks_url = "https://h.example/keys"
ca_file = "ca.pem"
"#
        )
    );
}

#[test]
fn nothing_configured_is_a_desk() {
    assert_eq!(problems(""), "none");
}

#[test]
fn a_header_s_name_is_checked() {
    assert!(problems("[authentication]\nheader = \"a b\"\n").contains("is not the name of a header"));
}
