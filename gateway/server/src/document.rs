//! Passes a provider's answer on that is one document instead of a stream of events, and reads its usage at the end.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use gateway_providers::{Body, BodyError};
use http_body::Body as _;
use tidegate_proto::gateway::v1::Failure;

use crate::{
    admit::Permit,
    relay::StreamError,
    settle::{Outcome, Settlement},
};

/// How much of a document is kept to read its usage from. A larger one passes all the same, with unknown usage.
const BYTES_KEPT_MAX: usize = 8 * 1024 * 1024;

/// A document on its way to a caller. Dropping it cancels the call.
pub(crate) struct Document {
    body: Body,
    kept: Vec<Bytes>,
    kept_bytes: usize,
    settlement: Box<Settlement>,
    refused: bool,
    over: bool,
    permit: Permit,
}

/// Why a document broke off.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct DocumentError(StreamError);

impl DocumentError {
    pub(crate) fn failure(&self) -> Failure {
        self.0.failure()
    }

    /// Whether the process has no more time for anything.
    pub(crate) fn is_stopping(&self) -> bool {
        matches!(self.0, StreamError::Stopping)
    }
}

impl From<BodyError> for DocumentError {
    fn from(error: BodyError) -> Self {
        Self(error.into())
    }
}

impl Document {
    /// A provider's whole answer, which is an error if `refused`.
    pub(crate) fn new(body: Body, settlement: Box<Settlement>, permit: Permit, refused: bool) -> Self {
        Self { body, kept: Vec::new(), kept_bytes: 0, settlement, refused, over: false, permit }
    }

    pub(crate) fn settlement(&self) -> &Settlement {
        &self.settlement
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over || self.body.is_end_stream()
    }

    pub(crate) fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }

    /// The next part; `None` when the document is whole or broke before.
    pub(crate) fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, DocumentError>>> {
        while !self.over {
            let frame = match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(frame) => frame,
                Poll::Pending if self.permit.poll_revoked(cx).is_ready() => {
                    return self.broke(DocumentError(StreamError::Stopping));
                }
                Poll::Pending => return Poll::Pending,
            };
            let data = match frame {
                None => break,
                Some(Err(error)) => return self.broke(error.into()),
                Some(Ok(frame)) => frame.into_data(),
            };
            // Trailers carry nothing that a client of this API reads.
            let Ok(data) = data else { continue };
            self.settlement.passed(data.len());
            self.keep(&data);
            if self.body.is_end_stream() {
                self.finish();
            }
            return Poll::Ready(Some(Ok(data)));
        }
        self.finish();
        Poll::Ready(None)
    }

    fn broke(&mut self, error: DocumentError) -> Poll<Option<Result<Bytes, DocumentError>>> {
        self.over = true;
        self.settlement.failed(Outcome::Broken, error.0.kind().0);
        Poll::Ready(Some(Err(error)))
    }

    fn keep(&mut self, data: &Bytes) {
        self.kept_bytes = self.kept_bytes.saturating_add(data.len());
        let too_much = self.refused || self.kept_bytes > BYTES_KEPT_MAX;
        if too_much || self.permit.hold(self.kept_bytes).is_err() {
            self.kept.clear();
            // Giving back never fails.
            let _ = self.permit.hold(0);
            // What was kept is not needed any more, and nothing more will be.
            self.kept_bytes = usize::MAX;
        } else {
            self.kept.push(data.clone());
        }
    }

    fn finish(&mut self) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        if self.refused {
            self.settlement.settle(Outcome::Refused);
            return;
        }
        let kept = std::mem::take(&mut self.kept);
        match kept.as_slice() {
            [] => {}
            [whole] => self.settlement.observe_body(whole),
            parts => self.settlement.observe_body(&parts.concat()),
        }
        if self.settlement.terminal().is_some() {
            self.settlement.ended();
        } else {
            // The answer passed whole, but says nothing that we understand.
            self.settlement.settle(Outcome::Completed);
        }
    }
}
