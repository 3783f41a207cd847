//! What a configuration may say of the way to a provider, and in which words the rest is refused.

use std::path::Path;
use std::pin::pin;

use futures_util::future::select;
use gateway_providers::SendError;
use gateway_testkit::{ConnectProxy, Reply, TlsOptions, Upstream};
use rcgen::{CertificateParams, KeyPair};

use crate::harness::{build, in_time, provider, send};

/// A password that no message may hold.
const PASSWORD: &str = "hunter2-canary";
/// It and its user, as a proxy gets them.
const BASIC: &str = "Basic dXNlcjpodW50ZXIyLWNhbmFyeQ==";

/// A directory with certificates, keys and what is none.
fn files() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &str| std::fs::write(directory.path().join(name), content).unwrap();
    let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let certificate =
        CertificateParams::new(["gateway.example".to_owned()]).unwrap().self_signed(&key).unwrap();
    write("certificate.pem", &certificate.pem());
    write("bundle.pem", &format!("# two of them\n{0}\n{0}", certificate.pem()));
    write("key.pem", &key.serialize_pem());
    write("other-key.pem", &other.serialize_pem());
    write("empty.pem", "");
    write("text.pem", "not a certificate");
    write("broken.pem", "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n");
    write("odd.pem", "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n");
    write("large.pem", &"x".repeat(4 * 1024 * 1024 + 1));
    directory
}

/// All problems of a provider with these keys; `DIR` stands for the directory.
fn problems(directory: &Path, scheme: &str, keys: &str) -> String {
    let at = directory.to_str().unwrap();
    let text =
        format!("[model_providers.up]\nbase_url = \"{scheme}://host/v1\"\n{}", keys.replace("DIR", at));
    let lines = match build(&text) {
        Ok(_) => "fine\n".to_owned(),
        Err(problems) => {
            problems.iter().map(|it| format!("{} | {} | {}\n", it.key, it.message, it.fix)).collect()
        }
    };
    lines.replace(at, "DIR")
}

#[test]
fn each_of_these_is_refused_with_the_key_and_the_fix() {
    let directory = files();
    let identity = |certificate: &str, key: &str| {
        format!("client_certificate_file = \"DIR/{certificate}\"\nclient_key_file = \"DIR/{key}\"")
    };
    let proxy = |rest: &str| format!("proxy = \"http://user:{PASSWORD}@proxy{rest}\"");
    let cases = [
        ("https", "ca_file = \"DIR/absent.pem\"".to_owned()),
        ("https", "ca_file = \"DIR\"".to_owned()),
        ("https", "ca_file = \"DIR/empty.pem\"".to_owned()),
        ("https", "ca_file = \"DIR/text.pem\"".to_owned()),
        ("https", "ca_file = \"DIR/broken.pem\"".to_owned()),
        ("https", "ca_file = \"DIR/odd.pem\"".to_owned()),
        ("https", "ca_file = \"DIR/key.pem\"".to_owned()),
        ("https", "ca_file = \"DIR/large.pem\"".to_owned()),
        ("http", "ca_file = \"DIR/bundle.pem\"".to_owned()),
        ("https", "client_certificate_file = \"DIR/certificate.pem\"".to_owned()),
        ("https", "client_key_file = \"DIR/key.pem\"".to_owned()),
        ("https", identity("certificate.pem", "other-key.pem")),
        ("https", identity("certificate.pem", "certificate.pem")),
        ("https", identity("key.pem", "key.pem")),
        ("https", identity("odd.pem", "key.pem")),
        ("https", identity("absent.pem", "absent.pem")),
        ("http", identity("certificate.pem", "key.pem")),
        ("https", "proxy = \"proxy:3128\"".to_owned()),
        ("https", "proxy = \"socks5://proxy:1080\"".to_owned()),
        ("https", proxy(":3128/path")),
        ("https", proxy(":99999")),
        ("https", "no_proxy = [\"localhost\"]".to_owned()),
        (
            "https",
            proxy(
                "\"\nno_proxy = [\"a,b\", \"10.1\", \"http://a\", \"ok.example\", \"*:1\", \"http://user:hunter2-canary@a\"]#",
            ),
        ),
    ];
    let told: String = cases
        .iter()
        .map(|(scheme, keys)| format!("{}\n", problems(directory.path(), scheme, keys)))
        .collect();
    assert!(!told.contains(PASSWORD) && !told.contains("fine"), "{told}");
    insta::assert_snapshot!(told);
}

