//! The HTTP front: WebSocket upgrades on any path, gRPC by its content type, and plain answers for the rest.
//!
//! Who may come in at all (`Origin`, `Host`, connection limits) and health are decided in front of this service.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{
    ALLOW, CONNECTION, CONTENT_TYPE, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tonic::body::Body;
use tonic::service::Routes;
use tower::ServiceExt as _;

use super::websocket;
use crate::connection;
use crate::grpc;
use crate::principal::Principal;
use crate::server::Server;

/// The contract's descriptors, which are compiled in, do not describe themselves; a bug.
#[derive(Debug, thiserror::Error)]
#[error("the contract's descriptors cannot be served")]
pub struct DescriptorError(#[source] tonic_reflection::server::Error);

/// What is answered.
type Answer = Result<Response<Body>, Infallible>;

/// The app-server as an HTTP service, for whoever reaches one listener.
#[derive(Clone)]
pub struct Http {
    server: Server,
    principal: Principal,
    grpc: Routes,
}

impl Http {
    /// Everybody who comes in is `principal`: reaching the listener is what identifies.
    pub async fn new(server: Server, principal: Principal) -> Result<Self, DescriptorError> {
        let grpc = grpc::routes(server.shared(), principal.clone()).await.map_err(DescriptorError)?;
        Ok(Self { server, principal, grpc })
    }

    /// Answers an upgrade and serves the client on the upgraded connection.
    fn upgrade(&self, mut request: Request<Incoming>) -> Response<Body> {
        let accept = match accept_key(request.method(), request.version(), request.headers()) {
            Ok(accept) => accept,
            Err(reason) => return reason.into(),
        };
        let upgraded = hyper::upgrade::on(&mut request);
        let (shared, principal) = (Arc::clone(self.server.shared()), self.principal.clone());
        self.server.shared().tasks.spawn(async move {
            match upgraded.await {
                Ok(stream) => {
                    let (source, sink) = websocket::accept(TokioIo::new(stream)).await;
                    connection::run(shared, principal, source, sink).await;
                }
                Err(error) => tracing::debug!(%error, "the upgrade did not happen"),
            }
        });
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
        response
    }
}

impl Service<Request<Incoming>> for Http {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, request: Request<Incoming>) -> Answering {
        if is_grpc(request.headers()) {
            let answer = self.grpc.clone().oneshot(request.map(Body::new));
            return Answering::Grpc(Box::pin(answer));
        }
        Answering::Ready(Some(self.upgrade(request)))
    }
}

/// An answer that is ready, or that the gRPC services are working on.
#[expect(missing_debug_implementations, reason = "a future")]
pub enum Answering {
    /// It is ready.
    Ready(Option<Response<Body>>),
    /// It is on its way.
    Grpc(Pin<Box<dyn Future<Output = Answer> + Send>>),
}

impl Future for Answering {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        match &mut *self {
            // Polled again after its end, which nobody does: an empty answer is as good as any.
            Self::Ready(response) => Poll::Ready(Ok(response.take().unwrap_or_default())),
            Self::Grpc(answer) => answer.as_mut().poll(cx),
        }
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let content = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    content.starts_with(b"application/grpc")
}

/// Why a request is not an upgrade.
#[derive(Debug)]
struct NotUpgrade {
    status: StatusCode,
    text: &'static str,
    /// A header that says what would have been right.
    hint: Option<(HeaderName, &'static str)>,
}

impl From<NotUpgrade> for Response<Body> {
    fn from(reason: NotUpgrade) -> Self {
        let mut response = plain(reason.status, reason.text);
        if let Some((name, value)) = reason.hint {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

/// Checks a handshake as RFC 6455 section 4.2 asks, and makes the key that accepts it.
fn accept_key(method: &Method, version: Version, headers: &HeaderMap) -> Result<HeaderValue, NotUpgrade> {
    let no = |status, text, hint| Err(NotUpgrade { status, text, hint });
    let bad = |text| no(StatusCode::BAD_REQUEST, text, None);
    if method != Method::GET {
        return no(StatusCode::METHOD_NOT_ALLOWED, "", Some((ALLOW, "GET")));
    }
    if version != Version::HTTP_11 || !lists(headers, &CONNECTION, "upgrade") {
        return bad("Connection header did not include 'upgrade'");
    }
    if !lists(headers, &UPGRADE, "websocket") {
        return bad("`Upgrade` header did not include 'websocket'");
    }
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        let hint = Some((SEC_WEBSOCKET_VERSION, "13"));
        return no(StatusCode::BAD_REQUEST, "`Sec-WebSocket-Version` header did not include '13'", hint);
    }
    let Some(key) = headers.get(SEC_WEBSOCKET_KEY) else { return bad("`Sec-WebSocket-Key` header missing") };
    let accept = derive_accept_key(key.as_bytes());
    HeaderValue::from_str(&accept).or_else(|_| bad("`Sec-WebSocket-Key` header is not a key"))
}

/// Whether a header's lists hold this token, in any case.
fn lists(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let texts = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    texts.flat_map(|text| text.split(',')).any(|part| part.trim().eq_ignore_ascii_case(token))
}

fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::new(Full::new(Bytes::from_static(text.as_bytes()))));
    *response.status_mut() = status;
    if !text.is_empty() {
        let kind = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, kind);
    }
    response
}
