//! The server itself: a socket on the loopback address, its connections, and the test's handle on it.
//!
//! Speaks HTTP/1.1, with WebSockets on it, and HTTP/2, told apart by the first bytes, with TLS or without.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use http::Method;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::exchange::{self, Connection};
use crate::reply::Reply;
use crate::socket::{Socket, SocketEnd, SocketMessage, SocketScript};
use crate::state::{Faults, Handler, Recorded, Shared};
use crate::tls::{Tls, TlsCounts, TlsOptions};
use crate::wire::{Control, Wire};

/// How long the waiting helpers wait before they fail a test.
pub const WAIT_MAX: Duration = Duration::from_secs(10);

/// A wait that did not come to its end: the test's subject did not do what was expected.
#[derive(Debug, thiserror::Error)]
#[error("waited {}s for {expected}, saw {seen}", WAIT_MAX.as_secs())]
pub struct Timeout {
    expected: String,
    seen: usize,
}

/// A running scripted upstream. Dropping it breaks its connections and frees its port.
pub struct Upstream {
    address: SocketAddr,
    shared: Arc<Shared>,
    tls: Option<Arc<Tls>>,
    /// The accept loop, which owns the connections.
    task: JoinSet<()>,
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upstream").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Upstream {
    /// Listens on a free port of 127.0.0.1, with an empty script.
    pub async fn start() -> io::Result<Upstream> {
        Upstream::listen(Shared::default(), None).await
    }

    /// The same over TLS.
    pub async fn start_tls(options: &TlsOptions) -> io::Result<Upstream> {
        Upstream::listen(Shared::default(), Some(Tls::new(options)?)).await
    }

    /// The same, for a service that answers by its own rules first.
    pub(crate) async fn start_handled(
        handler: Arc<dyn Handler>,
        tls: Option<&TlsOptions>,
    ) -> io::Result<Upstream> {
        Upstream::listen(Shared::handled(handler), tls.map(Tls::new).transpose()?).await
    }

    async fn listen(shared: Shared, tls: Option<Tls>) -> io::Result<Upstream> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (shared, tls) = (Arc::new(shared), tls.map(Arc::new));
        let mut task = JoinSet::new();
        task.spawn(accept(listener, shared.clone(), tls.clone()));
        Ok(Upstream { address, shared, tls, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What a client takes as its base URL, as in `http://127.0.0.1:1234/v1`.
    pub fn base_url(&self) -> String {
        self.url("/v1")
    }

    /// Its address with a path below it.
    pub fn url(&self, path: &str) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}{path}", self.address)
    }

    /// Its TLS side; none when it was started without.
    pub fn tls(&self) -> Option<&Tls> {
        self.tls.as_deref()
    }

    /// What became of TLS connections so far.
    pub fn tls_counts(&self) -> TlsCounts {
        self.shared.script().tls.clone()
    }

    /// Waits until TLS connections so far are as `reached` says.
    pub async fn wait_tls(&self, mut reached: impl FnMut(&TlsCounts) -> bool) -> Result<TlsCounts, Timeout> {
        let wait = self.shared.until(|script| reached(&script.tls).then(|| script.tls.clone()));
        self.wait(wait, || ("TLS connections".to_owned(), self.connections())).await
    }

    /// Queues a reply to a model call; each is played once, in order.
    pub fn push(&self, reply: Reply) {
        self.shared.script().queue.push_back(reply);
    }

    /// What model calls get when the queue is empty; without it they get a 500.
    pub fn set_default(&self, reply: Reply) {
        self.shared.script().default = Some(reply);
    }

    /// What every request with this method and path gets, before anything else is considered.
    pub fn route(&self, method: Method, path: &str, reply: Reply) {
        self.shared.script().routes.insert((method, path.to_owned()), reply);
    }

    /// Queues what a WebSocket does that is opened at `…/responses`; each is played once, in order.
    pub fn push_socket(&self, script: SocketScript) {
        self.shared.script().socket_queue.push_back(script);
    }

    /// What WebSockets do when the queue is empty; without it their handshakes get a 426.
    pub fn set_default_socket(&self, script: SocketScript) {
        self.shared.script().socket_default = Some(script);
    }

    /// From now on takes only requests with this `authorization`; others are answered with 401, whatever is scripted.
    pub fn accept_only(&self, authorization: &str) {
        self.shared.script().authorization = Some(authorization.to_owned());
    }

    /// How many queued replies were not asked for yet.
    pub fn unplayed(&self) -> usize {
        self.shared.script().queue.len()
    }

    /// The model calls so far, in the order of their arrival.
    pub fn requests(&self) -> Vec<Recorded> {
        self.shared.script().requests.iter().filter(|request| request.is_call()).cloned().collect()
    }

    /// How many model calls have come so far.
    pub fn calls(&self) -> usize {
        self.shared.script().requests.iter().filter(|request| request.is_call()).count()
    }

    /// The last model call so far.
    pub fn last_call(&self) -> Option<Recorded> {
        self.shared.script().requests.iter().rfind(|request| request.is_call()).cloned()
    }

