//! What the upstream is going to say and what it has seen, shared by its connections and the test.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::uri::Authority;
use http::{HeaderMap, Method, header, request};
use hyper::upgrade::OnUpgrade;
use serde_json::json;
use tokio::sync::Notify;

use crate::reply::Reply;
use crate::socket::{self, Session, Socket, SocketMessage, SocketScript};
use crate::tls::TlsCounts;

/// One request as it came.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// Its method.
    pub method: Method,
    /// Its path without the query.
    pub path: String,
    /// Its query, if it had one.
    pub query: Option<String>,
    /// The host that it asks, from its `Host` header or what HTTP/2 has instead.
    pub authority: Option<String>,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// How many bytes of the answer's body were handed to the socket.
    pub sent: usize,
    /// Whether the client went away before it had the whole answer.
    pub cancelled: bool,
}

impl Recorded {
    pub(crate) fn new(head: request::Parts, body: Bytes) -> Recorded {
        let host = head.headers.get(header::HOST).and_then(|host| host.to_str().ok());
        Recorded {
            method: head.method,
            path: head.uri.path().to_owned(),
            query: head.uri.query().map(str::to_owned),
            authority: host.or(head.uri.authority().map(Authority::as_str)).map(str::to_owned),
            headers: head.headers,
            body,
            sent: 0,
            cancelled: false,
        }
    }

    /// A header as text; none when it is missing or not text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body as JSON; null when it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Whether it asks a model for a response, and so takes the script's next reply.
    pub fn is_call(&self) -> bool {
        is_call(&self.method, &self.path)
    }
}

pub(crate) fn is_call(method: &Method, path: &str) -> bool {
    let calls = ["/responses", "/responses/compact", "/responses/input_tokens"];
    method == Method::POST && calls.iter().any(|call| path.ends_with(call))
}

/// How often each fault was really played, so that a test can prove that it tested something.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults {
    /// Bodies that came to a closed gate.
    pub stalls: usize,
    /// Headers that came to a closed gate.
    pub header_delays: usize,
    /// Connections that were reset.
    pub resets: usize,
    /// Connections that ended in the middle of a message.
    pub closes: usize,
    /// Bodies that ended early.
    pub early_ends: usize,
    /// WebSocket handshakes that a script refused.
    pub refusals: usize,
    /// WebSockets that a script closed with a close frame.
    pub close_frames: usize,
    /// Requests that were answered with 401, as their `authorization` was another than the accepted one.
    pub unauthorized: usize,
}

#[derive(Default)]
pub(crate) struct Script {
    pub(crate) queue: VecDeque<Reply>,
    pub(crate) default: Option<Reply>,
    pub(crate) routes: HashMap<(Method, String), Reply>,
    pub(crate) requests: Vec<Recorded>,
    pub(crate) faults: Faults,
    pub(crate) connections: usize,
    /// The only `authorization` that is accepted, if it matters.
    pub(crate) authorization: Option<String>,
    pub(crate) tls: TlsCounts,
    pub(crate) socket_queue: VecDeque<SocketScript>,
    pub(crate) socket_default: Option<SocketScript>,
    pub(crate) sockets: Vec<Socket>,
    pub(crate) messages: Vec<SocketMessage>,
}

/// A service that answers by its own rules, where an upstream would answer by its script.
pub(crate) trait Handler: Send + Sync {
    /// The answer to a request; none leaves it to the script.
    fn handle(&self, request: &Recorded) -> Option<Reply>;

    /// Adds what every answer of this service carries.
    fn stamp(&self, reply: Reply) -> Reply;
}

#[derive(Default)]
pub(crate) struct Shared {
    script: Mutex<Script>,
    changed: Notify,
    pub(crate) handler: Option<Arc<dyn Handler>>,
}

impl Shared {
    pub(crate) fn handled(handler: Arc<dyn Handler>) -> Shared {
        Shared { handler: Some(handler), ..Shared::default() }
    }

    pub(crate) fn script(&self) -> MutexGuard<'_, Script> {
        // A panic elsewhere in a test must not hide behind a second one here.
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what was seen and wakes those who wait for it.
    pub(crate) fn note<R>(&self, change: impl FnOnce(&mut Script) -> R) -> R {
        let result = change(&mut self.script());
        self.changed.notify_waiters();
        result
    }

    /// Changes what was seen of a WebSocket.
    pub(crate) fn socket(&self, index: usize, change: impl FnOnce(&mut Socket)) {
        self.note(|script| script.sockets.get_mut(index).map(change));
    }

    /// Waits until something can be read.
    pub(crate) async fn until<R>(&self, mut read: impl FnMut(&Script) -> Option<R>) -> R {
        loop {
            let changed = self.changed.notified();
            // Registered before looking, so that no change is missed between looking and waiting.
            if let Some(result) = read(&self.script()) {
                return result;
            }
            changed.await;
        }
    }
}

impl Script {
    /// What a request meets whose `authorization` is not the accepted one.
    pub(crate) fn unauthorized(&mut self, headers: &HeaderMap) -> Option<Reply> {
        let accepted = self.authorization.as_ref()?;
        if headers.get(header::AUTHORIZATION).is_some_and(|value| value == accepted.as_str()) {
            return None;
        }
        self.faults.unauthorized += 1;
        Some(error(401, "invalid_api_key", "the scripted upstream does not take this credential"))
    }

    /// What a WebSocket handshake meets.
    pub(crate) fn next_socket(&mut self, request: &Recorded, upgrade: OnUpgrade) -> (Reply, Option<Session>) {
        let scripted = request.method == Method::GET && request.path.ends_with("/responses");
        let next = || self.socket_queue.pop_front().or_else(|| self.socket_default.clone());
        let Some(next) = scripted.then(next).flatten() else {
            return (error(426, "upgrade_required", "the scripted upstream speaks no WebSocket"), None);
        };
        self.faults.refusals += usize::from(next.refusal.is_some());
        socket::handshake(next, Socket::new(request), upgrade)
    }

    /// The reply to a request that was not a WebSocket upgrade.
    pub(crate) fn next_reply(&mut self, method: &Method, path: &str) -> Reply {
        if let Some(reply) = self.routes.get(&(method.clone(), path.to_owned())) {
            return reply.clone();
        }
        if is_call(method, path) {
            return self.queue.pop_front().or_else(|| self.default.clone()).unwrap_or_else(|| {
                error(500, "script_exhausted", "the scripted upstream has no reply left")
            });
        }
        if method == Method::GET && path.ends_with("/models") {
            return models();
        }
        error(404, "not_found", "the scripted upstream does not know this path")
    }
}

pub(crate) fn error(status: u16, code: &str, message: &str) -> Reply {
    Reply::json(
        status,
        &json!({"error": {"message": message, "type": "testkit", "code": code, "param": null}}),
    )
}

fn models() -> Reply {
    let model =
        json!({"id": "gpt-6-sol", "object": "model", "created": 1_790_000_000, "owned_by": "testkit"});
    Reply::json(200, &json!({"object": "list", "data": [model]}))
}
