//! The responses of one socket, one after the other.
//!
//! A socket has one task, and this is it. Each response goes through the pipeline like any other call, with its own permit
//! and account; what stays is the way to the provider: a caller's socket keeps its provider's, so that responses which
//! nobody stores can be gone on from. The caller is listened to all the time, so that one who leaves cancels its call; while
//! one reads slowly, nothing is taken from the provider.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use gateway_providers::{Operation, Repeats, Session};
use http::{HeaderMap, HeaderValue};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tidegate_responses::headers::X_CODEX_TURN_STATE;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::{
    SURFACE,
    client::{Client, End, Room},
    create::Create,
    tell,
};
use crate::{
    edit::Context,
    failure::{CallError, UPSTREAM_BODY_BYTES_MAX},
    headers,
    http::responses::is_event_stream,
    origin::Origin,
    pipeline::{Answered, Inbound, Pipeline},
    relay::{Relay, Step, StreamError},
    settle::Outcome,
};

/// How long a provider's stream may stay open after the event that ends its response.
const TAIL_MAX: Duration = Duration::from_secs(1);
/// How long a socket may stay open when calls are cut: enough for a last event and a goodbye, for a caller who reads.
const CUT_MAX: Duration = Duration::from_millis(800);

/// What the handshake says of everybody who speaks on the socket.
pub(super) struct Caller {
    pub(super) headers: HeaderMap,
    pub(super) attestation: Option<HeaderValue>,
    pub(super) origin: Origin,
}

/// A socket and what belongs to it.
pub(super) struct Conversation {
    pipeline: Arc<Pipeline>,
    caller: Caller,
    client: Client<TokioIo<Upgraded>>,
    /// The way to the provider.
    path: Session,
    /// The turn state that the caller was told last.
    state: Option<HeaderValue>,
}

/// What comes after a response: the next message, if the caller has already sent one.
type Next = Result<Option<Utf8Bytes>, End>;

impl Conversation {
    /// Takes an upgraded connection.
    pub(super) async fn over(
        upgraded: Upgraded,
        room: Room,
        pipeline: Arc<Pipeline>,
        caller: Caller,
    ) -> Conversation {
        let client = Client::over(TokioIo::new(upgraded), room).await;
        Conversation { pipeline, caller, client, path: Session::default(), state: None }
    }

    /// Talks until one of the two has enough.
    pub(super) async fn run(self) {
        let pipeline = Arc::clone(&self.pipeline);
        let cut = async {
            pipeline.sockets.cut.cancelled().await;
            sleep(CUT_MAX).await;
        };
        tokio::select! {
            () = self.talk() => {}
            () = cut => tracing::debug!("a websocket is dropped, its caller does not read"),
        }
    }

    async fn talk(mut self) {
        let mut next = None;
        let end = loop {
            let message = match next.take() {
                Some(message) => Ok(message),
                None => self.next_message().await,
            };
            // Apart, so that an idle socket does not carry the room for a call.
            let answered = match message {
                Ok(message) => Box::pin(self.respond(message)).await,
                Err(end) => Err(end),
            };
            match answered {
                Ok(following) => next = following,
                Err(end) => break end,
            }
        };
        // The way to the provider ends first: nobody waits for it.
        drop(self.path);
        match end {
            End::Gone => {}
            End::Goodbye(code, reason) => self.client.close(code, reason).await,
        }
    }

    /// Waits for the next message, while no call runs.
    async fn next_message(&mut self) -> Result<Utf8Bytes, End> {
        let sockets = &self.pipeline.sockets;
        let idle = self.pipeline.present.generation().limits.websocket_idle();
        tokio::select! {
            biased;
            () = sockets.closing.cancelled() => Err(End::STOPPING),
            () = sockets.cut.cancelled() => Err(End::STOPPING),
            message = self.client.hear() => message,
            () = sleep(idle) => Err(End::IDLE),
        }
    }

    /// Takes one message to a provider and the answer to the caller.
    async fn respond(&mut self, message: Utf8Bytes) -> Next {
        let create = match Create::read(message.into()) {
            Ok(Some(create)) => create,
            Ok(None) => return Ok(None),
            Err(error) => {
                let generation = self.pipeline.present.generation().number;
                self.pipeline.rejected(SURFACE, generation, &error);
                return self.tell(tell::error(&error)).await;
            }
        };
        let answered = match self.send(&create).await? {
            Ok(answered) => answered,
            Err(error) => return self.tell(tell::error(&error)).await,
        };
        if !answered.answer.status.is_success() {
            return self.refused(answered).await;
        }
        if !is_event_stream(&answered.answer.headers) {
            let mut answered = answered;
            answered.settlement.settle(Outcome::Broken);
            return self.tell(tell::not_a_stream()).await;
        }
        self.stream(answered, create.kept).await
    }

