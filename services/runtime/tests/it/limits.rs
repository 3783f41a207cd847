//! Clients that send nothing, too slowly or too much lose their connection; others do not notice.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use service_runtime::Drain;
use service_runtime::listen::Peer;
use service_runtime::serve::ServeConfig;
use test_clock::paused;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::support::{DEADLINE, Server, echo, read_all, read_until, within};

const REQUEST: &str = "GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n";

async fn server(config: ServeConfig) -> Server {
    Server::start_with(echo(), config, Drain::new(Duration::ZERO, DEADLINE * 2)).await
}

#[tokio::test]
async fn half_open_sockets_are_closed() {
    let server = server(ServeConfig { header_read_timeout_ms: 50, ..ServeConfig::default() }).await;
    for sent in
        ["", "G", "GET /x HTTP/1.1\r\nHost: localhost\r\nX-Long: aaaaaaaaaaaaaaaaaaaaa", "PRI * HTTP/2.0\r\n"]
    {
        let mut stream = server.connect().await;
        stream.write_all(sent.as_bytes()).await.unwrap();
        let answer = read_all(&mut stream).await;
        assert!(!answer.contains("200 OK"), "{sent:?}: {answer}");
    }
    assert!(server.http1("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.contains("200 OK"));
}

#[tokio::test]
async fn a_first_request_is_the_same_wherever_it_is_cut() {
    let server = server(ServeConfig::default()).await;
    let long = format!("GET /long HTTP/1.1\r\nHost: a\r\nX-Long: {}\r\n\r\n", "a".repeat(5_000));
    let many = format!("GET /many HTTP/1.1\r\nHost: a\r\n{}\r\n", "A: b\r\n".repeat(99));
    let cases = [
        ("\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n", "app GET /x"),
        ("GET /old HTTP/1.0\n\n", "app GET /old"),
        ("POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", "app POST /p"),
        ("\x16\x03\x01", "400 Bad Request"),
        ("GET / HTTP/9.9\r\n", "400 Bad Request"),
        (&long, "app GET /long"),
        (&many, "app GET /many"),
    ];
    for (request, wanted) in cases {
        let (last, step) = (request.len() - 1, request.len().div_ceil(40));
        for cut in (1..=last).step_by(step).chain([last]) {
            let mut stream = server.connect().await;
            let (first, second) = request.as_bytes().split_at(cut);
            for piece in [first, second] {
                // Who has been refused already is not listened to.
                let _ = stream.write_all(piece).await;
                tokio::task::yield_now().await;
            }
            read_until(&mut stream, wanted).await;
        }
    }
}

#[test]
fn a_first_head_has_its_time_once_however_much_of_it_has_come() {
    paused(async {
        let limits = ServeConfig { header_read_timeout_ms: 1_000, ..ServeConfig::default() };
        let server = server(limits).await;
        for length in [0, 1, 100, 5_000, 50_000] {
            let head = format!("GET / HTTP/1.1\r\nHost: a\r\nX-Long: {}", "a".repeat(length));
            let mut stream = server.connect().await;
            let begun = tokio::time::Instant::now();
            tokio::time::sleep(Duration::from_millis(700)).await;
            stream.write_all(head.as_bytes()).await.unwrap();
            read_all(&mut stream).await;
            let took = begun.elapsed().as_millis();
            assert!((1_000..1_300).contains(&took), "{length}: {took} ms");
        }
    })
    .unwrap();
}

#[test]
fn a_body_that_does_not_begin_in_time_is_refused_and_one_that_is_asked_for_is_not() {
    paused(async {
        let limits = ServeConfig { header_read_timeout_ms: 1_000, ..ServeConfig::default() };
        let server = server(limits).await;
        let head = "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n";
        for (sent, wanted) in [
            (format!("{head}\r\n"), "HTTP/1.1 408"),
            (format!("{head}\r\nabc"), "HTTP/1.1 408"),
            (format!("{head}\r\n{}", "a".repeat(1_000)), "app POST /x"),
            (format!("{head}Expect: 100-continue\r\n\r\n"), "app POST /x"),
        ] {
            let mut stream = server.connect().await;
            stream.write_all(sent.as_bytes()).await.unwrap();
            let begun = tokio::time::Instant::now();
            read_until(&mut stream, wanted).await;
            let is_late = wanted.ends_with("408");
            assert_eq!(begun.elapsed() >= Duration::from_secs(1), is_late, "{sent}");
            if is_late {
                read_all(&mut stream).await;
            }
        }
    })
    .unwrap();
}

#[test]
fn an_idle_connection_has_another_time_than_a_slow_head() {
    paused(async {
        let server = server(ServeConfig {
            header_read_timeout_ms: 1_000,
            idle_timeout_ms: 9_000,
            ..ServeConfig::default()
        })
        .await;
        let ends_after = async |last: &str| {
            let mut stream = server.connect().await;
            stream.write_all(REQUEST.as_bytes()).await.unwrap();
            read_until(&mut stream, "app GET /x").await;
            let begun = tokio::time::Instant::now();
            tokio::time::sleep(Duration::from_secs(5)).await;
            stream.write_all(last.as_bytes()).await.unwrap();
            read_all(&mut stream).await;
            begun.elapsed().as_secs()
        };
        // Without a word, with the beginning of a head, and with another request.
        assert_eq!(ends_after("").await, 9);
        assert_eq!(ends_after("GET /y HTTP/1.1\r\nHost: localhost\r\nX-Long: aaaa").await, 6);
        assert_eq!(ends_after(REQUEST).await, 14);
    })
    .unwrap();
}

#[tokio::test]
async fn an_idle_http2_connection_outlives_the_header_time() {
    let server = server(ServeConfig { header_read_timeout_ms: 50, ..ServeConfig::default() }).await;
    let mut client = server.http2().await;
    // A silent connection that is opened later is closed first: the idle one has outlived its time by then.
    assert_eq!(read_all(&mut server.connect().await).await, "");
    let request = Request::get("http://localhost/late").body(http_body_util::Empty::new()).unwrap();
    assert_eq!(client.send(request).await.body(), "app GET /late");
}

#[tokio::test]
async fn a_short_request_may_take_longer_than_the_header_time() {
    let release = Arc::new(Notify::new());
    let waiting = Arc::clone(&release);
    let service = hyper::service::service_fn(move |_request: Request<Incoming>| {
        let waiting = Arc::clone(&waiting);
        async move {
            waiting.notified().await;
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"late"))))
        }
    });
    let config = ServeConfig { header_read_timeout_ms: 50, ..ServeConfig::default() };
    let server = Server::start_with(service, config, Drain::new(Duration::ZERO, DEADLINE * 2)).await;
    let mut slow = server.connect().await;
    slow.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    assert_eq!(
        read_all(&mut server.connect().await).await,
        "",
        "a silent connection, opened later, is closed"
    );
    release.notify_one();
    read_until(&mut slow, "late").await;
}

