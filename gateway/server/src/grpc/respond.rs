//! One `Respond` stream: one response after the other, in the contract's order.
//!
//! The stream is driven by the caller's reads, like a relay on the HTTP surface: no task, no queue beyond the events of
//! one read from the provider. Dropping it cancels whatever is in flight.

mod tell;

pub(super) use tell::rate_limits;

use std::{collections::VecDeque, future::poll_fn, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, stream};
use gateway_providers::{Operation, Repeats, Session as Path};
use http::HeaderValue;
use tidegate_proto::gateway::v1::{
    self as contract, AttestationAnswer, AttestationRequest, BodyChunk, Failure, RespondRequest,
    RespondResponse, ResponseStart, respond_request, respond_response,
};
use tokio::time::{Instant, timeout, timeout_at};
use tonic::{Code, Status, Streaming};

use crate::{
    attestation,
    document::Document,
    edit::Context,
    failure::{CallError, UPSTREAM_BODY_BYTES_MAX, refused, retry_delay},
    grpc::{SURFACE, refusal},
    origin::Origin,
    pipeline::{Answered, BodySource, Inbound, Opened, Pipeline, Room},
    relay::{Relay, Step, StreamError},
    settle::Outcome,
    trace::Trace,
};

/// How many bytes a body's first buffer has; most turns fit.
const BODY_BYTES_FIRST: usize = 64 * 1024;
const EVENT_STREAM: &str = "text/event-stream";

/// Who has opened a stream, and until when it waits.
pub(crate) struct Caller {
    pub(crate) origin: Origin,
    pub(crate) deadline: Option<Instant>,
}

/// The responses of one stream, which was opened under this state of the configuration.
pub(crate) fn stream(
    pipeline: Arc<Pipeline>,
    generation: u64,
    caller: Caller,
    inbound: Streaming<RespondRequest>,
) -> impl Stream<Item = Result<RespondResponse, Status>> {
    let session = Session {
        pipeline,
        generation,
        origin: caller.origin,
        deadline: caller.deadline,
        inbound,
        path: Path::default(),
        stage: Stage::Idle,
        out: VecDeque::new(),
        questions: 0,
        head_sent: false,
        over: false,
    };
    stream::unfold(session, |mut session| async move { session.next().await.map(|item| (item, session)) })
}

struct Session {
    pipeline: Arc<Pipeline>,
    /// The state of the configuration that the last response is bound to.
    generation: u64,
    origin: Origin,
    deadline: Option<Instant>,
    inbound: Streaming<RespondRequest>,
    /// What the thread has at its provider: a socket, for example.
    path: Path,
    stage: Stage,
    out: VecDeque<RespondResponse>,
    /// How many questions the caller was asked.
    questions: u64,
    /// Whether errors are told inside the stream by now.
    head_sent: bool,
    over: bool,
}

/// What the stream is doing.
enum Stage {
    /// Waits for the caller's next `start`.
    Idle,
    /// Waits for the caller's answer to the last question.
    Asking {
        opened: Box<Opened>,
        until: Instant,
    },
    Streaming(Box<Relay>),
    Reading(Box<Document>),
}

impl Session {
    async fn next(&mut self) -> Option<Result<RespondResponse, Status>> {
        loop {
            if let Some(response) = self.out.pop_front() {
                return Some(Ok(response));
            }
            if self.over {
                return None;
            }
            let advanced = match &mut self.stage {
                Stage::Streaming(relay) => {
                    let step = poll_fn(|cx| relay.poll_step(cx)).await;
                    self.streamed(step);
                    continue;
                }
                Stage::Reading(document) => {
                    let chunk = poll_fn(|cx| document.poll_chunk(cx)).await;
                    self.read(chunk);
                    continue;
                }
                Stage::Idle => self.open_next().await,
                Stage::Asking { until, .. } => {
                    let until = *until;
                    self.hear_attestation(until).await
                }
            };
            match advanced {
                Ok(true) => {}
                Ok(false) => return None,
                Err(failure) if self.head_sent => self.failed(failure),
                Err(failure) => {
                    self.over = true;
                    return Some(Err(refusal(self.generation, &failure)));
                }
            }
        }
    }

