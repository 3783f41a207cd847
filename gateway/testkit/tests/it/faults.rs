//! Cuts, stalls, resets and truncations arrive as they were written down, and are counted.

use std::io::ErrorKind;

use bytes::Bytes;
use gateway_testkit::{Faults, Gate, Reply, Upstream};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::client::{Client, within_deadline};

fn frames() -> Vec<Bytes> {
    ["data: one\n\n", "data: two\n\n", "data: three\n\n"].map(Bytes::from).to_vec()
}

/// Plays one reply to one call and reads its chunks: sizes, and whether the body ended properly.
async fn chunks_of(reply: Reply) -> (Vec<usize>, bool) {
    let upstream = Upstream::start().await.unwrap();
    let body = reply.body().clone();
    upstream.push(reply);
    let mut client = Client::call(&upstream).await;
    client.read_until(b"0\r\n\r\n").await;
    let (chunks, ended) = client.chunks();
    assert!(body.starts_with(&chunks.concat()));
    assert!(!upstream.requests()[0].cancelled);
    (chunks.iter().map(Vec::len).collect(), ended)
}

#[tokio::test]
async fn writes_are_cut_as_told() {
    within_deadline(async {
        assert_eq!(chunks_of(Reply::sse(frames())).await, (vec![11, 11, 13], true));
        assert_eq!(chunks_of(Reply::sse(frames()).cut_at(&[1, 12, 12, 99])).await, (vec![1, 11, 23], true));
        assert_eq!(chunks_of(Reply::sse(frames()).chunks(&[2, 15])).await, (vec![2, 15, 2, 15, 1], true));
        assert_eq!(chunks_of(Reply::sse(frames()).chunks(&[1])).await, (vec![1; 35], true));
        assert_eq!(chunks_of(Reply::sse(frames()).end_after(13)).await, (vec![11, 2], true));
    })
    .await;
}

#[tokio::test]
async fn a_stall_holds_until_its_gate_opens() {
    within_deadline(async {
        let upstream = Upstream::start().await.unwrap();
        let gate = Gate::closed();
        upstream.push(Reply::sse(frames()).stall_after(14, &gate));
        let mut client = Client::call(&upstream).await;
        client.read_until(b"3\r\ndat\r\n").await;
        upstream.wait_faults(|faults| faults.stalls == 1).await.unwrap();
        gate.open();
        client.read_until(b"0\r\n\r\n").await;
        assert_eq!(client.chunks().0.concat(), frames().concat());
        assert_eq!(upstream.faults(), Faults { stalls: 1, ..Faults::default() });
        assert!(!upstream.requests()[0].cancelled);
    })
    .await;
}

#[tokio::test]
async fn broken_connections_break_where_told() {
    within_deadline(async {
        for bytes in [0, 1, 11, 20, 35] {
            let upstream = Upstream::start().await.unwrap();
            upstream.push(Reply::sse(frames()).reset_after(bytes));
            upstream.push(Reply::sse(frames()).close_after(bytes));

            let mut client = Client::call(&upstream).await;
            assert_eq!(client.read_to_end().await.unwrap_err().kind(), ErrorKind::ConnectionReset, "{bytes}");
            if bytes > 0 {
                let (chunks, ended) = client.chunks();
                assert_eq!((chunks.concat().len(), ended), (bytes, false));
            }

            let mut client = Client::call(&upstream).await;
            client.read_to_end().await.unwrap();
            if bytes > 0 {
                let (chunks, ended) = client.chunks();
                assert_eq!((chunks.concat(), ended), (frames().concat()[..bytes].to_vec(), false));
            }
            assert_eq!(upstream.faults(), Faults { resets: 1, closes: 1, ..Faults::default() });
            assert!(upstream.requests().iter().all(|request| !request.cancelled));
        }
    })
    .await;
}

