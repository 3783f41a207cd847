//! WebSockets do what their scripts say, and what came over them is recorded.

use futures_util::{SinkExt, StreamExt};
use gateway_testkit::{Faults, Gate, Reply, Socket, SocketEnd, SocketScript, Turn, Upstream, messages};
use http::HeaderMap;
use serde_json::{Value, json};
use tidegate_responses::Usage;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::client::{Client, within_deadline};

type Stream = WebSocketStream<TcpStream>;

async fn open(upstream: &Upstream) -> Result<(Stream, HeaderMap), Error> {
    let address = upstream.address();
    let mut request = format!("ws://{address}/v1/responses?a=1").into_client_request().unwrap();
    let headers = request.headers_mut();
    headers.insert("openai-beta", "responses_websockets=2026-02-06".parse().unwrap());
    headers.insert("sec-websocket-extensions", "permessage-deflate; client_max_window_bits".parse().unwrap());
    let stream = TcpStream::connect(address).await.unwrap();
    let (stream, response) = client_async(request, stream).await?;
    Ok((stream, response.headers().clone()))
}

/// Opens a socket that plays `script`.
async fn with(script: SocketScript) -> (Upstream, Stream) {
    let upstream = Upstream::start().await.unwrap();
    upstream.push_socket(script);
    let (stream, _) = open(&upstream).await.unwrap();
    (upstream, stream)
}

async fn create(stream: &mut Stream, model: &str) {
    let message = json!({"type": "response.create", "model": model}).to_string();
    stream.send(Message::text(message)).await.unwrap();
}

async fn texts(stream: &mut Stream, count: usize) -> Vec<String> {
    let mut texts = Vec::new();
    for _ in 0..count {
        texts.push(stream.next().await.unwrap().unwrap().into_text().unwrap().as_str().to_owned());
    }
    texts
}

fn turn(id: &str) -> Vec<String> {
    messages(Turn::new(id).text(&["Hel", "lo"]).completed(Usage::default()))
}

