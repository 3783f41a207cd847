//! What a test writes down: one answer, how its body is cut into writes, and what goes wrong with it.
//!
//! Offsets count body bytes, before any transfer coding. Playing it is the exchange's work.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde_json::Value;

use crate::gate::Gate;

/// One scripted answer.
#[derive(Debug, Clone)]
pub struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) headers_gate: Option<Gate>,
    pub(crate) refusal: Option<Break>,
    body: Bytes,
    /// Where writes end, beside those that faults ask for.
    cuts: Vec<usize>,
    stalls: Vec<(usize, Gate)>,
    end: Option<(usize, End)>,
    sized: bool,
}

/// How a connection is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Break {
    /// TCP reset; over HTTP/2 the stream is reset.
    Reset,
    /// TCP end without the message's end; over HTTP/2 the stream is reset.
    Close,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Broken(Break),
    Early,
}

/// What to do next with a body.
#[derive(Debug)]
pub(crate) enum Step {
    /// One write.
    Send(Bytes),
    /// Hold until the gate is open.
    Wait(Gate),
    /// Break the connection once everything before is written.
    Break(Break),
    /// End the body properly, though it is not all there.
    EndEarly,
}

impl Reply {
    /// A 200 with an event stream, each frame its own write.
    pub fn sse(frames: impl IntoIterator<Item = Bytes>) -> Reply {
        let (mut body, mut cuts) = (Vec::new(), Vec::new());
        for frame in frames {
            body.extend_from_slice(&frame);
            cuts.push(body.len());
        }
        let reply = Reply::bytes(StatusCode::OK, "text/event-stream", body);
        Reply { cuts, sized: false, ..reply }
    }

    /// A JSON body in one write. A number that is no status becomes 500.
    pub fn json(status: u16, value: &Value) -> Reply {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Reply::bytes(status, "application/json", value.to_string())
    }

    /// Any body in one write.
    pub fn bytes(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Reply {
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(content_type))]);
        Reply {
            status,
            headers,
            headers_gate: None,
            refusal: None,
            body: body.into(),
            cuts: Vec::new(),
            stalls: Vec::new(),
            end: None,
            sized: true,
        }
    }

    /// No answer at all: the connection is reset once the request is read.
    pub fn reset() -> Reply {
        Reply { refusal: Some(Break::Reset), ..Reply::bytes(StatusCode::OK, "text/plain", "") }
    }

    /// No answer at all: the connection ends once the request is read.
    pub fn close() -> Reply {
        Reply { refusal: Some(Break::Close), ..Reply::bytes(StatusCode::OK, "text/plain", "") }
    }

    /// Another status.
    #[must_use]
    pub fn status(mut self, status: StatusCode) -> Reply {
        self.status = status;
        self
    }

    /// Sets a header. What cannot be sent as one is left out.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Reply {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            self.headers.insert(name, value);
        }
        self
    }

    /// Ends writes at these offsets, and at no others.
    #[must_use]
    pub fn cut_at(mut self, offsets: &[usize]) -> Reply {
        self.cuts = offsets.to_vec();
        self
    }

    /// Makes writes of these sizes, over and over until the body ends.
    #[must_use]
    pub fn chunks(mut self, sizes: &[usize]) -> Reply {
        let ends = sizes.iter().copied().filter(|size| *size > 0).cycle().scan(0, |end: &mut usize, size| {
            *end = end.saturating_add(size);
            Some(*end)
        });
        self.cuts = ends.take_while(|end| *end < self.body.len()).collect();
        self
    }

    /// Holds after `bytes` of the body until the gate is open or the connection is dropped.
    #[must_use]
    pub fn stall_after(mut self, bytes: usize, gate: &Gate) -> Reply {
        self.stalls.push((bytes, gate.clone()));
        self
    }

    /// Resets the connection after `bytes` of the body.
    #[must_use]
    pub fn reset_after(mut self, bytes: usize) -> Reply {
        self.end = Some((bytes, End::Broken(Break::Reset)));
        self
    }

    /// Ends the connection after `bytes` of the body, in the middle of the HTTP message.
    #[must_use]
    pub fn close_after(mut self, bytes: usize) -> Reply {
        self.end = Some((bytes, End::Broken(Break::Close)));
        self
    }

    /// Ends the body after `bytes` as if that were all: proper HTTP, but a truncated content.
    #[must_use]
    pub fn end_after(mut self, bytes: usize) -> Reply {
        self.end = Some((bytes, End::Early));
        self.sized = false;
        self
    }

    /// Holds even the headers until the gate is open or the connection is dropped.
    #[must_use]
    pub fn delay_headers(mut self, gate: &Gate) -> Reply {
        self.headers_gate = Some(gate.clone());
        self
    }

    /// The whole body, as it would be without faults.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The `content-length` to announce; a broken body announces its whole length.
    pub(crate) fn content_length(&self) -> Option<usize> {
        self.sized.then_some(self.body.len())
    }

    /// The body as steps, in order.
    pub(crate) fn steps(&self) -> VecDeque<Step> {
        let end = self.end.map_or(self.body.len(), |(bytes, _)| bytes.min(self.body.len()));
        let mut stops: BTreeMap<usize, Vec<Gate>> = self.cuts.iter().map(|cut| (*cut, Vec::new())).collect();
        for (bytes, gate) in &self.stalls {
            stops.entry(*bytes).or_default().push(gate.clone());
        }
        stops.entry(end).or_default();
        let mut steps = VecDeque::new();
        let mut at = 0;
        for (stop, gates) in stops.range(..=end) {
            if *stop > at {
                steps.push_back(Step::Send(self.body.slice(at..*stop)));
                at = *stop;
            }
            steps.extend(gates.iter().cloned().map(Step::Wait));
        }
        match self.end {
            Some((_, End::Broken(how))) => steps.push_back(Step::Break(how)),
            Some((_, End::Early)) => steps.push_back(Step::EndEarly),
            None => {}
        }
        steps
    }
}