#[test]
fn these_are_taken() {
    let directory = files();
    for (scheme, keys) in [
        ("https", "ca_file = \"DIR/bundle.pem\""),
        ("https", "client_certificate_file = \"DIR/certificate.pem\"\nclient_key_file = \"DIR/key.pem\""),
        ("https", "proxy = \"http://user:hunter2-canary@proxy:3128\"\nno_proxy = [\"*\"]"),
        ("http", "proxy = \"http://proxy\"\nno_proxy = [\".corp.example\", \"10.0.0.0/8\", \"[::1]:80\"]"),
        ("http", "proxy = \"https://proxy\"\nca_file = \"DIR/bundle.pem\""),
    ] {
        assert_eq!(problems(directory.path(), scheme, keys), "fine\n", "{keys}");
    }
}

/// Each key is of consequence for the connection, and each side is told what it is meant to be told.
#[tokio::test]
async fn what_is_configured_is_what_the_connection_is_made_with() {
    let upstream = Upstream::start_tls(&TlsOptions::new().require_client_certificate()).await.unwrap();
    upstream.set_default(Reply::json(200, &serde_json::json!({})));
    let proxy = ConnectProxy::start().await.unwrap();
    proxy.require_authorization(BASIC);
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path().to_str().unwrap();
    let tls = upstream.tls().unwrap();
    let client = tls.client("gateway").unwrap();
    for (name, text) in
        [("ca", tls.authority_pem()), ("certificate", client.certificate_pem), ("key", client.key_pem)]
    {
        std::fs::write(directory.path().join(format!("{name}.pem")), text).unwrap();
    }
    let authority = format!("ca_file = \"{at}/ca.pem\"\n");
    let identity =
        format!("client_certificate_file = \"{at}/certificate.pem\"\nclient_key_file = \"{at}/key.pem\"\n");
    let through = format!("proxy = \"http://user:{PASSWORD}@{}\"\n", proxy.address());
    let base_url = format!("https://localhost:{}/v1", upstream.address().port());
    let up = |keys: &[&str]| provider(&base_url, &format!("env_key = \"TEST_KEY\"\n{}", keys.concat()));
    for (keys, tunnels) in [
        (vec![&*authority, &identity], 0),
        (vec![&*authority, &identity, &through], 1),
        (vec![&*authority, &identity, &through, "no_proxy = [\"localhost\"]\n"], 0),
    ] {
        let before = proxy.connections();
        assert_eq!(send(&up(&keys)).await.unwrap().status, 200, "{keys:?}");
        assert_eq!(proxy.connections() - before, tunnels, "{keys:?}");
    }
    for keys in [[&*authority, &*through], [&identity, &through]] {
        let error = send(&up(&keys)).await.unwrap_err();
        assert!(matches!(error, SendError::Tls { .. }), "{keys:?}: {error:?}");
    }
    for tunnel in proxy.tunnels() {
        assert_eq!(tunnel.headers, ["host", "proxy-authorization"]);
    }
    let seen = upstream.requests();
    assert_eq!(seen.len(), 3);
    for request in seen {
        assert!(request.header("authorization").is_some());
        assert_eq!(request.header("proxy-authorization"), None);
    }
    assert_eq!(upstream.tls_counts().by_subject["gateway"], 3);
}

#[tokio::test]
async fn a_first_call_finds_its_connection_and_a_provider_out_of_reach_stops_nothing() {
    let upstream = Upstream::start().await.unwrap();
    upstream.set_default(Reply::json(200, &serde_json::json!({})));
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let base_url = upstream.base_url();
    let providers = build(&format!(
        "model_provider = \"up\"\n[model_providers.gone]\nbase_url = \"http://{closed}\"\n
         [model_providers.up]\nbase_url = {base_url:?}"
    ));
    let providers = providers.unwrap();
    let connected = async {
        while upstream.connections() == 0 {
            tokio::task::yield_now().await;
        }
    };
    in_time(select(pin!(providers.prewarm()), pin!(connected))).await;
    assert_eq!((upstream.connections(), upstream.all_requests().len()), (1, 0), "nothing was asked yet");
    let routed = providers.route("any", None).unwrap();
    send(&routed.upstream).await.unwrap();
    assert_eq!((upstream.connections(), upstream.all_requests().len()), (1, 1));
    upstream.shutdown().await;
}
