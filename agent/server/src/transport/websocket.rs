//! WebSocket frames over an upgraded HTTP connection, TCP or unix.
//!
//! A message over the bound or a broken frame ends the connection with code 1008 and the reason in words; there is
//! no way to find the next message after it. Pings are answered by the library while frames are read.

use std::io;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Error, Message, Utf8Bytes};

use super::{FRAME_BYTES_MAX, Goodbye, Inbound, Sink, Source};

/// What the library buffers for reading; most messages fit.
const READ_BUFFER_BYTES: usize = 16 << 10;

/// A client's side of a WebSocket.
pub(crate) struct Reader<S>(SplitStream<WebSocketStream<S>>);

/// Our side of a WebSocket.
pub(crate) struct Writer<S>(SplitSink<WebSocketStream<S>, Message>);

/// Takes an upgraded connection.
pub(crate) async fn accept<S>(stream: S) -> (Reader<S>, Writer<S>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .max_message_size(Some(FRAME_BYTES_MAX))
        .max_frame_size(Some(FRAME_BYTES_MAX));
    let socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await;
    let (sink, stream) = socket.split();
    (Reader(stream), Writer(sink))
}

impl<S> Source for Reader<S>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    type Text = Utf8Bytes;

    const ANSWERS_PINGS: bool = true;

    async fn next(&mut self) -> io::Result<Option<Inbound<Utf8Bytes>>> {
        match self.0.next().await {
            None | Some(Ok(Message::Close(_)) | Err(Error::ConnectionClosed | Error::AlreadyClosed)) => {
                Ok(None)
            }
            Some(Ok(Message::Text(text))) => Ok(Some(Inbound::Text(text))),
            Some(Ok(Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {
                Ok(Some(Inbound::Noise))
            }
            Some(Err(error)) => Err(into_io(error)),
        }
    }
}

impl<S> Sink for Writer<S>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    async fn send(&mut self, messages: &mut Vec<String>) -> io::Result<()> {
        for message in messages.drain(..) {
            self.0.feed(Message::Text(message.into())).await.map_err(into_io)?;
        }
        self.0.flush().await.map_err(into_io)
    }

    async fn ping(&mut self) -> io::Result<()> {
        self.0.send(Message::Ping(Bytes::new())).await.map_err(into_io)
    }

    async fn close(&mut self, reason: Goodbye) {
        let (code, reason) = match reason {
            Goodbye::Left => (CloseCode::Normal, ""),
            Goodbye::Stopping => (CloseCode::Restart, "the service stops"),
            Goodbye::Misbehaved => (CloseCode::Policy, "the frame is over a bound or broken"),
            Goodbye::TooSlow => (CloseCode::Again, "the client does not keep up"),
            Goodbye::Barred => (CloseCode::Policy, "the credential was taken back"),
        };
        let frame = CloseFrame { code, reason: Utf8Bytes::from_static(reason) };
        // Whoever is gone already does not need to hear it.
        let _ = self.0.send(Message::Close(Some(frame))).await;
    }
}

/// An error of the library; what the client did wrong becomes invalid data.
fn into_io(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        error @ (Error::Capacity(_) | Error::Protocol(_) | Error::Utf8(_)) => {
            io::Error::new(io::ErrorKind::InvalidData, error)
        }
        error => io::Error::other(error),
    }
}
