//! TLS, seen from clients: both protocols, whose certificates are let in, and a certificate that changes under load.

use std::collections::HashSet;
use std::convert::Infallible;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, HandshakeKind};
use service_runtime::Drain;
use service_runtime::health::Health;
use service_runtime::listen::tls::ClientCertificates;
use service_runtime::listen::{Address, Exposure, Listener, Peer, Tls, TlsConfig};
use service_runtime::serve::ServeConfig;
use test_clock::paused;
use tidegate_callers::PeerCertificate;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::certificates::{Authority, Identity};
use crate::support::{DEADLINE, Server, loopback, read_all, within};

const SPIFFE: &str = "spiffe://corp.example/ns/a/sa/b";
const REQUEST: &[u8] = b"GET /x HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

/// A directory whose files change as a mounted secret's do: a link to another directory takes the place of the first.
struct Mounted {
    root: tempfile::TempDir,
    generation: usize,
}

impl Mounted {
    fn new(identity: &Identity) -> Self {
        let mut mounted = Self { root: tempfile::tempdir().unwrap(), generation: 0 };
        for file in ["tls.crt", "tls.key"] {
            symlink(Path::new("..data").join(file), mounted.root.path().join(file)).unwrap();
        }
        mounted.swap(&identity.certificate, &identity.key);
        mounted
    }

    fn swap(&mut self, certificate: &str, key: &str) {
        self.generation += 1;
        let directory = format!("..{}", self.generation);
        let path = self.root.path().join(&directory);
        fs::create_dir(&path).unwrap();
        fs::write(path.join("tls.crt"), certificate).unwrap();
        fs::write(path.join("tls.key"), key).unwrap();
        let link = self.root.path().join("..data_tmp");
        symlink(&directory, &link).unwrap();
        fs::rename(link, self.root.path().join("..data")).unwrap();
    }

    fn config(&self) -> TlsConfig {
        TlsConfig {
            certificate_file: self.root.path().join("tls.crt"),
            key_file: self.root.path().join("tls.key"),
            client_ca_file: None,
            client_certificates: None,
        }
    }

    fn authority(&self, authority: &Authority) -> PathBuf {
        let path = self.root.path().join("ca.crt");
        fs::write(&path, authority.pem()).unwrap();
        path
    }
}

/// A server that tells what it knows of its caller.
async fn server(tls: &Tls) -> Server {
    let listener = loopback().await.with_tls(Some(tls));
    let service = hyper::service::service_fn(|request: Request<Incoming>| async move {
        assert!(request.extensions().get::<Peer>().is_some_and(Peer::is_local));
        let certificate = request.extensions().get::<PeerCertificate>();
        let text = format!("{:?} {:?}", request.version(), certificate.map(|it| &it.uris));
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(text))))
    });
    Server::start_on(listener, service, ServeConfig::default(), Drain::new(Duration::ZERO, DEADLINE * 2))
}

async fn connect(server: &Server, config: ClientConfig) -> std::io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from("localhost").unwrap();
    within(TlsConnector::from(Arc::new(config)).connect(name, server.connect().await)).await
}

/// One request over HTTP/1.1; what the server said, or why there was no answer.
async fn ask(server: &Server, config: ClientConfig) -> Result<String, String> {
    let mut stream = connect(server, config).await.map_err(|error| error.to_string())?;
    let mut answer = String::new();
    let talk = async {
        stream.write_all(REQUEST).await?;
        stream.read_to_string(&mut answer).await
    };
    within(talk).await.map_err(|error| error.to_string())?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200") => Ok(body.to_owned()),
        _ => Err(answer),
    }
}

#[tokio::test]
async fn both_protocols_and_versions_are_spoken() {
    let authority = Authority::new();
    let mounted = Mounted::new(&authority.server());
    let server = server(&mounted.config().build("tls").unwrap()).await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        for protocol in [&b"http/1.1"[..], b""] {
            let mut config = authority.client_with(&[version], None);
            config.alpn_protocols = Some(protocol.to_vec()).into_iter().filter(|it| !it.is_empty()).collect();
            assert_eq!(ask(&server, config).await.unwrap(), "HTTP/1.1 None", "{version:?} {protocol:?}");
        }
        let mut config = authority.client_with(&[version], None);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let stream = connect(&server, config).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]), "HTTP/2 is preferred");
        let (mut sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(connection);
        let request = Request::get("https://localhost/x").body(Empty::<Bytes>::new()).unwrap();
        let response = within(sender.send_request(request)).await.unwrap();
        assert_eq!(within(response.into_body().collect()).await.unwrap().to_bytes(), "HTTP/2.0 None");
    }
    let mut config = authority.client(None);
    config.alpn_protocols = vec![b"smtp".to_vec()];
    assert!(ask(&server, config).await.unwrap_err().contains("NoApplicationProtocol"));
}

