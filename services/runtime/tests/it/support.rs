//! A server under test, and clients that speak to it: HTTP/1.1 byte by byte, HTTP/2 through hyper.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo};
use service_runtime::Drain;
use service_runtime::listen::{Address, Exposure, Listener};
use service_runtime::serve::{ServeConfig, serve};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, JoinSet};

/// Every test ends within this time, or names itself as a hang.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Runs a step of a test under the deadline.
pub(crate) async fn within<F: Future>(step: F) -> F::Output {
    tokio::time::timeout(DEADLINE, step).await.expect("a step of the test took too long")
}

/// A server on a port of its own.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) drain: Drain,
    tasks: JoinSet<()>,
}

impl Server {
    pub(crate) async fn start<S, B>(service: S) -> Self
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send + 'static,
        B: Body<Data = Bytes> + Unpin + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let drain = Drain::new(Duration::ZERO, DEADLINE * 2);
        Self::start_with(service, ServeConfig::default(), drain).await
    }

    pub(crate) async fn start_with<S, B>(service: S, config: ServeConfig, drain: Drain) -> Self
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send + 'static,
        B: Body<Data = Bytes> + Unpin + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        Self::start_on(loopback().await, service, config, drain)
    }

    pub(crate) fn start_on<S, B>(listener: Listener, service: S, config: ServeConfig, drain: Drain) -> Self
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send + 'static,
        B: Body<Data = Bytes> + Unpin + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let Address::Tcp(address) = *listener.address() else { unreachable!("bound to TCP") };
        let limits = config.build("serve").unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, service, limits, drain.clone()));
        let clock = drain.clone();
        tasks.spawn(async move { clock.run().await });
        Self { address, drain, tasks }
    }

    /// Waits for the accept loop to return.
    pub(crate) async fn ended(mut self) {
        // The clock of the drain may end after the server: either order is fine, the first end is the server's
        // unless the test aborted.
        within(self.tasks.join_next()).await.unwrap().unwrap();
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        within(TcpStream::connect(self.address)).await.unwrap()
    }

    /// Sends one HTTP/1.1 request as it stands and reads until the server closes.
    pub(crate) async fn http1(&self, request: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        read_all(&mut stream).await
    }

    pub(crate) async fn http2(&self) -> Http2 {
        let io = TokioIo::new(self.connect().await);
        let (sender, connection) = within(http2::handshake(TokioExecutor::new(), io)).await.unwrap();
        #[expect(clippy::disallowed_methods, reason = "the connection of a test ends with it")]
        let connection = tokio::spawn(async move { drop(connection.await) });
        Http2 { sender, _connection: connection }
    }
}

/// A listener on a free loopback port.
pub(crate) async fn loopback() -> Listener {
    Listener::bind(&"127.0.0.1:0".parse().unwrap(), Exposure::LoopbackOnly).await.unwrap()
}

pub(crate) struct Http2 {
    pub(crate) sender: http2::SendRequest<Empty<Bytes>>,
    _connection: JoinHandle<()>,
}

impl Http2 {
    pub(crate) async fn send(&mut self, request: Request<Empty<Bytes>>) -> Response<Bytes> {
        within(async {
            let (head, body) = self.sender.send_request(request).await.unwrap().into_parts();
            Response::from_parts(head, body.collect().await.unwrap().to_bytes())
        })
        .await
    }
}

/// Everything up to the end of the connection, also when it ends badly.
pub(crate) async fn read_all(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let _ = within(stream.read_to_end(&mut bytes)).await;
    String::from_utf8(bytes).unwrap()
}

/// Reads until the text has come.
pub(crate) async fn read_until(stream: &mut TcpStream, text: &str) -> String {
    let mut got = String::new();
    while !got.contains(text) {
        let mut bytes = [0; 4096];
        let count = within(stream.read(&mut bytes)).await.unwrap();
        assert!(count > 0, "the connection ended before {text:?}: {got:?}");
        got.push_str(std::str::from_utf8(bytes.get(..count).unwrap()).unwrap());
    }
    got
}

/// A service that answers every request with its method and path.
pub(crate) fn echo()
-> impl Service<Request<Incoming>, Response = Response<Full<Bytes>>, Error = Infallible, Future: Send>
+ Clone
+ Send
+ 'static {
    hyper::service::service_fn(|request: Request<Incoming>| async move {
        let text = format!("app {} {}", request.method(), request.uri().path());
        Ok(Response::new(Full::new(Bytes::from(text))))
    })
}