#[tokio::test]
async fn connections_can_break_before_the_answer() {
    within_deadline(async {
        let upstream = Upstream::start().await.unwrap();
        upstream.push(Reply::reset());
        upstream.push(Reply::close());
        let mut client = Client::call(&upstream).await;
        assert_eq!(client.read_to_end().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        let mut client = Client::call(&upstream).await;
        client.read_to_end().await.unwrap();
        assert_eq!(client.received, b"");
        assert_eq!(upstream.faults(), Faults { resets: 1, closes: 1, ..Faults::default() });
        assert_eq!((upstream.requests().len(), upstream.connections(), upstream.unplayed()), (2, 2, 0));
    })
    .await;
}

#[tokio::test]
async fn clients_that_go_away_are_noticed() {
    within_deadline(async {
        let upstream = Upstream::start().await.unwrap();
        let never = Gate::closed();
        upstream.push(Reply::sse(frames()).stall_after(11, &never));
        upstream.push(Reply::sse(frames()).delay_headers(&never));
        upstream.push(Reply::sse(frames()).stall_after(35, &never));

        let mut client = Client::call(&upstream).await;
        client.read_until(b"one\n\n\r\n").await;
        drop(client);
        upstream.wait_cancelled(1).await.unwrap();

        let client = Client::call(&upstream).await;
        upstream.wait_faults(|faults| faults.header_delays == 1).await.unwrap();
        drop(client);
        upstream.wait_cancelled(2).await.unwrap();

        // All bytes were sent, but the body did not end.
        let mut client = Client::call(&upstream).await;
        client.read_until(b"three\n\n\r\n").await;
        drop(client);
        upstream.wait_cancelled(3).await.unwrap();
        assert!(upstream.requests().iter().all(|request| request.cancelled));
    })
    .await;
}

#[tokio::test]
async fn delayed_headers_come_when_the_gate_opens() {
    within_deadline(async {
        let upstream = Upstream::start().await.unwrap();
        let gate = Gate::closed();
        let reply = Reply::json(429, &json!({"error": {}})).header("Retry-After", "2").delay_headers(&gate);
        upstream.set_default(reply);
        let mut client = Client::call(&upstream).await;
        upstream.wait_faults(|faults| faults.header_delays == 1).await.unwrap();
        assert_eq!(client.received, b"");
        gate.open();
        client.read_until(b"{\"error\":{}}").await;
        let (head, _) = client.answer();
        assert!(head.starts_with("http/1.1 429 ") && head.contains("\r\nretry-after: 2\r\n"), "{head}");
        assert!(head.contains("\r\ncontent-length: 12\r\n"), "{head}");
        // The same connection serves the next call; an open gate delays nothing.
        client.received.clear();
        client.send("POST /v1/responses HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2\r\n[]\r\n0\r\n\r\n").await;
        client.read_until(b"{\"error\":{}}").await;
        let second = upstream.wait_for_request(2).await.unwrap();
        assert_eq!((second.json(), second.header("host"), upstream.connections()), (json!([]), Some("x"), 1));
        assert_eq!(upstream.faults().header_delays, 1);
    })
    .await;
}

#[tokio::test]
async fn any_request_gets_an_answer() {
    within_deadline(async {
        let upstream = Upstream::start().await.unwrap();
        upstream.route(Method::GET, "/healthz", Reply::bytes(StatusCode::NO_CONTENT, "text/plain", ""));
        let ask = async |head: &str| {
            let mut client = Client::connect(&upstream).await;
            client.send(&format!("{head}\r\nhost: x\r\nconnection: close\r\n\r\n")).await;
            client.read_to_end().await.unwrap();
            let (head, body) = client.answer();
            (head[9..12].to_owned(), serde_json::from_slice::<Value>(body).unwrap_or_default())
        };
        let (status, body) = ask("GET /v1/models?client_version=0.169.0 HTTP/1.1").await;
        assert_eq!(
            (status.as_str(), &body["object"], &body["data"][0]["object"]),
            ("200", &json!("list"), &json!("model"))
        );
        let (status, body) = ask("POST /v1/responses HTTP/1.1").await;
        assert_eq!((status.as_str(), &body["error"]["code"]), ("500", &json!("script_exhausted")));
        assert_eq!(ask("DELETE /nothing HTTP/1.1").await.0, "404");
        assert_eq!(ask("OPTIONS * HTTP/1.1").await.0, "404");
        assert_eq!(ask("GET /healthz HTTP/1.1").await, ("204".to_owned(), Value::Null));
        assert_eq!(ask("HEAD /v1/models HTTP/1.1").await, ("404".to_owned(), Value::Null));

        let mut client = Client::connect(&upstream).await;
        client
            .send(
                "GET /v1/responses HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n",
            )
            .await;
        client.read_until(b"}}").await;
        assert!(client.answer().0.starts_with("http/1.1 426 "));
        // Nonsense ends that connection and nothing else.
        let mut client = Client::connect(&upstream).await;
        client.send("\u{0}\u{1}nonsense\r\n\r\n").await;
        drop(client.read_to_end().await);
        assert_eq!(ask("GET /v1/models HTTP/1.1").await.0, "200");

        let all = upstream.all_requests();
        assert!(all.iter().all(|request| !request.cancelled));
        assert_eq!((all.len(), upstream.requests().len()), (8, 1));
        assert_eq!(
            (all[0].path.as_str(), all[0].query.as_deref()),
            ("/v1/models", Some("client_version=0.169.0"))
        );
    })
    .await;
}

#[tokio::test]
async fn shutdown_frees_the_port_and_breaks_connections() {
    within_deadline(async {
        let upstream = Upstream::start().await.unwrap();
        upstream.push(Reply::sse(frames()).stall_after(0, &Gate::closed()));
        let mut client = Client::call(&upstream).await;
        upstream.wait_for_request(1).await.unwrap();
        let address = upstream.address();
        upstream.shutdown().await;
        drop(client.read_to_end().await);
        assert!(tokio::net::TcpListener::bind(address).await.is_ok());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn waits_end_with_what_was_seen() {
    let upstream = Upstream::start().await.unwrap();
    let timeout = upstream.wait_for_request(3).await.unwrap_err();
    assert_eq!(timeout.to_string(), "waited 10s for 3 model calls, saw 0");
}

#[tokio::test]
async fn another_credential_than_the_accepted_one_is_refused_and_counted() {
    within_deadline(async {
        let upstream = Upstream::start().await.unwrap();
        upstream.set_default(Reply::json(200, &json!({"ok": true})));
        upstream.accept_only("Bearer new");
        for (line, status) in
            [("authorization: Bearer new", "200"), ("authorization: Bearer old", "401"), ("x-none: a", "401")]
        {
            let mut client = Client::connect(&upstream).await;
            let head =
                format!("POST /v1/responses HTTP/1.1\r\nhost: h\r\n{line}\r\ncontent-length: 2\r\n\r\n");
            client.send(&format!("{head}{{}}")).await;
            client.read_until(b"}").await;
            assert!(client.answer().0.starts_with(&format!("http/1.1 {status} ")), "{line}");
        }
        assert_eq!(upstream.faults(), Faults { unauthorized: 2, ..Faults::default() });
        assert_eq!(upstream.requests().len(), 3, "refused ones are recorded too");
    })
    .await;
}
