//! Who calls: takes what a caller presents and says who it is.
//!
//! Reading top to bottom, [`Callers::authenticate`] is the whole order of proofs. A credential that is this service's and wrong
//! is refused, whatever else would let the caller in.

use std::{path::Path, sync::Arc, time::SystemTime};

use futures_util::future::join_all;

use crate::{
    check::{Checked, check},
    config::{CallersConfig, Problem},
    file::{Trouble, follow},
    issuer::{Keys, Remote},
    keys::looks_like_key,
    presented::{Authorization, Caller, Presented, Via, authorization, separate},
    principal::Principal,
    refusal::Refusal,
    token::{Cache, Claims, Compact, TOKEN_BYTES_MAX, Verified, is_before},
    websocket::{self, Flags, WebSocketAuth},
};

/// What the tables need to know of the process.
#[derive(Clone, Copy)]
pub struct Host<'a> {
    /// Where relative paths start: the configuration file's directory.
    pub directory: &'a Path,
    /// Reads an environment variable.
    pub environment: &'a dyn Fn(&str) -> Option<String>,
    /// What time it is.
    pub clock: fn() -> SystemTime,
}

/// Everybody who may call. Cheap to clone; a clone is the same.
#[derive(Clone)]
pub struct Callers {
    inner: Arc<Inner>,
}

struct Inner {
    checked: Checked,
    desk: Arc<Principal>,
    verified: Cache,
    clock: fn() -> SystemTime,
}

impl std::fmt::Debug for Callers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Callers").finish_non_exhaustive()
    }
}

impl Callers {
    /// Checks the tables and reads the files that they name. Nothing is fetched before [`Callers::watch`] runs.
    pub fn build(config: &CallersConfig, host: &Host<'_>) -> Result<Self, Vec<Problem>> {
        Self::build_from(None, config, host)
    }

    /// The same for a process that has the app-server's own flags, and for whom these let in. `[[callers]]` rows know these by the issuer `ws-auth`;
    /// without any row they are the desk's tenant.
    pub fn build_with(
        websocket: Option<&WebSocketAuth>,
        config: &CallersConfig,
        host: &Host<'_>,
    ) -> Result<Self, Vec<Problem>> {
        Ok(Self::of(check(config, Flags::Own(websocket), host, &[])?, host))
    }

    /// The same, for a new configuration: issuers that did not change keep the keys that `previous` has fetched.
    pub fn build_from(
        previous: Option<&Self>,
        config: &CallersConfig,
        host: &Host<'_>,
    ) -> Result<Self, Vec<Problem>> {
        let before: Vec<&Arc<Remote>> = previous.into_iter().flat_map(Self::remotes).collect();
        Ok(Self::of(check(config, Flags::Foreign, host, &before)?, host))
    }

    fn of(checked: Checked, host: &Host<'_>) -> Self {
        let desk = Arc::new(Principal::desk());
        Self { inner: Arc::new(Inner { checked, desk, verified: Cache::default(), clock: host.clock }) }
    }

    /// Follows the files and keeps fetched keys fresh, for ever. The owner runs it as a task and drops it to stop it; a later
    /// generation's takes over what it has fetched.
    pub async fn watch(&self) {
        let Checked { keys, issuers, .. } = &self.inner.checked;
        let keys = async {
            match keys {
                Some(keys) => follow(keys).await,
                None => std::future::pending().await,
            }
        };
        let issuers = join_all(issuers.iter().map(|issuer| Box::pin(issuer.watch())));
        tokio::join!(keys, issuers);
    }

    /// Who the caller is, or why it is not let in.
    pub async fn authenticate(&self, presented: Presented<'_>) -> Result<Caller, Refusal> {
        let Checked { header, rows, .. } = &self.inner.checked;
        let authorization = authorization(presented.headers);
        if let Some(token) = separate(presented.headers, header)? {
            let principal = match self.recognize(token) {
                Claimed::Ours(proof) => self.prove(token, proof).await?,
                Claimed::Foreign(refusal) => return Err(refusal),
            };
            let foreign_authorization = match authorization {
                Authorization::Absent | Authorization::Several => false,
                Authorization::Other => true,
                Authorization::Bearer(token) => matches!(self.recognize(token), Claimed::Foreign(_)),
            };
            return Ok(Caller { principal, via: Via::Header(header.clone()), foreign_authorization });
        }
        let foreign = match authorization {
            Authorization::Absent => None,
            Authorization::Several => {
                return Err(Refusal::Malformed("`Authorization` is there more than once"));
            }
            Authorization::Other => Some(Refusal::Missing),
            Authorization::Bearer(token) => match self.recognize(token) {
                Claimed::Ours(proof) => {
                    let principal = self.prove(token, proof).await?;
                    return Ok(Caller { principal, via: Via::Authorization, foreign_authorization: false });
                }
                Claimed::Foreign(refusal) => Some(refusal),
            },
        };
        let foreign_authorization = foreign.is_some();
        if let Some(certificate) = presented.certificate.filter(|_| !rows.spiffe.is_empty()) {
            let principal = Arc::new(rows.of_certificate(certificate.spiffe()?)?);
            return Ok(Caller { principal, via: Via::Certificate, foreign_authorization });
        }
        let nobody = self.inner.checked.anonymous && presented.trusted_listener;
        if let Some(websocket) = &self.inner.checked.websocket
            && !(nobody && matches!(authorization, Authorization::Absent))
        {
            let claims = websocket.judge(authorization, (self.inner.clock)())?;
            let principal = self.of_websocket(&claims)?;
            return Ok(Caller { principal, via: Via::Authorization, foreign_authorization: false });
        }
        if nobody {
            let principal = self.inner.desk.clone();
            return Ok(Caller { principal, via: Via::Nobody, foreign_authorization });
        }
        Err(foreign.unwrap_or(Refusal::Missing))
    }

