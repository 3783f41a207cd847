//! Connections to one provider: pooling, lanes, HTTP/1.1 or HTTP/2 by ALPN.
//!
//! HTTP/1.1 connections are driven by the calls that use them (`direct`); what speaks HTTP/2 has hyper's pooled client.
//! One HTTP/2 connection carries a limited number of streams and a queue behind that limit is invisible, so a
//! transport has several lanes, each with a pool of its own, and opens the next lane when the ones before are
//! well used. How a connection is made stands in `dial`.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::time::Instant;
use tower::Service;

use self::direct::{Failed, Pool, Taken};

mod dial;
mod direct;
mod no_proxy;
mod proxy;
mod received;
mod stream;
#[cfg(test)]
mod tests;
mod tls;

pub use dial::Step;
pub(crate) use dial::{Alpn, DialError, Dialer, Network, Obstacle};
pub(crate) use no_proxy::{NoProxy, Rule};
pub(crate) use proxy::Proxy;
pub(crate) use received::Received;
pub(crate) use stream::Stream;
pub(crate) use tls::{crypto, roots_of_this_machine};

/// How long an unused connection is kept. Below the minute after which common load balancers drop it.
const IDLE_CONNECTION_MAX: Duration = Duration::from_secs(50);
/// How many unused connections a lane keeps.
const IDLE_CONNECTIONS_PER_LANE: usize = 128;
/// Calls in flight after which the next lane is taken; servers commonly allow 100 streams a connection.
const CALLS_PER_LANE: usize = 80;
/// Lanes of a transport. Beyond the last one, calls go to the least used lane.
const LANES: usize = 16;
/// Silence on an HTTP/2 connection with open streams after which a ping is sent.
const HTTP2_PING_AFTER: Duration = Duration::from_secs(30);
/// How long the answer to that ping may take.
const HTTP2_PING_TIMEOUT: Duration = Duration::from_secs(15);
/// What one HTTP/1.1 connection reads ahead, and the largest head of an answer, as in Node: what stays in memory for a caller
/// that reads slower than its provider writes.
const HTTP1_BUFFER_MAX: usize = 16 * 1024;
/// What a provider may send on one stream ahead of its reader, which is held for a caller that does not read: over a megabyte
/// a second when a round trip takes a tenth of one.
const HTTP2_STREAM_WINDOW: u32 = 128 * 1024;
/// What a provider may send on one connection ahead of all readers.
const HTTP2_CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;

type HttpClient = Client<Connector, Full<Bytes>>;

/// Connections to one provider.
pub(crate) struct Transport {
    dialer: Dialer,
    unshared: Arc<Pool>,
    /// Whether HTTP/2 was agreed on once: from then on calls go by the lanes, which speak HTTP/1.1 as well.
    speaks_http2: AtomicBool,
    first: Arc<Lane>,
    others: Vec<Arc<Lane>>,
}

/// A client with its own connections, and how many calls are using it.
struct Lane {
    client: HttpClient,
    in_flight: AtomicUsize,
}

