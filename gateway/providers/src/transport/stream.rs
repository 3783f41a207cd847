//! One connection to a provider, whatever it leads through.
//!
//! Callers see bytes and whether HTTP/2 was agreed on; sockets, tunnels and TLS are behind one pointer. Knows
//! nothing of how the connection was made.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::{Buf as _, BytesMut};
use hyper_util::client::legacy::connect::{Connected, Connection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What a server may have sent before it was asked anything: its HTTP/2 settings fit many times.
const AHEAD_MAX: usize = 16 * 1024;

/// What bytes travel over.
trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Socket for S {}

/// A connection, ready for use.
pub(crate) struct Stream {
    socket: Box<dyn Socket>,
    http2: bool,
    /// What was read from the socket and not yet given to the reader.
    ahead: BytesMut,
}

impl Stream {
    pub(super) fn new(socket: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, http2: bool) -> Stream {
        Stream { socket: Box::new(socket), http2, ahead: BytesMut::new() }
    }

    /// Puts bytes that were read too early in front of what is still to be read.
    pub(super) fn with_ahead(mut self, ahead: impl Into<BytesMut>) -> Stream {
        self.ahead = ahead.into();
        self
    }

    /// Whether HTTP/2 was agreed on.
    pub(super) fn speaks_http2(&self) -> bool {
        self.http2
    }

    /// Whether a connection that nobody has used yet is still good, without waiting.
    ///
    /// Only a read tells: a close can stand behind session tickets and HTTP/2 settings. An HTTP/1 server has
    /// nothing to say before it is asked, except that it is going away.
    pub(super) fn is_unused_and_open(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        loop {
            let mut room = [0; 1024];
            let mut read = ReadBuf::new(&mut room);
            match Pin::new(&mut self.socket).poll_read(&mut cx, &mut read) {
                Poll::Pending => return true,
                Poll::Ready(Err(_)) => return false,
                Poll::Ready(Ok(())) => {
                    let read = read.filled();
                    if read.is_empty() || !self.http2 || self.ahead.len() + read.len() > AHEAD_MAX {
                        return false;
                    }
                    self.ahead.extend_from_slice(read);
                }
            }
        }
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        let connected = Connected::new();
        if self.http2 { connected.negotiated_h2() } else { connected }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            return Pin::new(&mut self.socket).poll_read(cx, buf);
        }
        let fitting = self.ahead.len().min(buf.remaining());
        buf.put_slice(self.ahead.get(..fitting).unwrap_or_default());
        self.ahead.advance(fitting);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
