//! What changes in a call between its caller and its provider: the body by splices, the headers by allow-list.
//!
//! The steps do not know of each other: each names spans of the original bytes. After this the bytes are frozen.

use std::collections::BTreeMap;

use bytes::Bytes;
use gateway_providers::{Operation, Upstream};
use http::{HeaderMap, HeaderName, HeaderValue};
use tidegate_proto::gateway::v1::{Envelope, RequestKind};
use tidegate_responses::{
    Request, envelope::TurnMetadata, first_party, headers as names, redact, service_tier,
};

use crate::{
    codex_ids::{CodexIds, THREAD},
    failure::CallError,
    headers,
};

/// Who tells what the call belongs to.
pub(crate) enum Context<'a> {
    /// The caller's own headers, already reduced to those that may pass; its body speaks for itself.
    Headers(HeaderMap),
    /// A typed envelope, which is rendered into headers and body.
    Envelope { envelope: &'a Envelope, turn_state: &'a str },
}

impl Context<'_> {
    /// What the caller says of the thread that the call belongs to.
    pub(crate) fn ids(&self) -> CodexIds {
        match self {
            Self::Headers(headers) => CodexIds::of_headers(headers),
            Self::Envelope { envelope, .. } => CodexIds::of_envelope(envelope),
        }
    }

    /// The thread that the call belongs to; empty if it tells none.
    pub(crate) fn thread(&self) -> String {
        match self {
            Self::Headers(headers) => headers.get(THREAD).and_then(|id| id.to_str().ok()),
            Self::Envelope { envelope, .. } => Some(envelope.thread_id.as_str()),
        }
        .unwrap_or_default()
        .to_owned()
    }
}

/// A call as its provider shall see it.
pub(crate) struct Edited {
    pub(crate) body: Bytes,
    pub(crate) headers: HeaderMap,
    /// The service tier that is asked for.
    pub(crate) tier: Option<String>,
}

/// How a call is to be changed.
pub(crate) struct Rules<'a> {
    pub(crate) operation: Operation,
    /// The model's name at the provider, if it has another one there.
    pub(crate) model: Option<&'a str>,
    pub(crate) default_tier: Option<&'a str>,
    /// The limit that a request gets which names none.
    pub(crate) max_output_tokens: Option<u64>,
    /// Whether local paths are taken out of the metadata.
    pub(crate) redact: bool,
}

/// Agents know the one item that a provider's own compaction leaves, as Codex does.
const COMPACTION_FEATURE: (&str, &str) = (names::X_CODEX_BETA_FEATURES, "remote_compaction_v2");

/// Makes all changes.
pub(crate) fn edit(
    request: &Request,
    context: Context<'_>,
    upstream: &Upstream,
    rules: &Rules<'_>,
) -> Result<Edited, CallError> {
    let redact = rules.redact;
    let mut splices = upstream.edits(request);
    if !upstream.sees_traces() {
        first_party::strip_trace(request, &mut splices);
    }
    if let Some(model) = rules.model {
        splices.set_member(request, "model", tidegate_responses::json::quoted(model));
    }
    let metadata = match &context {
        Context::Headers(_) => TurnMetadata::default(),
        Context::Envelope { envelope, .. } => metadata(envelope),
    };
    let mut tier = None;
    // The schema of a compaction refuses what it does not know, so nothing is inserted there.
    if rules.operation == Operation::Responses {
        metadata.edit_client_metadata(request, redact, &mut splices);
        tier = service_tier::decide(request, rules.default_tier, &mut splices)?;
        if let Some(limit) = rules.max_output_tokens {
            splices.set_member(request, "max_output_tokens", limit.to_string());
        }
    }
    let mut headers = match context {
        Context::Headers(headers) => headers,
        Context::Envelope { envelope, turn_state } => {
            let rendered = metadata.headers(redact);
            let own = [(names::X_CODEX_TURN_STATE, turn_state), ("user-agent", envelope.user_agent.as_str())];
            // What a client asks OpenAI for that understands the one item which a compaction leaves.
            let features = upstream.capabilities().compaction.then_some(COMPACTION_FEATURE);
            let own = own.into_iter().chain(features);
            headers::from_pairs(rendered.iter().map(|(name, value)| (*name, value.as_str())).chain(own))
        }
    };
    if redact {
        redact_header(&mut headers);
    }
    if !upstream.capabilities().first_party {
        headers.remove(const { HeaderName::from_static(names::X_CODEX_ROUTING_HINT) });
    }
    Ok(Edited { body: splices.apply(request.body()), headers, tier })
}

fn metadata(envelope: &Envelope) -> TurnMetadata<'_> {
    let started = envelope.turn_started_at.as_ref();
    let extra: BTreeMap<_, _> =
        envelope.extra.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    TurnMetadata {
        installation_id: &envelope.installation_id,
        session_id: &envelope.session_id,
        thread_id: &envelope.thread_id,
        turn_id: &envelope.turn_id,
        root_turn_id: &envelope.root_turn_id,
        parent_thread_id: &envelope.parent_thread_id,
        forked_from_thread_id: &envelope.forked_from_thread_id,
        window_id: &envelope.window_id,
        window_number: envelope.window_number.into(),
        thread_source: &envelope.thread_source,
        originator: &envelope.originator,
        request_kind: match envelope.request_kind() {
            RequestKind::Unspecified => None,
            RequestKind::Turn => Some("turn"),
            RequestKind::Prewarm => Some("prewarm"),
            RequestKind::Compaction => Some("compaction"),
        },
        turn_started_at_unix_ms: started.map(|at| at.seconds * 1000 + i64::from(at.nanos / 1_000_000)),
        sandbox: &envelope.sandbox,
        extra,
    }
}

/// Takes local paths out of the metadata that a caller sent as a header.
fn redact_header(headers: &mut HeaderMap) {
    const NAME: HeaderName = HeaderName::from_static(names::X_CODEX_TURN_METADATA);
    let Some(value) = headers.get(&NAME) else { return };
    let redacted = match value.to_str() {
        Ok(text) => match redact::workspaces(text) {
            None => return,
            Some(text) => HeaderValue::try_from(tidegate_responses::envelope::header_text(&text)).ok(),
        },
        // What cannot be read cannot be cleaned.
        Err(_) => None,
    };
    match redacted {
        Some(value) => drop(headers.insert(NAME, value)),
        None => drop(headers.remove(NAME)),
    }
}
