//! The upstream over TLS: what clients have to trust and to show, and which protocol they get.

use std::io;
use std::sync::Arc;

use futures_util::StreamExt;
use gateway_testkit::{Bedrock, Identity, Reply, SocketScript, Tls, TlsOptions, Upstream};
use http::StatusCode;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::client::within_deadline;

fn config(tls: &Tls, protocols: &[&str], identity: Option<Identity>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(tls.authority_pem().as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match identity {
        Some(identity) => {
            let chain = vec![CertificateDer::from_pem_slice(identity.certificate_pem.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).unwrap();
            config.with_client_auth_cert(chain, key).unwrap()
        }
        None => config.with_no_client_auth(),
    };
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    config
}

async fn connect(upstream: &Upstream, name: &str, config: ClientConfig) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(upstream.address()).await?;
    let name = name.to_owned().try_into().unwrap();
    Box::pin(TlsConnector::from(Arc::new(config)).connect(name, stream)).await
}

/// One HTTP/1.1 call; the head of its answer.
async fn call(stream: &mut TlsStream<TcpStream>) -> io::Result<String> {
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await?;
    let mut answer = Vec::new();
    // The server ends the connection without a farewell of TLS.
    match stream.read_to_end(&mut answer).await {
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Err(error),
        _ => Ok(String::from_utf8(answer).unwrap()),
    }
}

fn healthy(upstream: &Upstream) {
    upstream.route(http::Method::GET, "/healthz", Reply::bytes(StatusCode::OK, "text/plain", "well"));
}

#[tokio::test]
async fn protocols_are_agreed_on() {
    within_deadline(async {
        for (options, offered, agreed) in [
            (TlsOptions::new(), &["h2", "http/1.1"][..], "h2"),
            (TlsOptions::new(), &["http/1.1"], "http/1.1"),
            (TlsOptions::new(), &[], ""),
            (TlsOptions::new().only_http1(), &["h2", "http/1.1"], "http/1.1"),
        ] {
            let upstream = Upstream::start_tls(&options).await.unwrap();
            healthy(&upstream);
            assert!(upstream.base_url().starts_with("https://127.0.0.1:"));
            let config = config(upstream.tls().unwrap(), offered, None);
            let mut stream = connect(&upstream, "127.0.0.1", config).await.unwrap();
            assert_eq!(stream.get_ref().1.alpn_protocol().unwrap_or_default(), agreed.as_bytes());
            if agreed != "h2" {
                assert!(call(&mut stream).await.unwrap().ends_with("well"));
            }
            let counts = upstream.wait_tls(|counts| !counts.by_protocol.is_empty()).await.unwrap();
            assert_eq!((counts.by_protocol[agreed], counts.by_subject[""], counts.failed), (1, 1, 0));
        }
    })
    .await;
}

#[tokio::test]
async fn only_its_own_authority_and_names_are_trusted() {
    within_deadline(async {
        let upstream = Upstream::start_tls(&TlsOptions::new().name("model.example")).await.unwrap();
        let other = Upstream::start_tls(&TlsOptions::new()).await.unwrap();
        for name in ["localhost", "127.0.0.1", "model.example"] {
            connect(&upstream, name, config(upstream.tls().unwrap(), &[], None)).await.unwrap();
        }
        for (name, tls) in [("elsewhere.example", upstream.tls()), ("localhost", other.tls())] {
            assert!(connect(&upstream, name, config(tls.unwrap(), &[], None)).await.is_err());
        }
        let counts = upstream.wait_tls(|counts| counts.failed == 2).await.unwrap();
        assert_eq!(counts.by_protocol[""], 3);
        assert!(Upstream::start().await.unwrap().tls().is_none());
    })
    .await;
}

#[tokio::test]
async fn clients_show_a_certificate_where_one_is_asked_for() {
    within_deadline(async {
        let options = TlsOptions::new().require_client_certificate();
        let (upstream, other) = (Upstream::start_tls(&options).await, Upstream::start_tls(&options).await);
        let (upstream, other) = (upstream.unwrap(), other.unwrap());
        healthy(&upstream);
        let tls = upstream.tls().unwrap();
        for subject in ["gateway-a", "gateway-b"] {
            let identity = tls.client(subject).unwrap();
            let mut stream = connect(&upstream, "localhost", config(tls, &[], Some(identity))).await.unwrap();
            assert!(call(&mut stream).await.unwrap().ends_with("well"));
        }
        let foreign = other.tls().unwrap().client("gateway-a").unwrap();
        for identity in [None, Some(foreign)] {
            // With TLS 1.3 a client learns of the refusal when it reads.
            let refused = match connect(&upstream, "localhost", config(tls, &[], identity)).await {
                Ok(mut stream) => call(&mut stream).await.map(drop),
                Err(error) => Err(error),
            };
            assert!(refused.is_err());
        }
        let counts = upstream.wait_tls(|counts| counts.failed == 2).await.unwrap();
        assert_eq!((counts.by_subject["gateway-a"], counts.by_subject["gateway-b"]), (1, 1));
        assert_eq!((counts.by_subject.len(), upstream.all_requests().len()), (2, 2));
    })
    .await;
}

#[tokio::test]
async fn sockets_and_resets_work_over_tls() {
    within_deadline(async {
        let upstream = Upstream::start_tls(&TlsOptions::new()).await.unwrap();
        upstream.push_socket(SocketScript::new().send(["{}"]).reset_within(&"x".repeat(200), 3));
        let stream =
            connect(&upstream, "localhost", config(upstream.tls().unwrap(), &["http/1.1"], None)).await;
        let url = format!("wss://localhost:{}/v1/responses", upstream.address().port());
        let (mut socket, _) = Box::pin(tokio_tungstenite::client_async(url, stream.unwrap())).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap().into_text().unwrap().as_str(), "{}");
        assert!(socket.next().await.unwrap().is_err());
        assert_eq!(upstream.faults().resets, 1);
    })
    .await;
}

#[tokio::test]
async fn bedrock_speaks_tls_under_its_own_name() {
    within_deadline(async {
        let name = "bedrock-mantle.us-west-2.api.aws";
        let bedrock = Bedrock::start_tls("us-west-2", &TlsOptions::new().name(name)).await.unwrap();
        assert!(bedrock.url("/v1").starts_with("https://"));
        let upstream = bedrock.upstream();
        let config = config(upstream.tls().unwrap(), &[], None);
        let mut stream = connect(upstream, name, config).await.unwrap();
        assert!(call(&mut stream).await.unwrap().starts_with("HTTP/1.1 403 "));
    })
    .await;
}