    /// Whether callers without a credential are let in on loopback and unix-socket listeners.
    #[must_use]
    pub fn admits_anonymous(&self) -> bool {
        self.inner.checked.anonymous
    }

    /// Whether any credential could be accepted. Without one, a listener that other machines reach is of no use to anybody.
    #[must_use]
    pub fn knows_credentials(&self) -> bool {
        let Checked { keys, issuers, rows, websocket, .. } = &self.inner.checked;
        keys.is_some()
            || websocket.is_some()
            || !issuers.is_empty() && !rows.tokens.is_empty()
            || self.knows_certificates()
    }

    /// Whether client certificates identify anybody, so that listeners should ask for them.
    #[must_use]
    pub fn knows_certificates(&self) -> bool {
        !self.inner.checked.rows.spiffe.is_empty()
    }

    /// The header that identifies a caller whose `Authorization` belongs to somebody else. Never to be passed on.
    #[must_use]
    pub fn header(&self) -> &http::HeaderName {
        &self.inner.checked.header
    }

    /// What cannot be renewed now.
    #[must_use]
    pub fn troubles(&self) -> Vec<Trouble> {
        let Checked { keys, issuers, .. } = &self.inner.checked;
        let keys = keys.iter().filter_map(|keys| keys.trouble());
        keys.chain(issuers.iter().filter_map(|issuer| issuer.trouble())).collect()
    }

    fn remotes(&self) -> impl Iterator<Item = &Arc<Remote>> {
        self.inner.checked.issuers.iter().filter_map(|issuer| match &issuer.keys {
            Keys::Remote(remote) => Some(remote),
            Keys::Fixed(_) | Keys::File(_) => None,
        })
    }

    /// Whom a client stands for that the app-server's own flags let in.
    fn of_websocket(&self, claims: &Claims) -> Result<Arc<Principal>, Refusal> {
        let Checked { issuers, rows, websocket_is_desk, .. } = &self.inner.checked;
        match websocket_is_desk {
            true => Ok(self.inner.desk.clone()),
            false => rows.of_token(issuers.len(), &websocket::ISSUER.into(), claims).map(Arc::new),
        }
    }

    /// Whose a credential claims to be. Nothing is proven yet.
    fn recognize<'a>(&self, token: &'a str) -> Claimed<'a> {
        if looks_like_key(token) {
            return Claimed::Ours(Proof::Key);
        }
        let issuers = &self.inner.checked.issuers;
        if token.len() > TOKEN_BYTES_MAX {
            return Claimed::Foreign(Refusal::Malformed("a token is at most 16 KiB long"));
        }
        if issuers.is_empty() {
            return Claimed::Foreign(Refusal::Missing);
        }
        let print = Cache::print(token);
        if let Some(verified) = self.inner.verified.get(&print) {
            return Claimed::Ours(Proof::Seen(print, verified));
        }
        let Some(compact) = Compact::of(token) else {
            return Claimed::Foreign(Refusal::Malformed("it is neither a key nor a signed token"));
        };
        let issuer = compact.claims.issuer();
        match issuers.iter().position(|known| Some(&*known.url) == issuer) {
            Some(index) => Claimed::Ours(Proof::Token(print, index, compact)),
            None => Claimed::Foreign(Refusal::WrongIssuer),
        }
    }

    async fn prove(&self, token: &str, proof: Proof<'_>) -> Result<Arc<Principal>, Refusal> {
        let now = (self.inner.clock)();
        let Checked { keys, issuers, .. } = &self.inner.checked;
        match proof {
            Proof::Key => match keys {
                Some(keys) => keys.prove(token, now),
                None => Err(Refusal::UnknownKey),
            },
            Proof::Seen(print, verified) => {
                let issuer = issuers.get(verified.issuer).ok_or(Refusal::WrongIssuer)?;
                if issuer.has(&verified.key) {
                    return match is_before(now, verified.expires) {
                        true => verified.outcome.clone(),
                        false => Err(Refusal::Expired),
                    };
                }
                let compact = Compact::of(token).ok_or(Refusal::Malformed("it is not a signed token"))?;
                self.verify(print, verified.issuer, &compact).await
            }
            Proof::Token(print, issuer, compact) => self.verify(print, issuer, &compact).await,
        }
    }

    /// Verifies a token in full and remembers it.
    async fn verify(
        &self,
        print: [u8; 32],
        index: usize,
        token: &Compact<'_>,
    ) -> Result<Arc<Principal>, Refusal> {
        let Checked { issuers, rows, .. } = &self.inner.checked;
        let issuer = issuers.get(index).ok_or(Refusal::WrongIssuer)?;
        let key = issuer.verify(token).await?;
        let expires = token.claims.check(&issuer.audiences, (self.inner.clock)())?;
        let outcome = rows.of_token(index, &issuer.name, &token.claims).map(Arc::new);
        self.inner.verified.put(print, Verified { issuer: index, key, expires, outcome: outcome.clone() });
        outcome
    }
}

/// Whose a credential claims to be.
enum Claimed<'a> {
    /// This service's: it is proven, or the caller is refused.
    Ours(Proof<'a>),
    /// Somebody else's; the refusal is for a caller who has nothing better.
    Foreign(Refusal),
}

/// How a credential is to be proven.
enum Proof<'a> {
    Key,
    Seen([u8; 32], Arc<Verified>),
    Token([u8; 32], usize, Compact<'a>),
}
