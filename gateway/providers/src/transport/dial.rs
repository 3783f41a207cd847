//! Makes connections to one provider: name, TCP, proxy, TLS, with one time limit over all steps.
//!
//! Every use connects here: the pools of the HTTP client and the WebSocket. Proxies of the environment are not
//! used. Can hold one connection that was made ahead of need.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::{Ready, ready};
use http::{StatusCode, Uri};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use rustls::pki_types::ServerName;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tower::Service;

use super::no_proxy::NoProxy;
use super::proxy::{Proxy, TunnelError};
use super::stream::Stream;
use super::tls::Tls;

/// How long all steps of a connection may take together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection that was made ahead of need is kept; as long as one that was used.
pub(super) const SPARE_MAX: Duration = super::IDLE_CONNECTION_MAX;
/// Silence on a TCP connection after which the kernel asks the other side.
const TCP_KEEPALIVE: Duration = Duration::from_secs(45);

/// What a configuration says of the way to a provider.
#[derive(Default)]
pub(crate) struct Network {
    /// Trusted besides what the machine trusts.
    pub(crate) authorities: Vec<rustls::pki_types::TrustAnchor<'static>>,
    /// What the gateway shows of itself.
    pub(crate) identity: Option<Arc<CertifiedKey>>,
    pub(crate) proxy: Option<Proxy>,
    pub(crate) no_proxy: NoProxy,
}

/// What will be spoken over a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Alpn {
    /// HTTP/2 where offered, else HTTP/1.1.
    Http,
    /// HTTP/1.1, as a WebSocket needs it.
    WebSocket,
}

/// A step on the way to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Finding the addresses of a name.
    Resolve,
    /// Connecting to one of them.
    Connect,
    /// Asking the proxy for a tunnel.
    Proxy,
    /// The TLS handshake.
    Tls,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Resolve => "resolving the name",
            Self::Connect => "connecting",
            Self::Proxy => "waiting for the proxy",
            Self::Tls => "the tls handshake",
        })
    }
}

/// Whom a step was about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    Provider,
    Proxy,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Provider => "the provider",
            Self::Proxy => "the proxy",
        })
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    #[error("the address names no host")]
    NoHost,
    #[error("cannot resolve the name of {peer}")]
    Resolve { peer: Peer, source: io::Error },
    #[error("cannot connect to {peer}")]
    Connect { peer: Peer, source: Box<dyn Error + Send + Sync> },
    #[error("cannot establish tls with {peer}")]
    Tls { peer: Peer, source: io::Error },
    #[error("the proxy refused the tunnel with status {status}")]
    Refused { status: StatusCode },
    #[error("there is no tunnel through the proxy")]
    Tunnel { source: Box<dyn Error + Send + Sync> },
    #[error("{step} took too long ({} s over all steps)", CONNECT_TIMEOUT.as_secs())]
    TimedOut { step: Step },
}

/// What a failed connection met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Obstacle {
    /// The address is not one.
    Address,
    Resolve,
    Connect,
    Tls,
    /// The proxy, with its answer if there was one.
    Proxy(Option<StatusCode>),
    /// The time limit.
    Time(Step),
}

impl DialError {
    /// What was in the way.
    pub(crate) fn obstacle(&self) -> Obstacle {
        match self {
            Self::NoHost => Obstacle::Address,
            Self::Resolve { peer: Peer::Provider, .. } => Obstacle::Resolve,
            Self::Connect { peer: Peer::Provider, .. } => Obstacle::Connect,
            Self::Tls { peer: Peer::Provider, .. } => Obstacle::Tls,
            Self::Resolve { peer: Peer::Proxy, .. }
            | Self::Connect { peer: Peer::Proxy, .. }
            | Self::Tls { peer: Peer::Proxy, .. }
            | Self::Tunnel { .. } => Obstacle::Proxy(None),
            Self::Refused { status } => Obstacle::Proxy(Some(*status)),
            Self::TimedOut { step } => Obstacle::Time(*step),
        }
    }
}

/// How one provider is reached. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Dialer {
    inner: Arc<Inner>,
}

struct Inner {
    tls: Tls,
    proxy: Option<Proxy>,
    no_proxy: NoProxy,
    spare: Mutex<Option<Spare>>,
}

/// A connection that was made ahead of need.
struct Spare {
    target: Target,
    stream: Stream,
    made: Instant,
}

/// The end of a connection.
#[derive(PartialEq, Eq)]
struct Target {
    /// Without brackets.
    host: String,
    port: u16,
    secure: bool,
}

impl Target {
    fn of(uri: &Uri) -> Result<Target, DialError> {
        let secure = uri.scheme() == Some(&http::uri::Scheme::HTTPS);
        let host = uri.host().ok_or(DialError::NoHost)?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        Ok(Target { host: host.to_owned(), port, secure })
    }
}

/// A host, in brackets if it has colons, and a port.
fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

impl Dialer {
    /// Trusts `roots` and what the configuration adds to them.
    pub(crate) fn new(mut roots: Arc<RootCertStore>, network: Network) -> Result<Dialer, rustls::Error> {
        let Network { authorities, identity, proxy, no_proxy } = network;
        if !authorities.is_empty() {
            Arc::make_mut(&mut roots).extend(authorities);
        }
        let tls = Tls::new(&roots, identity)?;
        let inner = Inner { tls, proxy, no_proxy, spare: Mutex::default() };
        Ok(Dialer { inner: Arc::new(inner) })
    }

