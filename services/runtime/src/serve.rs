//! The accept loop: HTTP/1.1 and HTTP/2 with upgrades on one listener, every limit stated, drained in order.
//!
//! It knows nothing of routes or callers. A connection counts against the limit, and is waited for in a drain,
//! until its socket is closed, also after an upgrade has taken it out of HTTP.

mod connection;
mod first_request;
mod frame_meter;
mod handshake;
mod head_timer;
mod limits;
mod loosen;
mod pace;
mod peek;

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::service::Service;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

pub use limits::{Http2Config, Limits, ServeConfig};

use crate::drain::Drain;
use crate::listen::{Listener, Peer, Stream};
use connection::{Slot, Tracked};

/// The first and the longest pause after the system refused a connection for lack of something.
const ACCEPT_PAUSE_MIN: Duration = Duration::from_millis(10);
const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(1);
/// How long tasks of dropped connections may take to notice.
const ABORT_LINGER: Duration = Duration::from_secs(1);

/// Any error of a service or body.
type BoxError = Box<dyn StdError + Send + Sync>;

/// Serves until the drain is over: returns when every connection is closed, at the latest just after the abort.
///
/// The service is cloned for each connection; each request carries its [`Peer`] in the extensions, and the
/// [`PeerCertificate`](tidegate_callers::PeerCertificate) if its connection has shown one.
pub async fn serve<S, B>(listener: Listener, service: S, limits: Limits, drain: Drain)
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError> + Send,
    B: Body + Unpin + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let tracker = TaskTracker::new();
    let permits = Arc::new(Semaphore::new(limits.connections));
    let limits = Arc::new(limits);
    let tls = listener.tls().cloned();
    if tls.is_none() && !listener.address().is_local() {
        tracing::warn!(address = %listener.address(), "other machines can reach this listener, and it does not speak TLS");
    }
    // Owns the service instead of borrowing it: a service need not be Sync.
    let start = {
        let (tracker, drain) = (tracker.clone(), drain.clone());
        move |stream: Stream, peer: Peer, permit| {
            let connection = connection::Connection {
                stream,
                slot: Slot::new(permit, tracker.token()),
                tls: tls.clone(),
                peer,
                executor: Tracked(tracker.clone()),
                limits: Arc::clone(&limits),
                drain: drain.clone(),
            };
            tracker.spawn(connection.run(service.clone()));
        }
    };
    let mut pause = ACCEPT_PAUSE_MIN;
    loop {
        let next = async {
            // Waiting for a place before accepting leaves the others in the kernel's queue.
            let permit = Arc::clone(&permits).acquire_owned().await.map_err(io::Error::other)?;
            let (stream, peer) = listener.accept().await?;
            Ok((stream, peer, permit))
        };
        let accepted = tokio::select! {
            biased;
            () = drain.closing() => break,
            accepted = next => accepted,
        };
        match accepted {
            Ok((stream, peer, permit)) => {
                pause = ACCEPT_PAUSE_MIN;
                start(stream, peer, permit);
            }
            Err(error) if is_of_one_connection(&error) => {
                tracing::debug!(%error, "a connection ended before it began")
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections");
                tokio::select! {
                    () = drain.closing() => break,
                    () = tokio::time::sleep(pause) => pause = (pause * 2).min(ACCEPT_PAUSE_MAX),
                }
            }
        }
    }
    // Whoever is in the kernel's queue already has a connection; closing the listener would reset it.
    while let Ok(permit) = Arc::clone(&permits).try_acquire_owned() {
        tokio::select! {
            biased;
            Ok((stream, peer)) = listener.accept() => start(stream, peer, permit),
            () = std::future::ready(()) => break,
        }
    }
    drop(listener);
    finish(&tracker, &drain).await;
}

async fn finish(tracker: &TaskTracker, drain: &Drain) {
    tracker.close();
    tokio::select! {
        () = tracker.wait() => return,
        () = drain.aborted() => {}
    }
    let left = tracker.len();
    if tokio::time::timeout(ABORT_LINGER, tracker.wait()).await.is_err() {
        tracing::warn!(left, "connections were dropped at the end of the drain");
    }
}

/// Whether an accept error speaks of the connection, not of the listener.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted, InvalidInput, NotConnected,
    };
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted | InvalidInput | NotConnected
    )
}
