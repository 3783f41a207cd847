//! What belongs to one caller's thread at a provider: its socket, and whether it has fallen back to HTTP.
//!
//! Only keeps: when a socket is taken, made or given up is decided in `socket`. Sockets are never shared between
//! sessions.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use http::{HeaderValue, Uri};
use tokio::time::Instant;

use crate::credential::Generation;
use crate::socket::Socket;

/// One thread's path to its provider, kept for as long as the thread is busy. Dropping it closes the thread's
/// socket, as soon as no answer is read from it.
#[derive(Default)]
pub struct Session {
    parking: Arc<Parking>,
    /// Ids of providers that have refused a socket.
    over_http: BTreeSet<String>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("over_http", &self.over_http).finish_non_exhaustive()
    }
}

impl Session {
    /// Whether a socket is held, so that a response can be continued by its id.
    #[must_use]
    pub fn has_socket(&self) -> bool {
        // A response that is being read from a socket refers to the place where the socket goes afterwards.
        self.parking.lock().is_some() || Arc::weak_count(&self.parking) > 0
    }

    /// Whether calls of this session go to the provider over HTTP for good.
    pub(crate) fn has_fallen_back(&self, provider: &str) -> bool {
        self.over_http.contains(provider)
    }

    pub(crate) fn fall_back(&mut self, provider: &str) {
        self.over_http.insert(provider.to_owned());
    }

    /// The socket that waits for the next call, if there is one.
    pub(crate) fn take(&self) -> Option<Parked> {
        self.parking.lock().take()
    }

    pub(crate) fn parking(&self) -> &Arc<Parking> {
        &self.parking
    }
}

/// Where a session's socket waits between two responses. The body of an answer brings it back here.
#[derive(Default)]
pub(crate) struct Parking(Mutex<Option<Parked>>);

impl Parking {
    /// Parks a socket. One that is already here was made earlier, and is closed.
    pub(crate) fn park(&self, socket: Box<Socket>, binding: Binding) {
        let earlier = self.lock().replace(Parked { socket, binding, since: Instant::now() });
        drop(earlier);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Parked>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A socket between two responses.
pub(crate) struct Parked {
    pub(crate) socket: Box<Socket>,
    pub(crate) binding: Binding,
    pub(crate) since: Instant,
}

/// What a socket was opened for. It is used for nothing else.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Binding {
    pub(crate) provider: String,
    pub(crate) uri: Uri,
    pub(crate) generation: Generation,
    /// The value of `authorization` in its handshake, which tells callers with credentials of their own apart.
    pub(crate) authorization: Option<HeaderValue>,
    /// The value of `chatgpt-account-id` in its handshake.
    pub(crate) account: Option<HeaderValue>,
}
