//! Makes a call over a provider's Responses WebSocket: which socket, what is tried again, when HTTP takes over.
//!
//! As over HTTP, nothing is tried again once the answer is handed over; it is handed over when the first message of
//! the response is there, so that an error which comes instead is an answer with a status. A provider that refuses
//! the upgrade is called over HTTP for the rest of the session.

mod broken;
mod create;
mod handshake;
mod reading;
mod refusal;
mod wire;
mod without;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{StatusCode, Uri};
use tidegate_responses::Kind;
use tokio::time::Instant;

pub(crate) use reading::Reading;
pub(crate) use wire::Socket;
pub(crate) use without::without;

use crate::body::Body;
use crate::credential::Credential;
use crate::headers::CHATGPT_ACCOUNT_ID;
use crate::provider::Endpoint;
use crate::retry::Retries;
use crate::send::{Line, SendError};
use crate::session::{Binding, Parked, Session};
use crate::upstream::{Answer, Call, Timing};
use broken::Broken;
use create::Create;
use handshake::Handshake;
use refusal::Refusal;

/// How many messages that are not about the response may come before it.
const LEADING_MESSAGES_MAX: usize = 4;

/// Where a call goes.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) provider: &'a str,
    pub(crate) line: &'a Line,
    pub(crate) endpoint: &'a Endpoint,
}

/// What one attempt came to.
enum Attempt {
    /// The first messages of a response are there.
    Begun(HeaderMap, Box<Reading>),
    Refused(Refusal),
    /// No socket is to be had.
    Impossible,
    Broken {
        broken: Broken,
        reused: bool,
    },
}

/// Makes a call over the session's socket, or a new one. None if the call has to go over HTTP; the provider has not
/// seen it then.
pub(crate) async fn respond(
    target: Target<'_>,
    call: &Call,
    session: &mut Session,
) -> Result<Option<Answer>, SendError> {
    let Some(create) = Create::of(&call.body) else { return Ok(None) };
    let line = target.line;
    let asked = Instant::now();
    let mut credential = line.credential.current().await?;
    let mut waited = asked.elapsed();
    let mut caller = Caller { target, call, session, create, connect: None };
    let mut retries = Retries::new(&line.budget, line.repeats_max(call.repeats));
    let (mut recovered, mut reconnected) = (false, false);
    let mut attempts = 0;
    loop {
        attempts += 1;
        let sent = Instant::now();
        let attempt = caller.attempt(&credential).await?;
        let connect = caller.connect.take();
        let timing = |credential| {
            let (total, last_attempt) = (asked.elapsed(), sent.elapsed());
            Timing { total, last_attempt, credential, connect, own: Duration::ZERO }
        };
        let wait = match attempt {
            Attempt::Begun(headers, reading) => {
                line.budget.refill();
                let (status, body) = (StatusCode::OK, Body::socket(reading));
                return Ok(Some(Answer { status, headers, body, attempts, timing: timing(waited) }));
            }
            Attempt::Impossible => return Ok(None),
            Attempt::Refused(refusal) => {
                if refusal.status == StatusCode::UNAUTHORIZED && !recovered {
                    recovered = true;
                    let rejected = Instant::now();
                    let newer = line.credential.recover(credential.generation).await?;
                    waited += rejected.elapsed();
                    if newer.generation != credential.generation {
                        credential = newer;
                        continue;
                    }
                }
                if refusal.asks_for_another_socket() && !reconnected {
                    reconnected = true;
                    caller.may_start_afresh()?;
                    continue;
                }
                // What was refused on a socket is forgotten there, so a continuation has nothing to repeat on.
                let wait = match caller.create.bound {
                    true => None,
                    false => retries.after_status(refusal.status, &refusal.headers),
                };
                let Some(wait) = wait else {
                    let Refusal { status, headers, body } = refusal;
                    let body = Body::whole(body);
                    return Ok(Some(Answer { status, headers, body, attempts, timing: timing(waited) }));
                };
                wait
            }
            Attempt::Broken { broken, reused } => {
                if !broken.is_lost() || reconnected {
                    return Err(broken.into());
                }
                reconnected = true;
                if reused {
                    // An old socket that ended while nobody looked says nothing about a new one.
                    caller.may_start_afresh()?;
                    continue;
                }
                let Some(wait) = retries.after_failure() else { return Err(broken.into()) };
                wait
            }
        };
        tracing::debug!(attempts, ?wait, "upstream call is repeated on another socket");
        tokio::time::sleep(wait).await;
    }
}

