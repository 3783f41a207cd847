//! One connection from its first byte to its end.

use std::hash::{BuildHasher as _, Hasher as _};
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::{FutureExt as _, future};
use http::header::CONNECTION;
use http::{HeaderValue, Request, Response, StatusCode, Version};
use http_body::Body;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use tidegate_callers::PeerCertificate;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::frame_meter::{FrameMeter, LITTLE_BYTES, Turn};
use super::handshake::{self, Opened};
use super::head_timer::ReadBytes;
use super::loosen::loosen;
use super::pace::{Outlet, Paced};
use super::{BoxError, Limits};
use crate::drain::Drain;
use crate::listen::{Peer, Stream, Tls};

/// The HTTP/2 preface (24 bytes) with the head of the SETTINGS frame that must follow (9 bytes). A client that
/// has sent less has not said anything yet; one that has sent more is under the protocol's own time-outs.
pub(super) const OPENING_BYTES: usize = 33;
/// How long a connection that has sent nothing yet may still begin when the drain closes the listener: its
/// first request is probably on the way, and the client was told that it is connected.
pub(super) const FIRST_WORD_MAX: Duration = Duration::from_secs(1);

/// Runs hyper's tasks under the server's tracker, so that none outlives it unseen.
#[derive(Debug, Clone)]
pub(super) struct Tracked(pub(super) TaskTracker);

impl<F> hyper::rt::Executor<F> for Tracked
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}

/// A connection's place under the limit and in the drain.
#[derive(Debug)]
pub(super) struct Slot {
    _permit: OwnedSemaphorePermit,
    _token: TaskTrackerToken,
}

impl Slot {
    pub(super) fn new(permit: OwnedSemaphorePermit, token: TaskTrackerToken) -> Self {
        Self { _permit: permit, _token: token }
    }
}

/// The socket with its place, which it keeps through an upgrade, a count of what it has read, the meter that may slow its
/// reads, and the outlet that tells whether it takes more.
#[derive(Debug)]
struct Socket {
    stream: Stream,
    read: ReadBytes,
    meter: FrameMeter,
    outlet: Outlet,
    _slot: Slot,
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.meter.poll_rest(cx));
        let before = buf.filled().len();
        let polled = match self.meter.reads_little() {
            true => poll_read_little(&mut self.stream, cx, buf),
            false => Pin::new(&mut self.stream).poll_read(cx, buf),
        };
        let new = buf.filled().get(before..).unwrap_or_default();
        self.read.add(new.len());
        self.meter.saw(new);
        polled
    }
}

