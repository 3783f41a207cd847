//! Plays one reply to one request and notes whether the client stayed for all of it.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};

use crate::reply::{Break, Reply, Step};
use crate::socket::Session;
use crate::state::{self, Recorded, Shared};
use crate::wire::Control;

/// Request bodies beyond this are answered with 413.
const BODY_MAX_BYTES: usize = 256 << 20;

pub(crate) type Body = UnsyncBoxBody<Bytes, Broken>;

/// Makes the HTTP library give up the connection (HTTP/1) or the stream (HTTP/2).
#[derive(Debug, thiserror::Error)]
#[error("the script breaks the connection here")]
pub(crate) struct Broken;

/// What the requests of one connection share.
#[derive(Clone)]
pub(crate) struct Connection {
    pub(crate) shared: Arc<Shared>,
    pub(crate) control: Control,
    /// The WebSocket that the connection becomes once the last answer is written.
    pub(crate) socket: Arc<Mutex<Option<Session>>>,
}

/// Reads a request, records it, and starts its reply.
pub(crate) async fn answer(
    connection: Connection,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Broken> {
    let to = request.headers().get(header::UPGRADE);
    let upgrade = to
        .is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"))
        .then(|| hyper::upgrade::on(&mut request));
    let (head, body) = request.into_parts();
    let body = match Limited::new(body, BODY_MAX_BYTES).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            return Ok(plain(&state::error(413, "too_large", "the body is too large")));
        }
        Err(_) => return Err(Broken),
    };
    let Connection { shared, control, socket } = connection;
    let recorded = Recorded::new(head, body);
    let head_only = recorded.method == Method::HEAD;
    let handled = shared.handler.as_ref().and_then(|handler| handler.handle(&recorded));
    let (reply, index) = shared.note(|script| {
        let handled = handled.or_else(|| script.unauthorized(&recorded.headers));
        let (reply, session) = match (handled, upgrade) {
            (Some(reply), _) => (reply, None),
            (None, Some(upgrade)) => script.next_socket(&recorded, upgrade),
            (None, None) => (script.next_reply(&recorded.method, &recorded.path), None),
        };
        *socket.lock().unwrap_or_else(PoisonError::into_inner) = session;
        script.requests.push(recorded);
        (reply, script.requests.len() - 1)
    });
    let reply = match &shared.handler {
        Some(handler) => handler.stamp(reply),
        None => reply,
    };
    let exchange = Exchange { shared, control, index, head_only, over: false };
    exchange.play(reply).await
}

fn plain(reply: &Reply) -> Response<Body> {
    let body = Full::new(reply.body().clone()).map_err(|never: Infallible| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = reply.status;
    *response.headers_mut() = reply.headers.clone();
    response
}

/// A request that is being answered. Dropped before it is over, it counts as cancelled.
struct Exchange {
    shared: Arc<Shared>,
    control: Control,
    index: usize,
    /// The client asked for no body.
    head_only: bool,
    over: bool,
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if !self.over {
            self.shared.note(|script| {
                if let Some(request) = script.requests.get_mut(self.index) {
                    request.cancelled = true;
                }
            });
        }
    }
}

impl Exchange {
    async fn play(mut self, reply: Reply) -> Result<Response<Body>, Broken> {
        if let Some(gate) = &reply.headers_gate {
            if !gate.is_open() {
                self.shared.note(|script| script.faults.header_delays += 1);
            }
            gate.passed().await;
        }
        if let Some(how) = reply.refusal {
            return Err(self.break_off(how));
        }
        let without_body = matches!(
            reply.status,
            StatusCode::SWITCHING_PROTOCOLS | StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
        );
        let length = reply.content_length().filter(|_| !without_body);
        let steps = if without_body || self.head_only { VecDeque::new() } else { reply.steps() };
        self.over = steps.is_empty();
        let body = Playing { exchange: self, steps, sent_at: None };
        let body = StreamBody::new(stream::unfold(body, Playing::next)).boxed_unsync();
        let mut response = Response::new(body);
        *response.status_mut() = reply.status;
        *response.headers_mut() = reply.headers;
        if let Some(length) = length {
            response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        Ok(response)
    }

    fn sends(&self, bytes: usize) {
        self.shared.note(|script| {
            if let Some(request) = script.requests.get_mut(self.index) {
                request.sent += bytes;
            }
        });
    }

    fn break_off(&mut self, how: Break) -> Broken {
        self.over = true;
        self.shared.note(|script| match how {
            Break::Reset => script.faults.resets += 1,
            Break::Close => script.faults.closes += 1,
        });
        if how == Break::Reset {
            self.control.reset_at_end();
        }
        Broken
    }
}

/// A body between two of its steps.
struct Playing {
    exchange: Exchange,
    steps: VecDeque<Step>,
    /// The flush count when the last write was handed over.
    sent_at: Option<u64>,
}

impl Playing {
    async fn next(mut self) -> Option<(Result<Frame<Bytes>, Broken>, Playing)> {
        loop {
            // What was handed over leaves before anything else happens: each write on its own, and faults
            // strike behind it.
            if let Some(seen) = self.sent_at.take() {
                self.exchange.control.flushed_since(seen).await;
            }
            match self.steps.pop_front()? {
                Step::Send(bytes) => {
                    // The library drops a body of known length once it has all bytes.
                    self.exchange.over = self.steps.is_empty();
                    self.exchange.sends(bytes.len());
                    self.sent_at = Some(self.exchange.control.flushes());
                    return Some((Ok(Frame::data(bytes)), self));
                }
                Step::Wait(gate) => {
                    if !gate.is_open() {
                        self.exchange.shared.note(|script| script.faults.stalls += 1);
                    }
                    gate.passed().await;
                    self.exchange.over = self.steps.is_empty();
                }
                Step::Break(how) => {
                    let broken = self.exchange.break_off(how);
                    return Some((Err(broken), self));
                }
                Step::EndEarly => {
                    self.exchange.over = true;
                    self.exchange.shared.note(|script| script.faults.early_ends += 1);
                    return None;
                }
            }
        }
    }
}