    /// Everything that was asked so far, in the order of arrival.
    pub fn all_requests(&self) -> Vec<Recorded> {
        self.shared.script().requests.clone()
    }

    /// Faults that were really played.
    pub fn faults(&self) -> Faults {
        self.shared.script().faults
    }

    /// Connections that were accepted.
    pub fn connections(&self) -> usize {
        self.shared.script().connections
    }

    /// The WebSockets so far, in the order of their opening. Refused handshakes stand among all requests.
    pub fn sockets(&self) -> Vec<Socket> {
        self.shared.script().sockets.clone()
    }

    /// What came over WebSockets so far, in the order of arrival.
    pub fn messages(&self) -> Vec<SocketMessage> {
        self.shared.script().messages.clone()
    }

    /// Waits until `count` messages have come over WebSockets, and returns the last of those.
    pub async fn wait_for_message(&self, count: usize) -> Result<SocketMessage, Timeout> {
        let wait = self.shared.until(|script| script.messages.get(count.saturating_sub(1)).cloned());
        self.wait(wait, || (format!("{count} messages"), self.messages().len())).await
    }

    /// Waits until the WebSockets so far are as `reached` says.
    pub async fn wait_sockets(
        &self,
        mut reached: impl FnMut(&[Socket]) -> bool,
    ) -> Result<Vec<Socket>, Timeout> {
        let wait = self.shared.until(|script| reached(&script.sockets).then(|| script.sockets.clone()));
        self.wait(wait, || ("sockets".to_owned(), self.sockets().len())).await
    }

    /// Waits until a WebSocket has ended, and returns how.
    pub async fn wait_socket_end(&self, socket: usize) -> Result<SocketEnd, Timeout> {
        let wait = self.shared.until(|script| script.sockets.get(socket)?.end.clone());
        self.wait(wait, || (format!("the end of socket {socket}"), self.sockets().len())).await
    }

    /// Waits until `count` model calls have come, and returns the last of those.
    pub async fn wait_for_request(&self, count: usize) -> Result<Recorded, Timeout> {
        let wait = self.shared.until(|script| {
            script.requests.iter().filter(|request| request.is_call()).nth(count.saturating_sub(1)).cloned()
        });
        self.wait(wait, || (format!("{count} model calls"), self.requests().len())).await
    }

    /// Waits until the clients of `count` requests have gone away before the end of their answers.
    pub async fn wait_cancelled(&self, count: usize) -> Result<(), Timeout> {
        let cancelled = |requests: &[Recorded]| requests.iter().filter(|request| request.cancelled).count();
        let wait = self.shared.until(|script| (cancelled(&script.requests) >= count).then_some(()));
        self.wait(wait, || (format!("{count} cancelled requests"), cancelled(&self.all_requests()))).await
    }

    /// Waits until the faults played so far are as `reached` says.
    pub async fn wait_faults(&self, mut reached: impl FnMut(&Faults) -> bool) -> Result<Faults, Timeout> {
        let wait = self.shared.until(|script| reached(&script.faults).then_some(script.faults));
        let seen = || {
            let Faults {
                stalls,
                header_delays,
                resets,
                closes,
                early_ends,
                refusals,
                close_frames,
                unauthorized,
            } = self.faults();
            stalls + header_delays + resets + closes + early_ends + refusals + close_frames + unauthorized
        };
        self.wait(wait, || ("faults".to_owned(), seen())).await
    }

    async fn wait<R>(
        &self,
        wait: impl Future<Output = R>,
        describe: impl FnOnce() -> (String, usize),
    ) -> Result<R, Timeout> {
        tokio::time::timeout(WAIT_MAX, wait).await.map_err(|_| {
            let (expected, seen) = describe();
            Timeout { expected, seen }
        })
    }

    /// Breaks all connections and returns when the port is free.
    pub async fn shutdown(mut self) {
        self.task.shutdown().await;
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, tls: Option<Arc<Tls>>) {
    let mut connections = JoinSet::new();
    // Accepting fails for a connection that is already gone; the listener itself stays good.
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            shared.note(|script| script.connections += 1);
            connections.spawn(serve(stream, shared.clone(), tls.clone()));
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>, tls: Option<Arc<Tls>>) {
    // Without it the system would join small writes, and a cut would not be seen by the client.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let control = Control::new();
    let wire = Wire::new(stream, control.clone());
    let Some(tls) = tls else { return speak(wire, shared, control).await };
    match tls.accept(wire).await {
        Ok((stream, facts)) => {
            shared.note(|script| script.tls.count(facts));
            speak(stream, shared, control).await;
        }
        Err(_) => shared.note(|script| script.tls.failed += 1),
    }
}

async fn speak<S>(stream: S, shared: Arc<Shared>, control: Control)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = Connection { shared: shared.clone(), control: control.clone(), socket: Arc::default() };
    let socket = connection.socket.clone();
    let service = service_fn(move |request| exchange::answer(connection.clone(), request));
    let server = auto::Builder::new(TokioExecutor::new());
    // How a connection ended is told by what was recorded; broken ones are this server's trade.
    let _ended = server.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
    let session = socket.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(session) = session {
        session.play(shared, control).await;
    }
}
