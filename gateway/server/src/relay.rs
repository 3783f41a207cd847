//! Passes a provider's stream on, frame by frame, byte for byte.
//!
//! There is no task and no queue here: the caller's reads drive the provider's, so a slow caller slows its provider, and
//! dropping a relay cancels the call upstream. Frames are passed on whole, so that a stream which breaks can still be
//! ended with a typed event at a frame's border.

use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use gateway_providers::{Body, BodyError};
use http_body::Body as _;
use std::pin::Pin;
use tidegate_proto::gateway::v1::{Failure, Fault};
use tidegate_responses::{Block, Frame, Framer, Kind, error_body::failed_event, json, rerouted, sse};

use crate::{
    admit::Permit,
    failure::{FailureKind, broke, failure, with_causes},
    pipeline::Answered,
    settle::{Outcome, Settlement},
};

/// The longest stream end that is examined for a terminal event without its final blank line.
const BLANK_LINE: &[u8] = b"\n\n";

/// Why a stream broke.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamError {
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error(transparent)]
    Frame(#[from] sse::Error),
    #[error("the provider's stream ended before its terminal event")]
    Early,
    /// As many bytes are held for all calls as may be.
    #[error("the calls of the gateway hold as many bytes as they may")]
    Full,
    /// The process has no more time for the stream.
    #[error("the gateway stops")]
    Stopping,
}

impl StreamError {
    pub(crate) fn kind(&self) -> FailureKind {
        match self {
            Self::Body(error) => broke(error),
            Self::Frame(_) => ("upstream_event_too_large", Fault::Upstream, false),
            Self::Early => ("upstream_disconnected", Fault::Upstream, true),
            Self::Full => ("gateway_full", Fault::Overload, true),
            Self::Stopping => ("gateway_stopping", Fault::Overload, true),
        }
    }

    pub(crate) fn failure(&self) -> Failure {
        failure(self.kind(), with_causes(self))
    }
}

/// One step of a relayed stream.
pub(crate) enum Step {
    /// Whole frames as they came.
    Frames(Block),
    /// The last frame, which came without its final blank line; `block` has it.
    Tail { raw: Bytes, block: Block },
    /// The stream broke; nothing follows.
    Broken(StreamError),
}

/// A provider's stream on its way to a caller.
pub(crate) struct Relay {
    body: Body,
    framer: Option<Framer>,
    event_bytes_max: usize,
    next: Option<Block>,
    settlement: Box<Settlement>,
    permit: Permit,
    /// The model name to show to the caller, where the provider's own would mislead it.
    reroute: Option<String>,
}

impl Relay {
    /// Relays the stream of an answered call.
    pub(crate) fn new(answered: Answered) -> Self {
        let Answered { answer, settlement, permit, event_bytes_max, reroute, .. } = answered;
        let framer = Some(Framer::new(event_bytes_max));
        Self { body: answer.body, framer, event_bytes_max, next: None, settlement, permit, reroute }
    }

    pub(crate) fn settlement(&self) -> &Settlement {
        &self.settlement
    }

    /// The event that ends the response after its stream broke: with its own id, as far as the provider has told it.
    pub(crate) fn failed_event(&self, error: &StreamError) -> Bytes {
        let (failure, settlement) = (error.failure(), &self.settlement);
        let id = settlement.response_id().map(str::to_owned);
        let id = id.unwrap_or_else(|| format!("resp_{}", settlement.id().simple()));
        failed_event(&id, settlement.next_number(), &failure.reason, &failure.message)
    }

