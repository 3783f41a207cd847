//! A client that speaks the protocol by hand. Everything it waits for has a deadline.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use http::header::AUTHORIZATION;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};

/// How long anything may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// A WebSocket client.
pub(crate) struct Client {
    socket: WebSocketStream<TcpStream>,
    next_id: u64,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::connect_as(address, None).await
    }

    /// Connects and shows this key or token.
    pub(crate) async fn connect_with(address: SocketAddr, key: &str) -> Self {
        Self::connect_as(address, Some(key)).await
    }

    async fn connect_as(address: SocketAddr, key: Option<&str>) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut request = format!("ws://{address}/any/path").into_client_request().unwrap();
        if let Some(key) = key {
            request.headers_mut().insert(AUTHORIZATION, format!("Bearer {key}").parse().unwrap());
        }
        let (socket, _) = tokio_tungstenite::client_async(request, stream).await.unwrap();
        Self { socket, next_id: 0 }
    }

    /// Waits until the server has closed the connection.
    pub(crate) async fn until_closed(&mut self) {
        while self.next().await.is_some() {}
    }

    pub(crate) async fn initialize(&mut self) {
        self.initialize_with(json!({"experimentalApi": true})).await;
    }

    pub(crate) async fn initialize_with(&mut self, capabilities: Value) {
        let params = json!({"clientInfo": {"name": "probe", "version": "1.2"}, "capabilities": capabilities});
        self.ask("initialize", params).await;
        self.send(Message::text(r#"{"method":"initialized"}"#)).await;
    }

    pub(crate) async fn send(&mut self, message: Message) {
        self.try_send(message).await.unwrap();
    }

    pub(crate) async fn try_send(&mut self, message: Message) -> Result<(), Error> {
        self.socket.send(message).await
    }

    /// Sends a request and returns its id.
    pub(crate) async fn request(&mut self, method: &str, params: Value) -> u64 {
        self.next_id += 1;
        let request = json!({"id": self.next_id, "method": method, "params": params});
        self.send(Message::text(request.to_string())).await;
        self.next_id
    }

    /// Sends a request that belongs to a trace.
    pub(crate) async fn request_in(&mut self, trace: Value, method: &str, params: Value) {
        self.next_id += 1;
        let request = json!({"id": self.next_id, "method": method, "params": params, "trace": trace});
        self.send(Message::text(request.to_string())).await;
    }

    /// The next message, whatever it is; `None` when the server has closed the connection.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        loop {
            let message =
                tokio::time::timeout(DEADLINE, self.socket.next()).await.expect("a message in time")?;
            match message.ok()? {
                Message::Text(text) => return Some(serde_json::from_str(&text).unwrap()),
                Message::Close(_) => return None,
                _ => {}
            }
        }
    }

    /// Sends a request and waits for its answer, passing over what is said meanwhile.
    pub(crate) async fn answer(&mut self, method: &str, params: Value) -> Value {
        let id = self.request(method, params).await;
        loop {
            let message = self.next().await.expect("an answer");
            // A request of the server's can have the same id.
            if message["id"] == id && message["method"].is_null() {
                return message;
            }
        }
    }

    /// The result of a request.
    pub(crate) async fn ask(&mut self, method: &str, params: Value) -> Value {
        let answer = self.answer(method, params).await;
        assert!(answer["error"].is_null(), "{method}: {answer}");
        answer["result"].clone()
    }

    /// The text of a request's refusal.
    pub(crate) async fn refused(&mut self, method: &str, params: Value) -> String {
        let answer = self.answer(method, params).await;
        assert_eq!(answer["error"]["code"], -32600, "{method}: {answer}");
        answer["error"]["message"].as_str().unwrap().to_owned()
    }

    /// All messages up to the notification with this method, which is the last.
    pub(crate) async fn until(&mut self, method: &str) -> Vec<Value> {
        let mut seen = Vec::new();
        loop {
            let message = self.next().await.expect("a notification");
            let done = message["method"] == method;
            seen.push(message);
            if done {
                return seen;
            }
        }
    }

    /// All messages up to the answer to the latest request, which is the last.
    pub(crate) async fn until_answer(&mut self) -> Vec<Value> {
        let mut seen = Vec::new();
        loop {
            let message = self.next().await.expect("an answer");
            let done = message["id"] == self.next_id && message["method"].is_null();
            seen.push(message);
            if done {
                return seen;
            }
        }
    }

    /// Starts a thread and returns its id.
    pub(crate) async fn thread(&mut self) -> String {
        let opened = self.ask("thread/start", json!({})).await;
        self.until("thread/started").await;
        opened["thread"]["id"].as_str().unwrap().to_owned()
    }

    /// Starts a turn and returns its id.
    pub(crate) async fn turn(&mut self, thread: &str, text: &str) -> String {
        let input = json!([{"type": "text", "text": text}]);
        let started = self.ask("turn/start", json!({"threadId": thread, "input": input})).await;
        started["turn"]["id"].as_str().unwrap().to_owned()
    }
}
