//! Lets clients in: asks who calls, by the credential that came with a request, before anything of the protocol is spoken.
//!
//! What a credential proves is decided in `tidegate-callers`. A long connection is asked about again now and then, because
//! keys are revoked; a token that was good when the connection began may end while it lasts.

use std::sync::Arc;
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{Extensions, HeaderMap};
use tidegate_callers::{Callers, PeerCertificate, Presented, Proof, Refusal, WebSocketRefusal};

use crate::principal::Principal;

/// How long a revoked key's connections may last.
const ASK_AGAIN_EVERY: Duration = Duration::from_secs(2);

/// Who may come in by one listener.
#[derive(Debug, Clone)]
pub struct Door {
    callers: Callers,
    nearby: bool,
}

impl Door {
    /// Lets in whom `callers` know; `nearby` if only this machine reaches the listener.
    #[must_use]
    pub fn new(callers: Callers, nearby: bool) -> Self {
        Self { callers, nearby }
    }

    /// Who calls, or why it is not let in.
    pub(crate) async fn enter(
        &self,
        headers: &HeaderMap,
        extensions: &Extensions,
    ) -> Result<Visitor, Refusal> {
        let certificate = extensions.get::<PeerCertificate>();
        let presented = Presented { headers, certificate, trusted_listener: self.nearby };
        let principal = self.callers.authenticate(presented).await?.principal;
        let credential = match principal.proof {
            Proof::Desk | Proof::Certificate(_) => None,
            Proof::Key(_) | Proof::Token(_) => {
                let kept = [&AUTHORIZATION, self.callers.header()];
                let kept =
                    kept.into_iter().filter_map(|name| Some((name.clone(), headers.get(name)?.clone())));
                let (door, headers) = (self.clone(), kept.collect());
                Some(Box::new(Credential { door, headers, caller: Arc::clone(&principal) }))
            }
        };
        Ok(Visitor { principal: Principal::from(&*principal), standing: Standing(credential) })
    }
}

/// Somebody who was let in.
#[derive(Debug, Clone)]
pub(crate) struct Visitor {
    pub(crate) principal: Principal,
    pub(crate) standing: Standing,
}

/// Whether a visitor's credential still holds.
#[derive(Debug, Clone)]
pub(crate) struct Standing(Option<Box<Credential>>);

#[derive(Clone)]
struct Credential {
    door: Door,
    headers: HeaderMap,
    caller: Arc<tidegate_callers::Principal>,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential").field("caller", &self.caller).finish_non_exhaustive()
    }
}

impl Standing {
    /// Of a visitor who needed no credential.
    pub(crate) const fn unquestioned() -> Self {
        Self(None)
    }

    /// Waits until the credential holds no more.
    pub(crate) async fn lost(self) {
        let Some(credential) = self.0 else { return std::future::pending().await };
        loop {
            tokio::time::sleep(ASK_AGAIN_EVERY).await;
            if !credential.holds().await {
                return;
            }
        }
    }
}

impl Credential {
    async fn holds(&self) -> bool {
        let Self { door, headers, caller } = self;
        let presented = Presented { headers, certificate: None, trusted_listener: door.nearby };
        match door.callers.authenticate(presented).await {
            Ok(now) => now.principal.tenant == caller.tenant && now.principal.subject == caller.subject,
            Err(refusal) => may_pass(&refusal),
        }
    }
}

/// Whether a session that began with a good credential goes on although it would not begin with it any more.
fn may_pass(refusal: &Refusal) -> bool {
    match refusal {
        Refusal::Expired | Refusal::KeysUnavailable | Refusal::WebSocket(WebSocketRefusal::ExpiredJwt) => {
            true
        }
        Refusal::Missing
        | Refusal::UnknownKey
        | Refusal::RevokedKey
        | Refusal::ExpiredKey
        | Refusal::Malformed(_)
        | Refusal::Header { .. }
        | Refusal::NotYetValid
        | Refusal::WrongIssuer
        | Refusal::WrongAudience
        | Refusal::UnknownSigningKey
        | Refusal::UnpublishedSigningKey { .. }
        | Refusal::BadSignature
        | Refusal::UnknownCaller
        | Refusal::UnusableName
        | Refusal::CertificateUnacceptable
        | Refusal::WebSocket(_) => false,
    }
}
