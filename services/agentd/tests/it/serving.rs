//! Each way to listen, and how each ends.

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::net::{TcpStream, UnixStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::handshake::client::Request;

use crate::process::{Agent, DEADLINE};

fn hello() -> String {
    json!({"id": "a", "method": "initialize", "params": {"clientInfo": {"name": "p", "version": "1"}}})
        .to_string()
}

/// Introduces a client and waits until the server has closed the connection.
async fn talk<S: AsyncRead + AsyncWrite + Unpin>(stream: S, agent: &Agent) {
    talk_as("ws://localhost/".into_client_request().unwrap(), stream, agent).await;
}

/// The same with this handshake.
async fn talk_as<S: AsyncRead + AsyncWrite + Unpin>(request: Request, stream: S, agent: &Agent) {
    let (mut socket, _) = tokio_tungstenite::client_async(request, stream).await.unwrap();
    socket.send(Message::text(hello())).await.unwrap();
    let answer = tokio::time::timeout(DEADLINE, socket.next()).await.unwrap().unwrap().unwrap();
    let answer: Value = serde_json::from_str(answer.to_text().unwrap()).unwrap();
    assert_eq!(answer["result"]["codexHome"], agent.home.path().to_str().unwrap());
    agent.terminate();
    while let Some(Ok(_)) = tokio::time::timeout(DEADLINE, socket.next()).await.unwrap() {}
}

async fn http(address: &str, head: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("{head}\r\nConnection: close\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(DEADLINE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    answer
}

#[tokio::test]
async fn on_tcp() {
    let mut agent = Agent::start(&["app-server", "--listen", "ws://127.0.0.1:0"]);
    let address = agent.says("listening on ws://").await;
    assert!(http(&address, "GET /readyz HTTP/1.1\r\nHost: localhost").await.starts_with("HTTP/1.1 200 "));
    let text = http(&address, "GET /readyz HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost").await;
    assert!(text.starts_with("HTTP/1.1 403 "), "{text}");
    let text = http(&address, "GET /foo HTTP/1.1\r\nHost: localhost").await;
    assert!(text.starts_with("HTTP/1.1 400 ") && text.contains("did not include 'upgrade'"), "{text}");
    assert!(http(&address, "GET / HTTP/1.1\r\nHost: evil.example").await.starts_with("HTTP/1.1 421 "));
    talk(TcpStream::connect(&address).await.unwrap(), &agent).await;
    assert_eq!(agent.ended().await, Some(0));
}

#[tokio::test]
async fn health_is_shown_elsewhere_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("agent.toml");
    std::fs::write(&file, "health_listen = \"127.0.0.1:0\"\n").unwrap();
    let config = ["--service-config", file.to_str().unwrap()];
    let mut agent = Agent::start(&[&["app-server", "--listen", "unix://"][..], &config].concat());
    let address = agent.says("showing health on ").await;
    agent.says("listening on unix://").await;
    for (path, expected) in [("/livez", 200), ("/readyz", 200), ("/metrics", 200), ("/", 404)] {
        let text = http(&address, &format!("GET {path} HTTP/1.1\r\nHost: 10.0.0.7")).await;
        assert!(text.starts_with(&format!("HTTP/1.1 {expected} ")), "{path}: {text}");
    }
    agent.terminate();
    assert_eq!(agent.ended().await, Some(0));
}

/// Codex's own flags, on an address that other machines could reach.
#[tokio::test]
async fn with_a_token_that_clients_share() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "tok-1\n").unwrap();
    let flags = ["--ws-auth", "capability-token", "--ws-token-file", file.path().to_str().unwrap()];
    let mut agent = Agent::start(&[&["app-server", "--listen", "ws://0.0.0.0:0"][..], &flags].concat());
    let address = agent.says("listening on ws://").await.replace("0.0.0.0", "127.0.0.1");
    let upgrade = "Connection: upgrade, close\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    for (lines, expected) in [
        (String::new(), "missing websocket bearer token"),
        ("\r\nAuthorization: Bearer x".to_owned(), "invalid websocket bearer token"),
        ("\r\nOrigin: http://localhost\r\nAuthorization: Bearer tok-1".to_owned(), "web pages"),
    ] {
        let text = http(&address, &format!("GET / HTTP/1.1\r\nHost: agent\r\n{upgrade}{lines}")).await;
        assert!(text.contains(expected), "{text}");
    }
    for path in ["/readyz", "/healthz"] {
        let text = http(&address, &format!("GET {path} HTTP/1.1\r\nHost: agent")).await;
        assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
    }
    let mut request = "ws://agent/".into_client_request().unwrap();
    request.headers_mut().insert("authorization", "Bearer tok-1".parse().unwrap());
    talk_as(request, TcpStream::connect(&address).await.unwrap(), &agent).await;
    assert_eq!(agent.ended().await, Some(0));
}

#[tokio::test]
async fn on_a_unix_socket() {
    let mut agent = Agent::start(&["app-server", "--listen", "unix://"]);
    let path = agent.says("listening on unix://").await;
    assert_eq!(path, agent.home.path().join("run/agent.sock").to_str().unwrap());
    talk(UnixStream::connect(&path).await.unwrap(), &agent).await;
    assert_eq!(agent.ended().await, Some(0));
}

#[tokio::test]
async fn on_standard_input_until_it_ends() {
    let mut agent = Agent::start(&["--config", "model=x", "app-server", "--listen", "stdio://"]);
    let mut stdin = agent.child.stdin.take().unwrap();
    let mut stdout = BufReader::new(agent.child.stdout.take().unwrap()).lines();
    stdin.write_all(format!("{}\n", hello()).as_bytes()).await.unwrap();
    let answer = tokio::time::timeout(DEADLINE, stdout.next_line()).await.unwrap().unwrap().unwrap();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["id"], "a");
    drop(stdin);
    assert_eq!(agent.ended().await, Some(0));
    assert_eq!(stdout.next_line().await.unwrap(), None);
}

#[tokio::test]
async fn what_cannot_be_served_is_refused() {
    for (args, code, expected) in [
        (
            &["app-server", "--listen", "ws://0.0.0.0:0"][..],
            78,
            "refusing to start non-loopback websocket listener 0.0.0.0:0 without auth; configure `--ws-auth",
        ),
        (&["app-server", "--ws-auth", "capability-token"], 2, "`--ws-token-file` or `--ws-token-sha256`"),
        (&["app-server", "--listen", "wss://127.0.0.1:0"], 78, "without a certificate; name one in [tls]"),
        (&["--service-config", "/nonexistent.toml", "app-server"], 78, "no such configuration file"),
    ] {
        let mut agent = Agent::start(args);
        agent.says(expected).await;
        assert_eq!(agent.ended().await, Some(code), "{args:?}");
    }
}
