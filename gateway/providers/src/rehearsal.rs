//! A scripted model that needs no network and no account.
//!
//! Answers with real Responses streams, made up from the request alone and the same each time but for their ids, so that a fresh
//! machine has something to talk to and people can try how their clients behave, also when things go wrong.

mod ask;
mod models;
mod plan;
mod render;
mod sample;
mod stage;
mod words;

use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use tidegate_responses::{ErrorBody, Request, Splices};

pub(crate) use models::{models, serves};
pub(crate) use stage::Performance;

use crate::body::Body;
use crate::config::ModelFacts;
use crate::provider::{Capabilities, Endpoint, Operation, Provider};
use crate::upstream::{Answer, Call, Timing};
use ask::Ask;
use plan::{Plan, Refusal};
use render::Identity;

/// The id of the built-in provider.
pub(crate) const ID: &str = "rehearsal";

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The provider's facts.
pub(crate) struct Rehearsal;

impl Provider for Rehearsal {
    fn id(&self) -> &str {
        ID
    }

    fn display_name(&self) -> &str {
        "Rehearsal"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { websockets: false, continuation: false, compaction: false, first_party: false }
    }

    fn endpoint(&self, _: Operation, _: &str) -> Option<Endpoint> {
        None
    }

    fn edits(&self, _: &Request) -> Splices {
        Splices::new()
    }

    fn model_facts(&self, _: &str) -> Option<ModelFacts> {
        None
    }
}

/// Answers a call. Reads nothing but the call, the wall clock for `created_at`, and dice for its ids.
pub(crate) fn answer(call: &Call) -> Answer {
    let identity = Identity::of(&call.body);
    let ask = match Ask::read(&call.body) {
        Ok(ask) => ask,
        Err(message) => return refuse(&identity, &Refusal::bad_request(&message)),
    };
    match Plan::of(&ask, identity.seed()) {
        Err(refusal) => refuse(&identity, &refusal),
        Ok(plan) => {
            let performance = Performance::new(plan, ask, identity.clone(), call.stream);
            let kind = if call.stream { "text/event-stream" } else { "application/json" };
            respond(StatusCode::OK, headers(&identity, kind), performance)
        }
    }
}

fn refuse(identity: &Identity, refusal: &Refusal) -> Answer {
    let error = ErrorBody {
        message: refusal.message.clone(),
        kind: Some(refusal.kind.to_owned()),
        code: refusal.code.map(str::to_owned),
        param: None,
    };
    let mut headers = headers(identity, "application/json");
    if let Some(seconds) = refusal.retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    respond(refusal.status, headers, Performance::only(error.to_bytes()))
}

fn respond(status: StatusCode, headers: HeaderMap, performance: Performance) -> Answer {
    let body = Body::rehearsal(performance);
    Answer { status, headers, body, attempts: 1, timing: Timing::default() }
}

fn headers(identity: &Identity, kind: &'static str) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(4);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    if let Ok(id) = HeaderValue::try_from(identity.id("req")) {
        headers.insert(REQUEST_ID, id);
    }
    headers
}