#[tokio::test]
async fn client_certificates_are_verified_before_a_request_is_read() {
    let (authority, foreign) = (Authority::new(), Authority::new());
    let mounted = Mounted::new(&authority.server());
    let mut config = mounted.config();
    config.client_ca_file = Some(mounted.authority(&authority));
    let optional = server(&config.build("tls").unwrap()).await;
    config.client_certificates = Some(ClientCertificates::Required);
    let required = server(&config.build("tls").unwrap()).await;

    let good = authority.person(&[SPIFFE, "https://other.example/b"], 1);
    let nameless = authority.person(&[], 1);
    let names = format!("HTTP/1.1 Some([{SPIFFE:?}, \"https://other.example/b\"])");
    for server in [&optional, &required] {
        assert_eq!(ask(server, authority.client(Some(&good))).await.unwrap(), names);
        assert_eq!(ask(server, authority.client(Some(&nameless))).await.unwrap(), "HTTP/1.1 Some([])");
        let mut refused = 0;
        let expired = authority.person(&[SPIFFE], -1);
        let unknown = foreign.person(&[SPIFFE], 1);
        // The right name on a certificate that was made for servers.
        for bad in [&expired, &unknown, &authority.server()] {
            refused += usize::from(ask(server, authority.client(Some(bad))).await.is_err());
        }
        assert_eq!(refused, 3);
    }
    assert_eq!(ask(&optional, authority.client(None)).await.unwrap(), "HTTP/1.1 None");
    assert!(ask(&required, authority.client(None)).await.unwrap_err().contains("CertificateRequired"));
}

