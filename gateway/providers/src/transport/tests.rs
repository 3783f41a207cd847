//! Lanes and TLS, against a server with a certificate of its own.

use std::convert::Infallible;
use std::time::Duration;

use futures_util::future::join_all;
use http::Version;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::TcpListener;
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::*;

/// Twice what one connection of the server carries.
const CALLS: usize = 200;
const DEADLINE: Duration = Duration::from_secs(60);

/// A server for `localhost` that answers when `together` requests are there at once, and who trusts it.
async fn server(protocol: &'static [u8], together: usize) -> (JoinSet<()>, Uri, Tls) {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der()));
    let crypto = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(crypto).with_safe_default_protocol_versions().unwrap();
    let mut config =
        config.with_no_client_auth().with_single_cert(vec![certified.cert.der().clone()], key).unwrap();
    config.alpn_protocols = vec![protocol.to_vec()];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("https://localhost:{}/", listener.local_addr().unwrap().port()).parse().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(serve(listener, TlsAcceptor::from(Arc::new(config)), Arc::new(Barrier::new(together))));
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certified.cert.der().clone()).unwrap();
    let config = Tls::builder().unwrap().with_root_certificates(roots).with_no_client_auth();
    (tasks, uri, Tls { config })
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, barrier: Arc<Barrier>) {
    let mut connections = JoinSet::new();
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let (acceptor, barrier) = (acceptor.clone(), barrier.clone());
        connections.spawn(async move {
            let Ok(stream) = acceptor.accept(socket).await else { return };
            let answer = service_fn(move |_| {
                let barrier = barrier.clone();
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
        });
    }
}

fn request(uri: &Uri) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(Bytes::new()));
    *request.uri_mut() = uri.clone();
    request
}

#[tokio::test]
async fn more_calls_than_one_connection_carries_do_not_wait_for_each_other() {
    let (_server, uri, tls) = server(b"h2", CALLS).await;
    let transport = Transport::new(&tls);
    let calls = (0..CALLS).map(|_| transport.request(request(&uri)));
    let answers = tokio::time::timeout(DEADLINE, join_all(calls)).await.unwrap();
    for answer in answers {
        assert_eq!(answer.unwrap().0.version(), Version::HTTP_2);
    }
}

#[tokio::test]
async fn http_1_is_spoken_where_http_2_is_not_offered() {
    let (_server, uri, tls) = server(b"http/1.1", 1).await;
    let answer = tokio::time::timeout(DEADLINE, Transport::new(&tls).request(request(&uri))).await.unwrap();
    assert_eq!(answer.unwrap().0.version(), Version::HTTP_11);
}

#[tokio::test]
async fn a_certificate_that_nobody_signed_is_refused() {
    let (_server, uri, _) = server(b"h2", 1).await;
    let transport = Transport::new(&Tls::unused().unwrap());
    let error = tokio::time::timeout(DEADLINE, transport.request(request(&uri))).await.unwrap().map(drop);
    let error = crate::send::classify(error.unwrap_err());
    assert!(matches!(error, crate::SendError::Tls { .. }), "{error:?}");
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn a_lane_fills_before_the_next_is_taken_and_places_come_back() {
    let transport = Transport::new(&Tls::unused().unwrap());
    let loads = |transport: &Transport| {
        let lanes = std::iter::once(&transport.first).chain(&transport.others);
        lanes.map(|lane| lane.in_flight.load(Ordering::Relaxed)).collect::<Vec<_>>()
    };
    let mut places: Vec<_> = (0..CALLS_PER_LANE + 1).map(|_| transport.place()).collect();
    assert_eq!(loads(&transport)[..3], [CALLS_PER_LANE, 1, 0]);
    places.remove(0);
    places.push(transport.place());
    assert_eq!(loads(&transport)[..3], [CALLS_PER_LANE, 1, 0]);
    places.extend((0..CALLS_PER_LANE * LANES * 2).map(|_| transport.place()));
    let full = loads(&transport);
    assert!(full.iter().max().unwrap() - full.iter().min().unwrap() <= 1, "{full:?}");
    drop(places);
    assert_eq!(loads(&transport).iter().sum::<usize>(), 0);
}