    /// Waits for the caller's next `start` and takes it to a provider. `false` when the caller has no more.
    async fn open_next(&mut self) -> Result<bool, Failure> {
        let start = match self.inbound.message().await {
            Ok(None) => return Ok(false),
            // If the caller reset its stream, nobody reads the answer.
            Err(status) => {
                let error = unreadable(&status);
                return Err(match status.code() {
                    // Its connection is gone, which between calls is nothing to tell.
                    Code::Cancelled | Code::Unknown | Code::Unavailable => self.ended_by(&error),
                    _ => self.misused(&error),
                });
            }
            Ok(Some(RespondRequest { message: Some(respond_request::Message::Start(start)) })) => start,
            // An answer that comes too late.
            Ok(Some(RespondRequest { message: Some(respond_request::Message::AttestationAnswer(_)) })) => {
                return Ok(true);
            }
            Ok(Some(_)) => {
                return Err(self.misused(&CallError::Protocol("a response begins with `start`")));
            }
        };
        let opened = self.open(&start).await.map_err(|error| error.failure())?;
        if !opened.wants_attestation || !start.can_attest {
            return self.send(opened, None).await;
        }
        self.questions += 1;
        let question = AttestationRequest { id: self.questions };
        self.out.push_back(tell::response(respond_response::Message::AttestationRequest(question)));
        let until = Instant::now() + attestation::WAIT_MAX;
        self.stage = Stage::Asking { opened, until };
        Ok(true)
    }

    async fn open(&mut self, start: &ResponseStart) -> Result<Box<Opened>, CallError> {
        let envelope = start.envelope.clone().unwrap_or_default();
        let hint = (!start.provider_hint.is_empty()).then_some(start.provider_hint.as_str());
        self.origin.goes_on_in(&start.traceparent, &start.tracestate);
        let operation = match start.operation() {
            contract::Operation::Unspecified | contract::Operation::Respond => Operation::Responses,
            contract::Operation::Compact => Operation::Compact,
        };
        let pipeline = Arc::clone(&self.pipeline);
        // Who calls is asked for each response: a key that is revoked ends a stream that is older.
        let generation = pipeline.present.generation();
        self.generation = generation.number;
        let body = Chunks { inbound: &mut self.inbound, timeout: generation.limits.body_timeout() };
        let inbound = Inbound {
            generation,
            surface: SURFACE,
            operation,
            presented: self.origin.presented(),
            trace: Trace::Of(&self.origin.headers),
            context: Context::Envelope { envelope: &envelope, turn_state: &start.turn_state },
            provider_hint: hint,
            repeats: Repeats::AsConfigured,
            deadline: self.deadline,
        };
        let result = pipeline.open(inbound, body).await;
        if result.as_ref().is_err_and(body_left_unread) {
            // What comes next on this stream cannot be told apart any more.
            self.over = true;
        }
        result
    }

    /// Waits for the answer to the last question, and sends the call with it or without.
    async fn hear_attestation(&mut self, until: Instant) -> Result<bool, Failure> {
        let header = loop {
            let heard = timeout_at(until, self.inbound.message()).await;
            let message = match heard {
                Err(_) => break attestation::of_problem(attestation::Problem::Timeout),
                // The caller has closed its side: no answer can come.
                Ok(Ok(None)) => break attestation::of_problem(attestation::Problem::Cancelled),
                Ok(Err(status)) => return Err(self.ended_by(&unreadable(&status))),
                Ok(Ok(Some(message))) => message.message,
            };
            match message {
                Some(respond_request::Message::AttestationAnswer(answer)) if answer.id == self.questions => {
                    break attestation::of_answer(answer);
                }
                // The answer to an earlier question.
                Some(respond_request::Message::AttestationAnswer(AttestationAnswer { .. })) => {}
                _ => {
                    let error = CallError::Protocol("after an attestation request comes its answer");
                    return Err(self.ended_by(&error));
                }
            }
        };
        match std::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Asking { opened, .. } => self.send(opened, Some(header)).await,
            other => {
                self.stage = other;
                Ok(true)
            }
        }
    }

    async fn send(&mut self, opened: Box<Opened>, attestation: Option<HeaderValue>) -> Result<bool, Failure> {
        let pipeline = Arc::clone(&self.pipeline);
        let sent = pipeline.send(opened, attestation, Some(&mut self.path)).await;
        let mut answered = sent.map_err(|error| error.failure())?;
        if !answered.answer.status.is_success() {
            answered.settlement.settle(Outcome::Refused);
            let (status, headers) = (answered.answer.status.as_u16(), answered.answer.headers);
            let body = answered.answer.body.collect(UPSTREAM_BODY_BYTES_MAX).await.unwrap_or_default();
            let delay = retry_delay(&headers, &body);
            return Err(refused(status, &tell::request_id(&headers), delay, &body));
        }
        let kind = answered.answer.headers.get(http::header::CONTENT_TYPE);
        let streams = kind.and_then(|kind| kind.to_str().ok()?.get(..EVENT_STREAM.len()));
        let streams = streams.is_some_and(|kind| kind.eq_ignore_ascii_case(EVENT_STREAM));
        self.head_sent = true;
        let head = tell::head(&answered, self.path.has_socket());
        self.out.push_back(tell::response(respond_response::Message::Head(head)));
        self.stage = if streams {
            Stage::Streaming(Box::new(Relay::new(answered)))
        } else {
            let Answered { answer, settlement, permit, .. } = answered;
            Stage::Reading(Box::new(Document::new(answer.body, settlement, permit, false)))
        };
        Ok(true)
    }

    /// The stream ends with what was sent instead of a call.
    fn misused(&mut self, error: &CallError) -> Failure {
        self.pipeline.rejected(SURFACE, self.generation, error);
        self.ended_by(error)
    }

    /// The stream ends, and with it a call that waits for its caller's word.
    fn ended_by(&mut self, error: &CallError) -> Failure {
        self.over = true;
        if let Stage::Asking { opened, .. } = std::mem::replace(&mut self.stage, Stage::Idle) {
            opened.failed(error);
        }
        error.failure()
    }

    fn failed(&mut self, failure: Failure) {
        self.out.push_back(tell::failed(failure, "", self.generation));
    }

    fn streamed(&mut self, step: Option<Step>) {
        match step {
            Some(Step::Frames(block) | Step::Tail { block, .. }) => tell::events(&block, &mut self.out),
            Some(Step::Broken(error)) => {
                let stage = std::mem::replace(&mut self.stage, Stage::Idle);
                self.over = matches!(error, StreamError::Stopping);
                let id = match &stage {
                    Stage::Streaming(relay) => relay.settlement().response_id().unwrap_or_default(),
                    Stage::Idle | Stage::Asking { .. } | Stage::Reading(_) => "",
                };
                self.out.push_back(tell::failed(error.failure(), id, self.generation));
            }
            None => {
                if let Stage::Streaming(relay) = std::mem::replace(&mut self.stage, Stage::Idle) {
                    self.out.push_back(tell::ending(relay.settlement().terminal(), self.generation));
                }
            }
        }
    }

    fn read(&mut self, chunk: Option<Result<Bytes, crate::document::DocumentError>>) {
        match chunk {
            Some(Ok(data)) => tell::document(data, &mut self.out),
            Some(Err(error)) => {
                self.stage = Stage::Idle;
                self.over = error.is_stopping();
                self.failed(error.failure());
            }
            None => {
                if let Stage::Reading(document) = std::mem::replace(&mut self.stage, Stage::Idle) {
                    self.out.push_back(tell::whole(document.settlement().terminal(), self.generation));
                }
            }
        }
    }
}

