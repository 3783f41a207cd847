//! The body of an upstream's answer.
//!
//! Polls the upstream directly: no task and no channel stand between the provider and the reader, so a slow reader slows the
//! provider and dropping the body cancels the call at once. The time limit counts only while the reader waits for the
//! provider, never while the provider waits for the reader.

use std::collections::VecDeque;
use std::error::Error as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::time::{Instant, Sleep};

use crate::provider::Fault;
use crate::rehearsal::Performance;
use crate::socket::Reading;
use crate::transport::Received;

/// A chunk up to this size is copied. A caller that does not take it would else keep the buffer that it was read into, eight
/// KiB or more for an event of a hundred bytes.
const COPIED_BYTES_MAX: usize = 1 << 10;

/// Why an answer's body ended before its end.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The provider sent nothing for too long.
    #[error("upstream sent nothing for {} s", limit.as_secs_f64())]
    Idle {
        /// For how long the reader waited.
        limit: Duration,
    },
    /// The connection or the stream was closed in the middle.
    #[error("upstream closed the stream before its end")]
    Reset {
        /// What the connection said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The provider closed the socket because of the call.
    #[error("upstream closed the socket")]
    Closed {
        /// What its close frame said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The provider broke the protocol.
    #[error("upstream sent a malformed body")]
    Malformed {
        /// What was wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The body is larger than its reader accepts.
    #[error("upstream sent more than {limit} bytes")]
    TooLarge {
        /// The reader's limit.
        limit: usize,
    },
}

impl BodyError {
    /// Who can do something about it: always the provider.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Idle { .. }
            | Self::Reset { .. }
            | Self::Closed { .. }
            | Self::Malformed { .. }
            | Self::TooLarge { .. } => Fault::Upstream,
        }
    }

    /// Whether the same call can succeed later. The crate itself never repeats a call whose body has begun.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Idle { .. } | Self::Reset { .. } => true,
            Self::Closed { .. } | Self::Malformed { .. } | Self::TooLarge { .. } => false,
        }
    }
}

/// The body of an upstream's answer. Dropping it cancels the call.
pub struct Body {
    /// What was read before the body was handed over.
    ahead: VecDeque<Result<Frame<Bytes>, BodyError>>,
    source: Source,
}

enum Source {
    Upstream {
        received: Received,
        idle: Idle,
    },
    Rehearsal(Box<Performance>),
    Socket(Box<Reading>),
    /// All of it, already here.
    Whole(Bytes),
    /// After an error: nothing follows.
    Ended,
}

impl Body {
    pub(crate) fn upstream(received: Received, idle: Duration) -> Body {
        let idle = Idle::new(idle);
        Body { ahead: VecDeque::new(), source: Source::Upstream { received, idle } }
    }

    pub(crate) fn rehearsal(performance: Performance) -> Body {
        Body { ahead: VecDeque::new(), source: Source::Rehearsal(Box::new(performance)) }
    }

    /// The beginning of the body, up to `limit` bytes or what comes within `wait`. Nothing is taken away: who reads the
    /// body afterwards gets all of it, also an error that was met.
    pub(crate) async fn beginning(&mut self, limit: usize, wait: Duration) -> Bytes {
        let deadline = Instant::now() + wait;
        let mut seen = BytesMut::new();
        let mut frames = VecDeque::new();
        while seen.len() < limit
            && let Ok(Some(frame)) = tokio::time::timeout_at(deadline, self.frame()).await
        {
            if let Some(data) = frame.as_ref().ok().and_then(Frame::data_ref) {
                seen.extend_from_slice(data.get(..limit - seen.len()).unwrap_or(data));
            }
            frames.push_back(frame);
        }
        frames.append(&mut self.ahead);
        self.ahead = frames;
        seen.freeze()
    }

    pub(crate) fn socket(reading: Box<Reading>) -> Body {
        Body { ahead: VecDeque::new(), source: Source::Socket(reading) }
    }

    /// Whether it comes over a WebSocket, on which its response can be gone on from afterwards.
    #[must_use]
    pub fn is_of_socket(&self) -> bool {
        matches!(self.source, Source::Socket(_))
    }

    pub(crate) fn whole(bytes: Bytes) -> Body {
        Body { ahead: VecDeque::new(), source: Source::Whole(bytes) }
    }

    /// The whole body, if it is not larger than `limit`. One frame is handed over without a copy.
    pub async fn collect(mut self, limit: usize) -> Result<Bytes, BodyError> {
        let mut only = None;
        let mut whole = BytesMut::new();
        let mut length = 0_usize;
        while let Some(frame) = self.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            length = length.saturating_add(data.len());
            if length > limit {
                return Err(BodyError::TooLarge { limit });
            }
            match only.take() {
                None if whole.is_empty() => only = Some(data),
                first => {
                    whole.extend_from_slice(&first.unwrap_or_default());
                    whole.extend_from_slice(&data);
                }
            }
        }
        Ok(only.unwrap_or_else(|| whole.freeze()))
    }
}

