//! `GET /v1/responses` with an upgrade: accepts a caller's WebSocket, or refuses it so that its client goes on over HTTP.
//!
//! The socket is open before anybody knows which model is called on it, so it is accepted as soon as some provider can be
//! called over WebSockets. A call for a provider that cannot is made over HTTP. What Codex 0.169.0 does when it is refused,
//! found by trying: 426 sends it to HTTP at once and for the whole session; 401, 403, 404 and 503 are tried six times more,
//! over seven seconds, before it does the same; 400 ends the turn. HTTP/2 has another way to open WebSockets (RFC 8441),
//! which no client of this API uses; it is not offered.

mod client;
mod conversation;
mod create;
mod tell;

use std::sync::Arc;

use gateway_providers::ProviderFacts;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version, header};
use hyper::body::Incoming;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    client::Room,
    conversation::{Caller, Conversation},
};
use super::{body::ResponseBody, error};
use crate::{
    headers,
    origin::{self, Origin},
    pipeline::{Pipeline, Stranger},
};

/// What log lines and metrics call this surface.
const SURFACE: &str = "websocket";
/// The version of the protocol that RFC 6455 describes.
const VERSION: HeaderValue = HeaderValue::from_static("13");

/// All open sockets of callers: who owns their tasks, and when they have to end.
#[derive(Debug)]
pub(crate) struct Sockets {
    tasks: TaskTracker,
    closing: CancellationToken,
    cut: CancellationToken,
}

impl Sockets {
    /// When `cut` is cancelled, calls end with a typed failure and their sockets with them.
    pub(crate) fn new(cut: CancellationToken) -> Self {
        Self { tasks: TaskTracker::new(), closing: CancellationToken::new(), cut }
    }

    /// Tells how many are open, for as long as anybody asks.
    pub(crate) fn counter(&self) -> impl Fn() -> usize + Send + Sync + 'static {
        let tasks = self.tasks.clone();
        move || tasks.len()
    }

    /// Closes each socket as soon as no call runs on it, and waits until the last is gone.
    pub(crate) async fn close(&self) {
        self.closing.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Whether a request asks for a WebSocket.
pub(super) fn is_asked_for<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    lists(headers, header::UPGRADE, "websocket") && lists(headers, header::CONNECTION, "upgrade")
}

/// Answers the request for a WebSocket, and talks on it if it is accepted.
pub(super) async fn accept(
    pipeline: &Arc<Pipeline>,
    mut request: Request<Incoming>,
) -> Response<ResponseBody> {
    // Who calls is asked for each response again: a key that is revoked ends a socket that is older.
    let presented = origin::presented(request.headers(), request.extensions());
    let (generation, admitted) = match pipeline.let_in(SURFACE, presented).await {
        Ok(let_in) => let_in,
        Err(Stranger { error, generation }) => return error::response(&error, generation),
    };
    let of_use = |provider: &ProviderFacts| {
        provider.capabilities.websockets && admitted.rules.visible_provider(&provider.id)
    };
    if !generation.providers.describe().iter().any(of_use) {
        return error::plain(
            StatusCode::UPGRADE_REQUIRED,
            "websocket_unsupported",
            "no provider of this gateway is called over WebSockets: calls are taken by POST",
            generation.number,
        );
    }
    let key = match key(&request, generation.number) {
        Ok(key) => key,
        Err(refusal) => return *refusal,
    };
    let upgrade = hyper::upgrade::on(&mut request);
    let (head, _) = request.into_parts();
    let caller = Caller {
        headers: headers::towards_provider(&head.headers),
        attestation: headers::attestation(&head.headers),
        origin: Origin { headers: head.headers, extensions: head.extensions },
    };
    let owner = Arc::clone(pipeline);
    let limits = &generation.limits;
    let room = Room {
        bytes_max: limits.body_bytes_max,
        time_max: limits.body_timeout(),
        held: pipeline.admission.hold(limits.held_bytes_max),
    };
    pipeline.sockets.tasks.spawn(async move {
        match upgrade.await {
            Ok(upgraded) => {
                Conversation::over(upgraded, room, owner, caller).await.run().await;
            }
            Err(error) => tracing::debug!(%error, "a caller left before its websocket was open"),
        }
    });
    let mut response = Response::new(ResponseBody::full(bytes::Bytes::new()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let answer = response.headers_mut();
    answer.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    answer.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    // Extensions that the client offers are declined by not being named.
    answer.insert(header::SEC_WEBSOCKET_ACCEPT, key);
    answer.insert(headers::GENERATION, generation.number.into());
    response
}

/// What proves to the client that its handshake was understood, or the answer to one that was not.
fn key(request: &Request<Incoming>, generation: u64) -> Result<HeaderValue, Box<Response<ResponseBody>>> {
    let refuse = |status, message| Box::new(error::plain(status, "websocket_handshake", message, generation));
    if request.version() != Version::HTTP_11 {
        return Err(refuse(StatusCode::UPGRADE_REQUIRED, "WebSockets are opened over HTTP/1.1 only"));
    }
    if request.headers().get(header::SEC_WEBSOCKET_VERSION) != Some(&VERSION) {
        let mut refusal =
            refuse(StatusCode::UPGRADE_REQUIRED, "this gateway speaks version 13 of WebSockets");
        refusal.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, VERSION);
        return Err(refusal);
    }
    let key = request.headers().get(header::SEC_WEBSOCKET_KEY);
    let key = key.and_then(|key| HeaderValue::try_from(derive_accept_key(key.as_bytes())).ok());
    key.ok_or_else(|| refuse(StatusCode::BAD_REQUEST, "a WebSocket's handshake has a key"))
}

fn lists(headers: &HeaderMap, name: header::HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|part| part.trim().eq_ignore_ascii_case(token))
}
