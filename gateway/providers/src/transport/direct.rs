//! Connections over HTTP/1.1, each driven by the call that uses it.
//!
//! hyper's pooled client gives every connection a task of its own, which wakes the call's task for each chunk, and every
//! call a second one that brings the connection back. Here a call polls its connection itself, so a chunk costs one
//! wake-up, the socket's.

use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::Full;
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::received::Received;
use super::{HTTP1_BUFFER_MAX, IDLE_CONNECTION_MAX, Stream};

/// How many unused connections are kept.
const IDLE_CONNECTIONS_MAX: usize = 1024;
/// How often unused connections are looked at for those that are too old or were closed.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Unused connections to one provider.
#[derive(Default)]
pub(super) struct Pool {
    idle: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    /// The one that was used last stands last.
    unused: Vec<Unused>,
    /// Looks at them, while there are any.
    keeper: JoinSet<()>,
}

struct Unused {
    origin: Uri,
    line: Line,
    since: Instant,
}

impl Unused {
    fn is_good(&mut self, now: Instant) -> bool {
        now.duration_since(self.since) < IDLE_CONNECTION_MAX && self.line.is_ready()
    }
}

/// One connection, and the end at which requests are put into it.
struct Line {
    sender: SendRequest<Full<Bytes>>,
    connection: Driven,
}

/// None once it has ended.
type Driven = Option<Pin<Box<Connection<TokioIo<Stream>, Full<Bytes>>>>>;

fn drive(driven: &mut Driven, cx: &mut Context<'_>) {
    if let Some(connection) = driven
        && connection.as_mut().poll(cx).is_ready()
    {
        *driven = None;
    }
}

impl Line {
    /// Lets the connection do what it can. Its end is told by what was sent over it.
    fn drive(&mut self, cx: &mut Context<'_>) {
        drive(&mut self.connection, cx);
    }

    /// Whether a request can be sent, as far as is known without waiting.
    fn is_ready(&mut self) -> bool {
        self.drive(&mut Context::from_waker(Waker::noop()));
        self.connection.is_some() && self.sender.is_ready()
    }
}

/// Why there is no answer.
pub(super) enum Failed {
    /// Nothing of the request was sent; it comes back.
    Unsent(Box<Request<Full<Bytes>>>, hyper::Error),
    Broken(hyper::Error),
}

/// A connection taken for one call.
pub(super) struct Taken {
    pool: Arc<Pool>,
    origin: Uri,
    line: Line,
}

impl Taken {
    /// Begins to speak over a new connection.
    pub(super) async fn new(pool: &Arc<Pool>, origin: &Uri, stream: Stream) -> hyper::Result<Taken> {
        let (sender, connection) =
            Builder::new().max_buf_size(HTTP1_BUFFER_MAX).handshake(TokioIo::new(stream)).await?;
        let line = Line { sender, connection: Some(Box::pin(connection)) };
        Ok(Taken { pool: Arc::clone(pool), origin: origin.clone(), line })
    }

    /// Lets the connection do what it can.
    pub(super) fn drive(&mut self, cx: &mut Context<'_>) {
        self.line.drive(cx);
    }

    /// Gives the connection back after a call, if it can be used again.
    pub(super) fn give_back(self) {
        self.pool.give_back(self.origin, self.line);
    }

    /// Sends a request and waits for the head of its answer. Dropping the future closes the connection.
    pub(super) async fn request(
        mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Received>, Failed> {
        let mut answered = pin!(self.line.sender.try_send_request(local(request)));
        let connection = &mut self.line.connection;
        let answer = std::future::poll_fn(|cx| {
            let told = answered.as_mut().poll(cx);
            if told.is_ready() {
                return told;
            }
            drive(connection, cx);
            answered.as_mut().poll(cx)
        });
        match answer.await {
            Ok(response) => Ok(response.map(|incoming| Received::direct(incoming, self))),
            Err(mut error) => Err(match error.take_message() {
                Some(request) => Failed::Unsent(Box::new(request), error.into_error()),
                None => Failed::Broken(error.into_error()),
            }),
        }
    }
}

impl Pool {
    /// The connection to the origin of `uri` that was used last and is still good.
    pub(super) fn take(self: &Arc<Pool>, uri: &Uri) -> Option<Taken> {
        let now = Instant::now();
        loop {
            let mut unused = {
                let unused = &mut self.idle().unused;
                let at = unused.iter().rposition(|unused| is_same_origin(&unused.origin, uri))?;
                unused.remove(at)
            };
            if unused.is_good(now) {
                let Unused { origin, line, .. } = unused;
                return Some(Taken { pool: Arc::clone(self), origin, line });
            }
        }
    }

    fn give_back(self: &Arc<Pool>, origin: Uri, mut line: Line) {
        let Ok(runtime) = Handle::try_current() else { return };
        if !line.is_ready() {
            return;
        }
        let mut idle = self.idle();
        if idle.unused.len() >= IDLE_CONNECTIONS_MAX {
            return;
        }
        idle.unused.push(Unused { origin, line, since: Instant::now() });
        if idle.keeper.is_empty() {
            let keeper = keep(Arc::downgrade(self));
            idle.keeper.spawn_on(keeper, &runtime);
        }
    }

    /// Drops what is no longer good. Returns whether anything is left to look at.
    fn clear(&self) -> bool {
        let now = Instant::now();
        let mut idle = self.idle();
        idle.unused.retain_mut(|unused| unused.is_good(now));
        if idle.unused.is_empty() {
            idle.keeper.detach_all();
        }
        !idle.unused.is_empty()
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn keep(pool: Weak<Pool>) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if !pool.upgrade().is_some_and(|pool| pool.clear()) {
            return;
        }
    }
}

fn is_same_origin(one: &Uri, other: &Uri) -> bool {
    one.scheme() == other.scheme() && one.authority() == other.authority()
}

/// The request as HTTP/1.1 has it: the host in a header, and of the address what follows it.
fn local(mut request: Request<Full<Bytes>>) -> Request<Full<Bytes>> {
    let uri = std::mem::take(request.uri_mut());
    if let Some(host) = host(&uri) {
        request.headers_mut().entry(HOST).or_insert(host);
    }
    if let Some(path) = uri.path_and_query() {
        *request.uri_mut() = Uri::from(path.clone());
    }
    request
}

/// The host, with its port where that is not the scheme's own.
fn host(uri: &Uri) -> Option<HeaderValue> {
    let authority = uri.authority()?.as_str();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let own = if uri.scheme() == Some(&http::uri::Scheme::HTTPS) { ":443" } else { ":80" };
    HeaderValue::from_str(host.strip_suffix(own).unwrap_or(host)).ok()
}