/// An HTTP/2 frame on a stream.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [.., a, b, c] = payload.len().to_be_bytes();
    [&[a, b, c, kind, flags][..], &stream.to_be_bytes(), payload].concat()
}

/// What opens an HTTP/2 connection.
fn opening() -> Vec<u8> {
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(4, 0, 0, &[])].concat()
}

/// Reads frames until there are so many of a kind, or the connection ends; the payloads of that kind.
async fn frames(stream: &mut TcpStream, wanted: u8, count: usize) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut head = [0; 9];
    while found.len() < count && within(stream.read_exact(&mut head)).await.is_ok() {
        let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
        within(stream.read_exact(&mut payload)).await.unwrap();
        if head[3] == wanted {
            found.push(payload);
        }
    }
    found
}

#[tokio::test]
async fn http2_clients_are_told_the_configured_limits() {
    const SETTINGS: u8 = 4;
    let mut config = ServeConfig { max_header_bytes: 12_345, ..ServeConfig::default() };
    (config.http2.max_concurrent_streams, config.http2.stream_window_bytes) = (77, 123_456);
    let server = server(config).await;
    let mut stream = server.connect().await;
    stream.write_all(&opening()).await.unwrap();
    let told = frames(&mut stream, SETTINGS, 1).await.remove(0);
    // SETTINGS_MAX_CONCURRENT_STREAMS, SETTINGS_INITIAL_WINDOW_SIZE, SETTINGS_MAX_HEADER_LIST_SIZE.
    for (id, value) in [(3_u16, 77_u32), (4, 123_456), (6, 12_345)] {
        let wanted = [&id.to_be_bytes()[..], &value.to_be_bytes()].concat();
        assert!(told.chunks(6).any(|setting| setting == wanted), "{id}: {told:?}");
    }
}

