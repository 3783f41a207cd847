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
    task::{Context, Poll, ready},
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

use crate::admit::Held;

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
    const TOO_SLOW: End = End::Goodbye(CloseCode::Policy, "the message did not arrive in time");
    const FULL: End = End::Goodbye(CloseCode::Again, "the gateway holds as many bytes as it may");
    const MALFORMED: End = End::Goodbye(CloseCode::Protocol, "not a frame that a client may send");
}

/// What a message may take while it arrives.
pub(super) struct Room {
    pub(super) bytes_max: usize,
    /// From its first byte to its last, and as long again as it takes to notice.
    pub(super) time_max: Duration,
    /// Is told how much has come of it.
    pub(super) held: Held,
}

/// A caller at the other end of a WebSocket.
pub(super) struct Client<S> {
    socket: WebSocketStream<Counted<S>>,
    message_time_max: Duration,
    alive: Interval,
    /// What had been read when it was last looked at.
    read: u64,
    /// Whether nothing has come since the last ping.
    asked: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Takes a connection after its handshake.
    pub(super) async fn over(stream: S, room: Room) -> Client<S> {
        let Room { bytes_max, time_max, held } = room;
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(WRITE_BUFFER_BYTES)
            .max_message_size(Some(bytes_max))
            .max_frame_size(Some(bytes_max));
        let counted = Counted { stream, read: 0, held, since: None };
        let socket = WebSocketStream::from_raw_socket(counted, Role::Server, Some(config)).await;
        let mut alive = interval_at(Instant::now() + SILENCE_MAX, SILENCE_MAX);
        alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Client { socket, message_time_max: time_max, alive, read: 0, asked: false }
    }

    /// The next text message. Safe to drop while it waits.
    pub(super) async fn hear(&mut self) -> Result<Utf8Bytes, End> {
        loop {
            tokio::select! {
                // What has come is looked at before the caller is taken for dead.
                biased;
                heard = next(&mut self.socket) => match heard {
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

    /// Any byte is a sign of life: a pong may have to wait behind a long message. But no message may take for ever: what
    /// has come of it takes room from others.
    async fn look_for_life(&mut self) -> Result<(), End> {
        let Counted { read, since, .. } = *self.socket.get_ref();
        if since.is_some_and(|since| since.elapsed() > self.message_time_max) {
            return Err(End::TOO_SLOW);
        }
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
            let stream = &mut self.socket.get_mut().stream;
            while matches!(stream.read(&mut discarded).await, Ok(read) if read > 0) {}
        };
        // Whoever does not listen need not hear it.
        let _too_slow = timeout(GOODBYE_MAX, goodbye).await;
    }
}

/// The next message, which takes no room any more.
async fn next<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut WebSocketStream<Counted<S>>,
) -> Option<Result<Message, Error>> {
    let heard = socket.next().await;
    if let Some(Ok(message)) = &heard {
        socket.get_mut().arrived(message);
    }
    heard
}

fn end_of(error: &Error) -> End {
    match error {
        Error::Capacity(_) => End::TOO_LARGE,
        Error::Utf8(_) => End::NOT_UTF8,
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake | ProtocolError::SendAfterClosing) => {
            End::Gone
        }
        Error::Protocol(_) => End::MALFORMED,
        Error::Io(error) if error.kind() == NO_ROOM => End::FULL,
        _ => End::Gone,
    }
}

/// How reading fails when there is no room for what was read.
const NO_ROOM: io::ErrorKind = io::ErrorKind::OutOfMemory;
/// What a caller's ping or pong has besides its payload: two bytes, and four of its mask.
const CONTROL_HEAD_BYTES: usize = 6;

/// A connection that counts what is read from it.
struct Counted<S> {
    stream: S,
    read: u64,
    /// What has come of a message that is not whole.
    held: Held,
    /// When it began to come.
    since: Option<Instant>,
}

impl<S> Counted<S> {
    /// A message is whole. Pings and pongs may stand between the parts of another, which is still held.
    fn arrived(&mut self, message: &Message) {
        let rest = match message {
            Message::Ping(payload) | Message::Pong(payload) => {
                self.held.bytes().saturating_sub(payload.len() + CONTROL_HEAD_BYTES)
            }
            Message::Text(_) | Message::Binary(_) | Message::Close(_) | Message::Frame(_) => 0,
        };
        // To hold less always succeeds.
        let _less = self.held.set(rest);
        self.since = self.since.filter(|_| rest > 0);
    }

