//! An authority, HTTPS servers that it vouches for, and scripted proxies. Everything counts what it did.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Response, Uri};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, TrustAnchor};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::transport::crypto;

/// Issues certificates for `localhost`.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    roots: RootCertStore,
}

impl Authority {
    pub(super) fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(params.self_signed(&key).unwrap().der().clone()).unwrap();
        Authority { issuer: Issuer::new(params, key), roots }
    }

    pub(super) fn roots(&self) -> Arc<RootCertStore> {
        Arc::new(self.roots.clone())
    }

    pub(super) fn anchors(&self) -> Vec<TrustAnchor<'static>> {
        self.roots.roots.clone()
    }

    fn issue(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        (vec![certificate.der().clone()], key)
    }

    pub(super) fn identity(&self) -> Arc<CertifiedKey> {
        let (chain, key) = self.issue();
        Arc::new(CertifiedKey::from_der(chain, key, &crypto()).unwrap())
    }

    pub(super) fn acceptor(&self, protocols: &[&str], clients: Option<&Authority>) -> TlsAcceptor {
        let (chain, key) = self.issue();
        let config =
            ServerConfig::builder_with_provider(crypto()).with_safe_default_protocol_versions().unwrap();
        let config = match clients {
            None => config.with_no_client_auth(),
            Some(clients) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(clients.roots(), crypto());
                config.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let mut config = config.with_single_cert(chain, key).unwrap();
        config.alpn_protocols = protocols.iter().map(|it| it.as_bytes().to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// A server that answers `ok` when `together` requests are there at once.
pub(super) struct Https {
    pub(super) uri: Uri,
    /// How many connections were opened.
    pub(super) connections: Arc<AtomicUsize>,
    /// How many requests came.
    pub(super) requests: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

pub(super) async fn https(acceptor: TlsAcceptor, together: usize) -> Https {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("https://localhost:{}/", listener.local_addr().unwrap().port()).parse().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let requests = Arc::new(AtomicUsize::new(0));
    let (opened, asked) = (Arc::clone(&connections), Arc::clone(&requests));
    let barrier = Arc::new(Barrier::new(together));
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut serving = JoinSet::new();
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            opened.fetch_add(1, Ordering::Relaxed);
            serving.spawn(serve(socket, acceptor.clone(), Arc::clone(&barrier), Arc::clone(&asked)));
        }
    });
    Https { uri, connections, requests, _tasks: tasks }
}

async fn serve(socket: TcpStream, acceptor: TlsAcceptor, barrier: Arc<Barrier>, asked: Arc<AtomicUsize>) {
    let Ok(stream) = acceptor.accept(socket).await else { return };
    let answer = service_fn(move |_| {
        asked.fetch_add(1, Ordering::Relaxed);
        let barrier = Arc::clone(&barrier);
        async move {
            barrier.wait().await;
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"ok"))))
        }
    });
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let io = TokioIo::new(stream);
    let _ended = if http2 {
        let mut server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        server.max_concurrent_streams(100).serve_connection(io, answer).await
    } else {
        hyper::server::conn::http1::Builder::new().serve_connection(io, answer).await
    };
}

/// What a proxy does with `CONNECT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// Connects to 127.0.0.1 at the port that was asked for.
    Tunnel,
    /// Answers this and closes.
    Say(&'static str),
    /// Never answers.
    Hang,
    /// Grants the tunnel after this time, and nothing comes through it.
    Late(Duration),
    /// Closes at once.
    Close,
}

pub(super) struct TestProxy {
    pub(super) port: u16,
    /// The heads of the requests that came.
    pub(super) heads: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

pub(super) async fn proxy(manner: Manner, acceptor: Option<TlsAcceptor>) -> TestProxy {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let heads = Arc::new(Mutex::new(Vec::new()));
    let recorded = Arc::clone(&heads);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut serving = JoinSet::new();
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let (recorded, acceptor) = (Arc::clone(&recorded), acceptor.clone());
            serving.spawn(async move {
                match acceptor {
                    None => relay(socket, manner, &recorded).await,
                    Some(acceptor) => match acceptor.accept(socket).await {
                        Ok(stream) => relay(stream, manner, &recorded).await,
                        Err(_) => None,
                    },
                }
            });
        }
    });
    TestProxy { port, heads, _tasks: tasks }
}

async fn relay(
    mut client: impl AsyncRead + AsyncWrite + Unpin,
    manner: Manner,
    heads: &Mutex<Vec<String>>,
) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    let port: u16 = head.lines().next().unwrap().split([':', ' ']).nth(2).unwrap().parse().unwrap();
    heads.lock().unwrap().push(head);
    match manner {
        Manner::Tunnel => {
            let mut server = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
            client
                .write_all(b"HTTP/1.1 200 Connection established\r\nProxy-Agent: test\r\n\r\n")
                .await
                .ok()?;
            let _ended = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        }
        Manner::Say(text) => {
            client.write_all(text.as_bytes()).await.ok()?;
            client.shutdown().await.ok()?;
            // The rest is read, so that what was said is not lost with a reset.
            let _rest = client.read_to_end(&mut Vec::new()).await;
        }
        Manner::Hang => std::future::pending().await,
        Manner::Late(after) => {
            tokio::time::sleep(after).await;
            client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.ok()?;
            std::future::pending().await
        }
        Manner::Close => {}
    }
    Some(())
}
