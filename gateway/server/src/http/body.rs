//! The bodies of our HTTP answers: a finished one, a relayed stream, a relayed document, or gRPC's own.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tidegate_responses::sse;

use crate::{
    document::{Document, DocumentError},
    relay::{Relay, Step},
};

/// The body of an answer of the gateway.
pub struct ResponseBody {
    kind: Kind,
}

enum Kind {
    Full(Option<Bytes>),
    Stream(Box<StreamBody>),
    Document(Box<Document>),
    Grpc(tonic::body::Body),
}

struct StreamBody {
    relay: Relay,
    over: bool,
}

/// Why an answer's body broke off.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The provider's document broke off, so the caller's has to.
    #[error("the provider's answer broke off")]
    Document(#[source] DocumentError),
    /// gRPC reports its errors in trailers; this is a transport's.
    #[error("the gRPC answer broke off")]
    Grpc(#[source] Box<tonic::Status>),
}

impl ResponseBody {
    pub(crate) fn full(bytes: Bytes) -> Self {
        Self { kind: Kind::Full(Some(bytes)) }
    }

    /// A provider's event stream.
    pub(crate) fn stream(relay: Relay) -> Self {
        Self { kind: Kind::Stream(Box::new(StreamBody { relay, over: false })) }
    }

    /// A provider's whole answer.
    pub(crate) fn document(document: Document) -> Self {
        Self { kind: Kind::Document(Box::new(document)) }
    }

    pub(crate) fn grpc(body: tonic::body::Body) -> Self {
        Self { kind: Kind::Grpc(body) }
    }
}

impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.kind {
            Kind::Full(_) => "Full",
            Kind::Stream(_) => "Stream",
            Kind::Document(_) => "Document",
            Kind::Grpc(_) => "Grpc",
        };
        f.debug_tuple("ResponseBody").field(&kind).finish()
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match &mut self.get_mut().kind {
            Kind::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Stream(stream) => stream.poll(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Document(document) => document
                .poll_chunk(cx)
                .map(|chunk| chunk.map(|chunk| chunk.map(Frame::data).map_err(Error::Document))),
            Kind::Grpc(body) => {
                let frame = ready!(Pin::new(body).poll_frame(cx));
                Poll::Ready(frame.map(|frame| frame.map_err(|status| Error::Grpc(Box::new(status)))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Full(bytes) => bytes.is_none(),
            Kind::Stream(stream) => stream.over,
            Kind::Document(document) => document.is_over(),
            Kind::Grpc(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Full(bytes) => {
                let length = bytes.as_ref().map_or(0, Bytes::len);
                SizeHint::with_exact(u64::try_from(length).unwrap_or(u64::MAX))
            }
            Kind::Stream(_) => SizeHint::default(),
            Kind::Document(document) => document.size_hint(),
            Kind::Grpc(body) => body.size_hint(),
        }
    }
}

impl StreamBody {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.over {
            return Poll::Ready(None);
        }
        let bytes = match ready!(self.relay.poll_step(cx)) {
            Some(Step::Frames(block)) => Some(block.into_bytes()),
            Some(Step::Tail { raw, .. }) => Some(raw),
            Some(Step::Broken(error)) => {
                self.over = true;
                // Codex ignores a top-level `error` event, and both Codex and the SDKs know a failed response.
                Some(sse::encode("response.failed", &self.relay.failed_event(&error)))
            }
            None => {
                self.over = true;
                None
            }
        };
        Poll::Ready(bytes)
    }
}
