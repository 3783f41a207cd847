//! The way down, seen from clients: streams finish, new connections are refused, and nothing is cut early.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, Empty, StreamBody};
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use service_runtime::Drain;
use service_runtime::serve::ServeConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::TaskTracker;

use crate::support::{Server, read_all, read_until, within};

type Piece = Result<Frame<Bytes>, Infallible>;

fn piece(text: &'static str) -> Piece {
    Ok(Frame::data(Bytes::from_static(text.as_bytes())))
}

/// A service whose first response streams whatever the test sends.
#[derive(Clone)]
struct Streaming(Arc<Mutex<Option<mpsc::Receiver<Piece>>>>);

impl Service<Request<Incoming>> for Streaming {
    type Response = Response<StreamBody<ReceiverStream<Piece>>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn call(&self, _request: Request<Incoming>) -> Self::Future {
        let pieces = self.0.lock().unwrap().take().unwrap_or_else(|| mpsc::channel(1).1);
        ready(Ok(Response::new(StreamBody::new(ReceiverStream::new(pieces)))))
    }
}

fn streaming() -> (mpsc::Sender<Piece>, Streaming) {
    let (sender, receiver) = mpsc::channel(8);
    (sender, Streaming(Arc::new(Mutex::new(Some(receiver)))))
}

async fn open_stream(server: &Server) -> TcpStream {
    let mut stream = server.connect().await;
    stream.write_all(b"GET /s HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    stream
}

async fn refused(server: &Server) {
    // The listener closes within a moment of the step.
    within(async { while TcpStream::connect(server.address).await.is_ok() {} }).await;
}

#[tokio::test]
async fn a_stream_finishes_within_the_grace_period() {
    let (pieces, service) = streaming();
    let server = Server::start(service).await;
    let mut client = open_stream(&server).await;
    pieces.send(piece("first")).await.unwrap();
    read_until(&mut client, "first").await;

    server.drain.begin();
    within(server.drain.closing()).await;
    refused(&server).await;
    pieces.send(piece("last")).await.unwrap();
    drop(pieces);
    let rest = read_all(&mut client).await;
    assert!(rest.contains("last") && rest.ends_with("0\r\n\r\n"), "{rest:?}");
    server.ended().await;
}

#[tokio::test]
async fn an_http2_stream_finishes_and_its_connection_takes_no_other() {
    let (pieces, service) = streaming();
    let server = Server::start(service).await;
    let mut client = server.http2().await;
    let request = || Request::get("http://localhost/s").body(Empty::new()).unwrap();
    let mut body = within(client.sender.send_request(request())).await.unwrap().into_body();
    pieces.send(piece("first")).await.unwrap();
    assert_eq!(within(body.frame()).await.unwrap().unwrap().into_data().unwrap(), "first");

    server.drain.begin();
    refused(&server).await;
    pieces.send(piece("last")).await.unwrap();
    drop(pieces);
    assert_eq!(within(body.collect()).await.unwrap().to_bytes(), "last");
    assert!(within(client.sender.send_request(request())).await.is_err());
    server.ended().await;
}

#[tokio::test]
async fn idle_connections_are_closed_and_the_server_ends() {
    let (pieces, service) = streaming();
    drop(pieces);
    let server = Server::start(service).await;
    let mut used = open_stream(&server).await;
    read_until(&mut used, "0\r\n\r\n").await;
    let mut fresh = server.connect().await;
    let _http2 = server.http2().await;
    server.drain.begin();
    assert_eq!(read_all(&mut used).await, "");
    assert_eq!(read_all(&mut fresh).await, "");
    server.ended().await;
}

#[tokio::test]
async fn a_connection_that_was_there_before_can_still_ask_once() {
    let (pieces, service) = streaming();
    let server = Server::start(service).await;
    let mut accepted = server.connect().await;
    server.drain.begin();
    refused(&server).await;
    accepted.write_all(b"GET /s HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    pieces.send(piece("served")).await.unwrap();
    drop(pieces);
    let answer = read_all(&mut accepted).await;
    assert!(answer.contains("served") && answer.ends_with("0\r\n\r\n"), "{answer:?}");
    server.ended().await;
}

#[tokio::test]
async fn after_the_grace_period_streams_can_still_write_their_end() {
    let (pieces, service) = streaming();
    let drain = Drain::new(Duration::ZERO, Duration::from_millis(50));
    let server = Server::start_with(service, ServeConfig::default(), drain.clone()).await;
    let mut client = open_stream(&server).await;
    pieces.send(piece("first")).await.unwrap();
    read_until(&mut client, "first").await;
    drain.begin();
    within(drain.cut_token().cancelled()).await;
    pieces.send(piece("typed end")).await.unwrap();
    drop(pieces);
    let rest = read_all(&mut client).await;
    assert!(rest.contains("typed end") && rest.ends_with("0\r\n\r\n"), "{rest:?}");
    server.ended().await;
}

#[tokio::test]
async fn a_stream_that_never_ends_is_cut_by_the_abort_and_not_before() {
    let (pieces, service) = streaming();
    let server = Server::start(service).await;
    let mut client = open_stream(&server).await;
    pieces.send(piece("first")).await.unwrap();
    read_until(&mut client, "first").await;
    server.drain.begin();
    refused(&server).await;
    pieces.send(piece("second")).await.unwrap();
    read_until(&mut client, "second").await;
    server.drain.abort();
    let rest = read_all(&mut client).await;
    assert!(!rest.ends_with("0\r\n\r\n"), "a cut stream must not look complete: {rest:?}");
    server.ended().await;
}

#[tokio::test]
async fn an_upgraded_connection_is_waited_for() {
    let tracker = TaskTracker::new();
    let tasks = tracker.clone();
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        let tasks = tasks.clone();
        async move {
            let upgrade = hyper::upgrade::on(&mut request);
            tasks.spawn(async move {
                let mut io = TokioIo::new(upgrade.await.unwrap());
                let mut text = [0; 4];
                io.read_exact(&mut text).await.unwrap();
                io.write_all(&text).await.unwrap();
            });
            let mut response = Response::new(Empty::<Bytes>::new());
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            response.headers_mut().insert("connection", "upgrade".parse().unwrap());
            response.headers_mut().insert("upgrade", "echo".parse().unwrap());
            Ok::<_, Infallible>(response)
        }
    });
    let server = Server::start(service).await;
    let mut client = server.connect().await;
    client
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
        .await
        .unwrap();
    read_until(&mut client, "\r\n\r\n").await;
    server.drain.begin();
    refused(&server).await;
    client.write_all(b"ping").await.unwrap();
    assert_eq!(read_all(&mut client).await, "ping");
    server.ended().await;
    tracker.close();
    within(tracker.wait()).await;
}

