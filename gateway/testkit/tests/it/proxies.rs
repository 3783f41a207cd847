//! Proxies do what they are told, to the byte, and record what was asked of them.

use std::net::SocketAddr;

use gateway_testkit::{ConnectMode, ConnectProxy, ForwardingProxy, Gate, Reply, Upstream};
use http::{Method, StatusCode};
use serde_json::json;

use crate::client::{Client, within_deadline};

async fn ask(proxy: &ConnectProxy, target: &str, more: &str) -> Client {
    let mut client = Client::connect_to(proxy.address()).await;
    client.send(&format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{more}\r\n")).await;
    client
}

async fn status(client: &mut Client) -> String {
    client.read_until(b"\r\n\r\n").await;
    client.answer().0[9..12].to_owned()
}

#[tokio::test]
async fn tunnels_carry_bytes_both_ways() {
    within_deadline(async {
        let upstream = Upstream::start().await.unwrap();
        upstream.route(Method::GET, "/healthz", Reply::bytes(StatusCode::OK, "text/plain", "well"));
        let proxy = ConnectProxy::start().await.unwrap();
        proxy.route("model.example:443", upstream.address());
        let direct = upstream.address().to_string();
        for target in ["model.example:443", direct.as_str()] {
            let mut client = ask(&proxy, target, "").await;
            assert_eq!(status(&mut client).await, "200");
            client.received.clear();
            client.send("GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
            client.read_to_end().await.unwrap();
            assert_eq!(client.answer().1, b"well");
        }
        let tunnels = proxy.tunnels();
        assert_eq!((tunnels.len(), tunnels[0].target.as_str()), (2, "model.example:443"));
        assert!(tunnels.iter().all(|tunnel| tunnel.granted && tunnel.authorization.is_none()));
        assert_eq!(tunnels[0].headers, ["host"]);
        assert_eq!((proxy.connections(), upstream.connections()), (2, 2));
    })
    .await;
}

#[tokio::test]
async fn tunnels_are_refused_in_every_way() {
    within_deadline(async {
        let proxy = ConnectProxy::start().await.unwrap();
        // Nothing beyond the loopback address is reached.
        assert_eq!(status(&mut ask(&proxy, "model.example:443", "").await).await, "502");
        let nobody: SocketAddr =
            tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        assert_eq!(status(&mut ask(&proxy, &nobody.to_string(), "").await).await, "502");
        for refusal in [403, 407, 502] {
            proxy.set_mode(ConnectMode::Refuse(refusal));
            assert_eq!(status(&mut ask(&proxy, "x:1", "").await).await, refusal.to_string());
        }
        proxy.set_mode(ConnectMode::CloseAfterGrant);
        let mut client = ask(&proxy, "x:1", "").await;
        assert_eq!(status(&mut client).await, "200");
        client.read_to_end().await.unwrap();

        proxy.set_mode(ConnectMode::Tunnel);
        proxy.require_authorization("Basic dXNlcjpwYXNz");
        let upstream = Upstream::start().await.unwrap();
        let target = upstream.address().to_string();
        let mut client = ask(&proxy, &target, "").await;
        assert_eq!(status(&mut client).await, "407");
        assert!(client.answer().0.contains("\r\nproxy-authenticate: basic "));
        let wrong = "proxy-authorization: Basic eDp4\r\n";
        assert_eq!(status(&mut ask(&proxy, &target, wrong).await).await, "407");
        let right = "Proxy-Authorization: Basic dXNlcjpwYXNz\r\n";
        assert_eq!(status(&mut ask(&proxy, &target, right).await).await, "200");
        let tunnels = proxy.tunnels();
        assert_eq!(tunnels.last().unwrap().authorization.as_deref(), Some("Basic dXNlcjpwYXNz"));
        assert_eq!(tunnels.iter().filter(|tunnel| tunnel.granted).count(), 3);

        let mut client = Client::connect_to(proxy.address()).await;
        client.send("GET http://x/ HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert_eq!(status(&mut client).await, "405");
        proxy.set_mode(ConnectMode::Hang);
        let client = ask(&proxy, "x:1", "").await;
        while proxy.tunnels().len() < tunnels.len() + 1 {
            tokio::task::yield_now().await;
        }
        assert_eq!(client.received, b"");
    })
    .await;
}

#[tokio::test]
async fn forwarding_adds_what_proxies_add_and_nothing_else() {
    within_deadline(async {
        let upstream = Upstream::start().await.unwrap();
        let body = "x".repeat(100_000);
        upstream.push(Reply::json(200, &json!({"said": body})).header("x-request-id", "req_1"));
        let proxy = ForwardingProxy::start(upstream.address()).await.unwrap();
        let mut client = Client::connect_to(proxy.address()).await;
        let length = body.len();
        client
            .send(&format!(
                "POST /v1/responses?a=%2F&b HTTP/1.1\r\nHost: bedrock.example\r\nX-Forwarded-For: 10.0.0.1\r\n\
                 authorization: signed\r\ncontent-length: {length}\r\n\r\n{body}"
            ))
            .await;
        client.read_until(b"\"}").await;
        let (head, answer) = client.answer();
        assert!(head.starts_with("http/1.1 200 ") && head.contains("\r\nx-request-id: req_1\r\n"), "{head}");
        assert_eq!(serde_json::from_slice::<serde_json::Value>(answer).unwrap()["said"], body);

        let request = &upstream.requests()[0];
        assert_eq!((request.path.as_str(), request.query.as_deref()), ("/v1/responses", Some("a=%2F&b")));
        assert_eq!((request.authority.as_deref(), request.body.len()), (Some("bedrock.example"), length));
        let all = |name: &str| {
            request.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(all("x-forwarded-for"), ["10.0.0.1", "127.0.0.1"]);
        assert_eq!((all("x-forwarded-proto"), all("via")), (vec!["http"], vec!["1.1 testkit"]));
        assert_eq!((all("authorization"), all("connection").len()), (vec!["signed"], 0));

        proxy.close_connections();
        client.received.clear();
        client.send("POST /v1/responses HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}").await;
        client.read_until(b"}}").await;
        assert_eq!(upstream.requests()[1].header("connection"), Some("close"));
        assert_eq!((proxy.forwarded(), upstream.connections()), (2, 2));
        assert!(proxy.url("/v1").ends_with("/v1"));
    })
    .await;
}

#[tokio::test]
async fn forwarding_passes_streams_and_their_ends_on() {
    within_deadline(async {
        let upstream = Upstream::start().await.unwrap();
        let proxy = ForwardingProxy::start(upstream.address()).await.unwrap();
        let frames = || ["data: one\n\n", "data: two\n\n"].map(bytes::Bytes::from);
        let call = "POST /v1/responses HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}";

        upstream.push(Reply::sse(frames()).stall_after(11, &Gate::closed()));
        let mut client = Client::connect_to(proxy.address()).await;
        client.send(call).await;
        client.read_until(b"one\n\n\r\n").await;
        drop(client);
        upstream.wait_cancelled(1).await.unwrap();

        upstream.push(Reply::sse(frames()).close_after(11));
        let mut client = Client::connect_to(proxy.address()).await;
        client.send(call).await;
        drop(client.read_to_end().await);
        assert!(!client.chunks().1);

        let address = upstream.address();
        upstream.shutdown().await;
        let mut client = Client::connect_to(proxy.address()).await;
        client.send(call).await;
        assert_eq!(status(&mut client).await, "502", "{address}");
    })
    .await;
}