#[test]
fn messages_are_the_events_without_framing() {
    let types: Vec<_> = turn("resp_1")
        .iter()
        .map(|message| serde_json::from_str::<Value>(message).unwrap()["type"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        (types.len(), types[0].as_str(), types[9].as_str()),
        (10, "response.created", "response.completed")
    );
}

#[tokio::test]
async fn each_request_gets_the_next_answer() {
    within_deadline(async {
        let upstream = Upstream::start().await.unwrap();
        let (first, second) = (turn("resp_1"), turn("resp_2"));
        let script =
            SocketScript::new().header("x-codex-turn-state", "sticky").header("openai-model", "gpt-6-sol");
        upstream.push_socket(script.answer(first.clone()).answer(second.clone()).repeat());
        let (mut stream, headers) = open(&upstream).await.unwrap();
        assert_eq!(headers["x-codex-turn-state"], "sticky");
        assert_eq!(headers["openai-model"], "gpt-6-sol");
        assert_eq!(headers.get("sec-websocket-extensions"), None);

        // What is no request takes no answer; two requests at once are answered one after the other.
        stream.send(Message::text("{\"type\":\"response.cancel\"}")).await.unwrap();
        create(&mut stream, "a").await;
        create(&mut stream, "b").await;
        assert_eq!(texts(&mut stream, 20).await, [first.clone(), second].concat());
        create(&mut stream, "c").await;
        assert_eq!(texts(&mut stream, 10).await, first);

        let last = upstream.wait_for_message(4).await.unwrap();
        assert_eq!((last.socket, last.json()["model"].as_str(), last.is_create()), (0, Some("c"), true));
        assert!(!upstream.messages()[0].is_create());
        stream.close(Some(CloseFrame { code: 1001.into(), reason: "bye".into() })).await.unwrap();
        let end = upstream.wait_socket_end(0).await.unwrap();
        assert_eq!(end, SocketEnd::ClosedByClient { code: Some(1001), reason: "bye".into() });
        let socket = &upstream.sockets()[0];
        assert_eq!((socket.path.as_str(), socket.query.as_deref()), ("/v1/responses", Some("a=1")));
        assert_eq!((socket.received, socket.sent), (4, 30));
        assert_eq!(socket.header("openai-beta"), Some("responses_websockets=2026-02-06"));
        assert_eq!(
            socket.header("sec-websocket-extensions"),
            Some("permessage-deflate; client_max_window_bits")
        );
        assert_eq!((upstream.faults(), upstream.connections()), (Faults::default(), 1));
        assert_eq!((upstream.requests().len(), upstream.all_requests().len()), (0, 1));
    })
    .await;
}

#[tokio::test]
async fn handshakes_are_refused_as_told() {
    within_deadline(async {
        let upstream = Upstream::start().await.unwrap();
        let refusal =
            Reply::json(401, &json!({"error": {"code": "token_expired"}})).header("x-request-id", "req_1");
        upstream.push_socket(SocketScript::refuse(refusal));
        upstream.push_socket(SocketScript::refuse(Reply::reset()));
        let Error::Http(response) = open(&upstream).await.unwrap_err() else { panic!("not refused") };
        assert_eq!(
            (response.status().as_u16(), &response.headers()["x-request-id"]),
            (401, &"req_1".parse().unwrap())
        );
        assert!(matches!(open(&upstream).await.unwrap_err(), Error::Io(_)));
        assert_eq!(upstream.faults(), Faults { refusals: 2, resets: 1, ..Faults::default() });

        // Nothing is scripted any more, and a socket elsewhere never is.
        let Error::Http(response) = open(&upstream).await.unwrap_err() else { panic!("not refused") };
        assert_eq!(response.status().as_u16(), 426);
        upstream.set_default_socket(SocketScript::new());
        for (request, status) in [("GET /v1/elsewhere", "426"), ("GET /v1/responses", "400")] {
            let mut client = Client::connect(&upstream).await;
            let head = "HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n";
            client.send(&format!("{request} {head}")).await;
            client.read_until(b"}}").await;
            assert!(client.answer().0.starts_with(&format!("http/1.1 {status} ")));
        }
        assert!(upstream.sockets().is_empty());
        assert_eq!(upstream.all_requests().len(), 5);
    })
    .await;
}

#[tokio::test]
async fn handshakes_wait_for_their_gate() {
    within_deadline(async {
        let upstream = Upstream::start().await.unwrap();
        let gate = Gate::closed();
        upstream.push_socket(SocketScript::new().delay_handshake(&gate).send(["{}"]));
        let ((), opened) = tokio::join!(
            async {
                upstream.wait_faults(|faults| faults.header_delays == 1).await.unwrap();
                assert!(upstream.sockets().is_empty());
                gate.open();
            },
            open(&upstream),
        );
        assert_eq!(texts(&mut opened.unwrap().0, 1).await, ["{}"]);
    })
    .await;
}

#[tokio::test]
async fn scripts_close_with_their_code() {
    within_deadline(async {
        for (script, code) in [
            (SocketScript::new().close(1012, "restart"), Some(1012)),
            (SocketScript::new().close(4999, ""), Some(4999)),
            (SocketScript::new().close_silently(), None),
        ] {
            let (upstream, mut stream) = with(script).await;
            let Message::Close(frame) = stream.next().await.unwrap().unwrap() else {
                panic!("no close frame")
            };
            assert_eq!(frame.map(|frame| u16::from(frame.code)), code);
            assert!(stream.next().await.is_none());
            let end = upstream.wait_socket_end(0).await.unwrap();
            assert_eq!(end, SocketEnd::ClosedByScript { answered: true, code });
            assert_eq!(upstream.faults(), Faults { close_frames: 1, ..Faults::default() });
        }
        let (upstream, stream) = with(SocketScript::new().close(1011, "")).await;
        drop(stream);
        let end = upstream.wait_socket_end(0).await.unwrap();
        assert_eq!(end, SocketEnd::ClosedByScript { answered: false, code: None });
    })
    .await;
}

#[tokio::test]
async fn connections_break_where_told() {
    within_deadline(async {
        let message = "x".repeat(200);
        for bytes in [0, 1, 199] {
            let script = SocketScript::new().send(["{}"]).reset_within(&message, bytes);
            let (upstream, mut stream) = with(script).await;
            assert_eq!(texts(&mut stream, 1).await, ["{}"]);
            assert!(matches!(stream.next().await, Some(Err(Error::Io(_)))));
            assert_eq!(upstream.wait_socket_end(0).await.unwrap(), SocketEnd::Broken);
            assert_eq!(upstream.faults(), Faults { resets: 1, ..Faults::default() });
            assert_eq!(upstream.sockets()[0].sent, 1);
        }
        let (upstream, mut stream) = with(SocketScript::new().request().vanish()).await;
        create(&mut stream, "a").await;
        let error = stream.next().await.unwrap().unwrap_err();
        assert!(matches!(error, Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)), "{error}");
        assert_eq!(upstream.faults(), Faults { closes: 1, ..Faults::default() });
    })
    .await;
}

