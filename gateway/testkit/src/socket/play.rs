//! Plays one script on one WebSocket, from the answer to the handshake to its end.
//!
//! Extensions that a client offers are declined by not being named in the answer.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::StatusCode;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::record::{Socket, SocketEnd, SocketMessage};
use super::script::{SocketScript, Step};
use crate::reply::{Break, Reply};
use crate::state::{self, Shared};
use crate::wire::Control;

/// Messages beyond this end the socket.
const MESSAGE_MAX_BYTES: usize = 256 << 20;

/// The answer to a handshake, and the session that follows when it is accepted.
pub(crate) fn handshake(script: SocketScript, seen: Socket, upgrade: OnUpgrade) -> (Reply, Option<Session>) {
    let refused = |mut reply: Reply| {
        reply.headers_gate = reply.headers_gate.or(script.gate.clone());
        (reply, None)
    };
    if let Some(reply) = &script.refusal {
        return refused(reply.clone());
    }
    let (key, version) = (seen.header("sec-websocket-key"), seen.header("sec-websocket-version"));
    let Some(key) = key.filter(|_| version == Some("13")) else {
        return refused(state::error(400, "bad_handshake", "a handshake has a key and version 13"));
    };
    let mut reply = Reply::bytes(StatusCode::SWITCHING_PROTOCOLS, "", "");
    reply.headers = script.headers.clone();
    reply.headers_gate = script.gate.clone();
    let reply = reply
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-accept", &derive_accept_key(key.as_bytes()));
    (reply, Some(Session { upgrade, script, seen }))
}

/// An accepted WebSocket whose connection the HTTP library still holds.
pub(crate) struct Session {
    pub(crate) upgrade: OnUpgrade,
    pub(crate) script: SocketScript,
    pub(crate) seen: Socket,
}

impl Session {
    /// Plays the script to its end.
    pub(crate) async fn play(self, shared: Arc<Shared>, control: Control) {
        let Ok(upgraded) = self.upgrade.await else { return };
        let config = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE_MAX_BYTES))
            .max_frame_size(Some(MESSAGE_MAX_BYTES));
        let stream =
            WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
        let index = shared.note(|script| {
            script.sockets.push(self.seen);
            script.sockets.len() - 1
        });
        let mut player =
            Player { stream, shared: shared.clone(), control, index, waiting: 0, pongs: 0, closing: false };
        let end = player.play(&self.script).await;
        // The end is told when the connection is really gone.
        drop(player);
        shared.socket(index, |socket| socket.end = Some(end));
    }
}

struct Player {
    stream: WebSocketStream<TokioIo<Upgraded>>,
    shared: Arc<Shared>,
    control: Control,
    index: usize,
    /// Requests that came and that no step has taken.
    waiting: usize,
    pongs: usize,
    /// Whether the script's close frame was sent.
    closing: bool,
}

impl Player {
    async fn play(&mut self, script: &SocketScript) -> SocketEnd {
        loop {
            for step in &script.steps {
                if let Err(end) = self.step(step).await {
                    return end;
                }
            }
            if !script.repeats {
                break;
            }
        }
        self.read_to_end().await
    }

