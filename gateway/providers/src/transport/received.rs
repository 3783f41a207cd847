//! The body of an answer as it comes over a connection.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::Place;
use super::direct::Taken;

/// The body of an answer. Dropped before its end it closes an HTTP/1.1 connection, or resets an HTTP/2 stream.
pub(crate) struct Received {
    /// Always there until it is dropped.
    incoming: Option<Incoming>,
    way: Way,
}

enum Way {
    /// HTTP/1.1: nobody but the reader drives the connection.
    Direct(Option<Taken>),
    /// A connection that many share and that has a task of its own.
    Shared { _place: Place },
}

impl Received {
    pub(super) fn direct(incoming: Incoming, taken: Taken) -> Received {
        Received { incoming: Some(incoming), way: Way::Direct(Some(taken)) }
    }

    pub(super) fn shared(incoming: Incoming, place: Place) -> Received {
        Received { incoming: Some(incoming), way: Way::Shared { _place: place } }
    }
}

impl Body for Received {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Received { incoming: Some(incoming), way } = &mut *self else { return Poll::Ready(None) };
        let polled = Pin::new(&mut *incoming).poll_frame(cx);
        match way {
            Way::Direct(Some(taken)) if polled.is_pending() => {
                taken.drive(cx);
                Pin::new(incoming).poll_frame(cx)
            }
            Way::Direct(_) | Way::Shared { .. } => polled,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        // First, so that the connection knows whether the answer was read to its end.
        self.incoming = None;
        if let Way::Direct(taken) = &mut self.way
            && let Some(taken) = taken.take()
        {
            taken.give_back();
        }
    }
}