/// What is really on the wire: no library in between.
#[tokio::test]
async fn partial_messages_leave_before_the_reset() {
    within_deadline(async {
        let upstream = Upstream::start().await.unwrap();
        upstream.push_socket(SocketScript::new().reset_within(&"x".repeat(200), 3));
        let mut client = Client::connect(&upstream).await;
        client
            .send("GET /v1/responses HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
            .await;
        let ended = client.read_to_end().await.unwrap_err();
        assert_eq!(ended.kind(), std::io::ErrorKind::ConnectionReset);
        let (head, rest) = client.answer();
        // The key and its answer are the example of RFC 6455.
        assert!(head.contains("\r\nsec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n"), "{head}");
        assert_eq!(rest, [0x81, 126, 0, 200, b'x', b'x', b'x']);
    })
    .await;
}

#[tokio::test]
async fn stalls_hold_and_still_listen() {
    within_deadline(async {
        let gate = Gate::closed();
        let (upstream, mut stream) = with(SocketScript::new().stall(&gate).send(["late"])).await;
        upstream.wait_faults(|faults| faults.stalls == 1).await.unwrap();
        create(&mut stream, "a").await;
        stream.send(Message::binary(vec![0xff])).await.unwrap();
        stream.send(Message::Ping("p".into())).await.unwrap();
        assert_eq!(stream.next().await.unwrap().unwrap(), Message::Pong("p".into()));
        let binary = upstream.wait_for_message(2).await.unwrap();
        assert_eq!((binary.binary, binary.text.as_str(), binary.is_create()), (true, "", false));
        gate.open();
        assert_eq!(texts(&mut stream, 1).await, ["late"]);
        assert_eq!(upstream.sockets()[0].pings, 1);
        drop(stream);
        assert_eq!(upstream.wait_socket_end(0).await.unwrap(), SocketEnd::Dropped);

        let (upstream, stream) = with(SocketScript::new().stall(&Gate::closed())).await;
        drop(stream);
        assert_eq!(upstream.wait_socket_end(0).await.unwrap(), SocketEnd::Dropped);
    })
    .await;
}

#[tokio::test]
async fn deaf_sockets_answer_nothing_until_their_gate_opens() {
    within_deadline(async {
        let gate = Gate::closed();
        let (upstream, mut stream) = with(SocketScript::new().deaf(&gate)).await;
        stream.send(Message::Ping("p".into())).await.unwrap();
        upstream.wait_faults(|faults| faults.stalls == 1).await.unwrap();
        assert_eq!(upstream.sockets()[0].pings, 0);
        gate.open();
        assert_eq!(stream.next().await.unwrap().unwrap(), Message::Pong("p".into()));
    })
    .await;
}

#[tokio::test]
async fn pings_binary_large_and_fragmented_messages_arrive() {
    within_deadline(async {
        let script = SocketScript::new()
            .ping("ping")
            .send_binary(vec![1, 2])
            .send_large(100_000)
            .send_in_frames("héllo", 2)
            .send_raw(vec![0xc1, 0]);
        let (upstream, mut stream) = with(script).await;
        assert_eq!(stream.next().await.unwrap().unwrap(), Message::Ping("ping".into()));
        assert_eq!(stream.next().await.unwrap().unwrap(), Message::binary(vec![1, 2]));
        let texts = texts(&mut stream, 2).await;
        assert_eq!((texts[0].len(), texts[1].as_str()), (100_000, "héllo"));
        assert_eq!(serde_json::from_str::<Value>(&texts[0]).unwrap()["type"], "testkit.padding");
        // A frame with a reserved bit, as compression would set it, is refused by any client that declined it.
        assert!(matches!(stream.next().await, Some(Err(Error::Protocol(_)))));
        let sockets =
            upstream.wait_sockets(|all| all.iter().any(|one: &Socket| one.sent == 3)).await.unwrap();
        assert_eq!((sockets[0].pongs, sockets[0].received), (1, 0));
    })
    .await;
}

#[tokio::test]
async fn compressed_messages_are_violations() {
    within_deadline(async {
        let upstream = Upstream::start().await.unwrap();
        upstream.set_default_socket(SocketScript::new());
        let (mut stream, _) = open(&upstream).await.unwrap();
        stream.get_mut().write_all(&[0xc1, 0x80, 0, 0, 0, 0]).await.unwrap();
        let end = upstream.wait_socket_end(0).await.unwrap();
        assert!(matches!(end, SocketEnd::Violated(_)), "{end:?}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn waits_for_sockets_end_with_what_was_seen() {
    let upstream = Upstream::start().await.unwrap();
    let timeout = upstream.wait_for_message(2).await.unwrap_err();
    assert_eq!(timeout.to_string(), "waited 10s for 2 messages, saw 0");
    let timeout = upstream.wait_socket_end(0).await.unwrap_err();
    assert_eq!(timeout.to_string(), "waited 10s for the end of socket 0, saw 0");
}
