//! `POST /v1/responses`, `/v1/responses/compact` and `/v1/responses/input_tokens`: hands the call to the pipeline and the provider's answer to the caller.

use std::time::Duration;

use gateway_providers::{Operation, Repeats};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use tidegate_responses::retry_after;

use super::{SURFACE, body::ResponseBody, error, hear_out, read_body::Arriving};
use crate::{
    document::Document,
    edit::Context,
    failure::{CallError, UPSTREAM_BODY_BYTES_MAX, retry_delay},
    headers, origin,
    pipeline::{Answered, Inbound, Opened, Pipeline},
    relay::Relay,
    settle::Outcome,
    trace::Trace,
};

const EVENT_STREAM: &[u8] = b"text/event-stream";

const CALL_ID: HeaderName = HeaderName::from_static("x-tidegate-call-id");
const PROVIDER: HeaderName = HeaderName::from_static("x-tidegate-provider");
const MODEL: HeaderName = HeaderName::from_static("x-tidegate-model");
const ACCOUNT: HeaderName = HeaderName::from_static("x-tidegate-account");
const SERVICE_TIER: HeaderName = HeaderName::from_static("x-tidegate-service-tier");

/// Answers a Responses call, a compaction or a count of tokens.
pub(crate) async fn create(
    pipeline: &Pipeline,
    operation: Operation,
    request: Request<Incoming>,
) -> Response<ResponseBody> {
    let (head, mut body) = request.into_parts();
    let generation = pipeline.present.generation();
    let (number, body_timeout) = (generation.number, generation.limits.body_timeout());
    let inbound = Inbound {
        generation,
        surface: SURFACE,
        operation,
        presented: origin::presented(&head.headers, &head.extensions),
        trace: Trace::Of(&head.headers),
        context: Context::Headers(headers::towards_provider(&head.headers)),
        provider_hint: None,
        // Codex and the SDKs repeat by themselves.
        repeats: Repeats::Once,
        deadline: None,
    };
    let arriving =
        Arriving { headers: &head.headers, body: &mut body, timeout: body_timeout, spares: &pipeline.spares };
    let response = match pipeline.open(inbound, arriving).await {
        // Apart, so that whoever is slow with its body does not hold the room for what comes after it.
        Ok(opened) => {
            drop(body);
            Box::pin(forward(pipeline, opened, headers::attestation(&head.headers))).await
        }
        Err(error) => {
            hear_out(&head.headers, &mut body).await;
            Err(error)
        }
    };
    response.unwrap_or_else(|error| error::response(&error, number))
}

async fn forward(
    pipeline: &Pipeline,
    opened: Box<Opened>,
    attestation: Option<HeaderValue>,
) -> Result<Response<ResponseBody>, CallError> {
    let answered = pipeline.send(opened, attestation, None).await?;
    Ok(relayed(answered).await)
}

async fn relayed(answered: Answered) -> Response<ResponseBody> {
    let status = answered.answer.status;
    let stream = status.is_success() && is_event_stream(&answered.answer.headers);
    let mut headers = headers::towards_caller(&answered.answer.headers, answered.reroute.as_deref());
    describe(&answered, &mut headers);
    let body = if stream {
        // A stream that breaks is ended with an event of ours, so its length is not the provider's to tell.
        headers.remove(header::CONTENT_LENGTH);
        ResponseBody::stream(Relay::new(answered))
    } else if status == StatusCode::TOO_MANY_REQUESTS {
        // Apart, so that the calls that succeed do not carry the room for this one.
        Box::pin(too_many(answered, &mut headers)).await
    } else {
        let Answered { answer, settlement, permit, .. } = answered;
        ResponseBody::document(Document::new(answer.body, settlement, permit, !status.is_success()))
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// A refusal for want of capacity. Codex comes back only if it is told when, in whole seconds, so a delay that the provider
/// gave in any other form is written that way too.
async fn too_many(answered: Answered, headers: &mut HeaderMap) -> ResponseBody {
    let Answered { answer, mut settlement, permit, .. } = answered;
    let told = |headers: &HeaderMap| headers.get(header::RETRY_AFTER)?.to_str().ok()?.parse::<u64>().ok();
    let length =
        answer.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if told(headers).is_none() {
        let delay = retry_delay(&answer.headers, &[]);
        // A body of unknown or great length is nobody's error text.
        if delay.is_none() && length.is_some_and(|length: usize| length <= UPSTREAM_BODY_BYTES_MAX) {
            settlement.settle(Outcome::Refused);
            let body = answer.body.collect(UPSTREAM_BODY_BYTES_MAX).await.unwrap_or_default();
            set_retry_after(headers, retry_delay(&answer.headers, &body));
            headers.remove(header::CONTENT_LENGTH);
            return ResponseBody::full(body);
        }
        set_retry_after(headers, delay);
    }
    ResponseBody::document(Document::new(answer.body, settlement, permit, true))
}

fn set_retry_after(headers: &mut HeaderMap, delay: Option<Duration>) {
    if let Some(delay) = delay {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(retry_after::header_value(delay)));
    }
}

/// What the gateway itself knows of the call.
fn describe(answered: &Answered, answer: &mut HeaderMap) {
    let settlement = &answered.settlement;
    answer.insert(headers::GENERATION, settlement.generation().into());
    let mut buffer = uuid::Uuid::encode_buffer();
    let texts = [
        (CALL_ID, &*settlement.id().as_hyphenated().encode_lower(&mut buffer)),
        (PROVIDER, settlement.provider()),
        (MODEL, settlement.model()),
        (ACCOUNT, answered.account.name()),
        (SERVICE_TIER, answered.tier.as_deref().unwrap_or_default()),
    ];
    for (name, text) in texts {
        if let Ok(value) = HeaderValue::from_str(text)
            && !text.is_empty()
        {
            answer.insert(name, value);
        }
    }
}

/// Whether an answer is a stream of events.
pub(super) fn is_event_stream(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.as_bytes().get(..EVENT_STREAM.len()))
        .is_some_and(|value| value.eq_ignore_ascii_case(EVENT_STREAM))
}