    /// The next step; `None` once the stream has ended as it should, or broke before.
    pub(crate) fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Option<Step>> {
        if let Some(block) = self.next.take() {
            return Poll::Ready(Some(Step::Frames(block)));
        }
        loop {
            let Some(framer) = &mut self.framer else { return Poll::Ready(None) };
            let frame = match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(frame) => frame,
                Poll::Pending => {
                    ready!(self.permit.poll_revoked(cx));
                    return Poll::Ready(self.broke(StreamError::Stopping));
                }
            };
            let frame = match frame {
                None => return Poll::Ready(self.end()),
                Some(Err(error)) => return Poll::Ready(self.broke(error.into())),
                Some(Ok(frame)) => frame,
            };
            // Trailers carry nothing that a client of this API reads.
            let Ok(chunk) = frame.into_data() else { continue };
            let mut blocks = match framer.push(chunk) {
                Ok(blocks) => blocks.into_iter(),
                Err(error) => return Poll::Ready(self.broke(error.into())),
            };
            if self.permit.hold(in_steps(framer.pending())).is_err() {
                return Poll::Ready(self.broke(StreamError::Full));
            }
            let Some(first) = blocks.next() else { continue };
            let first = self.observe(first);
            self.next = blocks.next().map(|second| self.observe(second));
            return Poll::Ready(Some(Step::Frames(first)));
        }
    }

    fn observe(&mut self, block: Block) -> Block {
        self.settlement.passed(block.bytes().len());
        if self.settlement.terminal().is_some() {
            return block;
        }
        let mut misleading = false;
        for frame in block.frames() {
            misleading |= self.settlement.observe(&frame) == Kind::Metadata;
        }
        match &self.reroute {
            Some(slug) if misleading => renamed(block, slug),
            _ => block,
        }
    }

    fn end(&mut self) -> Option<Step> {
        let tail = self.framer.take().and_then(Framer::finish);
        let tail = tail.and_then(|raw| self.terminal_tail(raw));
        if self.settlement.terminal().is_none() {
            return self.broke(StreamError::Early);
        }
        self.settlement.ended();
        tail
    }

    /// What stands after the last border is a frame only if it ends the response.
    fn terminal_tail(&mut self, raw: Bytes) -> Option<Step> {
        let closed = Bytes::from([&raw, BLANK_LINE].concat());
        let limit = self.event_bytes_max.saturating_add(BLANK_LINE.len());
        let block = Framer::new(limit).push(closed).ok()?.into_iter().next()?;
        // An event that was cut begins like a whole one.
        let is_cut = |frame: Frame| frame.kind().is_terminal() && json::document(&frame.data()).is_err();
        if block.frames().any(is_cut) {
            return None;
        }
        let ends = block.frames().any(|frame| frame.kind().is_terminal());
        if !ends && self.settlement.terminal().is_none() {
            return None;
        }
        let block = self.observe(block);
        Some(Step::Tail { raw, block })
    }

    fn broke(&mut self, error: StreamError) -> Option<Step> {
        self.framer = None;
        if self.settlement.terminal().is_some() {
            // The response is complete; what a provider does to its connection afterwards is of no interest.
            self.settlement.ended();
            return None;
        }
        self.settlement.failed(Outcome::Broken, error.kind().0);
        Some(Step::Broken(error))
    }
}

/// The bytes of an unfinished frame, so coarse that the usual ones do not count.
fn in_steps(bytes: usize) -> usize {
    const STEP: usize = 64 * 1024;
    bytes / STEP * STEP
}

/// The same frames, with the caller's own name of the model wherever the provider names one in a `response.metadata`.
fn renamed(block: Block, slug: &str) -> Block {
    let mut bytes = BytesMut::with_capacity(block.bytes().len());
    let mut changed = false;
    for frame in block.frames() {
        let data = (frame.kind() == Kind::Metadata).then(|| rerouted::rewrite_model(&frame.data(), slug));
        match data.flatten() {
            Some(data) => {
                changed = true;
                let kind = frame.kind_str().unwrap_or_default();
                bytes.extend_from_slice(&sse::encode(&kind, &data));
            }
            None => bytes.extend_from_slice(frame.raw()),
        }
    }
    if !changed {
        return block;
    }
    let bytes = bytes.freeze();
    let limit = bytes.len();
    let framed = Framer::new(limit).push(bytes).ok().and_then(|blocks| blocks.into_iter().next());
    framed.unwrap_or(block)
}