#[test]
fn pings_are_answered_no_faster_than_a_client_needs() {
    paused(async {
        const PING: u8 = 6;
        let server = server(ServeConfig::default()).await;
        let mut stream = server.connect().await;
        let begun = tokio::time::Instant::now();
        let pings = frame(PING, 0, 0, b"how far?").repeat(3_500);
        stream.write_all(&[opening(), pings].concat()).await.unwrap();
        assert_eq!(frames(&mut stream, PING, 3_500).await.len(), 3_500);
        // A thousand at once, and then a thousand a second; the last read holds some that came together.
        assert!(begun.elapsed() >= Duration::from_secs(2), "{:?}", begun.elapsed());
        // Others do not wait for that.
        assert!(
            server.http1("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.contains("200 OK")
        );
    })
    .unwrap();
}

#[tokio::test]
async fn streams_that_are_opened_and_reset_end_their_connection() {
    const GOAWAY: u8 = 7;
    let server = server(ServeConfig::default()).await;
    let mut stream = server.connect().await;
    let mut sent = opening();
    for number in 0..500 {
        // GET http://localhost/, by the static table.
        sent.extend(frame(1, 5, 2 * number + 1, b"\x82\x86\x84\x41\x09localhost"));
        sent.extend(frame(3, 0, 2 * number + 1, &8_u32.to_be_bytes()));
    }
    // The server may have had enough before the end.
    let _ = stream.write_all(&sent).await;
    let ends = frames(&mut stream, GOAWAY, 1).await;
    assert_eq!(ends[0][4..8], 11_u32.to_be_bytes(), "ENHANCE_YOUR_CALM");
}

#[tokio::test]
async fn a_crowd_of_streams_begins_little_by_little() {
    const HEADERS: u8 = 1;
    let (waiting, most) = <(Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
    let service = {
        let most = Arc::clone(&most);
        service_fn(move |_| {
            most.fetch_max(waiting.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            let waiting = Arc::clone(&waiting);
            async move {
                waiting.fetch_sub(1, Ordering::Relaxed);
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::new())))
            }
        })
    };
    let mut config = ServeConfig::default();
    config.http2.max_concurrent_streams = 1_000;
    let server = Server::start_with(service, config, Drain::new(Duration::ZERO, DEADLINE * 2)).await;
    let mut stream = server.connect().await;
    let get = |number: u32| frame(HEADERS, 5, 2 * number + 1, b"\x82\x86\x84\x41\x09localhost");
    let sent: Vec<u8> = opening().into_iter().chain((0..500).flat_map(get)).collect();
    stream.write_all(&sent).await.unwrap();
    assert_eq!(frames(&mut stream, HEADERS, 500).await.len(), 500, "each is answered");
    // What one small read brings, at 23 bytes each.
    let most = most.load(Ordering::Relaxed);
    assert!((8..=200).contains(&most), "{most} of them waited at once");
}

#[test]
fn an_http2_peer_that_is_gone_is_noticed() {
    paused(async {
        let mut config = ServeConfig::default();
        (config.http2.keepalive_interval_ms, config.http2.keepalive_timeout_ms) = (60_000, 5_000);
        let server = server(config).await;
        let mut stream = server.connect().await;
        let begun = tokio::time::Instant::now();
        stream.write_all(&opening()).await.unwrap();
        let mut all = Vec::new();
        // The test's own deadline is on the same clock and would be over before.
        let ended = tokio::time::timeout(Duration::from_secs(300), stream.read_to_end(&mut all)).await;
        assert!(ended.is_ok(), "nobody noticed");
        let took = begun.elapsed().as_secs();
        assert!((60..=70).contains(&took), "{took}");
    })
    .unwrap();
}

