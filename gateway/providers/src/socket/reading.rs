//! The body of an answer that comes over a WebSocket: each message is a frame of an event stream.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use tidegate_responses::{Kind, sse};

use super::wire::Socket;
use crate::body::{BodyError, Idle};
use crate::session::{Binding, Parking};

/// One response on a socket. After its last event the socket goes back to its session; dropped before, it is closed.
pub(crate) struct Reading {
    /// None after the last event.
    socket: Option<Box<Socket>>,
    /// What was read before the answer was handed over.
    held: VecDeque<Bytes>,
    idle: Idle,
    /// A session that is gone wants no socket back. Referred to only as long as there is a socket.
    parking: Weak<Parking>,
    binding: Binding,
}

impl Reading {
    pub(crate) fn new(
        socket: Box<Socket>,
        held: VecDeque<Bytes>,
        idle: Duration,
        parking: &Arc<Parking>,
        binding: Binding,
    ) -> Reading {
        let parking = Arc::downgrade(parking);
        Reading { socket: Some(socket), held, idle: Idle::new(idle), parking, binding }
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.socket.is_none()
    }

    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(socket) = &mut self.socket else { return Poll::Ready(None) };
        let message = match self.held.pop_front() {
            Some(held) => Ok(held),
            None => match socket.poll_message(cx) {
                Poll::Ready(message) => message,
                Poll::Pending => return self.idle.poll(cx).map(|idle| Some(Err(idle))),
            },
        };
        self.idle.heard();
        Poll::Ready(Some(match message {
            Ok(message) => {
                self.settle(Kind::from_data(&message));
                Ok(Frame::data(sse::encode_message(&message)))
            }
            Err(broken) => {
                self.socket = None;
                self.parking = Weak::new();
                Err(broken.into())
            }
        }))
    }

    fn settle(&mut self, kind: Kind) {
        if !kind.is_terminal() {
            return;
        }
        let parking = std::mem::take(&mut self.parking).upgrade();
        // What follows an error is not known: its socket might go on with the response that failed.
        if let Some(socket) = self.socket.take()
            && kind != Kind::Error
            && let Some(parking) = parking
        {
            parking.park(socket, self.binding.clone());
        }
    }
}