/// Why no connection was made ahead of need.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Cold {
    #[error("connecting took longer than {} s", limit.as_secs_f64())]
    Late { limit: Duration },
    #[error(transparent)]
    Dial(#[from] DialError),
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unanswered {
    #[error("there is no connection")]
    Dial(#[from] DialError),
    #[error("the exchange failed")]
    Exchange(#[from] hyper::Error),
    #[error("the exchange failed")]
    Shared(#[from] Error),
}

/// The head of an answer.
pub(crate) struct Told {
    pub(crate) response: Response<Received>,
    /// How long making the connection took, if one was made for this request.
    pub(crate) connect: Option<Duration>,
}

thread_local! {
    /// The connection that a pool has begun to make in the poll that is running; it holds how long that took, once it is
    /// made. Connections are rare, so a call that finds one pays nothing for being measured.
    static DIAL: Cell<Option<Arc<OnceLock<Duration>>>> = const { Cell::new(None) };
}

/// A call's place in a lane, held until its answer has been read or dropped.
pub(crate) struct Place {
    lane: Arc<Lane>,
}

impl Transport {
    pub(crate) fn new(dialer: Dialer) -> Transport {
        let connector = Connector(dialer.clone());
        let lane = || {
            let client = Client::builder(TokioExecutor::new())
                .timer(TokioTimer::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(IDLE_CONNECTION_MAX)
                .pool_max_idle_per_host(IDLE_CONNECTIONS_PER_LANE)
                .http1_max_buf_size(HTTP1_BUFFER_MAX)
                .http2_keep_alive_interval(HTTP2_PING_AFTER)
                .http2_keep_alive_timeout(HTTP2_PING_TIMEOUT)
                .http2_initial_stream_window_size(HTTP2_STREAM_WINDOW)
                .http2_initial_connection_window_size(HTTP2_CONNECTION_WINDOW)
                .build(connector.clone());
            Arc::new(Lane { client, in_flight: AtomicUsize::new(0) })
        };
        let first = lane();
        let others = std::iter::repeat_with(lane).take(LANES - 1).collect();
        Transport { dialer, unshared: Arc::default(), speaks_http2: AtomicBool::new(false), first, others }
    }

    /// How the provider is reached.
    pub(crate) fn dialer(&self) -> &Dialer {
        &self.dialer
    }

    /// Makes one connection for the first call to find, within `limit`, and holds it until it is used or too old.
    pub(crate) async fn prewarm(&self, uri: &Uri, limit: Duration) -> Result<(), Cold> {
        tokio::time::timeout(limit, self.dialer.prepare(uri)).await.map_err(|_| Cold::Late { limit })??;
        tokio::time::sleep(dial::SPARE_MAX).await;
        self.dialer.drop_spare();
        Ok(())
    }

    /// Sends a request and waits for the head of its answer.
    ///
    /// The way of a request is long and is carried on by every future around it, so it stands apart.
    pub(crate) fn request(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Pin<Box<impl Future<Output = Result<Told, Unanswered>> + '_>> {
        Box::pin(self.send(request))
    }

    async fn send(&self, mut request: Request<Full<Bytes>>) -> Result<Told, Unanswered> {
        let uri = request.uri().clone();
        while !self.speaks_http2.load(Ordering::Relaxed) {
            let Some(taken) = self.unshared.take(&uri) else {
                // Apart, so that the many calls that find one do not carry the room for making it.
                return Box::pin(self.anew(&uri, request)).await;
            };
            match taken.request(request).await {
                Ok(response) => return Ok(Told { response, connect: None }),
                Err(Failed::Broken(error)) => return Err(error.into()),
                // It was closed meanwhile.
                Err(Failed::Unsent(unsent, _)) => request = *unsent,
            }
        }
        *request.uri_mut() = uri;
        self.shared(request).await
    }

    /// Sends a request over a new connection.
    async fn anew(&self, uri: &Uri, mut request: Request<Full<Bytes>>) -> Result<Told, Unanswered> {
        let began = Instant::now();
        let stream = self.dialer.connect(uri, Alpn::Http).await?;
        let connect = Some(began.elapsed());
        if stream.speaks_http2() {
            self.speaks_http2.store(true, Ordering::Relaxed);
            self.dialer.keep(uri, stream)?;
            *request.uri_mut() = uri.clone();
            return Ok(Told { connect, ..self.shared(request).await? });
        }
        let taken = Taken::new(&self.unshared, uri, stream).await?;
        match taken.request(request).await {
            Ok(response) => Ok(Told { response, connect }),
            Err(Failed::Broken(error) | Failed::Unsent(_, error)) => Err(error.into()),
        }
    }

    /// Sends a request over a connection that others may use at the same time.
    async fn shared(&self, request: Request<Full<Bytes>>) -> Result<Told, Unanswered> {
        let place = self.place();
        let mut answered = place.lane.client.request(request);
        let mut dial = None;
        let response = poll_fn(|cx| {
            let polled = Pin::new(&mut answered).poll(cx);
            // A pool that has no connection asks for one while it is polled for the call that needs it.
            if let Some(begun) = DIAL.take() {
                dial = Some(begun);
            }
            polled
        })
        .await?;
        let connect = dial.and_then(|dial: Arc<OnceLock<Duration>>| dial.get().copied());
        Ok(Told { response: response.map(|incoming| Received::shared(incoming, place)), connect })
    }

    /// The first lane with room, so that connections are shared as long as that costs nothing.
    fn place(&self) -> Place {
        let load = |lane: &&Arc<Lane>| lane.in_flight.load(Ordering::Relaxed);
        let lanes = || std::iter::once(&self.first).chain(&self.others);
        let free = lanes().find(|lane| load(lane) < CALLS_PER_LANE);
        let lane = free.or_else(|| lanes().min_by_key(load)).unwrap_or(&self.first);
        lane.in_flight.fetch_add(1, Ordering::Relaxed);
        Place { lane: Arc::clone(lane) }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.lane.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Connects the pools.
#[derive(Clone)]
struct Connector(Dialer);

impl Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = DialError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, DialError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let dialer = self.0.clone();
        let took = Arc::<OnceLock<Duration>>::default();
        DIAL.set(Some(Arc::clone(&took)));
        Box::pin(async move {
            let began = Instant::now();
            let stream = dialer.connect(&uri, Alpn::Http).await?;
            // Nobody else sets it.
            let _ = took.set(began.elapsed());
            Ok(TokioIo::new(stream))
        })
    }
}