/// Cuts a small chunk loose from the buffer that it was read into.
fn compact(frame: Frame<Bytes>) -> Frame<Bytes> {
    frame.map_data(|data| if data.len() <= COPIED_BYTES_MAX { Bytes::copy_from_slice(&data) } else { data })
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Body").finish_non_exhaustive()
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(frame) = self.ahead.pop_front() {
            return Poll::Ready(Some(frame));
        }
        let outcome = match &mut self.source {
            Source::Ended => return Poll::Ready(None),
            Source::Rehearsal(performance) => ready!(performance.poll_frame(cx)),
            Source::Socket(reading) => ready!(reading.poll_frame(cx)),
            Source::Whole(bytes) if bytes.is_empty() => None,
            Source::Whole(bytes) => Some(Ok(Frame::data(std::mem::take(bytes)))),
            Source::Upstream { received, idle } => match Pin::new(received).poll_frame(cx) {
                Poll::Ready(frame) => {
                    idle.heard();
                    frame.map(|frame| frame.map(compact).map_err(broken))
                }
                Poll::Pending => Some(Err(ready!(idle.poll(cx)))),
            },
        };
        if matches!(outcome, Some(Err(_))) {
            // Dropping the source here cancels the call, also if the reader keeps the body.
            self.source = Source::Ended;
        }
        Poll::Ready(outcome)
    }

    fn is_end_stream(&self) -> bool {
        if !self.ahead.is_empty() {
            return false;
        }
        match &self.source {
            Source::Upstream { received, .. } => received.is_end_stream(),
            Source::Rehearsal(performance) => performance.is_end_stream(),
            Source::Socket(reading) => reading.is_end_stream(),
            Source::Whole(bytes) => bytes.is_empty(),
            Source::Ended => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = match &self.source {
            Source::Upstream { received, .. } => received.size_hint(),
            Source::Rehearsal(performance) => performance.size_hint(),
            Source::Socket(_) => SizeHint::default(),
            Source::Whole(bytes) => SizeHint::with_exact(u64::try_from(bytes.len()).unwrap_or(u64::MAX)),
            Source::Ended => SizeHint::with_exact(0),
        };
        let data = self.ahead.iter().filter_map(|frame| frame.as_ref().ok()?.data_ref());
        let ahead =
            data.fold(0, |sum: u64, data| sum.saturating_add(u64::try_from(data.len()).unwrap_or(u64::MAX)));
        if ahead > 0 {
            let upper = hint.upper().map(|upper| upper.saturating_add(ahead));
            hint.set_lower(hint.lower().saturating_add(ahead));
            upper.into_iter().for_each(|upper| hint.set_upper(upper));
        }
        hint
    }
}

fn broken(error: hyper::Error) -> BodyError {
    let malformed = error.is_parse()
        || error.source().and_then(|source| source.downcast_ref::<io::Error>()).is_some_and(|error| {
            matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput)
        });
    let source = error.into();
    if malformed { BodyError::Malformed { source } } else { BodyError::Reset { source } }
}

/// A limit on how long a reader waits for the next frame.
///
/// The timer is made when a reader waits for the first time and is moved only when it fires, so a stream with
/// many frames costs one look at the clock for each wait and one timer in all.
pub(crate) struct Idle {
    limit: Duration,
    waiting_until: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Idle {
    pub(crate) fn new(limit: Duration) -> Idle {
        Idle { limit, waiting_until: None, timer: None }
    }

    pub(crate) fn heard(&mut self) {
        self.waiting_until = None;
    }

    /// Is ready when the current wait has lasted too long.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<BodyError> {
        let limit = self.limit;
        let until = *self.waiting_until.get_or_insert_with(|| Instant::now() + limit);
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        loop {
            ready!(timer.as_mut().poll(cx));
            if timer.deadline() >= until {
                return Poll::Ready(BodyError::Idle { limit });
            }
            timer.as_mut().reset(until);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_chunk_holds_nothing_of_the_buffer_that_it_was_read_into() {
        for (length, is_copied) in [(1, true), (COPIED_BYTES_MAX, true), (COPIED_BYTES_MAX + 1, false)] {
            let buffer = Bytes::from(vec![b'a'; 8 << 10]);
            let chunk = compact(Frame::data(buffer.slice(..length)));
            assert_eq!(chunk.data_ref().unwrap().len(), length);
            assert_eq!(buffer.is_unique(), is_copied, "{length}");
        }
    }
}