/// Reads no more than a little, however much room there is.
fn poll_read_little(
    stream: &mut Stream,
    cx: &mut Context<'_>,
    buf: &mut ReadBuf<'_>,
) -> Poll<io::Result<()>> {
    let mut room = [MaybeUninit::uninit(); LITTLE_BYTES];
    let length = buf.remaining().min(LITTLE_BYTES);
    let mut little = ReadBuf::uninit(room.get_mut(..length).unwrap_or_default());
    ready!(Pin::new(stream).poll_read(cx, &mut little))?;
    buf.put_slice(little.filled());
    Poll::Ready(Ok(()))
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.outlet.saw(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.outlet.saw(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Puts what is known of the peer into each request, and paces the answers.
struct WithPeer<S> {
    inner: S,
    peer: Peer,
    certificate: Option<PeerCertificate>,
    read: ReadBytes,
    outlet: Outlet,
}

/// What becomes of an answer when it comes.
type Leave<B, E> = fn((Result<Response<B>, E>, Option<Outlet>)) -> Result<Response<Paced<B>>, E>;
/// The call is in a box, which goes when the answer comes: hyper keeps the place of this future while the answer is read.
type Answering<F, B, E> = future::Map<future::Join<Pin<Box<F>>, future::Ready<Option<Outlet>>>, Leave<B, E>>;

impl<S, R, B> Service<Request<R>> for WithPeer<S>
where
    S: Service<Request<R>, Response = Response<B>>,
{
    type Response = Response<Paced<B>>;
    type Error = S::Error;
    type Future = Answering<S::Future, B, S::Error>;

    fn call(&self, mut request: Request<R>) -> Self::Future {
        // A whole HTTP/1 request may be shorter than an HTTP/2 opening.
        self.read.raise_to(OPENING_BYTES);
        let outlet = (request.version() < Version::HTTP_2).then(|| self.outlet.clone());
        if outlet.is_some() {
            loosen(&mut request);
        }
        request.extensions_mut().insert(self.peer);
        if let Some(certificate) = &self.certificate {
            request.extensions_mut().insert(certificate.clone());
        }
        let leave: Leave<B, S::Error> = |(answer, outlet)| answer.map(|response| leaving(response, outlet));
        future::join(Box::pin(self.inner.call(request)), future::ready(outlet)).map(leave)
    }
}

/// An answer as it leaves, on HTTP/1.1 through the outlet of its connection.
fn leaving<B>(mut response: Response<B>, outlet: Option<Outlet>) -> Response<Paced<B>> {
    if outlet.is_some() {
        close_if_in_doubt(&mut response);
    }
    response.map(|body| Paced::new(body, outlet))
}

/// Ends an HTTP/1 connection after a request that was refused for what it is made of: where such a request ends is what
/// its sender and we may not agree on, and what follows would be taken for another one.
fn close_if_in_doubt<B>(response: &mut Response<B>) {
    let in_doubt = matches!(
        response.status(),
        StatusCode::BAD_REQUEST
            | StatusCode::REQUEST_TIMEOUT
            | StatusCode::LENGTH_REQUIRED
            | StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::UNSUPPORTED_MEDIA_TYPE
    );
    if in_doubt {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
}

/// What a connection's task needs.
pub(super) struct Connection {
    pub(super) stream: Stream,
    pub(super) slot: Slot,
    pub(super) tls: Option<Tls>,
    pub(super) peer: Peer,
    pub(super) executor: Tracked,
    pub(super) limits: Arc<Limits>,
    pub(super) drain: Drain,
}

impl Connection {
    /// Serves the connection to its end, its age or the drain.
    pub(super) async fn run<S, B>(self, service: S)
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<BoxError> + Send,
        B: Body + Unpin + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let opened = handshake::open(self.stream, self.tls.as_ref(), self.limits.header_read, &self.drain);
        let Some(Opened { stream, certificate, head_until }) = opened.await else { return };
        let (read, outlet) = (ReadBytes::default(), Outlet::default());
        let turn = Turn::default();
        let (meter, _slot) = (FrameMeter::new(turn.clone()), self.slot);
        let socket = Socket { stream, read: read.clone(), meter, outlet: outlet.clone(), _slot };
        let service = WithPeer { inner: service, peer: self.peer, certificate, read: read.clone(), outlet };
        let builder = self.limits.builder(self.executor, read.clone(), head_until);
        // In a place of its own, so that a connection that never gets here, amid its handshake, does not cost it.
        let mut http = Box::pin(builder.serve_connection_with_upgrades(TokioIo::new(socket), service));
        let mut silence = pin!(tokio::time::sleep_until(head_until));
        let mut age = pin!(grow_old(self.limits.age));
        let mut closing = pin!(self.drain.closing());
        let mut aborted = pin!(self.drain.aborted());
        let (mut silent, mut asked) = (true, false);
        loop {
            tokio::select! {
                biased;
                () = &mut aborted => return,
                ended = future::poll_fn(|cx| { turn.begin(); http.as_mut().poll(cx) }) => {
                    if let Err(error) = ended {
                        tracing::debug!(peer = ?self.peer, error, "connection failed");
                    }
                    return;
                }
                () = &mut silence, if silent => {
                    // hyper's own time-out starts only when it knows the protocol.
                    if read.total() < OPENING_BYTES {
                        tracing::debug!(peer = ?self.peer, "connection stayed silent");
                        return;
                    }
                    silent = false;
                    if asked {
                        http.as_mut().graceful_shutdown();
                    }
                }
                () = &mut closing, if !asked => {
                    asked = true;
                    if silent && read.total() == 0 {
                        let limit = tokio::time::Instant::now() + FIRST_WORD_MAX;
                        let deadline = silence.deadline().min(limit);
                        silence.as_mut().reset(deadline);
                    } else {
                        http.as_mut().graceful_shutdown();
                    }
                }
                () = &mut age, if !asked => {
                    asked = true;
                    http.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

/// Waits for a connection's age, less up to a tenth that differs between connections.
async fn grow_old(age: Option<Duration>) {
    let Some(age) = age else { return std::future::pending().await };
    tokio::time::sleep(age.saturating_sub(random_part(age / 10))).await;
}

/// A part of a time that differs between connections, enough to spread a herd.
pub(super) fn random_part(of: Duration) -> Duration {
    const PARTS: u32 = 1_000;
    // A fresh RandomState is seeded differently each time.
    let random = std::hash::RandomState::new().build_hasher().finish() % u64::from(PARTS);
    of / PARTS * u32::try_from(random).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn connections_do_not_grow_old_together() {
        let age = Duration::from_secs(1_000);
        let mut ages = std::collections::BTreeSet::new();
        for _ in 0..20 {
            let begun = tokio::time::Instant::now();
            grow_old(Some(age)).await;
            ages.insert(begun.elapsed().as_secs());
        }
        assert!(ages.iter().all(|age| (899..=1_000).contains(age)), "{ages:?}");
        assert!(ages.len() > 5, "{ages:?}");
    }
}
