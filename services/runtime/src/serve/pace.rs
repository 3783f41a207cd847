//! Asks for no more of an HTTP/1.1 answer while its connection takes no more, so that little waits in memory for a caller
//! that has stopped reading.
//!
//! hyper gathers as many bytes of an answer as a head may have before it waits for the socket, and each piece keeps the
//! whole buffer alive that it was read into. HTTP/2 has windows and a bound of its own and is left alone.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;
use http_body::{Body, Frame, SizeHint};

/// Whether a connection takes more bytes; clones tell of the same one.
#[derive(Debug, Clone, Default)]
pub(super) struct Outlet(Arc<State>);

#[derive(Debug, Default)]
struct State {
    is_full: AtomicBool,
    waiting: AtomicWaker,
}

impl Outlet {
    /// Notes what came of a write.
    pub(super) fn saw<T>(&self, written: &Poll<T>) {
        if written.is_pending() {
            self.0.is_full.store(true, Ordering::Relaxed);
        } else if self.0.is_full.load(Ordering::Relaxed) {
            self.0.is_full.store(false, Ordering::Release);
            self.0.waiting.wake();
        }
    }

    /// Waits until the last write was taken.
    fn poll_free(&self, cx: &Context<'_>) -> Poll<()> {
        if !self.0.is_full.load(Ordering::Relaxed) {
            return Poll::Ready(());
        }
        self.0.waiting.register(cx.waker());
        if self.0.is_full.load(Ordering::Acquire) { Poll::Pending } else { Poll::Ready(()) }
    }
}

/// The body of an answer; one that is paced waits for its connection.
pub(super) struct Paced<B> {
    body: B,
    outlet: Option<Outlet>,
}

impl<B> Paced<B> {
    pub(super) fn new(body: B, outlet: Option<Outlet>) -> Self {
        Self { body, outlet }
    }
}

impl<B: Body + Unpin> Body for Paced<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        if self.outlet.as_ref().is_some_and(|outlet| outlet.poll_free(cx).is_pending()) {
            return Poll::Pending;
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::task::Wake;

    use bytes::Bytes;
    use http_body_util::Full;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_body_waits_while_its_connection_is_full_and_is_woken_when_it_is_not() {
        let outlet = Outlet::default();
        let mut body = Paced::new(Full::new(Bytes::from_static(b"all")), Some(outlet.clone()));
        let woken = Arc::<Woken>::default();
        let waker = Arc::clone(&woken).into();
        let mut cx = Context::from_waker(&waker);
        outlet.saw(&Poll::<()>::Pending);
        assert!(Pin::new(&mut body).poll_frame(&mut cx).is_pending());
        assert!(!woken.0.load(Ordering::Relaxed));
        outlet.saw(&Poll::Ready(Ok::<_, Infallible>(1)));
        assert!(woken.0.load(Ordering::Relaxed));
        assert!(Pin::new(&mut body).poll_frame(&mut cx).is_ready());
    }
}
