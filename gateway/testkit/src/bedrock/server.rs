//! The fake service itself: an upstream whose requests have to pass the rules before a scripted reply is theirs.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::refusal::Refusal;
use super::rules::{Key, Route, Rules};
use crate::clock::{self, Clock};
use crate::reply::Reply;
use crate::state::{Handler, Recorded};
use crate::tls::TlsOptions;
use crate::upstream::Upstream;

/// A running fake Bedrock. It begins with no key, no bearer token and no model, and refuses everything.
///
/// What passes its checks gets the next scripted reply of its upstream. Every answer has a `Date` by its clock.
#[derive(Debug)]
pub struct Bedrock {
    upstream: Upstream,
    desk: Arc<Desk>,
}

/// What the test and the connections share.
struct Desk {
    state: Mutex<State>,
}

struct State {
    rules: Rules,
    skew_name: Option<String>,
    refusals: Vec<(Refusal, String)>,
    accepted: usize,
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Desk").field("refusals", &self.state().refusals).finish_non_exhaustive()
    }
}

impl Desk {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere in a test must not hide behind a second one here.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Handler for Desk {
    fn handle(&self, request: &Recorded) -> Option<Reply> {
        let mut state = self.state();
        match state.rules.judge(request) {
            Ok(()) => {
                state.accepted += 1;
                None
            }
            Err((refusal, message)) => {
                let name = state.skew_name.as_deref().filter(|_| refusal == Refusal::Skewed);
                let reply = refusal.reply(name, &message);
                state.refusals.push((refusal, message));
                Some(reply)
            }
        }
    }

    fn stamp(&self, reply: Reply) -> Reply {
        let state = self.state();
        let number = state.accepted + state.refusals.len();
        reply
            .header("date", &clock::http(state.rules.clock.now()))
            .header("x-amzn-requestid", &format!("req_testkit_{number}"))
    }
}

impl Bedrock {
    /// Listens on a free port of 127.0.0.1 as the service of `region`.
    pub async fn start(region: &str) -> io::Result<Bedrock> {
        Bedrock::listen(region, None).await
    }

    /// The same over TLS.
    pub async fn start_tls(region: &str, options: &TlsOptions) -> io::Result<Bedrock> {
        Bedrock::listen(region, Some(options)).await
    }

    async fn listen(region: &str, tls: Option<&TlsOptions>) -> io::Result<Bedrock> {
        let rules = Rules {
            region: region.to_owned(),
            clock: Clock::Shifted(0),
            keys: HashMap::new(),
            expired: HashSet::new(),
            bearers: HashSet::new(),
            routes: HashMap::new(),
        };
        let state = State { rules, skew_name: None, refusals: Vec::new(), accepted: 0 };
        let desk = Arc::new(Desk { state: Mutex::new(state) });
        let upstream = Upstream::start_handled(desk.clone(), tls).await?;
        Ok(Bedrock { upstream, desk })
    }

    /// The upstream behind the checks: its replies, and every request as it came, refused or not.
    pub fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// Its address with a path below it, as in `http://127.0.0.1:1234/openai/v1`.
    pub fn url(&self, path: &str) -> String {
        self.upstream.url(path)
    }

    /// Serves a model at `{prefix}/responses` to requests that are signed for `service`.
    pub fn serve(&self, model: &str, prefix: &str, service: &str) {
        let route = Route { prefix: prefix.to_owned(), service: service.to_owned() };
        self.desk.state().rules.routes.insert(model.to_owned(), route);
    }

    /// Knows a key; one with a session token has to send and sign it.
    pub fn allow_key(&self, access_key: &str, secret: &str, token: Option<&str>) {
        let key = Key { secret: secret.to_owned(), token: token.map(str::to_owned) };
        self.desk.state().rules.keys.insert(access_key.to_owned(), key);
    }

    /// Takes this bearer token.
    pub fn allow_bearer(&self, token: &str) {
        self.desk.state().rules.bearers.insert(token.to_owned());
    }

    /// No longer takes this bearer token.
    pub fn revoke_bearer(&self, token: &str) {
        self.desk.state().rules.bearers.remove(token);
    }

    /// From now on the key counts as expired.
    pub fn expire_key(&self, access_key: &str) {
        self.desk.state().rules.expired.insert(access_key.to_owned());
    }

    /// Sets its clock so many seconds ahead of the machine's, or behind it.
    pub fn shift_clock(&self, seconds: i64) {
        self.desk.state().rules.clock = Clock::Shifted(seconds);
    }

    /// Stops its clock at this second since the epoch.
    pub fn stop_clock(&self, unix_seconds: i64) {
        self.desk.state().rules.clock = Clock::Fixed(unix_seconds);
    }

    /// Gives the error of a wrong date another name than `InvalidSignatureException`, as `RequestTimeTooSkewed`.
    pub fn name_skew(&self, error_type: &str) {
        self.desk.state().skew_name = Some(error_type.to_owned());
    }

    /// How many requests passed.
    pub fn accepted(&self) -> usize {
        self.desk.state().accepted
    }

    /// How many requests were refused for this.
    pub fn refused(&self, refusal: Refusal) -> usize {
        self.desk.state().refusals.iter().filter(|(seen, _)| *seen == refusal).count()
    }

    /// Every refusal with its message, in order.
    pub fn refusals(&self) -> Vec<(Refusal, String)> {
        self.desk.state().refusals.clone()
    }
}