#[tokio::test]
async fn heads_that_are_too_large_are_refused() {
    let server = server(ServeConfig { max_header_bytes: 8 * 1024, ..ServeConfig::default() }).await;
    let long = "a".repeat(16 * 1024);
    let answer = server.http1(&format!("GET / HTTP/1.1\r\nHost: a\r\nX-Long: {long}\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    let mut client = server.http2().await;
    let request =
        Request::get("http://localhost/").header("x-long", &long).body(http_body_util::Empty::new());
    assert_eq!(client.send(request.unwrap()).await.status(), 431);
}

#[tokio::test]
async fn connections_over_the_limit_wait_for_a_place() {
    let server = server(ServeConfig { max_connections: 1, ..ServeConfig::default() }).await;
    let mut first = server.connect().await;
    first.write_all(REQUEST.as_bytes()).await.unwrap();
    read_until(&mut first, "app GET /x").await;
    let mut second = server.connect().await;
    second.write_all(REQUEST.as_bytes()).await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(100), read_until(&mut second, "app")).await;
    assert!(early.is_err(), "the second connection was served beside the first");
    drop(first);
    read_until(&mut second, "app GET /x").await;
}

#[tokio::test]
async fn old_connections_are_asked_to_finish() {
    let server = server(ServeConfig { max_connection_age_ms: 100, ..ServeConfig::default() }).await;
    let mut stream = server.connect().await;
    stream.write_all(REQUEST.as_bytes()).await.unwrap();
    // Ends although the client keeps the connection alive.
    assert!(read_all(&mut stream).await.contains("app GET /x"));
}

#[tokio::test]
async fn a_request_that_was_refused_for_what_it_is_made_of_ends_its_connection() {
    let service = hyper::service::service_fn(|request: Request<Incoming>| async move {
        let status = request.uri().path().trim_start_matches('/').parse::<u16>().unwrap();
        Ok::<_, Infallible>(Response::builder().status(status).body(Full::new(Bytes::new())).unwrap())
    });
    let server = Server::start(service).await;
    for (status, ends) in [(400, true), (413, true), (415, true), (401, false), (404, false), (429, false)] {
        let request = |status: u16| format!("GET /{status} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let mut stream = server.connect().await;
        stream.write_all(format!("{}{}", request(status), request(201)).as_bytes()).await.unwrap();
        let answers = match ends {
            true => read_all(&mut stream).await,
            false => read_until(&mut stream, "201 Created").await,
        };
        assert_eq!(answers.matches("HTTP/1.1 ").count(), 2 - usize::from(ends), "{answers}");
        assert_eq!(answers.contains("connection: close"), ends, "{answers}");
    }
}

#[tokio::test]
async fn requests_know_their_peer() {
    let service = hyper::service::service_fn(|request: Request<Incoming>| async move {
        let peer = request.extensions().get::<Peer>().copied();
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(format!("{peer:?}")))))
    });
    let server = Server::start(service).await;
    let mut stream = server.connect().await;
    let local = stream.local_addr().unwrap();
    stream.write_all(REQUEST.as_bytes()).await.unwrap();
    read_until(&mut stream, &format!("Some(Tcp({local}))")).await;
}

#[test]
fn limits_without_sense_are_all_named() {
    let mut config = ServeConfig { max_connections: 0, header_read_timeout_ms: 0, ..ServeConfig::default() };
    config.http2.stream_window_bytes = u32::MAX;
    let problems = config.build("gateway.serve").unwrap_err();
    let keys: Vec<_> = problems.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "gateway.serve.max_connections",
            "gateway.serve.header_read_timeout_ms",
            "gateway.serve.http2.stream_window_bytes"
        ]
    );
    assert_eq!(problems[0].message, "`gateway.serve.max_connections` is 0, outside 1 to 1000000");
}
