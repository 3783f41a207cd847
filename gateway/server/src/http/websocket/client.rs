//! The caller's end of a WebSocket: hears messages, sends messages, notices when the caller is gone, says goodbye.
//!
//! There is no task and no queue behind it: it moves only when somebody waits for it, and what is not taken by the caller
//! is not taken from the provider. It does not know what a message means.
//!
//! Codex 0.169.0 was tried with the close codes 1000, 1001, 1008, 1009, 1011, 1012 and 1013, and with an end without any.
//! It makes no difference between them:
//!
//! | closed | what Codex does |
//! |---|---|
//! | between two calls | opens another socket for the next call and sends its whole input; nobody sees anything |
//! | after a prewarm, before its answer | the same |
//! | after a call was sent, before or amid its events | the same after 200 ms, as one of its five retries |
//! | that six times in a row | shows `Reconnecting... n/5`, then makes the call, and all that follow, over HTTP |
//!
//! So the codes are chosen for people who read them, and for other clients.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf},
    time::{Instant, Interval, MissedTickBehavior, interval_at, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Bytes, Error, Message, Utf8Bytes,
        error::ProtocolError,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};

/// What the library reads at a time; it keeps the buffer while the socket is idle.
const READ_BUFFER_BYTES: usize = 8 * 1024;
/// How much is put together before it is written. Events are written when there are no more of them at hand.
const WRITE_BUFFER_BYTES: usize = 16 * 1024;
/// How long nothing may come before the caller is asked for a sign of life, and how long that may take. Below the minute
/// after which common load balancers drop an idle connection without a word.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// How long a goodbye may take, from the close frame to the end of the connection.
const GOODBYE_MAX: Duration = Duration::from_millis(500);
/// How much of what a caller still sends is thrown away at a time after the goodbye.
const DISCARD_BYTES: usize = 16 * 1024;

/// Why a socket ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The caller is gone, or has said goodbye.
    Gone,
    /// We say goodbye, with this reason.
    Goodbye(CloseCode, &'static str),
}

impl End {
    pub(super) const IDLE: End = End::Goodbye(CloseCode::Away, "nothing was asked for too long");
    pub(super) const STOPPING: End = End::Goodbye(CloseCode::Restart, "the gateway stops");
    const BINARY: End = End::Goodbye(CloseCode::Unsupported, "messages are text");
    const NOT_UTF8: End = End::Goodbye(CloseCode::Invalid, "text is utf-8");
    const TOO_LARGE: End = End::Goodbye(CloseCode::Size, "the message is too large");
    const MALFORMED: End = End::Goodbye(CloseCode::Protocol, "not a frame that a client may send");
}

/// A caller at the other end of a WebSocket.
pub(super) struct Client<S> {
    socket: WebSocketStream<Counted<S>>,
    alive: Interval,
    /// What had been read when it was last looked at.
    read: u64,
    /// Whether nothing has come since the last ping.
    asked: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Takes a connection after its handshake. A message may have `limit` bytes.
    pub(super) async fn over(stream: S, limit: usize) -> Client<S> {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(WRITE_BUFFER_BYTES)
            .max_message_size(Some(limit))
            .max_frame_size(Some(limit));
        let counted = Counted { stream, read: 0 };
        let socket = WebSocketStream::from_raw_socket(counted, Role::Server, Some(config)).await;
        let mut alive = interval_at(Instant::now() + SILENCE_MAX, SILENCE_MAX);
        alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Client { socket, alive, read: 0, asked: false }
    }

    /// The next text message. Safe to drop while it waits.
    pub(super) async fn hear(&mut self) -> Result<Utf8Bytes, End> {
        loop {
            tokio::select! {
                // What has come is looked at before the caller is taken for dead.
                biased;
                heard = self.socket.next() => match heard {
                    Some(Ok(Message::Text(text))) => return Ok(text),
                    // The library answers pings, and close frames when it is flushed.
                    Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                    Some(Ok(Message::Close(_))) => {
                        let _answered = timeout(GOODBYE_MAX, self.socket.flush()).await;
                        return Err(End::Gone);
                    }
                    Some(Ok(Message::Binary(_))) => return Err(End::BINARY),
                    Some(Err(error)) => return Err(end_of(&error)),
                    None => return Err(End::Gone),
                },
                _ = self.alive.tick() => self.look_for_life().await?,
            }
        }
    }

    /// Any byte is a sign of life: a pong may have to wait behind a long message.
    async fn look_for_life(&mut self) -> Result<(), End> {
        let read = self.socket.get_ref().read;
        if std::mem::replace(&mut self.read, read) != read {
            self.asked = false;
            return Ok(());
        }
        if std::mem::replace(&mut self.asked, true) {
            return Err(End::Gone);
        }
        let asked = timeout(SILENCE_MAX, self.socket.send(Message::Ping(Bytes::new()))).await;
        asked.unwrap_or(Err(Error::ConnectionClosed)).map_err(|error| end_of(&error))
    }

    /// Puts a message on its way, behind those that were put before. Waits for a caller that reads slowly.
    pub(super) async fn put(&mut self, text: Utf8Bytes) -> Result<(), End> {
        self.socket.feed(Message::Text(text)).await.map_err(|error| end_of(&error))
    }