/// Whether chunks of the failed call may still be on their way.
fn body_left_unread(error: &CallError) -> bool {
    match error {
        CallError::Busy
        | CallError::Full
        | CallError::Stopping
        | CallError::Unauthenticated(_)
        | CallError::Barred(_)
        | CallError::TooManyCalls(_)
        | CallError::BodyTooLarge { .. }
        | CallError::BodyTimeout { .. }
        | CallError::BodyCut
        | CallError::BodyEncoded { .. }
        | CallError::BodyCorrupt { .. }
        | CallError::BodyBomb { .. }
        | CallError::Protocol(_)
        | CallError::Unreadable { .. } => true,
        CallError::Request(_)
        | CallError::NoModel
        | CallError::Denied(_)
        | CallError::Route(_)
        | CallError::Send(_) => false,
    }
}

/// A body in chunks.
struct Chunks<'a> {
    inbound: &'a mut Streaming<RespondRequest>,
    timeout: Duration,
}

impl BodySource for Chunks<'_> {
    async fn read(self, room: Room<'_>) -> Result<Bytes, CallError> {
        match timeout(self.timeout, read_body(self.inbound, room)).await {
            Ok(body) => body,
            Err(_) => Err(CallError::BodyTimeout { seconds: self.timeout.as_secs() }),
        }
    }
}

async fn read_body(inbound: &mut Streaming<RespondRequest>, room: Room<'_>) -> Result<Bytes, CallError> {
    let limit = room.bytes_max;
    let mut whole = BytesMut::new();
    loop {
        let chunk = match inbound.message().await {
            Ok(Some(RespondRequest { message: Some(respond_request::Message::BodyChunk(chunk)) })) => chunk,
            Ok(Some(_)) => {
                return Err(CallError::Protocol("after `start` come body chunks until the last one"));
            }
            Ok(None) => return Err(CallError::BodyCut),
            Err(status) => return Err(unreadable(&status)),
        };
        let BodyChunk { data, last } = chunk;
        if whole.len().saturating_add(data.len()) > limit {
            return Err(CallError::BodyTooLarge { limit });
        }
        if last && whole.is_empty() {
            room.permit.hold(data.len())?;
            return Ok(data);
        }
        if whole.is_empty() {
            whole.reserve(BODY_BYTES_FIRST.max(data.len()));
        }
        whole.extend_from_slice(&data);
        room.permit.hold(whole.capacity())?;
        if last {
            return Ok(whole.freeze());
        }
    }
}

fn unreadable(status: &Status) -> CallError {
    CallError::Unreadable { reason: status.message().to_owned() }
}
