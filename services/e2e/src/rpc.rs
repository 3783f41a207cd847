//! A scripted client of an app-server over WebSocket: calls methods, waits for notifications, and keeps everything
//! that the server sent, so that a test can check each message.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// No answer of an app-server on loopback takes this long.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(20);

/// One message of the server, with the method that it answers if it is an answer.
#[derive(Clone, Debug)]
pub struct Received {
    /// The message as it came.
    pub message: Value,
    /// The method of the request that this message answers.
    pub asked: Option<String>,
}

/// One connection.
pub struct Rpc {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    asked: Vec<String>,
    unread: VecDeque<Value>,
    received: Vec<Received>,
}

impl Rpc {
    /// Connects to `url` without any handshake of the protocol.
    pub async fn connect(url: &str) -> anyhow::Result<Self> {
        let connected = tokio::time::timeout(ANSWER_TIME_MAX, tokio_tungstenite::connect_async(url));
        let (socket, _) =
            connected.await.context("connect in time")?.with_context(|| format!("connect to {url}"))?;
        Ok(Self { socket, asked: Vec::new(), unread: VecDeque::new(), received: Vec::new() })
    }

    /// Introduces the client, as every client does first.
    pub async fn initialize(&mut self) -> anyhow::Result<Value> {
        self.initialize_with(json!({"experimentalApi": true, "requestAttestation": false})).await
    }

    /// The same with these capabilities.
    pub async fn initialize_with(&mut self, capabilities: Value) -> anyhow::Result<Value> {
        let client = json!({"name": "scripted", "title": null, "version": "1.0.0"});
        let params = json!({"clientInfo": client, "capabilities": capabilities});
        let answer = self.call("initialize", params).await?;
        self.send_text(json!({"method": "initialized"}).to_string()).await?;
        Ok(answer)
    }

    /// Calls `method` and returns its result; an error answer is an error.
    pub async fn call(&mut self, method: &str, params: Value) -> anyhow::Result<Value> {
        let answer = self.ask(method, params).await?;
        answer.get("result").cloned().with_context(|| format!("{method} was answered {answer}"))
    }

    /// Calls `method` and returns the error that it must be answered with.
    pub async fn refused(&mut self, method: &str, params: Value) -> anyhow::Result<Value> {
        let answer = self.ask(method, params).await?;
        answer.get("error").cloned().with_context(|| format!("{method} was answered {answer}"))
    }

    /// Calls `method` and returns the whole answer.
    pub async fn ask(&mut self, method: &str, params: Value) -> anyhow::Result<Value> {
        let id = self.asked.len();
        self.asked.push(method.to_owned());
        self.send_text(json!({"id": id, "method": method, "params": params}).to_string()).await?;
        let what = format!("the answer to {method}");
        self.wait(&what, |message| message.get("method").is_none() && message.get("id") == Some(&json!(id)))
            .await
    }

    /// Waits for the next notification of `method` and returns its parameters; earlier ones stay readable.
    pub async fn notified(&mut self, method: &str) -> anyhow::Result<Value> {
        let message = self.wait(method, |message| message.get("method") == Some(&json!(method))).await?;
        Ok(message.get("params").cloned().unwrap_or_default())
    }

    /// Waits until the server asks for `method` and returns the id that the answer must have.
    pub async fn asked(&mut self, method: &str) -> anyhow::Result<Value> {
        let question = |message: &Value| message.get("method") == Some(&json!(method));
        let message = self.wait(method, |message| question(message) && message.get("id").is_some()).await?;
        message.get("id").cloned().context("a question has an id")
    }

    /// Answers what the server has asked.
    pub async fn answer(&mut self, id: &Value, result: Value) -> anyhow::Result<()> {
        self.send_text(json!({"id": id, "result": result}).to_string()).await
    }

    /// Sends `text` as it is.
    pub async fn send_text(&mut self, text: String) -> anyhow::Result<()> {
        self.send(Message::text(text)).await
    }

    /// Sends any frame.
    pub async fn send(&mut self, frame: Message) -> anyhow::Result<()> {
        let sent = tokio::time::timeout(ANSWER_TIME_MAX, self.socket.send(frame)).await;
        sent.context("send in time")?.context("send a frame")
    }

    /// Everything that came on this connection, in order.
    pub fn received(&self) -> &[Received] {
        &self.received
    }

    async fn wait(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        if let Some(found) = self.unread.iter().position(&wanted) {
            return self.unread.remove(found).context("the position was just found");
        }
        let found = async {
            loop {
                let message = self.receive().await?;
                if wanted(&message) {
                    return Ok(message);
                }
                self.unread.push_back(message);
            }
        };
        let outcome: anyhow::Result<Value> = tokio::time::timeout(ANSWER_TIME_MAX, found)
            .await
            .unwrap_or_else(|_| Err(anyhow::anyhow!("timed out")));
        outcome.with_context(|| format!("waited for {what}; unread is {:?}", self.unread))
    }

    async fn receive(&mut self) -> anyhow::Result<Value> {
        loop {
            let frame = self.socket.next().await.context("the server closed the connection")??;
            let Message::Text(text) = frame else { continue };
            let message: Value = serde_json::from_str(&text).with_context(|| format!("not JSON: {text}"))?;
            let answer = message.get("method").is_none();
            let id = message.get("id").and_then(Value::as_u64).and_then(|id| usize::try_from(id).ok());
            let asked = id.filter(|_| answer).and_then(|id| self.asked.get(id)).cloned();
            self.received.push(Received { message: message.clone(), asked });
            return Ok(message);
        }
    }
}