/// Who calls, and what for.
struct Caller<'a> {
    target: Target<'a>,
    call: &'a Call,
    session: &'a mut Session,
    create: Create,
    /// How long opening a socket took in the attempt at hand, if one was opened.
    connect: Option<Duration>,
}

impl Caller<'_> {
    async fn attempt(&mut self, credential: &Credential) -> Result<Attempt, SendError> {
        let Target { provider, line, endpoint } = self.target;
        let handshake = handshake::headers(line, endpoint, self.call, credential)?;
        let binding = Binding {
            provider: provider.to_owned(),
            uri: endpoint.uri.clone(),
            generation: credential.generation,
            authorization: handshake.get(AUTHORIZATION).cloned(),
            account: handshake.get(CHATGPT_ACCOUNT_ID).cloned(),
        };
        let parked = self.parked(&binding).await?;
        let reused = parked.is_some();
        let mut socket = match parked {
            Some(socket) => socket,
            None => match self.open(line, &endpoint.uri, handshake).await {
                Handshake::Open(socket) => socket,
                Handshake::Refused(refusal) => return Ok(Attempt::Refused(refusal)),
                Handshake::Impossible(reason) => {
                    tracing::info!(provider, %reason, "no websocket, the session goes on over http");
                    self.session.fall_back(provider);
                    return Ok(Attempt::Impossible);
                }
            },
        };
        let held = match self.begin(&mut socket).await {
            Ok(held) => held,
            Err(broken) => return Ok(Attempt::Broken { broken, reused }),
        };
        let mut headers = socket.headers.clone();
        if reused {
            forget_measures(&mut headers);
        }
        if let Some(mut refusal) = held.back().and_then(|last| Refusal::read(last)) {
            headers.extend(std::mem::take(&mut refusal.headers));
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            return Ok(Attempt::Refused(Refusal { headers, ..refusal }));
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        let reading = Reading::new(socket, held, line.idle, self.session.parking(), binding);
        Ok(Attempt::Begun(headers, Box::new(reading)))
    }

    async fn open(&mut self, line: &Line, uri: &Uri, headers: HeaderMap) -> Handshake {
        let began = Instant::now();
        let opened = handshake::open(line, uri, headers).await;
        self.connect = Some(began.elapsed());
        opened
    }

    /// The session's socket, if it can take this call.
    async fn parked(&self, binding: &Binding) -> Result<Option<Box<Socket>>, SendError> {
        let Some(Parked { mut socket, binding: bound_to, since }) = self.session.take() else {
            return Ok(None);
        };
        if bound_to == *binding && socket.is_alive(since.elapsed()).await {
            return Ok(Some(socket));
        }
        self.may_start_afresh()?;
        Ok(None)
    }

    /// Whether the call can do without the socket that is gone.
    fn may_start_afresh(&self) -> Result<(), SendError> {
        if self.create.bound { Err(SendError::ContinuationLost) } else { Ok(()) }
    }

    /// Sends the request and reads up to the first message about the response, or the error instead of it.
    async fn begin(&self, socket: &mut Socket) -> Result<VecDeque<Bytes>, Broken> {
        socket.send(self.create.text.clone()).await?;
        let mut held = VecDeque::with_capacity(1);
        loop {
            let message = socket.message(self.target.line.idle).await?;
            let leading = !message.starts_with(br#"{"type":"response."#)
                && matches!(Kind::from_data(&message), Kind::Other | Kind::Comment | Kind::Done);
            held.push_back(message);
            if !leading || held.len() > LEADING_MESSAGES_MAX {
                return Ok(held);
            }
        }
    }
}

/// Takes out of a handshake's headers what was measured at that time and says nothing about a later response.
fn forget_measures(headers: &mut HeaderMap) {
    let measures = |name: &str| {
        name == "retry-after"
            || name.starts_with("x-ratelimit-")
            || ["-used-percent", "-window-minutes", "-reset-at", "-limit-name"]
                .iter()
                .any(|end| name.starts_with("x-") && name.ends_with(end))
            || name.starts_with("x-codex-credits-")
    };
    let stale: Vec<_> = headers.keys().filter(|name| measures(name.as_str())).cloned().collect();
    for name in stale {
        headers.remove(name);
    }
}
