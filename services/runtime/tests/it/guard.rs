//! Requests of web pages are refused on both HTTP versions, in the form that their sender understands.

use http::{Request, Version};
use http_body_util::Empty;
use service_runtime::guard::{Guard, GuardConfig};

use crate::support::{Server, echo};

async fn guarded() -> Server {
    let config = GuardConfig { allowed_origins: vec!["https://tools.example".to_owned()] };
    let rules = config.build(&"127.0.0.1:0".parse().unwrap(), "guard").unwrap();
    Server::start(Guard::new(echo(), rules)).await
}

#[tokio::test]
async fn http1_requests() {
    let server = guarded().await;
    for (head, status, code) in [
        ("GET /x HTTP/1.1\r\nHost: localhost\r\n", "200", "app GET /x"),
        ("GET /x HTTP/1.1\r\nHost: localhost\r\nOrigin: https://tools.example\r\n", "200", "app GET /x"),
        ("GET http://127.0.0.1:1/x HTTP/1.1\r\nHost: 127.0.0.1:1\r\n", "200", "app GET /x"),
        ("GET /x HTTP/1.1\r\nHost: evil.example\r\n", "421", "foreign_host"),
        ("GET http://evil.example/x HTTP/1.1\r\nHost: localhost\r\n", "421", "foreign_host"),
        ("GET /x HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\n", "403", "foreign_origin"),
        ("GET /x HTTP/1.1\r\nHost: localhost\r\nOrigin: null\r\n", "403", "foreign_origin"),
        ("GET /x HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n", "400", "bad_host"),
        ("GET /x HTTP/1.1\r\n", "400", "bad_host"),
        ("GET /x HTTP/1.0\r\n", "400", "bad_host"),
    ] {
        let answer = server.http1(&format!("{head}Connection: close\r\n\r\n")).await;
        assert!(answer.split(' ').nth(1) == Some(status) && answer.contains(code), "{head}: {answer}");
        if let Some((_, body)) = answer.split_once("\r\n\r\n").filter(|_| status != "200") {
            let body: serde_json::Value = serde_json::from_str(body).unwrap();
            assert_eq!(body["error"]["code"], code);
            assert_eq!(body["error"]["type"], "invalid_request_error");
            assert!(body["error"]["message"].is_string());
        }
    }
}

fn http2_request(authority: &str, headers: &[(&str, &str)]) -> Request<Empty<bytes::Bytes>> {
    let mut request = Request::builder().version(Version::HTTP_2).uri(format!("http://{authority}/x"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Empty::new()).unwrap()
}

#[tokio::test]
async fn http2_requests() {
    let server = guarded().await;
    let mut client = server.http2().await;
    for (authority, headers, status) in [
        ("localhost", &[][..], 200),
        ("[::1]:4100", &[], 200),
        ("evil.example", &[], 421),
        ("localhost", &[("origin", "https://evil.example")], 403),
        ("localhost", &[("host", "evil.example")], 421),
    ] {
        let answer = client.send(http2_request(authority, headers)).await;
        assert_eq!(answer.status(), status, "{authority} {headers:?}");
    }
}

#[tokio::test]
async fn grpc_requests_get_a_grpc_status() {
    let server = guarded().await;
    let mut client = server.http2().await;
    for (authority, origin) in [("evil.example", None), ("localhost", Some("https://evil.example"))] {
        let mut headers = vec![("content-type", "application/grpc+proto"), ("te", "trailers")];
        headers.extend(origin.map(|origin| ("origin", origin)));
        let answer = client.send(http2_request(authority, &headers)).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "application/grpc");
        assert_eq!(answer.headers()["grpc-status"], "7");
        assert!(!answer.headers()["grpc-message"].is_empty());
        assert!(answer.body().is_empty());
    }
}