    /// Sends all that was put on its way.
    pub(super) async fn flush(&mut self) -> Result<(), End> {
        self.socket.flush().await.map_err(|error| end_of(&error))
    }

    /// Sends a message.
    pub(super) async fn send(&mut self, text: Utf8Bytes) -> Result<(), End> {
        self.put(text).await?;
        self.flush().await
    }

    /// Says goodbye. What the caller still sends is read and thrown away for a moment: a connection that is closed with
    /// unread bytes is reset, and the goodbye is lost with it.
    pub(super) async fn close(mut self, code: CloseCode, reason: &'static str) {
        let frame = CloseFrame { code, reason: Utf8Bytes::from_static(reason) };
        let goodbye = async {
            if self.socket.send(Message::Close(Some(frame))).await.is_err() {
                return;
            }
            let mut discarded = vec![0; DISCARD_BYTES];
            while matches!(self.socket.get_mut().read(&mut discarded).await, Ok(read) if read > 0) {}
        };
        // Whoever does not listen need not hear it.
        let _too_slow = timeout(GOODBYE_MAX, goodbye).await;
    }
}

fn end_of(error: &Error) -> End {
    match error {
        Error::Capacity(_) => End::TOO_LARGE,
        Error::Utf8(_) => End::NOT_UTF8,
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake | ProtocolError::SendAfterClosing) => {
            End::Gone
        }
        Error::Protocol(_) => End::MALFORMED,
        _ => End::Gone,
    }
}

/// A connection that counts what is read from it.
struct Counted<S> {
    stream: S,
    read: u64,
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        let now = u64::try_from(buf.filled().len().saturating_sub(before)).unwrap_or(u64::MAX);
        self.read = self.read.wrapping_add(now);
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;

    const LIMIT: usize = 1000;
    /// Longer than any of these tests takes, on a clock that runs by itself.
    const DEADLINE: Duration = Duration::from_secs(3600);

    async fn pair() -> (Client<DuplexStream>, WebSocketStream<DuplexStream>) {
        let (ours, theirs) = duplex(64 * 1024);
        let peer = WebSocketStream::from_raw_socket(theirs, Role::Client, None).await;
        (Client::over(ours, LIMIT).await, peer)
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_answers_pings_stays_and_one_that_does_not_is_gone() {
        let (mut client, mut peer) = pair().await;
        let began = Instant::now();
        let answering = async {
            // Reading answers the pings.
            for _ in 0..5 {
                assert!(matches!(peer.next().await, Some(Ok(Message::Ping(_)))));
            }
            peer.send(Message::text("here")).await.unwrap();
            began.elapsed()
        };
        let both = async { tokio::join!(client.hear(), answering) };
        let (heard, answered) = timeout(DEADLINE, both).await.unwrap();
        assert_eq!(heard.unwrap().as_str(), "here");
        // A ping, and a look that finds its pong, take turns.
        assert_eq!(answered, 9 * SILENCE_MAX);
        assert_eq!(client.hear().await.unwrap_err(), End::Gone);
        assert!(began.elapsed() <= answered + 3 * SILENCE_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_that_arrives_slowly_is_a_sign_of_life() {
        let (mut client, mut peer) = pair().await;
        let began = Instant::now();
        let sending = async {
            // The head of a masked frame of 26 bytes, then the bytes one by one.
            peer.get_mut().write_all(&[0x81, 0x80 | 26, 0, 0, 0, 0]).await.unwrap();
            for letter in b'a'..=b'z' {
                tokio::time::sleep(SILENCE_MAX / 2).await;
                peer.get_mut().write_all(&[letter]).await.unwrap();
            }
        };
        let both = async { tokio::join!(client.hear(), sending) };
        let (heard, ()) = timeout(DEADLINE, both).await.unwrap();
        assert_eq!(heard.unwrap().as_str(), "abcdefghijklmnopqrstuvwxyz");
        assert_eq!(began.elapsed(), 13 * SILENCE_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_caller_may_not_send_has_a_code() {
        let cases: [(&[u8], End); 5] = [
            (&[0x82, 0x81, 0, 0, 0, 0, b'x'], End::BINARY),
            (&[0x81, 0x81, 0, 0, 0, 0, 0xff], End::NOT_UTF8),
            (&[0x81, 0xfe, 0x04, 0x00, 0, 0, 0, 0], End::TOO_LARGE),
            (&[0x81, 0x01, b'x'], End::MALFORMED),
            (&[0xc1, 0x81, 0, 0, 0, 0, b'x'], End::MALFORMED),
        ];
        for (sent, end) in cases {
            let (mut client, mut peer) = pair().await;
            peer.get_mut().write_all(sent).await.unwrap();
            assert_eq!(timeout(DEADLINE, client.hear()).await.unwrap().unwrap_err(), end, "{sent:?}");
            let End::Goodbye(code, reason) = end else { panic!("a goodbye") };
            let (told, ()) = tokio::join!(peer.next(), client.close(code, reason));
            let Some(Ok(Message::Close(Some(told)))) = told else { panic!("{told:?}") };
            assert_eq!((told.code, told.reason.as_str()), (code, reason));
        }
    }
}
