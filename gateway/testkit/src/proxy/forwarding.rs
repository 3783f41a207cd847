//! A reverse proxy over HTTP/1.1 that does to requests what proxies do: it adds `X-Forwarded-For`,
//! `X-Forwarded-Proto` and `Via`.
//!
//! The target of a request, its `Host`, its other headers and its body stay as they came, and so does the answer.
//! It opens one connection per request and passes no upgrade.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::header::{CONNECTION, HeaderName, HeaderValue, VIA};
use http::{Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1 as client;
use hyper::server::conn::http1 as server;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

type Body = UnsyncBoxBody<Bytes, hyper::Error>;

/// A running proxy in front of one address. Dropping it breaks its connections.
pub struct ForwardingProxy {
    address: SocketAddr,
    desk: Arc<Desk>,
    /// The accept loop, which owns the connections.
    _task: JoinSet<()>,
}

impl std::fmt::Debug for ForwardingProxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ForwardingProxy").field("address", &self.address).finish_non_exhaustive()
    }
}

struct Desk {
    target: SocketAddr,
    closes: AtomicBool,
    forwarded: AtomicUsize,
}

impl ForwardingProxy {
    /// Listens on a free port of 127.0.0.1 and forwards to `target`.
    pub async fn start(target: SocketAddr) -> io::Result<ForwardingProxy> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let desk = Arc::new(Desk { target, closes: AtomicBool::new(false), forwarded: AtomicUsize::new(0) });
        let mut task = JoinSet::new();
        task.spawn(accept(listener, desk.clone()));
        Ok(ForwardingProxy { address, desk, _task: task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its address with a path below it, as in `http://127.0.0.1:1234/openai/v1`.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Sends `Connection: close` with what it forwards from now on.
    pub fn close_connections(&self) {
        self.desk.closes.store(true, Ordering::Release);
    }

    /// Requests that were handed on.
    pub fn forwarded(&self) -> usize {
        self.desk.forwarded.load(Ordering::Acquire)
    }
}

async fn accept(listener: TcpListener, desk: Arc<Desk>) {
    let mut connections = JoinSet::new();
    loop {
        if let Ok((stream, peer)) = listener.accept().await {
            connections.spawn(serve(stream, peer, desk.clone()));
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(stream: TcpStream, peer: SocketAddr, desk: Arc<Desk>) {
    if stream.set_nodelay(true).is_err() {
        return;
    }
    // The connections to the target live as long as the client's.
    let onward = Arc::new(Mutex::new(JoinSet::new()));
    let service = service_fn(|request| forward(request, peer, desk.clone(), onward.clone()));
    // How it ended is for the client and the target to say.
    let _ended = server::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn forward(
    mut request: Request<Incoming>,
    peer: SocketAddr,
    desk: Arc<Desk>,
    onward: Arc<Mutex<JoinSet<()>>>,
) -> Result<Response<Body>, hyper::Error> {
    let Ok(stream) = TcpStream::connect(desk.target).await else {
        let body = Empty::new().map_err(|never: Infallible| match never {}).boxed_unsync();
        let mut response = Response::new(body);
        *response.status_mut() = StatusCode::BAD_GATEWAY;
        return Ok(response);
    };
    // Small writes leave at once; a stream that cannot be told so works too.
    let _set = stream.set_nodelay(true);
    let (mut sender, connection) = client::handshake(TokioIo::new(stream)).await?;
    onward.lock().unwrap_or_else(PoisonError::into_inner).spawn(async move { drop(connection.await) });
    let headers = request.headers_mut();
    if let Ok(peer) = HeaderValue::try_from(peer.ip().to_string()) {
        headers.append(HeaderName::from_static("x-forwarded-for"), peer);
    }
    headers.append(HeaderName::from_static("x-forwarded-proto"), HeaderValue::from_static("http"));
    headers.append(VIA, HeaderValue::from_static("1.1 testkit"));
    headers.remove(CONNECTION);
    if desk.closes.load(Ordering::Acquire) {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    desk.forwarded.fetch_add(1, Ordering::AcqRel);
    Ok(sender.send_request(request).await?.map(BodyExt::boxed_unsync))
}