    fn arrives(&mut self, bytes: usize) -> io::Result<()> {
        self.read = self.read.wrapping_add(u64::try_from(bytes).unwrap_or(u64::MAX));
        self.since.get_or_insert_with(Instant::now);
        self.held.set(self.held.bytes().saturating_add(bytes)).map_err(|_| NO_ROOM.into())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        match buf.filled().len().saturating_sub(before) {
            0 => Poll::Ready(Ok(())),
            bytes => Poll::Ready(self.arrives(bytes)),
        }
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

    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::admit::Admission;

    const LIMIT: usize = 1000;
    const MESSAGE_TIME_MAX: Duration = Duration::from_secs(600);
    /// Longer than any of these tests takes, on a clock that runs by itself.
    const DEADLINE: Duration = Duration::from_secs(3600);

    async fn pair() -> (Client<DuplexStream>, WebSocketStream<DuplexStream>) {
        pair_of(&Admission::new(CancellationToken::new())).await
    }

    /// Two ends of a socket whose messages take of this room while they arrive.
    async fn pair_of(admission: &Admission) -> (Client<DuplexStream>, WebSocketStream<DuplexStream>) {
        let (ours, theirs) = duplex(64 * 1024);
        let peer = WebSocketStream::from_raw_socket(theirs, Role::Client, None).await;
        let room = Room { bytes_max: LIMIT, time_max: MESSAGE_TIME_MAX, held: admission.hold(2 * LIMIT) };
        (Client::over(ours, room).await, peer)
    }

    /// A part of a message from a client: its kind, whether it is the last part, and as many bytes of `a`.
    fn frame(kind: u8, last: bool, bytes: usize) -> Vec<u8> {
        let length = u16::try_from(bytes).unwrap().to_be_bytes();
        let head = match bytes {
            ..126 => vec![0x80 | length[1]],
            _ => vec![0x80 | 126, length[0], length[1]],
        };
        [&[kind | if last { 0x80 } else { 0 }][..], &head, &[0; 4], &vec![b'a'; bytes]].concat()
    }

    /// Waits for the message that does not come.
    async fn hear_nothing(client: &mut Client<DuplexStream>) {
        assert!(timeout(Duration::from_millis(1), client.hear()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_come_of_a_message_takes_room_until_it_is_whole() {
        const PING: u8 = 9;
        let admission = Admission::new(CancellationToken::new());
        let (mut client, mut peer) = pair_of(&admission).await;
        let (mut other, mut second) = pair_of(&admission).await;
        // A ping between two parts gives nothing back but its own bytes.
        for part in [frame(1, false, 600), frame(PING, true, 100), frame(0, false, 200)] {
            peer.get_mut().write_all(&part).await.unwrap();
            hear_nothing(&mut client).await;
        }
        assert_eq!(admission.bytes(), 600 + 200 + 2 * 8);
        let whole = frame(1, true, 900);
        second.get_mut().write_all(&whole[..800]).await.unwrap();
        hear_nothing(&mut other).await;
        assert_eq!(admission.bytes(), 600 + 200 + 2 * 8 + 800);
        second.get_mut().write_all(&whole[800..]).await.unwrap();
        assert_eq!(timeout(DEADLINE, other.hear()).await.unwrap().unwrap().len(), 900);
        assert_eq!(admission.bytes(), 600 + 200 + 2 * 8);
        peer.get_mut().write_all(&frame(0, true, 1)).await.unwrap();
        assert_eq!(timeout(DEADLINE, client.hear()).await.unwrap().unwrap().len(), 801);
        assert_eq!(admission.bytes(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_that_there_is_no_room_for_ends_its_socket_and_gives_its_room_back() {
        let admission = Admission::new(CancellationToken::new());
        let mut taken = admission.hold(2 * LIMIT);
        taken.set(2 * LIMIT - 100).unwrap();
        let (mut client, mut peer) = pair_of(&admission).await;
        peer.get_mut().write_all(&frame(1, true, 900)[..50]).await.unwrap();
        hear_nothing(&mut client).await;
        peer.get_mut().write_all(&frame(1, true, 900)[50..]).await.unwrap();
        let end = timeout(DEADLINE, client.hear()).await.unwrap().unwrap_err();
        assert_eq!(end, End::FULL);
        let End::Goodbye(code, reason) = end else { panic!("a goodbye") };
        let (told, ()) = tokio::join!(peer.next(), client.close(code, reason));
        let Some(Ok(Message::Close(Some(told)))) = told else { panic!("{told:?}") };
        assert_eq!((u16::from(told.code), told.reason.as_str()), (1013, reason));
        assert_eq!(admission.bytes(), 2 * LIMIT - 100);
    }

    #[tokio::test(start_paused = true)]
    async fn no_message_may_take_for_ever() {
        let (mut client, mut peer) = pair().await;
        let began = Instant::now();
        let sending = async {
            peer.get_mut().write_all(&frame(1, false, 1)).await.unwrap();
            // Whole pings between the parts do not make it another message.
            while peer.get_mut().write_all(&[frame(9, true, 3), frame(0, false, 1)].concat()).await.is_ok() {
                tokio::time::sleep(SILENCE_MAX / 2).await;
            }
        };
        let heard = async {
            tokio::select! {
                heard = client.hear() => heard,
                () = sending => unreachable!("the client still reads"),
            }
        };
        assert_eq!(timeout(DEADLINE, heard).await.unwrap().unwrap_err(), End::TOO_SLOW);
        let took = began.elapsed();
        assert!((MESSAGE_TIME_MAX..=MESSAGE_TIME_MAX + 2 * SILENCE_MAX).contains(&took), "{took:?}");
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
