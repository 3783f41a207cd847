//! Connections over HTTP/1.1: used again while they are good, closed when they are not.

use futures_util::future::join_all;
use http_body_util::BodyExt as _;
use test_clock::paused;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::*;

const WHOLE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
const HALF: &str = "HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\nok";
const LAST: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok";

/// Answers every request with the same bytes.
struct Server {
    uri: Uri,
    connections: Arc<AtomicUsize>,
    /// A message for each connection that the other side closed.
    closed: mpsc::UnboundedReceiver<()>,
    _tasks: JoinSet<()>,
}

impl Server {
    /// Waits for the end of a connection, on a paused clock.
    async fn closed_at_once(&mut self) {
        let began = Instant::now();
        in_time(self.closed.recv()).await.unwrap();
        assert_eq!(began.elapsed().as_secs(), 0);
    }
}

async fn server(answer: &'static str) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("http://{}/v1?a=b", listener.local_addr().unwrap()).parse().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let (told, closed) = mpsc::unbounded_channel();
    let mut tasks = JoinSet::new();
    let count = Arc::clone(&connections);
    tasks.spawn(async move {
        let mut serving = JoinSet::new();
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            count.fetch_add(1, Ordering::Relaxed);
            let told = told.clone();
            serving.spawn(async move {
                serve(socket, answer).await;
                let _ = told.send(());
            });
        }
    });
    Server { uri, connections, closed, _tasks: tasks }
}

async fn serve(mut socket: TcpStream, answer: &str) {
    let mut read = Vec::new();
    while matches!(socket.read_buf(&mut read).await, Ok(1..)) {
        if read.ends_with(b"\r\n\r\n") {
            let head = String::from_utf8(std::mem::take(&mut read)).unwrap().to_lowercase();
            assert!(head.starts_with("get /v1?a=b http/1.1\r\nhost: 127.0.0.1:"), "{head}");
            socket.write_all(answer.as_bytes()).await.unwrap();
        }
    }
}

async fn answer(transport: &Transport, server: &Server) -> Response<Received> {
    in_time(transport.request(request(&server.uri))).await.unwrap().response
}

fn plain() -> Transport {
    transport(nobody(), Network::default())
}

#[tokio::test]
async fn a_connection_is_used_again_once_its_answer_was_read() {
    for reply in [WHOLE, CHUNKED] {
        let (server, transport) = (server(reply).await, plain());
        for _ in 0..20 {
            let body = in_time(answer(&transport, &server).await.into_body().collect()).await.unwrap();
            assert_eq!(body.to_bytes(), "ok");
        }
        assert_eq!(server.connections.load(Ordering::Relaxed), 1, "{reply}");
    }
}

#[tokio::test]
async fn a_connection_is_used_again_when_what_is_left_of_its_answer_is_there() {
    for reply in [WHOLE, CHUNKED] {
        let (server, transport) = (server(reply).await, plain());
        for _ in 0..20 {
            drop(answer(&transport, &server).await);
        }
        assert_eq!(server.connections.load(Ordering::Relaxed), 1, "{reply}");
    }
}

#[test]
fn an_answer_that_is_dropped_before_its_end_closes_its_connection() {
    paused(async {
        let (mut server, transport) = (server(HALF).await, plain());
        for calls in 1..4 {
            let mut body = answer(&transport, &server).await.into_body();
            assert_eq!(in_time(body.frame()).await.unwrap().unwrap().into_data().unwrap(), "ok");
            drop(body);
            server.closed_at_once().await;
            assert_eq!(server.connections.load(Ordering::Relaxed), calls);
        }
    })
    .unwrap();
}

#[test]
fn a_call_that_is_dropped_before_its_answer_closes_its_connection() {
    paused(async {
        let (mut server, transport) = (server("").await, plain());
        let call = transport.request(request(&server.uri));
        assert!(tokio::time::timeout(Duration::from_millis(50), call).await.is_err());
        server.closed_at_once().await;
    })
    .unwrap();
}

#[test]
fn a_connection_whose_server_wants_no_more_is_closed() {
    paused(async {
        let (mut server, transport) = (server(LAST).await, plain());
        for calls in 1..4 {
            in_time(answer(&transport, &server).await.into_body().collect()).await.unwrap();
            server.closed_at_once().await;
            assert_eq!(server.connections.load(Ordering::Relaxed), calls);
        }
    })
    .unwrap();
}

#[tokio::test]
async fn a_connection_that_its_server_closed_meanwhile_is_not_used() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri: Uri = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    let transport = plain();
    for _ in 0..20 {
        let served = async {
            let mut socket = listener.accept().await.unwrap().0;
            assert!(socket.read(&mut [0; 512]).await.unwrap() > 0);
            socket.write_all(WHOLE.as_bytes()).await.unwrap();
        };
        let asked = async {
            let told = transport.request(request(&uri)).await.unwrap();
            told.response.into_body().collect().await.unwrap();
        };
        // The server's end is dropped at the end of this step.
        in_time(async { tokio::join!(served, asked) }).await;
    }
}

#[tokio::test]
async fn calls_at_the_same_time_have_connections_of_their_own_and_an_origin_keeps_its_own() {
    let (one, other, transport) = (server(WHOLE).await, server(CHUNKED).await, plain());
    for _ in 0..3 {
        let calls = (0..5).flat_map(|_| [answer(&transport, &one), answer(&transport, &other)]);
        // All are held until the last is there.
        for (at, answer) in join_all(calls).await.into_iter().enumerate() {
            assert_eq!(answer.headers().contains_key("transfer-encoding"), at % 2 == 1);
        }
    }
    for server in [one, other] {
        assert_eq!(server.connections.load(Ordering::Relaxed), 5);
    }
}

#[test]
fn an_unused_connection_is_closed_after_a_while_and_one_that_is_used_stays() {
    paused(async {
        let (mut server, transport) = (server(WHOLE).await, plain());
        for _ in 0..5 {
            drop(answer(&transport, &server).await);
            tokio::time::sleep(IDLE_CONNECTION_MAX - Duration::from_secs(1)).await;
        }
        assert_eq!(server.connections.load(Ordering::Relaxed), 1);
        drop(answer(&transport, &server).await);
        let began = Instant::now();
        in_time(server.closed.recv()).await.unwrap();
        let kept = began.elapsed().as_secs();
        assert!((50..=56).contains(&kept), "{kept}");
        drop(answer(&transport, &server).await);
        assert_eq!(server.connections.load(Ordering::Relaxed), 2);
        drop(transport);
        in_time(server.closed.recv()).await.unwrap();
    })
    .unwrap();
}
