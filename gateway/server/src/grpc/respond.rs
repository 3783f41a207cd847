//! One `Respond` stream: one response after the other, in the contract's order.
//!
//! The stream is driven by the caller's reads, like a relay on the HTTP surface: no task, no queue beyond the events of
//! one read from the provider. Dropping it cancels whatever is in flight.

use std::{collections::VecDeque, future::poll_fn, sync::Arc};

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, stream};
use tidegate_proto::{
    gateway::v1::{
        BodyChunk, Failure, Header, RateLimit, RateLimitWindow, RespondRequest, RespondResponse,
        ResponseCompleted, ResponseEvent, ResponseFailed, ResponseHead, ResponseStart, Usage,
        respond_request, respond_response,
    },
    status_with,
};
use tidegate_responses::{Block, Terminal, Usage as WireUsage, event::Status as Ending, rate_limit};
use tokio::time::timeout;
use tonic::{Status, Streaming};

use crate::{
    failure::{CallError, UPSTREAM_BODY_BYTES_MAX, refused},
    headers,
    pipeline::{Answered, Inbound, Pipeline},
    relay::{Relay, Step, StreamError},
    settle::Outcome,
};

/// How many bytes a body's first buffer has; most turns fit.
const BODY_BYTES_FIRST: usize = 64 * 1024;

/// The responses of one stream.
pub(crate) fn stream(
    pipeline: Arc<Pipeline>,
    inbound: Streaming<RespondRequest>,
) -> impl Stream<Item = Result<RespondResponse, Status>> {
    let session =
        Session { pipeline, inbound, relay: None, out: VecDeque::new(), head_sent: false, over: false };
    stream::unfold(session, |mut session| async move { session.next().await.map(|item| (item, session)) })
}

struct Session {
    pipeline: Arc<Pipeline>,
    inbound: Streaming<RespondRequest>,
    relay: Option<Relay>,
    out: VecDeque<RespondResponse>,
    /// Whether errors are told inside the stream by now.
    head_sent: bool,
    over: bool,
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
            let step = match &mut self.relay {
                Some(relay) => poll_fn(|cx| relay.poll_step(cx)).await,
                None => match self.open_next().await {
                    Ok(true) => continue,
                    Ok(false) => return None,
                    Err(failure) if self.head_sent => {
                        self.out.push_back(failed(failure, String::new(), None));
                        continue;
                    }
                    Err(failure) => {
                        self.over = true;
                        return Some(Err(status_with(&failure)));
                    }
                },
            };
            self.take(step);
        }
    }

    /// Waits for the caller's next `start` and takes it to a provider. `false` when the caller has no more.
    async fn open_next(&mut self) -> Result<bool, Failure> {
        let start = match self.inbound.message().await {
            Ok(None) => return Ok(false),
            // If the caller reset its stream, nobody reads the answer.
            Err(status) => {
                self.over = true;
                return Err(unreadable(&status).failure());
            }
            Ok(Some(RespondRequest { message: Some(respond_request::Message::Start(start)) })) => start,
            // An answer that comes after its response has ended.
            Ok(Some(RespondRequest { message: Some(respond_request::Message::AttestationAnswer(_)) })) => {
                return Ok(true);
            }
            Ok(Some(_)) => {
                self.over = true;
                return Err(CallError::Protocol("a response begins with `start`").failure());
            }
        };
        let answered = self.call(&start).await.map_err(|error| error.failure())?;
        self.head(answered).await
    }

    async fn call(&mut self, start: &ResponseStart) -> Result<Answered, CallError> {
        let envelope = start.envelope.clone().unwrap_or_default();
        let hint = (!start.provider_hint.is_empty()).then_some(start.provider_hint.as_str());
        let inbound = Inbound {
            surface: "grpc",
            headers: headers::from_envelope(&envelope, &start.turn_state),
            provider_hint: hint,
        };
        let pipeline = Arc::clone(&self.pipeline);
        let config = &pipeline.config;
        let read = async {
            match timeout(config.body_timeout(), read_body(&mut self.inbound, config.body_bytes_max)).await {
                Ok(body) => body,
                Err(_) => Err(CallError::BodyTimeout { seconds: config.body_timeout().as_secs() }),
            }
        };
        let result = pipeline.call(inbound, read).await;
        if result.as_ref().is_err_and(body_left_unread) {
            // What comes next on this stream cannot be told apart any more.
            self.over = true;
        }
        result
    }

    async fn head(&mut self, answered: Answered) -> Result<bool, Failure> {
        let Answered { answer, mut settlement, permit } = answered;
        if !answer.status.is_success() {
            settlement.settle(Outcome::Refused);
            let request_id = request_id(&answer.headers);
            let retry_after = text(&answer.headers, "retry-after").and_then(|seconds| seconds.parse().ok());
            let status = answer.status.as_u16();
            let body = answer.body.collect(UPSTREAM_BODY_BYTES_MAX).await.unwrap_or_default();
            return Err(refused(status, &request_id, retry_after, &body));
        }
        let head = ResponseHead {
            provider: settlement.provider().to_owned(),
            status: answer.status.as_u16().into(),
            request_id: request_id(&answer.headers),
            call_id: settlement.id().to_string(),
            model: settlement.model().to_owned(),
            turn_state: text(&answer.headers, "x-codex-turn-state").unwrap_or_default().to_owned(),
            rate_limits: rate_limits(&answer.headers),
            headers: others(&answer.headers),
        };
        self.head_sent = true;
        self.out.push_back(response(respond_response::Message::Head(head)));
        self.relay = Some(Relay::new(answer.body, self.pipeline.config.event_bytes_max, settlement, permit));
        Ok(true)
    }

    fn take(&mut self, step: Option<Step>) {
        match step {
            Some(Step::Frames(block) | Step::Tail { block, .. }) => self.events(&block),
            Some(Step::Broken(error)) => {
                self.relay = None;
                self.over = matches!(error, StreamError::Stopping);
                self.out.push_back(failed(error.failure(), String::new(), None));
            }
            None => {
                if let Some(relay) = self.relay.take() {
                    self.out.push_back(ending(relay.settlement().terminal()));
                }
            }
        }
    }

    fn events(&mut self, block: &Block) {
        for frame in block.frames() {
            let data = frame.data();
            // Comments keep a connection alive and say nothing; `[DONE]` is no JSON.
            if let Some(kind) = frame.kind_str().map(|kind| kind.into_owned())
                && !data.is_empty()
            {
                let event = ResponseEvent { r#type: kind, data };
                self.out.push_back(response(respond_response::Message::Event(event)));
            }
        }
    }
}

