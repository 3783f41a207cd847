//! What a caller is told, in the contract's messages.

use std::collections::VecDeque;

use bytes::Bytes;
use tidegate_proto::gateway::v1::{
    DocumentChunk, Failure, Header, RateLimit, RateLimitBucket, RateLimitWindow, RespondResponse,
    ResponseCompleted, ResponseEvent, ResponseFailed, ResponseHead, Usage, respond_response,
};
use tidegate_responses::{Block, Terminal, Usage as WireUsage, event::Status as Ending, rate_limit};

use crate::{failure::CallError, grpc::models::account_kind, headers, pipeline::Answered};

/// The largest part of a document in one message.
const CHUNK_BYTES_MAX: usize = 1024 * 1024;

/// The head of an accepted call. `continues` if its thread has a socket that remembers the response.
pub(super) fn head(answered: &Answered, continues: bool) -> ResponseHead {
    let (headers, settlement) = (&answered.answer.headers, &answered.settlement);
    ResponseHead {
        provider: settlement.provider().to_owned(),
        status: answered.answer.status.as_u16().into(),
        request_id: request_id(headers),
        call_id: settlement.id().to_string(),
        model: settlement.model().to_owned(),
        turn_state: text(headers, "x-codex-turn-state").unwrap_or_default().to_owned(),
        rate_limits: rate_limits(&answered.limits),
        headers: others(headers, answered.reroute.as_deref()),
        service_tier: answered.tier.clone().unwrap_or_default(),
        account_kind: account_kind(answered.account).into(),
        continues,
        generation: settlement.generation(),
    }
}

/// The events of a block.
pub(super) fn events(block: &Block, out: &mut VecDeque<RespondResponse>) {
    for frame in block.frames() {
        let data = frame.data();
        // Comments keep a connection alive and say nothing; `[DONE]` is no JSON.
        if let Some(kind) = frame.kind_str().map(|kind| kind.into_owned())
            && !data.is_empty()
        {
            let event = ResponseEvent { r#type: kind, data };
            out.push_back(response(respond_response::Message::Event(event)));
        }
    }
}

/// A part of a document, in messages of bounded size.
pub(super) fn document(mut data: Bytes, out: &mut VecDeque<RespondResponse>) {
    while !data.is_empty() {
        let data = data.split_to(data.len().min(CHUNK_BYTES_MAX));
        out.push_back(response(respond_response::Message::DocumentChunk(DocumentChunk { data })));
    }
}

/// How a document that has passed whole is told.
pub(super) fn whole(terminal: Option<&Terminal>, generation: u64) -> RespondResponse {
    match terminal {
        Some(_) => ending(terminal, generation),
        None => response(respond_response::Message::Completed(ResponseCompleted::default())),
    }
}

pub(super) fn response(message: respond_response::Message) -> RespondResponse {
    RespondResponse { message: Some(message) }
}

/// How a stream that reached its terminal event is told.
pub(super) fn ending(terminal: Option<&Terminal>, generation: u64) -> RespondResponse {
    let Some(terminal) = terminal else {
        return failed(CallError::Protocol("the stream ended").failure(), "", generation);
    };
    let response_id = terminal.response_id.clone().unwrap_or_default();
    let usage = terminal.usage.as_ref().map(usage);
    let error = terminal.error.as_ref();
    if matches!(terminal.status, Ending::Failed | Ending::Cancelled) || error.is_some() {
        let code = error.and_then(|error| error.code.clone()).unwrap_or_default();
        let message = error.and_then(|error| error.message.clone()).unwrap_or_default();
        let failure = Some(crate::failure::told(code, message));
        let failed = ResponseFailed { failure, response_id, usage, generation };
        return response(respond_response::Message::Failed(failed));
    }
    response(respond_response::Message::Completed(ResponseCompleted { response_id, usage }))
}

/// A response that failed for a reason of the gateway's own; its id is empty if the provider has told none.
pub(super) fn failed(failure: Failure, response_id: &str, generation: u64) -> RespondResponse {
    let (failure, response_id) = (Some(failure), response_id.to_owned());
    let failed = ResponseFailed { failure, response_id, usage: None, generation };
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

pub(super) fn request_id(headers: &http::HeaderMap) -> String {
    headers::request_id(headers).unwrap_or_default().to_owned()
}

/// Usage limits in the contract's words.
pub(in crate::grpc) fn rate_limits(limits: &[rate_limit::RateLimit]) -> Vec<RateLimit> {
    let limit = |limit: &rate_limit::RateLimit| RateLimit {
        id: limit.limit_id.clone(),
        name: limit.limit_name.clone().unwrap_or_default(),
        primary: limit.primary.map(window),
        secondary: limit.secondary.map(window),
        reached_type: limit.reached_type.clone().unwrap_or_default(),
        bucket: limit.bucket.map(bucket),
    };
    limits.iter().map(limit).collect()
}

fn bucket(bucket: rate_limit::Bucket) -> RateLimitBucket {
    let rate_limit::Bucket { limit, remaining, reset_after } = bucket;
    RateLimitBucket { limit, remaining, reset_after: reset_after.and_then(|after| after.try_into().ok()) }
}

fn window(window: rate_limit::Window) -> RateLimitWindow {
    RateLimitWindow {
        used_percent: window.used_percent,
        window_minutes: window.window_minutes.unwrap_or_default(),
        resets_at: window.resets_at.map(|seconds| prost_types::Timestamp { seconds, nanos: 0 }),
    }
}

fn others(headers: &http::HeaderMap, reroute: Option<&str>) -> Vec<Header> {
    headers::towards_caller(headers, reroute)
        .iter()
        .filter(|(name, _)| !matches!(name.as_str(), "content-type" | "content-length" | "content-encoding"))
        .filter_map(|(name, value)| {
            Some(Header { name: name.as_str().to_owned(), value: value.to_str().ok()?.to_owned() })
        })
        .collect()
}