    /// Connects, within ten seconds. A connection that was made ahead of need is taken first, for HTTP.
    pub(crate) async fn connect(&self, uri: &Uri, alpn: Alpn) -> Result<Stream, DialError> {
        let target = Target::of(uri)?;
        if alpn == Alpn::Http
            && let Some(stream) = self.spare(&target)
        {
            return Ok(stream);
        }
        self.dial(&target, alpn).await
    }

    /// Makes a connection for the next HTTP call to find.
    pub(super) async fn prepare(&self, uri: &Uri) -> Result<(), DialError> {
        let stream = self.dial(&Target::of(uri)?, Alpn::Http).await?;
        self.keep(uri, stream)
    }

    /// Keeps a connection that nobody has used for the next HTTP call to find.
    pub(super) fn keep(&self, uri: &Uri, stream: Stream) -> Result<(), DialError> {
        let spare = Spare { target: Target::of(uri)?, stream, made: Instant::now() };
        *self.inner.spare.lock().unwrap_or_else(PoisonError::into_inner) = Some(spare);
        Ok(())
    }

    /// Closes the connection that was made ahead of need, if it has not been used.
    pub(super) fn drop_spare(&self) {
        *self.inner.spare.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn spare(&self, target: &Target) -> Option<Stream> {
        let mut spare = self.inner.spare.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = spare.take_if(|spare| spare.target == *target)?;
        let good = taken.made.elapsed() < SPARE_MAX && taken.stream.is_unused_and_open();
        good.then_some(taken.stream)
    }

    async fn dial(&self, target: &Target, alpn: Alpn) -> Result<Stream, DialError> {
        let Inner { tls, proxy, no_proxy, .. } = &*self.inner;
        let until = Until(Instant::now() + CONNECT_TIMEOUT);
        let proxy = proxy.as_ref().filter(|_| !no_proxy.matches(&target.host, target.port));
        let stream = match proxy {
            Some(proxy) => self.through(proxy, target, until).await?,
            None => tcp(&target.host, target.port, Peer::Provider, until).await?,
        };
        if !target.secure {
            return Ok(stream);
        }
        let config = match alpn {
            Alpn::Http => &tls.http,
            Alpn::WebSocket => &tls.websocket,
        };
        secure(stream, config, &target.host, Peer::Provider, until).await
    }

    async fn through(&self, proxy: &Proxy, target: &Target, until: Until) -> Result<Stream, DialError> {
        let mut stream = tcp(&proxy.host, proxy.port, Peer::Proxy, until).await?;
        if proxy.is_secure() {
            stream = secure(stream, &self.inner.tls.proxy, &proxy.host, Peer::Proxy, until).await?;
        }
        let target = authority(&target.host, target.port);
        match until.reach(Step::Proxy, proxy.tunnel(stream, &target)).await? {
            Ok(stream) => Ok(stream),
            Err(TunnelError::Refused { status }) => Err(DialError::Refused { status }),
            Err(error) => Err(DialError::Tunnel { source: error.into() }),
        }
    }
}

/// The moment when a connection must be there.
#[derive(Clone, Copy)]
struct Until(Instant);

impl Until {
    async fn reach<T>(self, step: Step, work: impl Future<Output = T>) -> Result<T, DialError> {
        tokio::time::timeout_at(self.0, work).await.map_err(|_| DialError::TimedOut { step })
    }
}

async fn tcp(host: &str, port: u16, peer: Peer, until: Until) -> Result<Stream, DialError> {
    let found = until.reach(Step::Resolve, tokio::net::lookup_host((host, port))).await?;
    let addresses: Vec<_> = found.map_err(|source| DialError::Resolve { peer, source })?.collect();
    let uri = Uri::builder().scheme("http").authority(authority(host, port)).path_and_query("/").build();
    let uri = uri.map_err(|_| DialError::NoHost)?;
    let mut connector = HttpConnector::new_with_resolver(Resolved(addresses));
    connector.set_nodelay(true);
    connector.set_keepalive(Some(TCP_KEEPALIVE));
    // Every address gets its share of this, so that one that is silent leaves time for the others.
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    match until.reach(Step::Connect, connector.call(uri)).await? {
        Ok(socket) => Ok(Stream::new(socket.into_inner(), false)),
        Err(error) if is_late(&error) => Err(DialError::TimedOut { step: Step::Connect }),
        Err(error) => Err(DialError::Connect { peer, source: error.into() }),
    }
}

fn is_late(error: &dyn Error) -> bool {
    let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    source.is_some_and(|source| source.kind() == io::ErrorKind::TimedOut)
}

async fn secure(
    stream: Stream,
    config: &Arc<ClientConfig>,
    host: &str,
    peer: Peer,
    until: Until,
) -> Result<Stream, DialError> {
    let failed = |source| DialError::Tls { peer, source };
    let name = ServerName::try_from(host.to_owned()).map_err(|error| failed(io::Error::other(error)))?;
    let handshake = TlsConnector::from(Arc::clone(config)).connect(name, stream);
    let stream = until.reach(Step::Tls, handshake).await?.map_err(failed)?;
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    Ok(Stream::new(stream, http2))
}

/// Addresses that have been found already.
#[derive(Clone)]
struct Resolved(Vec<SocketAddr>);

impl Service<Name> for Resolved {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = std::convert::Infallible;
    type Future = Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Name) -> Self::Future {
        ready(Ok(self.0.clone().into_iter()))
    }
}