    async fn tell(&mut self, event: Utf8Bytes) -> Next {
        self.client.send(event).await.map(|()| None)
    }

    async fn send(&mut self, create: &Create) -> Result<Result<Answered, CallError>, End> {
        let Self { pipeline, caller, client, path, .. } = self;
        let inbound = Inbound {
            generation: pipeline.present.generation(),
            surface: SURFACE,
            operation: Operation::Responses,
            presented: caller.origin.presented(),
            trace: create.trace(&caller.headers),
            context: Context::Headers(create.context(&caller.headers)),
            provider_hint: None,
            // Clients that open sockets repeat by themselves.
            repeats: Repeats::Once,
            deadline: None,
        };
        let sent = async {
            let opened = pipeline.open(inbound, create.body.clone()).await?;
            pipeline.send(opened, caller.attestation.clone(), Some(path)).await
        };
        listening(client, sent).await
    }

    async fn refused(&mut self, answered: Answered) -> Next {
        let Answered { answer, mut settlement, permit, reroute, .. } = answered;
        settlement.settle(Outcome::Refused);
        let body = listening(&mut self.client, answer.body.collect(UPSTREAM_BODY_BYTES_MAX)).await?;
        drop(permit);
        let seen = headers::towards_caller(&answer.headers, reroute.as_deref());
        self.tell(tell::refused(answer.status, &seen, &body.unwrap_or_default())).await
    }

    async fn stream(&mut self, answered: Answered, kept: bool) -> Next {
        let of_socket = answered.answer.body.is_of_socket();
        for event in self.introduction(&answered, of_socket).into_iter().flatten() {
            self.client.put(event).await?;
        }
        let event = if of_socket || kept { tell::event } else { tell::event_of_unkept };
        let mut relay = Relay::new(answered);
        let mut tail = None;
        loop {
            let until = tail.unwrap_or_else(Instant::now);
            tokio::select! {
                step = poll_fn(|cx| relay.poll_step(cx)) => match step {
                    None => return Ok(None),
                    Some(Step::Frames(block) | Step::Tail { block, .. }) => {
                        for event in block.frames().filter_map(|frame| event(&frame)) {
                            self.client.put(event).await?;
                        }
                        self.client.flush().await?;
                    }
                    Some(Step::Broken(error)) => {
                        // Codex takes a failed response for a reason to try again, on another socket.
                        let failed = tell::message(relay.failed_event(&error));
                        drop(relay);
                        self.client.send(failed).await?;
                        return if matches!(error, StreamError::Stopping) { Err(End::STOPPING) } else { Ok(None) };
                    }
                },
                heard = self.client.hear() => {
                    let message = heard?;
                    // For the caller the response is over with its last event.
                    if relay.settlement().terminal().is_some() {
                        return Ok(Some(message));
                    }
                    self.client.send(tell::busy()).await?;
                }
                () = sleep_until(until), if tail.is_some() => return Ok(None),
            }
            if tail.is_none() && relay.settlement().terminal().is_some() {
                tail = Some(Instant::now() + TAIL_MAX);
            }
        }
    }

    /// What stands in the headers of the answer, as events. A provider's socket tells of its limits by itself, and its
    /// handshake is news only once.
    fn introduction(&mut self, answered: &Answered, of_socket: bool) -> [Option<Utf8Bytes>; 2] {
        let seen = headers::towards_caller(&answered.answer.headers, answered.reroute.as_deref());
        let state = seen.get(X_CODEX_TURN_STATE);
        let news = !of_socket || (state.is_some() && state != self.state.as_ref());
        let metadata = if news { tell::metadata(&seen) } else { None };
        if metadata.is_some() {
            self.state = state.cloned();
        }
        let limits = if of_socket { None } else { tell::rate_limits(&answered.limits) };
        [metadata, limits]
    }
}

/// Waits for something that is done for the caller, as long as the caller is there.
async fn listening<T>(
    client: &mut Client<TokioIo<Upgraded>>,
    work: impl Future<Output = T>,
) -> Result<T, End> {
    let mut work = pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return Ok(done),
            heard = client.hear() => {
                heard?;
                client.send(tell::busy()).await?;
            }
        }
    }
}
