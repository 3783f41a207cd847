//! A scripted client of an app-server, over WebSocket or the pipes of a process of its own: calls methods, waits for
//! notifications, and keeps everything that the server sent.
//!
//! Each message in either direction is checked against the schema of the pinned Codex, but for what is wrong on purpose:
//! no test can get a message past it.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::schema::Protocol;

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

/// How messages travel.
enum Wire {
    Socket(Box<WebSocketStream<MaybeTlsStream<TcpStream>>>),
    Pipes(Box<Pipes>),
}

/// A process of the client's own, which dies with it.
struct Pipes {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
}

/// One connection.
pub struct Rpc {
    wire: Wire,
    protocol: Option<Arc<Protocol>>,
    asked: Vec<String>,
    questions: HashMap<String, String>,
    unread: VecDeque<Value>,
    received: Vec<Received>,
}

impl Rpc {
    /// Connects to `url` without any handshake of the protocol.
    pub async fn connect(url: &str) -> anyhow::Result<Self> {
        Self::connect_as(url, None).await
    }

    /// The same with a key or token to show.
    pub async fn connect_with(url: &str, key: &str) -> anyhow::Result<Self> {
        Self::connect_as(url, Some(key)).await
    }

    async fn connect_as(url: &str, key: Option<&str>) -> anyhow::Result<Self> {
        let mut request = url.into_client_request()?;
        if let Some(key) = key {
            request.headers_mut().insert("authorization", format!("Bearer {key}").parse()?);
        }
        let connected = tokio::time::timeout(ANSWER_TIME_MAX, tokio_tungstenite::connect_async(request));
        let (socket, _) =
            connected.await.context("connect in time")?.with_context(|| format!("connect to {url}"))?;
        Self::over(Wire::Socket(Box::new(socket))).await
    }

    /// Starts a server of its own and speaks to it over its pipes.
    pub async fn spawn(mut server: Command) -> anyhow::Result<Self> {
        server.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let mut child = server.spawn().context("start an app-server")?;
        let lines = BufReader::new(child.stdout.take().context("its output")?).lines();
        let stdin = child.stdin.take();
        Self::over(Wire::Pipes(Box::new(Pipes { child, stdin, lines }))).await
    }

    async fn over(wire: Wire) -> anyhow::Result<Self> {
        Ok(Self {
            wire,
            protocol: Protocol::pinned().await?,
            asked: Vec::new(),
            questions: HashMap::new(),
            unread: VecDeque::new(),
            received: Vec::new(),
        })
    }

    /// Closes the pipes to a server of its own and waits for it to end.
    pub async fn leave(self) -> anyhow::Result<ExitStatus> {
        let Wire::Pipes(mut pipes) = self.wire else { anyhow::bail!("the server is not its own") };
        drop(pipes.stdin.take());
        let ended = tokio::time::timeout(ANSWER_TIME_MAX, pipes.child.wait()).await;
        Ok(ended.context("an end in time")??)
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

    /// Calls `method` and returns its result; an error answer is an error, and so is a request that breaks the schema.
    pub async fn call(&mut self, method: &str, params: Value) -> anyhow::Result<Value> {
        if let Some(protocol) = &self.protocol {
            let request = json!({"id": self.asked.len(), "method": method, "params": params});
            protocol.check_request(&request).with_context(|| format!("the test's own {request}"))?;
        }
        let answer = self.ask(method, params).await?;
        answer.get("result").cloned().with_context(|| format!("{method} was answered {answer}"))
    }

    /// Calls `method` and returns the error that it must be answered with.
    pub async fn refused(&mut self, method: &str, params: Value) -> anyhow::Result<Value> {
        let answer = self.ask(method, params).await?;
        answer.get("error").cloned().with_context(|| format!("{method} was answered {answer}"))
    }

    /// Calls `method` with whatever parameters and returns the whole answer.
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
        if let (Some(protocol), Some(asked)) = (&self.protocol, self.questions.get(&id.to_string())) {
            protocol.check_answer(asked, &result).with_context(|| format!("the test's own {result}"))?;
        }
        self.send_text(json!({"id": id, "result": result}).to_string()).await
    }

    /// Sends `text` as it is.
    pub async fn send_text(&mut self, text: String) -> anyhow::Result<()> {
        let Wire::Pipes(pipes) = &mut self.wire else { return self.send(Message::text(text)).await };
        let stdin = pipes.stdin.as_mut().context("the pipe was closed")?;
        let line = text + "\n";
        let sent = tokio::time::timeout(ANSWER_TIME_MAX, stdin.write_all(line.as_bytes())).await;
        sent.context("send in time")?.context("send a line")
    }

    /// Sends any frame.
    pub async fn send(&mut self, frame: Message) -> anyhow::Result<()> {
        let Wire::Socket(socket) = &mut self.wire else { anyhow::bail!("pipes carry no frames") };
        let sent = tokio::time::timeout(ANSWER_TIME_MAX, socket.send(frame)).await;
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

    async fn text(&mut self) -> anyhow::Result<String> {
        match &mut self.wire {
            Wire::Pipes(pipes) => pipes.lines.next_line().await?.context("the server closed its output"),
            Wire::Socket(socket) => loop {
                let frame = socket.next().await.context("the server closed the connection")??;
                if let Message::Text(text) = frame {
                    return Ok(text.to_string());
                }
            },
        }
    }

    async fn receive(&mut self) -> anyhow::Result<Value> {
        let text = self.text().await?;
        let message: Value = serde_json::from_str(&text).with_context(|| format!("not JSON: {text}"))?;
        let answer = message.get("method").is_none();
        let id = message.get("id").and_then(Value::as_u64).and_then(|id| usize::try_from(id).ok());
        let asked = id.filter(|_| answer).and_then(|id| self.asked.get(id)).cloned();
        if let Some(protocol) = &self.protocol {
            let checked = protocol.check(&message, asked.as_deref());
            checked.with_context(|| format!("the server said {message}"))?;
        }
        if let (Some(id), Some(method)) = (message.get("id"), message.get("method").and_then(Value::as_str)) {
            self.questions.insert(id.to_string(), method.to_owned());
        }
        self.received.push(Received { message: message.clone(), asked });
        Ok(message)
    }

    /// Every kind of message that came: methods of notifications and questions, and of requests that were answered well.
    pub fn kinds(&self) -> BTreeSet<String> {
        let kind = |received: &Received| {
            let method = received.message.get("method").and_then(Value::as_str).map(str::to_owned);
            let answered = received.asked.clone().filter(|_| received.message.get("result").is_some());
            method.or(answered)
        };
        self.received.iter().filter_map(kind).collect()
    }
}
