//! A caller with a WebSocket, who asks for one answer after the other and may leave at any moment.

use std::net::SocketAddr;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

use super::super::answer::{End, Told};
use super::super::caller::ANSWER_TIME_MAX;

/// An open socket; dropping it is hanging up.
pub(super) struct Talker {
    socket: WebSocketStream<TcpStream>,
}

impl Talker {
    pub(super) async fn connect(at: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(at).await?;
        stream.set_nodelay(true)?;
        let opened = client_async(format!("ws://{at}/v1/responses"), stream);
        let (socket, _) = tokio::time::timeout(ANSWER_TIME_MAX, opened).await??;
        Ok(Self { socket })
    }

    pub(super) async fn ask(&mut self, model: &str, order: &str) -> anyhow::Result<()> {
        let create =
            format!(r#"{{"type":"response.create","model":"{model}","stream":true,"input":"{order}"}}"#);
        Ok(self.socket.send(Message::text(create)).await?)
    }

    /// Asks, and waits for the whole answer.
    pub(super) async fn call(&mut self, model: &str, order: &str) -> Told {
        let told = async {
            match self.ask(model, order).await {
                Ok(()) => self.told(Vec::new()).await,
                Err(why) => Told::silent(format!("ask: {why:#}")),
            }
        };
        tokio::time::timeout(ANSWER_TIME_MAX, told).await.unwrap_or_else(|_| Told::silent("no end in time"))
    }

    /// The next event.
    pub(super) async fn event(&mut self) -> anyhow::Result<Bytes> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => return Ok(text.into()),
                Some(Ok(Message::Close(frame))) => anyhow::bail!("closed with {frame:?} amid an answer"),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
                None => anyhow::bail!("the socket ended amid an answer"),
            }
        }
    }

    /// What an answer says after these events. What the gateway adds as the last word of a failure is not among the events.
    pub(super) async fn told(&mut self, before: Vec<Bytes>) -> Told {
        let mut told = Told::silent("");
        told.events.extend(before.into_iter().map(|event| (String::new(), event)));
        loop {
            let event = match self.event().await {
                Ok(event) => event,
                Err(why) => {
                    told.end = End::Silent(format!("{why:#}"));
                    return told;
                }
            };
            let read: Value = serde_json::from_slice(&event).unwrap_or_default();
            let text = |path: &str| read.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
            match text("/type").as_str() {
                "response.failed" => {
                    told.end = End::Failed(text("/response/error/code"));
                    return told;
                }
                "error" => {
                    let status = read.get("status").map(Value::to_string).unwrap_or_default();
                    let retry = read.pointer("/headers/retry-after").is_some();
                    told.end = End::Refused { status, reason: text("/error/code"), retry };
                    return told;
                }
                kind => {
                    told.events.push((String::new(), event));
                    if kind == "response.completed" {
                        told.end = End::Completed;
                        return told;
                    }
                }
            }
        }
    }

    /// Waits for the end of the socket; the code of its close frame, if it has one.
    pub(super) async fn closed(&mut self) -> Option<u16> {
        let closed = async {
            loop {
                match self.socket.next().await? {
                    Ok(Message::Close(frame)) => return frame.map(|frame| frame.code.into()),
                    Ok(_) => {}
                    Err(_) => return None,
                }
            }
        };
        tokio::time::timeout(ANSWER_TIME_MAX, closed).await.ok().flatten()
    }

    /// Leaves with a goodbye, and does not wait for the answer to it.
    pub(super) async fn leave_politely(mut self) {
        // Who is gone already needs none.
        let _ = self.socket.send(Message::Close(None)).await;
    }

    /// Leaves with a reset.
    pub(super) fn leave_with_a_reset(self) {
        // Fails only where the gateway was faster.
        let _ = self.socket.get_ref().set_zero_linger();
    }
}

/// The data of events, without their types: all that a socket has.
pub(super) fn data(events: &[(String, Bytes)]) -> Vec<&Bytes> {
    events.iter().map(|(_, data)| data).collect()
}
