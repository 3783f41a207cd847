//! One WebSocket: sends a message, reads messages, answers pings, closes.
//!
//! There is no task behind it: it moves only when somebody waits for it, so a slow reader slows the provider, and
//! dropping it closes it. Pings are answered whenever it is read.

use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Sink as _, Stream as _};
use http::HeaderMap;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tidegate_responses::Kind;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

use super::broken::Broken;

/// The largest message that is taken from a provider.
pub(crate) const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The size of a socket's read buffer, which it keeps while it is idle.
const READ_BUFFER_BYTES: usize = 8 * 1024;
/// How long sending one message may take.
const SEND_TIMEOUT: Duration = Duration::from_secs(60);
/// For how long a socket that nobody has used is trusted. Below the minute after which common load balancers drop
/// an idle connection without a word.
const TRUSTED_IDLE: Duration = Duration::from_secs(50);
/// How long the answer to the ping may take that a longer idle socket is asked with.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

type Stream = WebSocketStream<TokioIo<Upgraded>>;

/// An open WebSocket.
pub(crate) struct Socket {
    stream: Stream,
    /// What the handshake was answered with.
    pub(crate) headers: HeaderMap,
    /// A message that came while one was being sent.
    early: Option<Bytes>,
}

impl Socket {
    pub(crate) async fn over(upgraded: Upgraded, headers: HeaderMap) -> Socket {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(0)
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX));
        let stream =
            WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, Some(config)).await;
        Socket { stream, headers, early: None }
    }

    /// Sends one text message. Reads meanwhile, so that a provider that closes instead of reading is understood.
    pub(crate) async fn send(&mut self, text: Utf8Bytes) -> Result<(), Broken> {
        let sending = async {
            self.stream_mut().start_send(Message::Text(text)).map_err(Broken::of)?;
            std::future::poll_fn(|cx| self.poll_sent(cx)).await
        };
        timeout(SEND_TIMEOUT, sending).await.unwrap_or(Err(Broken::Silent { limit: SEND_TIMEOUT }))
    }

    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        if self.early.is_none()
            && let Poll::Ready(message) = self.poll_message(cx)
        {
            self.early = Some(message?);
        }
        self.stream_mut().poll_flush(cx).map_err(Broken::of)
    }

    /// The next text message.
    pub(crate) async fn message(&mut self, limit: Duration) -> Result<Bytes, Broken> {
        let reading = std::future::poll_fn(|cx| self.poll_message(cx));
        timeout(limit, reading).await.unwrap_or(Err(Broken::Silent { limit }))
    }

    pub(crate) fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, Broken>> {
        if let Some(early) = self.early.take() {
            return Poll::Ready(Ok(early));
        }
        loop {
            match ready!(self.poll_any(cx))? {
                Message::Text(text) => return Poll::Ready(Ok(text.into())),
                Message::Binary(_) => return Poll::Ready(Err(Broken::binary())),
                Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => {}
            }
        }
    }

    /// Anything but a close frame.
    fn poll_any(&mut self, cx: &mut Context<'_>) -> Poll<Result<Message, Broken>> {
        Poll::Ready(match ready!(self.stream_mut().poll_next(cx)) {
            Some(Ok(Message::Close(frame))) => Err(Broken::closed(frame)),
            Some(Ok(message)) => Ok(message),
            Some(Err(error)) => Err(Broken::of(error)),
            None => Err(Broken::of(Error::ConnectionClosed)),
        })
    }

    /// Whether a socket that has been idle can take another call: what has come meanwhile is looked at, and after a
    /// long time the provider is asked for a sign of life.
    pub(crate) async fn is_alive(&mut self, idle: Duration) -> bool {
        self.is_quiet()
            && (idle <= TRUSTED_IDLE || matches!(timeout(PROBE_TIMEOUT, self.answers()).await, Ok(true)))
    }

    /// Whether nothing has come that ends the socket. Does not wait.
    fn is_quiet(&mut self) -> bool {
        let mut now = Context::from_waker(Waker::noop());
        while let Poll::Ready(heard) = self.poll_any(&mut now) {
            if ends_idle(&heard) {
                return false;
            }
        }
        true
    }

    async fn answers(&mut self) -> bool {
        if self.stream_mut().start_send(Message::Ping(Bytes::new())).is_err() {
            return false;
        }
        std::future::poll_fn(|cx| {
            if let Poll::Ready(Err(_)) = self.stream_mut().poll_flush(cx) {
                return Poll::Ready(false);
            }
            loop {
                match ready!(self.poll_any(cx)) {
                    Ok(Message::Pong(_)) => return Poll::Ready(true),
                    heard if ends_idle(&heard) => return Poll::Ready(false),
                    _ => {}
                }
            }
        })
        .await
    }

    fn stream_mut(&mut self) -> Pin<&mut Stream> {
        Pin::new(&mut self.stream)
    }
}

/// Whether what came between two responses makes a socket useless: its end, or an error. Anything else that a
/// provider says unasked belongs to no response and is dropped.
fn ends_idle(heard: &Result<Message, Broken>) -> bool {
    match heard {
        Ok(Message::Text(text)) => Kind::from_data(text.as_bytes()) == Kind::Error,
        Ok(Message::Binary(_)) | Err(_) => true,
        Ok(_) => false,
    }
}

impl Drop for Socket {
    /// Says goodbye as far as that is possible without waiting. The connection ends with the socket.
    fn drop(&mut self) {
        let mut now = Context::from_waker(Waker::noop());
        let goodbye = CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::from_static("") };
        if self.stream_mut().poll_ready(&mut now).is_ready() {
            // Refused if the provider has closed; its close frame is answered by the flush.
            let _refused = self.stream_mut().start_send(Message::Close(Some(goodbye)));
            let _unsent = self.stream_mut().poll_flush(&mut now);
        }
    }
}
