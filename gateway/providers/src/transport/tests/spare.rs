//! A connection made ahead of need: taken once, and only while it is good.

use test_clock::paused;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::servers::{Authority, https};
use super::*;

/// A listener, its address, and a dialer that holds a connection to it.
async fn prepared() -> (TcpListener, Uri, Dialer, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri: Uri = format!("http://{}/v1", listener.local_addr().unwrap()).parse().unwrap();
    let dialer = Dialer::new(nobody(), Network::default()).unwrap();
    in_time(dialer.prepare(&uri)).await.unwrap();
    let (socket, _) = in_time(listener.accept()).await.unwrap();
    (listener, uri, dialer, socket)
}

/// Waits until this process has been told of everything that happened to its sockets before.
async fn settle(listener: &TcpListener) {
    let address = listener.local_addr().unwrap();
    for _ in 0..2 {
        let (mut ours, theirs) = tokio::join!(TcpStream::connect(address), listener.accept());
        theirs.unwrap().0.write_all(b"x").await.unwrap();
        ours.as_mut().unwrap().read_u8().await.unwrap();
    }
}

/// Whether a stream ends at this socket.
async fn joined(stream: &mut Stream, socket: &mut TcpStream) -> bool {
    stream.write_all(b"ping").await.unwrap();
    let mut read = [0; 4];
    matches!(tokio::time::timeout(Duration::from_secs(1), socket.read_exact(&mut read)).await, Ok(Ok(_)))
}

#[tokio::test]
async fn the_connection_is_taken_once() {
    let (listener, uri, dialer, mut socket) = prepared().await;
    settle(&listener).await;
    let mut first = in_time(dialer.connect(&uri, Alpn::Http)).await.unwrap();
    assert!(joined(&mut first, &mut socket).await);
    let (second, accepted) =
        in_time(async { tokio::join!(dialer.connect(&uri, Alpn::Http), listener.accept()) }).await;
    assert!(joined(&mut second.unwrap(), &mut accepted.unwrap().0).await);
}

#[tokio::test]
async fn a_connection_that_was_closed_or_spoken_on_is_not_taken() {
    for said in [&b""[..], b"HTTP/1.1 408 Request Timeout\r\n\r\n"] {
        let (listener, uri, dialer, mut socket) = prepared().await;
        socket.write_all(said).await.unwrap();
        if said.is_empty() {
            drop(socket);
        }
        settle(&listener).await;
        let (stream, accepted) =
            in_time(async { tokio::join!(dialer.connect(&uri, Alpn::Http), listener.accept()) }).await;
        assert!(joined(&mut stream.unwrap(), &mut accepted.unwrap().0).await, "{said:?}");
    }
}

#[tokio::test]
async fn a_connection_is_not_taken_by_a_websocket_or_for_another_origin() {
    let (listener, uri, dialer, mut socket) = prepared().await;
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let other: Uri = format!("http://{}/v1", elsewhere.local_addr().unwrap()).parse().unwrap();
    let (stream, accepted) =
        in_time(async { tokio::join!(dialer.connect(&other, Alpn::Http), elsewhere.accept()) }).await;
    assert!(joined(&mut stream.unwrap(), &mut accepted.unwrap().0).await);
    let (stream, accepted) =
        in_time(async { tokio::join!(dialer.connect(&uri, Alpn::WebSocket), listener.accept()) }).await;
    assert!(joined(&mut stream.unwrap(), &mut accepted.unwrap().0).await);
    let mut first = in_time(dialer.connect(&uri, Alpn::Http)).await.unwrap();
    assert!(joined(&mut first, &mut socket).await, "it was still there");
}

#[test]
fn a_connection_nobody_wants_is_closed_after_a_while() {
    paused(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri: Uri = format!("http://{}/v1", listener.local_addr().unwrap()).parse().unwrap();
        let transport = transport(nobody(), Network::default());
        let began = tokio::time::Instant::now();
        let (held, closed) = tokio::join!(transport.prewarm(&uri, DEADLINE), async {
            let mut socket = listener.accept().await.unwrap().0;
            socket.read(&mut [0; 1]).await.unwrap()
        });
        held.unwrap();
        assert_eq!(closed, 0);
        assert_eq!(began.elapsed().as_secs(), IDLE_CONNECTION_MAX.as_secs());
    })
    .unwrap();
}

#[tokio::test]
async fn the_first_call_goes_over_the_connection_that_was_made_ahead_with_http_1_and_2() {
    let authority = Authority::new();
    for protocol in ["h2", "http/1.1"] {
        let server = https(authority.acceptor(&[protocol], None), 1).await;
        let transport = transport(authority.roots(), Network::default());
        in_time(transport.dialer().prepare(&server.uri)).await.unwrap();
        assert_eq!(server.connections.load(Ordering::Relaxed), 1);
        for _ in 0..3 {
            ask(&transport, &server.uri).await.unwrap();
        }
        assert_eq!(server.connections.load(Ordering::Relaxed), 1, "{protocol}");
        assert_eq!(server.requests.load(Ordering::Relaxed), 3);
    }
}