/// Whether chunks of the failed call may still be on their way.
fn body_left_unread(error: &CallError) -> bool {
    match error {
        CallError::Busy
        | CallError::Stopping
        | CallError::BodyTooLarge { .. }
        | CallError::BodyTimeout { .. }
        | CallError::BodyCut
        | CallError::BodyEncoded { .. }
        | CallError::Protocol(_)
        | CallError::Unreadable { .. } => true,
        CallError::Request(_) | CallError::NoModel | CallError::Route(_) | CallError::Send(_) => false,
    }
}

async fn read_body(inbound: &mut Streaming<RespondRequest>, limit: usize) -> Result<Bytes, CallError> {
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
            return Ok(data);
        }
        if whole.is_empty() {
            whole.reserve(BODY_BYTES_FIRST.max(data.len()));
        }
        whole.extend_from_slice(&data);
        if last {
            return Ok(whole.freeze());
        }
    }
}

fn unreadable(status: &Status) -> CallError {
    CallError::Unreadable { reason: status.message().to_owned() }
}

fn response(message: respond_response::Message) -> RespondResponse {
    RespondResponse { message: Some(message) }
}

/// How a stream that reached its terminal event is told.
fn ending(terminal: Option<&Terminal>) -> RespondResponse {
    let Some(terminal) = terminal else {
        return failed(CallError::Protocol("the stream ended").failure(), String::new(), None);
    };
    let response_id = terminal.response_id.clone().unwrap_or_default();
    let usage = terminal.usage.as_ref().map(usage);
    let error = terminal.error.as_ref();
    if matches!(terminal.status, Ending::Failed | Ending::Cancelled) || error.is_some() {
        let code = error.and_then(|error| error.code.clone()).unwrap_or_default();
        let message = error.and_then(|error| error.message.clone()).unwrap_or_default();
        return failed(crate::failure::told(code, message), response_id, usage);
    }
    response(respond_response::Message::Completed(ResponseCompleted { response_id, usage }))
}

fn failed(failure: Failure, response_id: String, usage: Option<Usage>) -> RespondResponse {
    let failed = ResponseFailed { failure: Some(failure), response_id, usage };
    response(respond_response::Message::Failed(failed))
}

fn usage(usage: &WireUsage) -> Usage {
    Usage {
        input_tokens: usage.input_tokens,
        cached_input_tokens: usage.cached_input_tokens,
        cache_write_input_tokens: usage.cache_write_input_tokens,
        output_tokens: usage.output_tokens,
        reasoning_output_tokens: usage.reasoning_output_tokens,
        total_tokens: usage.total_tokens,
    }
}

fn text<'a>(headers: &'a http::HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn request_id(headers: &http::HeaderMap) -> String {
    ["x-request-id", "x-oai-request-id", "x-amzn-requestid", "cf-ray"]
        .into_iter()
        .find_map(|name| text(headers, name))
        .unwrap_or_default()
        .to_owned()
}

fn rate_limits(headers: &http::HeaderMap) -> Vec<RateLimit> {
    let pairs = headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
    rate_limit::RateLimit::from_headers(pairs)
        .into_iter()
        .map(|limit| RateLimit {
            id: limit.limit_id,
            name: limit.limit_name.unwrap_or_default(),
            primary: limit.primary.map(window),
            secondary: limit.secondary.map(window),
        })
        .collect()
}

fn window(window: rate_limit::Window) -> RateLimitWindow {
    RateLimitWindow {
        used_percent: window.used_percent,
        window_minutes: window.window_minutes.unwrap_or_default(),
        resets_at: window.resets_at.map(|seconds| prost_types::Timestamp { seconds, nanos: 0 }),
    }
}

fn others(headers: &http::HeaderMap) -> Vec<Header> {
    headers::towards_caller(headers)
        .iter()
        .filter(|(name, _)| !matches!(name.as_str(), "content-type" | "content-length" | "content-encoding"))
        .filter_map(|(name, value)| {
            Some(Header { name: name.as_str().to_owned(), value: value.to_str().ok()?.to_owned() })
        })
        .collect()
}
