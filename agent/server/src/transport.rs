//! How frames travel: what a connection needs of the thing that carries it.

pub(crate) mod http;
pub(crate) mod stdio;
pub(crate) mod websocket;

use std::future::Future;
use std::io;
use std::time::Duration;

/// The largest frame that a client may send.
pub(crate) const FRAME_BYTES_MAX: usize = 16 << 20;
/// How long a client may take nothing before it counts as gone.
pub(crate) const WRITE_STALL_MAX: Duration = Duration::from_secs(30);
/// How many messages go into one write at most.
pub(crate) const BATCH_MAX: usize = 64;

/// What came in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Inbound<T> {
    /// A text.
    Text(T),
    /// Something that carries no message: a binary frame, a line that is no text.
    Noise,
}

/// Where a client's frames come from.
pub(crate) trait Source: Send {
    /// A frame's text.
    type Text: AsRef<str> + Send;

    /// Whether a client that is there is heard from at least as often as it is asked.
    const ANSWERS_PINGS: bool;

    /// The next frame; `None` when the client has ended the connection in order. An error ends the connection too.
    fn next(&mut self) -> impl Future<Output = io::Result<Option<Inbound<Self::Text>>>> + Send;
}

/// Where a client's frames go.
pub(crate) trait Sink: Send {
    /// Writes these messages with as few writes as it can and leaves the list empty.
    fn send(&mut self, messages: &mut Vec<String>) -> impl Future<Output = io::Result<()>> + Send;

    /// Asks the client whether it is there, where the transport can.
    fn ping(&mut self) -> impl Future<Output = io::Result<()>> + Send;

    /// Says goodbye, where the transport can.
    fn close(&mut self, reason: Goodbye) -> impl Future<Output = ()> + Send;
}

/// Why we end a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goodbye {
    /// We don't: the client has left.
    Left,
    /// The service stops.
    Stopping,
    /// The client sent something over a bound, or something that the transport forbids.
    Misbehaved,
    /// The client did not keep up.
    TooSlow,
    /// The client's credential was taken back.
    Barred,
}