#[tokio::test]
async fn authorities_of_clients_are_taken_over_when_they_change() {
    let (first, second) = (Authority::new(), Authority::new());
    let mounted = Mounted::new(&first.server());
    let mut config = mounted.config();
    config.client_ca_file = Some(mounted.authority(&first));
    let tls = config.build("tls").unwrap();
    let server = server(&tls).await;
    let health = Health::new(server.drain.clone(), prometheus::Registry::new());
    let mut tasks = JoinSet::new();
    tasks.spawn(tls.keep_fresh(health.register("tls"), server.drain.clone()));
    wait_for_report(&health, r#""status":"ready""#).await;
    let person = second.person(&[SPIFFE], 1);
    assert!(ask(&server, first.client(Some(&person))).await.is_err());
    mounted.authority(&second);
    within(async {
        while ask(&server, first.client(Some(&person))).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let former = first.person(&[SPIFFE], 1);
    assert!(ask(&server, first.client(Some(&former))).await.is_err());
}

#[tokio::test]
async fn sessions_are_resumed_unless_clients_show_certificates() {
    let authority = Authority::new();
    let mounted = Mounted::new(&authority.server());
    let mut config = mounted.config();
    let plain = config.build("tls").unwrap();
    config.client_ca_file = Some(mounted.authority(&authority));
    let verifying = config.build("tls").unwrap();
    let person = authority.person(&[SPIFFE], 1);
    for (tls, expected) in [(plain, HandshakeKind::Resumed), (verifying, HandshakeKind::Full)] {
        let server = server(&tls).await;
        let client = authority.client(Some(&person));
        ask(&server, client.clone()).await.unwrap();
        let mut again = connect(&server, client).await.unwrap();
        again.write_all(REQUEST).await.unwrap();
        let mut answer = String::new();
        within(again.read_to_string(&mut answer)).await.unwrap();
        assert_eq!(again.get_ref().1.handshake_kind(), Some(expected));
    }
}

/// What the connections of a load have seen.
#[derive(Default)]
struct Seen {
    asked: AtomicUsize,
    certificates: Mutex<HashSet<CertificateDer<'static>>>,
}

#[tokio::test]
async fn a_certificate_changes_under_load_without_a_failed_request() {
    const REQUESTS: usize = 1_000;
    const ROTATIONS: usize = 20;
    let authority = Authority::new();
    let mut mounted = Mounted::new(&authority.server());
    let tls = mounted.config().build("tls").unwrap();
    let server = Arc::new(server(&tls).await);
    let health = Health::new(server.drain.clone(), prometheus::Registry::new());
    let mut tasks = JoinSet::new();
    tasks.spawn(tls.clone().keep_fresh(health.register("tls"), server.drain.clone()));

    let seen = Arc::new(Seen::default());
    let rotated = Arc::new(AtomicUsize::new(0));
    let mut load = JoinSet::new();
    for _ in 0..4 {
        let (server, seen, rotated) = (server.clone(), seen.clone(), rotated.clone());
        let client = authority.client(None);
        load.spawn(async move {
            while seen.asked.load(Ordering::Relaxed) < REQUESTS || rotated.load(Ordering::Relaxed) < ROTATIONS
            {
                let mut stream = connect(&server, client.clone()).await.unwrap();
                let shown = stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned();
                stream.write_all(REQUEST).await.unwrap();
                let mut answer = String::new();
                within(stream.read_to_string(&mut answer)).await.unwrap();
                assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
                seen.certificates.lock().unwrap().insert(shown);
                seen.asked.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let mut shown = HashSet::new();
    for rotation in 0..ROTATIONS {
        let next = authority.server();
        mounted.swap(&next.certificate, &next.key);
        if rotation % 2 == 0 {
            tls.reload();
        }
        // Every certificate of the row is served at some time, none twice.
        let current = async {
            loop {
                let stream = connect(&server, authority.client(None)).await.unwrap();
                let current = stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned();
                if current == next.der {
                    return current;
                }
            }
        };
        assert!(shown.insert(within(current).await));
        rotated.fetch_add(1, Ordering::Relaxed);
    }
    while let Some(ended) = load.join_next().await {
        ended.unwrap();
    }
    let (asked, certificates) = (seen.asked.load(Ordering::Relaxed), seen.certificates.lock().unwrap().len());
    assert!(asked >= REQUESTS && certificates >= 2, "{asked} requests saw {certificates} certificates");
}

async fn wait_for_report(health: &Health, wanted: &str) -> String {
    within(async {
        loop {
            let answer = health.answer(&Method::GET, "/readyz").unwrap();
            let text = String::from_utf8(answer.body().to_vec()).unwrap();
            if text.contains(wanted) {
                assert!(text.contains(r#""ready":true"#) && answer.status() == 200, "{text}");
                return text;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
}

#[tokio::test]
async fn what_cannot_be_used_changes_nothing_and_is_told() {
    let authority = Authority::new();
    let first = authority.server();
    let mut mounted = Mounted::new(&first);
    let tls = mounted.config().build("tls").unwrap();
    let server = server(&tls).await;
    let health = Health::new(server.drain.clone(), prometheus::Registry::new());
    let mut tasks = JoinSet::new();
    tasks.spawn(tls.clone().keep_fresh(health.register("tls"), server.drain.clone()));
    wait_for_report(&health, r#""status":"ready""#).await;
    let mut kept = connect(&server, authority.client(None)).await.unwrap();

    let other = authority.server();
    for (certificate, key, told) in [
        ("nonsense", other.key.as_str(), "tls.crt is not PEM with a certificate"),
        (other.certificate.as_str(), "", "tls.key is not PEM with a private key"),
        (other.certificate.as_str(), first.key.as_str(), "tls.crt cannot be used with its key"),
    ] {
        mounted.swap(certificate, key);
        let report = wait_for_report(&health, told).await;
        assert!(report.contains("serving the certificate from before"), "{report}");
        assert!(!report.contains("PRIVATE"), "{report}");
        assert!(tls.trouble().is_some_and(|trouble| trouble.contains(told)));
        let stream = connect(&server, authority.client(None)).await.unwrap();
        assert_eq!(stream.get_ref().1.peer_certificates().unwrap()[0], first.der);
    }
    mounted.swap(&other.certificate, &other.key);
    within(async {
        loop {
            let stream = connect(&server, authority.client(None)).await.unwrap();
            if stream.get_ref().1.peer_certificates().unwrap()[0] == other.der {
                return;
            }
        }
    })
    .await;
    let answer = health.answer(&Method::GET, "/readyz").unwrap();
    assert_eq!(answer.body(), r#"{"status":"ready","checks":[{"name":"tls","ready":true}]}"#);
    assert_eq!(tls.trouble(), None);
    // A connection goes on with what it began with.
    kept.write_all(REQUEST).await.unwrap();
    let mut answer = String::new();
    within(kept.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.ends_with("HTTP/1.1 None"), "{answer}");
}

#[tokio::test]
async fn clients_that_do_not_finish_their_handshake_hold_up_nobody() {
    let authority = Authority::new();
    let mounted = Mounted::new(&authority.server());
    let server = server(&mounted.config().build("tls").unwrap()).await;
    let mut slow = Vec::new();
    for sent in [&b""[..], b"\x16", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"] {
        for _ in 0..20 {
            let mut stream = server.connect().await;
            stream.write_all(sent).await.unwrap();
            slow.push(stream);
        }
    }
    for _ in 0..20 {
        assert_eq!(ask(&server, authority.client(None)).await.unwrap(), "HTTP/1.1 None");
    }
    assert_eq!(slow.len(), 60);
}

#[test]
fn a_handshake_has_its_time() {
    paused(async {
        let authority = Authority::new();
        let mounted = Mounted::new(&authority.server());
        let server = server(&mounted.config().build("tls").unwrap()).await;
        for sent in [&b""[..], b"\x16\x03\x01\x02\x00\x01\x00"] {
            let mut stream = server.connect().await;
            let begun = tokio::time::Instant::now();
            stream.write_all(sent).await.unwrap();
            assert_eq!(read_all(&mut stream).await, "");
            let took = begun.elapsed().as_secs();
            assert!((9..=11).contains(&took), "{took}");
        }
    })
    .unwrap();
}

/// What a client says first; `long`, it is more than the server waits for.
fn greeting(authority: &Authority, long: bool) -> Vec<u8> {
    let mut config = authority.client(None);
    if long {
        config.alpn_protocols = (0_u8..200).map(|protocol| vec![protocol; 20]).collect();
    }
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_greeting_may_be_cut_anywhere() {
    paused(async {
        let authority = Authority::new();
        let mounted = Mounted::new(&authority.server());
        let server = server(&mounted.config().build("tls").unwrap()).await;
        let (short, long) = (greeting(&authority, false), greeting(&authority, true));
        assert!(short.len() < 4_096 && long.len() > 4_096 + 100, "{} {}", short.len(), long.len());
        for (hello, cuts) in
            [(&short, &[1, 4, 5, 6, 50, short.len() - 1][..]), (&long, &[5, 4_095, 4_096, 4_097])]
        {
            for &cut in cuts {
                let (first, rest) = hello.split_at(cut);
                let mut stream = server.connect().await;
                stream.write_all(first).await.unwrap();
                tokio::time::sleep(Duration::from_millis(100)).await;
                stream.write_all(rest).await.unwrap();
                // The server's own greeting begins.
                assert_eq!(within(stream.read_u8()).await.unwrap(), 22, "cut at {cut}");
            }
        }
    })
    .unwrap();
}

#[test]
fn whoever_leaves_amid_a_greeting_is_let_go_of_at_once() {
    paused(async {
        let authority = Authority::new();
        let mounted = Mounted::new(&authority.server());
        let server = server(&mounted.config().build("tls").unwrap()).await;
        let hello = greeting(&authority, false);
        for cut in [0, 1, 4, 5, 50, hello.len() - 1] {
            for early in [false, true] {
                let mut stream = server.connect().await;
                let begun = tokio::time::Instant::now();
                stream.write_all(&hello[..cut]).await.unwrap();
                if !early {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                stream.shutdown().await.unwrap();
                read_all(&mut stream).await;
                let took = begun.elapsed();
                assert!(took < Duration::from_secs(1), "cut at {cut}: {took:?}");
            }
        }
    })
    .unwrap();
}

#[test]
fn a_drain_waits_a_moment_for_handshakes_and_no_longer() {
    paused(async {
        let authority = Authority::new();
        let mounted = Mounted::new(&authority.server());
        let server = server(&mounted.config().build("tls").unwrap()).await;
        let mut silent = server.connect().await;
        let mut half = server.connect().await;
        half.write_all(b"\x16\x03\x01\x02\x00\x01\x00").await.unwrap();
        // A client that was connected before finishes its handshake and asks after the drain has begun.
        let name = ServerName::try_from("localhost").unwrap();
        let late = server.connect().await;
        // Everybody has been accepted when somebody who came later is served.
        assert_eq!(ask(&server, authority.client(None)).await.unwrap(), "HTTP/1.1 None");
        let begun = tokio::time::Instant::now();
        server.drain.begin();
        within(server.drain.closing()).await;
        let connector = TlsConnector::from(Arc::new(authority.client(None)));
        let mut late = within(connector.connect(name, late)).await.unwrap();
        late.write_all(REQUEST).await.unwrap();
        let mut answer = String::new();
        within(late.read_to_string(&mut answer)).await.unwrap();
        assert!(answer.ends_with("HTTP/1.1 None"), "{answer}");
        for stream in [&mut silent, &mut half] {
            assert_eq!(read_all(stream).await, "");
        }
        let took = begun.elapsed();
        assert!((Duration::from_millis(900)..Duration::from_millis(2_500)).contains(&took), "{took:?}");
        server.ended().await;
    })
    .unwrap();
}

#[test]
fn the_end_of_the_grace_period_ends_handshakes() {
    paused(async {
        let authority = Authority::new();
        let mounted = Mounted::new(&authority.server());
        let tls = mounted.config().build("tls").unwrap();
        let listener = loopback().await.with_tls(Some(&tls));
        let drain = Drain::new(Duration::ZERO, Duration::from_millis(200));
        let server = Server::start_on(listener, crate::support::echo(), ServeConfig::default(), drain);
        let mut half = server.connect().await;
        half.write_all(b"\x16\x03\x01\x02\x00\x01\x00").await.unwrap();
        assert!(ask(&server, authority.client(None)).await.unwrap().ends_with("app GET /x"));
        let begun = tokio::time::Instant::now();
        server.drain.begin();
        assert_eq!(read_all(&mut half).await, "");
        let took = begun.elapsed();
        assert!(took < Duration::from_millis(900), "{took:?}");
    })
    .unwrap();
}

#[tokio::test]
async fn requests_without_tls_are_told_so() {
    let authority = Authority::new();
    let mounted = Mounted::new(&authority.server());
    let server = server(&mounted.config().build("tls").unwrap()).await;
    for sent in ["GET / HTTP/1.1\r\nhost: localhost\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut stream = server.connect().await;
        stream.write_all(sent.as_bytes()).await.unwrap();
        let mut answer = String::new();
        within(stream.read_to_string(&mut answer)).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 400"), "{answer}");
        assert!(head.contains(&format!("content-length: {}", body.len())), "{answer}");
        assert!(body.contains(r#""code":"tls_required""#), "{answer}");
    }
    let mut stream = server.connect().await;
    stream.write_all(b"\x00\x01").await.unwrap();
    assert_eq!(read_all(&mut stream).await, "");
    assert_eq!(ask(&server, authority.client(None)).await.unwrap(), "HTTP/1.1 None");
}

#[tokio::test]
async fn a_unix_socket_stays_plain() {
    let authority = Authority::new();
    let mounted = Mounted::new(&authority.server());
    let tls = mounted.config().build("tls").unwrap();
    let path = mounted.root.path().join("s.sock");
    let listener = Listener::bind(&Address::Unix(path.clone()), Exposure::LoopbackOnly)
        .await
        .unwrap()
        .with_tls(Some(&tls));
    assert!(listener.tls().is_none());
    let drain = Drain::new(Duration::ZERO, DEADLINE);
    let limits = ServeConfig::default().build("serve").unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(service_runtime::serve::serve(listener, crate::support::echo(), limits, drain));
    let mut stream = UnixStream::connect(path).await.unwrap();
    stream.write_all(REQUEST).await.unwrap();
    let mut answer = String::new();
    within(stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.ends_with("app GET /x"), "{answer}");
}

#[test]
fn a_configuration_that_cannot_work_names_its_key() {
    let authority = Authority::new();
    let mounted = Mounted::new(&authority.server());
    let problem = |change: &dyn Fn(&mut TlsConfig)| {
        let mut config = mounted.config();
        change(&mut config);
        let problems = config.build("gateway.tls").unwrap_err();
        assert_eq!(problems.len(), 1);
        (problems[0].key.clone(), problems[0].message.clone())
    };
    let (key, message) = problem(&|config| config.certificate_file = mounted.root.path().join("none"));
    assert!(key == "gateway.tls.certificate_file" && message.contains("cannot read"), "{message}");
    let (key, message) = problem(&|config| config.key_file = config.certificate_file.clone());
    assert!(key == "gateway.tls.key_file" && message.contains("is not PEM with a private key"), "{message}");
    let large = mounted.root.path().join("large.crt");
    fs::write(&large, [authority.server().certificate.as_bytes(), &[b'\n'; 1 << 20]].concat()).unwrap();
    let (key, message) = problem(&|config| config.certificate_file = large.clone());
    assert!(key == "gateway.tls.certificate_file" && message.contains("too large"), "{message}");
    let (key, _) = problem(&|config| config.client_ca_file = Some(config.key_file.clone()));
    assert_eq!(key, "gateway.tls.client_ca_file");
    let (key, message) = problem(&|config| config.client_certificates = Some(ClientCertificates::Required));
    assert!(key == "gateway.tls.client_certificates" && message.contains("nothing to verify"), "{message}");
}
