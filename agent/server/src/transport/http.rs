//! The HTTP front: WebSocket upgrades on any path, gRPC by its content type, and plain answers for the rest.
//!
//! Web pages (`Origin`, `Host`), limits of sockets and health are dealt with in front of this service; who calls is asked
//! here. The answers are those that Codex's own app-server gives, in its order: what is no upgrade is told so first.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    ALLOW, CONNECTION, CONTENT_TYPE, RETRY_AFTER, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION, UPGRADE, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use tidegate_callers::Refusal;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tonic::body::Body;
use tonic::service::Routes;
use tower::ServiceExt as _;

use super::websocket;
use crate::connection;
use crate::door::{Door, Visitor};
use crate::grpc;
use crate::server::Server;

/// The contract's descriptors, which are compiled in, do not describe themselves; a bug.
#[derive(Debug, thiserror::Error)]
#[error("the contract's descriptors cannot be served")]
pub struct DescriptorError(#[source] tonic_reflection::server::Error);

/// What is answered.
type Answer = Result<Response<Body>, Infallible>;

/// The app-server as an HTTP service, for whoever the door of one listener lets in.
#[derive(Clone)]
pub struct Http {
    server: Server,
    door: Door,
    grpc: Routes,
}

impl Http {
    /// Serves whom `door` lets in.
    pub async fn new(server: Server, door: Door) -> Result<Self, DescriptorError> {
        let grpc = grpc::routes(server.shared()).await.map_err(DescriptorError)?;
        Ok(Self { server, door, grpc })
    }

    async fn answer(self, request: Request<Incoming>) -> Answer {
        if is_grpc(request.headers()) { self.call(request).await } else { Ok(self.upgrade(request).await) }
    }

    /// Has a gRPC call answered. Who calls travels in its extensions.
    async fn call(self, mut request: Request<Incoming>) -> Answer {
        if !grpc::is_open(request.uri().path()) {
            match self.door.enter(request.headers(), request.extensions()).await {
                Ok(visitor) => drop(request.extensions_mut().insert(visitor)),
                Err(refusal) => return Ok(grpc::refused(&refusal)),
            }
        }
        self.grpc.oneshot(request.map(Body::new)).await
    }

    /// Answers an upgrade and serves the client on the upgraded connection.
    async fn upgrade(self, mut request: Request<Incoming>) -> Response<Body> {
        let accept = match accept_key(request.method(), request.version(), request.headers()) {
            Ok(accept) => accept,
            Err(reason) => return reason.into(),
        };
        let Visitor { principal, standing } =
            match self.door.enter(request.headers(), request.extensions()).await {
                Ok(visitor) => visitor,
                Err(refusal) => return refused(&refusal),
            };
        let shared = Arc::clone(self.server.shared());
        let seat = match shared.seat(&principal.tenant) {
            Ok(seat) => seat,
            Err(full) => return later(full.to_string()),
        };
        let upgraded = hyper::upgrade::on(&mut request);
        self.server.shared().tasks.spawn(async move {
            match upgraded.await {
                Ok(stream) => {
                    let (source, sink) = websocket::accept(TokioIo::new(stream)).await;
                    connection::run(shared, (principal, standing), source, sink).await;
                }
                Err(error) => tracing::debug!(%error, "the upgrade did not happen"),
            }
            drop(seat);
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
    type Future = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        Box::pin(self.clone().answer(request))
    }
}

/// Why a client is not let in. Codex's own flags are answered in Codex's own way, which names no scheme.
fn refused(refusal: &Refusal) -> Response<Body> {
    tracing::info!(reason = refusal.reason(), "a client was not let in");
    if refusal.is_retryable() {
        return later(refusal.to_string());
    }
    let mut response = plain(StatusCode::UNAUTHORIZED, refusal.to_string());
    if !matches!(refusal, Refusal::WebSocket(_)) {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// A client that can come again.
fn later(why: String) -> Response<Body> {
    let mut response = plain(StatusCode::SERVICE_UNAVAILABLE, why);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
    response
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
        return no(StatusCode::METHOD_NOT_ALLOWED, "Request method must be `GET`", Some((ALLOW, "GET")));
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

fn plain(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::new(Full::new(text.into())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