/// What a client sends to open HTTP/2 and one stream, by RFC 9113 and RFC 7541: preface, SETTINGS, and HEADERS with
/// `:method GET`, `:scheme http`, `:path /`, `:authority a`.
const HTTP2_GET: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\
    \x00\x00\x00\x04\x00\x00\x00\x00\x00\
    \x00\x00\x06\x01\x05\x00\x00\x00\x01\x82\x86\x84\x41\x01a";
const GOAWAY: u8 = 7;

/// The next frame's kind and payload.
async fn frame(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let mut head = [0; 9];
    within(stream.read_exact(&mut head)).await.unwrap();
    let [a, b, c, kind, ..] = head;
    let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]).try_into().unwrap()];
    within(stream.read_exact(&mut payload)).await.unwrap();
    (kind, payload)
}

#[tokio::test]
async fn an_old_connection_is_sent_away_and_its_stream_goes_on() {
    let (pieces, service) = streaming();
    let config = ServeConfig { max_connection_age_ms: 50, ..ServeConfig::default() };
    let drain = Drain::new(Duration::ZERO, Duration::from_secs(60));
    let server = Server::start_with(service, config, drain).await;
    let mut client = server.connect().await;
    client.write_all(HTTP2_GET).await.unwrap();
    pieces.send(piece("first")).await.unwrap();
    let mut seen = Vec::new();
    while !seen.contains(&GOAWAY) {
        let (kind, payload) = frame(&mut client).await;
        if kind == GOAWAY {
            assert_eq!(payload[4..8], [0; 4], "without an error");
        }
        seen.push(kind);
    }
    pieces.send(piece("last")).await.unwrap();
    drop(pieces);
    let mut rest = Vec::new();
    while !rest.ends_with(b"last") {
        let (kind, payload) = frame(&mut client).await;
        if kind == 0 {
            rest.extend(payload);
        }
    }
}
