//! Opens a WebSocket: connects, asks for the upgrade, checks what comes back.
//!
//! The HTTP library speaks the handshake, so that a refusal is read like any other answer. No extension is offered:
//! messages stay as they are. Follows RFC 6455, section 4.1.

use std::error::Error;
use std::pin::pin;

use bytes::Bytes;
use futures_util::future::{Either, select};
use http::header::{
    ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderName,
    HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::refusal::Refusal;
use super::wire::Socket;
use crate::credential::Credential;
use crate::headers::{self, Accept};
use crate::provider::Endpoint;
use crate::send::{ATTESTATION, Line, SendError};
use crate::sign::{self, Authority, Payload, Subject};
use crate::transport::Alpn;
use crate::upstream::Call;

/// How much of a refusal's body is read.
const REFUSAL_BYTES_MAX: usize = 64 * 1024;
const OPENAI_BETA: HeaderName = HeaderName::from_static("openai-beta");
/// Which version of the protocol on the socket is spoken, and how it begins in any version.
const BETA: &str = "responses_websockets=2026-02-06";
const BETA_NAME: &[u8] = b"responses_websockets=";

/// How a provider took a handshake.
pub(crate) enum Handshake {
    Open(Box<Socket>),
    /// The provider does not want this caller, or not now.
    Refused(Refusal),
    /// There is no socket to be had, for this reason.
    Impossible(Box<dyn Error + Send + Sync>),
}

/// The headers of a call's handshake, the credential included.
pub(crate) fn headers(
    line: &Line,
    endpoint: &Endpoint,
    call: &Call,
    credential: &Credential,
) -> Result<HeaderMap, SendError> {
    let mut headers = headers::for_call(call.headers.clone(), &line.headers, Accept::EventStream);
    for name in [ACCEPT, CONTENT_TYPE, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_PROTOCOL] {
        headers.remove(name);
    }
    let spoken =
        |value: &HeaderValue| value.as_bytes().windows(BETA_NAME.len()).any(|part| part == BETA_NAME);
    if !headers.get_all(OPENAI_BETA).iter().any(spoken) {
        headers.append(OPENAI_BETA, HeaderValue::from_static(BETA));
    }
    if let Some(attestation) = &call.attestation {
        headers.insert(ATTESTATION, attestation.clone());
    }
    let authority = Authority { proof: &credential.proof, caller: call.caller.as_ref(), signer: None };
    let payload = Payload::new(Bytes::new());
    let subject = Subject { method: &Method::GET, endpoint, payload: &payload };
    sign::authorize(&mut headers, &subject, &authority)?;
    if let Some(authorization) = headers.get_mut(AUTHORIZATION) {
        authorization.set_sensitive(true);
    }
    Ok(headers)
}

/// Opens a socket within the provider's time limit.
pub(crate) async fn open(line: &Line, uri: &Uri, headers: HeaderMap) -> Handshake {
    match tokio::time::timeout(line.websocket_connect, shake_hands(line, uri, headers)).await {
        Ok(Ok(handshake)) => handshake,
        Ok(Err(error)) => Handshake::Impossible(error),
        Err(_) => Handshake::Impossible("the handshake took too long".into()),
    }
}

async fn shake_hands(
    line: &Line,
    uri: &Uri,
    headers: HeaderMap,
) -> Result<Handshake, Box<dyn Error + Send + Sync>> {
    let key = generate_key();
    let request = request(uri, headers, &key)?;
    let stream = line.transport.dialer().connect(uri, Alpn::WebSocket).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let exchange = pin!(async move {
        let response = sender.send_request(request).await?;
        take(response, &key).await
    });
    // A connection that has ended has handed over all that it had; it is dropped, so nothing waits for it.
    match select(exchange, Box::pin(connection.with_upgrades())).await {
        Either::Left((taken, _connection)) => taken,
        Either::Right((_ended, exchange)) => exchange.await,
    }
}

fn request(uri: &Uri, headers: HeaderMap, key: &str) -> Result<Request<Empty<Bytes>>, http::Error> {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::get(path).body(Empty::new())?;
    *request.headers_mut() = headers;
    let headers = request.headers_mut();
    headers.insert(HOST, HeaderValue::try_from(uri.authority().map_or("", |authority| authority.as_str()))?);
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    headers.insert(SEC_WEBSOCKET_KEY, HeaderValue::try_from(key)?);
    Ok(request)
}

async fn take(response: Response<Incoming>, key: &str) -> Result<Handshake, Box<dyn Error + Send + Sync>> {
    match response.status() {
        StatusCode::SWITCHING_PROTOCOLS => {
            check(response.headers(), key)?;
            let headers = without_connection(response.headers().clone());
            let upgraded = hyper::upgrade::on(response).await?;
            Ok(Handshake::Open(Box::new(Socket::over(upgraded, headers).await)))
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS => {
            let (head, body) = response.into_parts();
            // A body that cannot be read whole would only say more about what the status says.
            let body = Limited::new(body, REFUSAL_BYTES_MAX).collect().await;
            let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
            let headers = without_connection(head.headers);
            Ok(Handshake::Refused(Refusal { status: head.status, headers, body }))
        }
        status => Ok(Handshake::Impossible(format!("the upgrade was answered with status {status}").into())),
    }
}

/// Whether a 101 really opens a WebSocket, with nothing that was not asked for.
fn check(headers: &HeaderMap, key: &str) -> Result<(), &'static str> {
    let lists = |name: HeaderName, token: &str| {
        let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|part| part.trim().eq_ignore_ascii_case(token))
    };
    if !lists(UPGRADE, "websocket") || !lists(CONNECTION, "upgrade") {
        return Err("the upgrade was answered with another protocol");
    }
    if headers.get(SEC_WEBSOCKET_ACCEPT).is_none_or(|value| *value != derive_accept_key(key.as_bytes())) {
        return Err("the upgrade was answered with a wrong key");
    }
    if headers.contains_key(SEC_WEBSOCKET_EXTENSIONS) || headers.contains_key(SEC_WEBSOCKET_PROTOCOL) {
        return Err("the upgrade was answered with an extension that nobody offered");
    }
    Ok(())
}

/// An answer's headers without those that are about its connection or its length.
fn without_connection(mut headers: HeaderMap) -> HeaderMap {
    for name in [CONNECTION, CONTENT_LENGTH, SEC_WEBSOCKET_ACCEPT, TRANSFER_ENCODING, UPGRADE] {
        headers.remove(name);
    }
    headers
}
