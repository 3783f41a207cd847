//! Lanes and TLS, against a server with a certificate of its own.

mod direct;
mod servers;
mod spare;
mod trust;
mod tunnel;

use futures_util::future::join_all;
use http::Version;
use hyper_util::client::legacy::connect::Connection as _;
use rustls::RootCertStore;

use self::servers::{Authority, https};
use super::*;

/// Twice what one connection of the server carries.
const CALLS: usize = 200;
const DEADLINE: Duration = Duration::from_secs(60);

fn request(uri: &Uri) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(Bytes::new()));
    *request.uri_mut() = uri.clone();
    request
}

/// A transport with `network` that trusts `roots` only.
fn transport(roots: Arc<RootCertStore>, network: Network) -> Transport {
    Transport::new(Dialer::new(roots, network).unwrap())
}

/// Roots that vouch for nobody.
fn nobody() -> Arc<RootCertStore> {
    Arc::new(RootCertStore::empty())
}

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.unwrap()
}

/// The version of an answer, or why there is none.
async fn ask(transport: &Transport, uri: &Uri) -> Result<Version, crate::SendError> {
    let answer = in_time(transport.request(request(uri))).await;
    answer.map(|told| told.response.version()).map_err(crate::send::classify)
}

#[tokio::test]
async fn more_calls_than_one_connection_carries_do_not_wait_for_each_other() {
    let authority = Authority::new();
    let server = https(authority.acceptor(&["h2"], None), CALLS).await;
    let transport = transport(authority.roots(), Network::default());
    let calls = (0..CALLS).map(|_| transport.request(request(&server.uri)));
    for answer in in_time(join_all(calls)).await {
        assert_eq!(answer.unwrap().response.version(), Version::HTTP_2);
    }
    assert_eq!(server.requests.load(Ordering::Relaxed), CALLS);
}

#[tokio::test]
async fn http_1_is_spoken_where_http_2_is_not_offered() {
    let authority = Authority::new();
    let server = https(authority.acceptor(&["http/1.1"], None), 1).await;
    let transport = transport(authority.roots(), Network::default());
    assert_eq!(ask(&transport, &server.uri).await.unwrap(), Version::HTTP_11);
}

#[tokio::test]
async fn a_websocket_gets_http_1_where_http_2_is_offered_too() {
    let authority = Authority::new();
    let server = https(authority.acceptor(&["h2", "http/1.1"], None), 1).await;
    let transport = transport(authority.roots(), Network::default());
    let stream = in_time(transport.dialer().connect(&server.uri, Alpn::WebSocket)).await.unwrap();
    assert!(!stream.connected().is_negotiated_h2());
    let stream = in_time(transport.dialer().connect(&server.uri, Alpn::Http)).await.unwrap();
    assert!(stream.connected().is_negotiated_h2());
}

#[tokio::test]
async fn a_lane_fills_before_the_next_is_taken_and_places_come_back() {
    let transport = transport(nobody(), Network::default());
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
