//! A TCP stream that tells when it was flushed and can be made to end with a reset.
//!
//! The HTTP library owns the socket; through this a body still knows that its bytes have left, and a script
//! decides how the connection ends.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;

/// The script's hold on a connection.
#[derive(Debug, Clone)]
pub(crate) struct Control {
    flushes: Arc<watch::Sender<u64>>,
    reset: Arc<AtomicBool>,
}

impl Control {
    pub(crate) fn new() -> Control {
        Control { flushes: Arc::new(watch::Sender::new(0)), reset: Arc::default() }
    }

    /// How many flushes there were.
    pub(crate) fn flushes(&self) -> u64 {
        *self.flushes.borrow()
    }

    /// Waits for a flush after the first `seen`.
    pub(crate) async fn flushed_since(&self, seen: u64) {
        let mut flushes = self.flushes.subscribe();
        drop(flushes.wait_for(|flushes| *flushes > seen).await);
    }

    /// Lets the connection end with a reset instead of an orderly end, whenever it is dropped.
    pub(crate) fn reset_at_end(&self) {
        self.reset.store(true, Ordering::Release);
    }
}

pub(crate) struct Wire {
    stream: TcpStream,
    control: Control,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream, control: Control) -> Wire {
        Wire { stream, control }
    }

    fn stream(self: Pin<&mut Self>) -> Pin<&mut TcpStream> {
        Pin::new(&mut self.get_mut().stream)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.control.reset.load(Ordering::Acquire) {
            // Fails only when the peer has already broken the connection.
            let _set = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.stream().poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = self.as_mut().stream().poll_flush(cx);
        if let Poll::Ready(Ok(())) = &flushed {
            self.control.flushes.send_modify(|flushes| *flushes += 1);
        }
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(cx)
    }
}
