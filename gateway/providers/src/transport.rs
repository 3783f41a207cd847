//! Connections to one provider: DNS, TCP, TLS, pooling, HTTP/1.1 or HTTP/2 by ALPN.
//!
//! Proxies of the system are not used. One HTTP/2 connection carries a limited number of streams and a queue
//! behind that limit is invisible, so a transport has several lanes, each with a pool of its own, and opens
//! the next lane when the ones before are well used.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;
use tower::Service;

#[cfg(test)]
mod tests;

/// How long DNS, TCP and TLS may take together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an unused connection is kept. Below the minute after which common load balancers drop it.
const IDLE_CONNECTION_MAX: Duration = Duration::from_secs(50);
/// How many unused connections a lane keeps.
const IDLE_CONNECTIONS_PER_LANE: usize = 128;
/// Calls in flight after which the next lane is taken; servers commonly allow 100 streams a connection.
const CALLS_PER_LANE: usize = 80;
/// Lanes of a transport. Beyond the last one, calls go to the least used lane.
const LANES: usize = 16;
/// Silence on a TCP connection after which the kernel asks the other side.
const TCP_KEEPALIVE: Duration = Duration::from_secs(45);
/// Silence on an HTTP/2 connection with open streams after which a ping is sent.
const HTTP2_PING_AFTER: Duration = Duration::from_secs(30);
/// How long the answer to that ping may take.
const HTTP2_PING_TIMEOUT: Duration = Duration::from_secs(15);
/// What a provider may send on one stream ahead of its reader. Bounds memory per answer.
const HTTP2_STREAM_WINDOW: u32 = 256 * 1024;
/// What a provider may send on one connection ahead of all readers.
const HTTP2_CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;

/// The connection could not be made in time.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("connecting took longer than {} s", CONNECT_TIMEOUT.as_secs())]
pub(crate) struct ConnectTimedOut;

type HttpClient = Client<Connector, Full<Bytes>>;

/// Connections to one provider.
pub(crate) struct Transport {
    first: Arc<Lane>,
    others: Vec<Arc<Lane>>,
}

/// A client with its own connections, and how many calls are using it.
struct Lane {
    client: HttpClient,
    in_flight: AtomicUsize,
}

/// A call's place in a lane, held until its answer has been read or dropped.
pub(crate) struct Place {
    lane: Arc<Lane>,
}

impl Transport {
    pub(crate) fn new(tls: &Tls) -> Transport {
        let connector = Connector { inner: tls.connector() };
        let lane = || {
            let client = Client::builder(TokioExecutor::new())
                .timer(TokioTimer::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(IDLE_CONNECTION_MAX)
                .pool_max_idle_per_host(IDLE_CONNECTIONS_PER_LANE)
                .http2_keep_alive_interval(HTTP2_PING_AFTER)
                .http2_keep_alive_timeout(HTTP2_PING_TIMEOUT)
                .http2_initial_stream_window_size(HTTP2_STREAM_WINDOW)
                .http2_initial_connection_window_size(HTTP2_CONNECTION_WINDOW)
                .build(connector.clone());
            Arc::new(Lane { client, in_flight: AtomicUsize::new(0) })
        };
        Transport { first: lane(), others: std::iter::repeat_with(lane).take(LANES - 1).collect() }
    }

    /// Sends a request and waits for the head of its answer.
    pub(crate) async fn request(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(Response<Incoming>, Place), Error> {
        let place = self.place();
        let response = place.lane.client.request(request).await?;
        Ok((response, place))
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

/// What a TLS connection trusts.
#[derive(Clone)]
pub(crate) struct Tls {
    config: ClientConfig,
}

impl Tls {
    /// Trusts what the machine trusts.
    pub(crate) fn of_this_machine() -> io::Result<Tls> {
        let config = Tls::builder()?.with_native_roots()?.with_no_client_auth();
        Ok(Tls { config })
    }

    /// Trusts nobody: for providers that are reached without TLS.
    pub(crate) fn unused() -> io::Result<Tls> {
        let config =
            Tls::builder()?.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
        Ok(Tls { config })
    }

    fn builder() -> io::Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>> {
        let crypto = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        ClientConfig::builder_with_provider(crypto)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)
    }

    fn connector(&self) -> HttpsConnector<HttpConnector> {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_keepalive(Some(TCP_KEEPALIVE));
        // Every address of a name gets its share of this; the whole is limited by `Connector`.
        http.set_connect_timeout(Some(CONNECT_TIMEOUT));
        HttpsConnectorBuilder::new()
            .with_tls_config(self.config.clone())
            .https_or_http()
            .enable_all_versions()
            .wrap_connector(http)
    }
}

/// Connects, with one time limit over all steps.
#[derive(Clone)]
struct Connector {
    inner: HttpsConnector<HttpConnector>,
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Connection = <HttpsConnector<HttpConnector> as Service<Uri>>::Response;

impl Service<Uri> for Connector {
    type Response = Connection;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Connection, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.inner.call(uri);
        Box::pin(async move {
            match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
                Ok(result) => result,
                Err(_) => Err(ConnectTimedOut.into()),
            }
        })
    }
}