    async fn step(&mut self, step: &Step) -> Result<(), SocketEnd> {
        match step {
            Step::Request => {
                while self.waiting == 0 {
                    self.read().await?;
                }
                self.waiting -= 1;
            }
            Step::Send(message) => {
                self.send(message.clone()).await?;
                let whole = !matches!(message, Message::Frame(frame) if !frame.header().is_final);
                self.shared.socket(self.index, |socket| socket.sent += usize::from(whole));
            }
            Step::Raw(bytes) => self.send_raw(bytes).await?,
            Step::Ping(payload) => {
                let before = self.pongs;
                self.send(Message::Ping(payload.clone())).await?;
                while self.pongs == before {
                    self.read().await?;
                }
            }
            Step::Wait(gate) => {
                self.note_stall(gate.is_open());
                let mut passed = std::pin::pin!(gate.passed());
                loop {
                    tokio::select! {
                        () = &mut passed => break,
                        read = self.read() => read?,
                    }
                }
            }
            Step::Deaf(gate) => {
                self.note_stall(gate.is_open());
                gate.passed().await;
            }
            Step::Close(frame) => {
                self.send(Message::Close(frame.clone())).await?;
                self.closing = true;
                self.shared.note(|script| script.faults.close_frames += 1);
                return Err(self.read_to_end().await);
            }
            Step::Break(how) => {
                self.shared.note(|script| match how {
                    Break::Reset => script.faults.resets += 1,
                    Break::Close => script.faults.closes += 1,
                });
                if *how == Break::Reset {
                    self.control.reset_at_end();
                }
                return Err(SocketEnd::Broken);
            }
        }
        Ok(())
    }

    fn note_stall(&self, open: bool) {
        if !open {
            self.shared.note(|script| script.faults.stalls += 1);
        }
    }

    async fn read_to_end(&mut self) -> SocketEnd {
        loop {
            if let Err(end) = self.read().await {
                return end;
            }
        }
    }

    /// Takes whatever comes next from the client. Safe to drop while it waits.
    async fn read(&mut self) -> Result<(), SocketEnd> {
        let message = match self.stream.next().await {
            Some(Ok(message)) => message,
            Some(Err(error)) => return Err(self.end_of(error)),
            None => return Err(self.end_of(Error::ConnectionClosed)),
        };
        match message {
            Message::Text(text) => self.record(text.as_str().to_owned(), false),
            Message::Binary(bytes) => {
                self.record(String::from_utf8(bytes.to_vec()).unwrap_or_default(), true);
            }
            Message::Ping(_) => {
                // The library has queued the pong; it leaves with the next flush.
                self.stream.flush().await.map_err(|error| self.end_of(error))?;
                self.shared.socket(self.index, |socket| socket.pings += 1);
            }
            Message::Pong(_) => {
                self.pongs += 1;
                self.shared.socket(self.index, |socket| socket.pongs += 1);
            }
            Message::Close(frame) => {
                // Sends the answering close frame, if one is due; the server then ends the connection.
                let _ended = self.stream.flush().await;
                let code = frame.as_ref().map(|frame| u16::from(frame.code));
                return Err(match self.closing {
                    true => SocketEnd::ClosedByScript { answered: true, code },
                    false => {
                        let reason = frame.map(|frame| frame.reason.as_str().to_owned()).unwrap_or_default();
                        SocketEnd::ClosedByClient { code, reason }
                    }
                });
            }
            // Reading never gives bare frames.
            Message::Frame(_) => {}
        }
        Ok(())
    }

    fn record(&mut self, text: String, binary: bool) {
        let message = SocketMessage { socket: self.index, text, binary };
        self.waiting += usize::from(message.is_create());
        self.shared.note(|script| {
            if let Some(socket) = script.sockets.get_mut(self.index) {
                socket.received += 1;
            }
            script.messages.push(message);
        });
    }

    async fn send(&mut self, message: Message) -> Result<(), SocketEnd> {
        self.stream.send(message).await.map_err(|error| self.end_of(error))
    }

    async fn send_raw(&mut self, bytes: &Bytes) -> Result<(), SocketEnd> {
        let raw = self.stream.get_mut();
        let sent = async {
            raw.write_all(bytes).await?;
            raw.flush().await
        };
        sent.await.map_err(|error| self.end_of(Error::Io(error)))
    }

    fn end_of(&self, error: Error) -> SocketEnd {
        match error {
            _ if self.closing => SocketEnd::ClosedByScript { answered: false, code: None },
            Error::Io(_)
            | Error::ConnectionClosed
            | Error::AlreadyClosed
            | Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => SocketEnd::Dropped,
            error => SocketEnd::Violated(error.to_string()),
        }
    }
}
