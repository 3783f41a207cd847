//! What the access log and the spans tell of a call. Never what was said in it.

use std::time::Duration;

use gateway_providers::Operation;
use tidegate_responses::Usage;

use super::{Outcome, Settlement, short};
use crate::{conventions as names, trace::Attributes};

impl Settlement {
    pub(super) fn log(
        &self,
        outcome: Outcome,
        error: Option<&'static str>,
        duration: Duration,
        usage: Option<&Usage>,
    ) {
        let (facts, phases) = (&self.facts, &self.phases);
        tracing::info!(
            target: "tidegate::access",
            call = %self.id,
            tenant = &*facts.principal.tenant,
            subject = short(&facts.principal.subject),
            generation = facts.generation,
            surface = facts.surface,
            operation = operation(facts.to.operation),
            provider = facts.to.provider,
            model = short(&facts.to.model),
            thread = facts.ids.thread(),
            session = facts.ids.session(),
            turn = facts.ids.turn(),
            window = facts.ids.window(),
            originator = facts.ids.originator(),
            request_kind = facts.ids.request_kind(),
            status = self.status,
            attempts = self.attempts,
            outcome = outcome.name(),
            error,
            response = self.response_id().map(short),
            upstream_request = self.upstream_request.as_deref(),
            request_bytes = facts.request_bytes,
            response_bytes = self.response_bytes,
            duration_ms = millis(duration),
            overhead_us = phases.overhead.map(micros),
            auth_ms = phases.auth.map(millis),
            queue_ms = phases.queue.map(millis),
            body_ms = phases.body.map(millis),
            credential_ms = phases.credential.map(millis),
            connect_ms = phases.connect.map(millis),
            first_byte_ms = phases.first_byte.map(millis),
            first_chunk_ms = phases.first_chunk.map(millis),
            stream_ms = phases.stream().map(millis),
            input_tokens = usage.map(|usage| usage.input_tokens),
            cached_input_tokens = usage.map(|usage| usage.cached_input_tokens),
            cache_write_input_tokens = usage.map(|usage| usage.cache_write_input_tokens),
            output_tokens = usage.map(|usage| usage.output_tokens),
            reasoning_output_tokens = usage.map(|usage| usage.reasoning_output_tokens),
            "call ended"
        );
    }

    /// What the span of the call tells, and what that of the provider's work tells.
    pub(super) fn attributes(&self, outcome: Outcome, usage: Option<&Usage>) -> (Attributes, Attributes) {
        let (facts, terminal) = (&self.facts, self.terminal.as_ref());
        let (mut call, mut client) = (Attributes::default(), Attributes::default());
        for span in [&mut call, &mut client] {
            span.text(names::OPERATION, Some(names::operation(facts.to.operation)));
            span.text(names::PROVIDER_NAME, Some(names::provider_name(&facts.to.provider)));
            span.text(names::REQUEST_MODEL, Some(short(&facts.to.model)));
            span.text(names::CONVERSATION, facts.ids.thread());
            span.text(names::PROVIDER, Some(&facts.to.provider));
            span.count(names::ATTEMPTS, self.attempts.into());
            span.add(names::STATUS, (self.status > 0).then(|| i64::from(self.status)));
        }
        call.add(names::CALL, Some(self.id.to_string()));
        call.text(names::TENANT, Some(&facts.principal.tenant));
        call.text(names::SUBJECT, Some(short(&facts.principal.subject)));
        call.count(names::GENERATION, facts.generation);
        call.add(names::SURFACE, Some(facts.surface));
        call.add(names::OUTCOME, Some(outcome.name()));
        call.text(names::SESSION, facts.ids.session());
        call.text(names::TURN, facts.ids.turn());
        call.text(names::WINDOW, facts.ids.window());
        call.text(names::ORIGINATOR, facts.ids.originator());
        call.text(names::REQUEST_KIND, facts.ids.request_kind());
        call.count(names::REQUEST_BYTES, facts.request_bytes.try_into().unwrap_or(u64::MAX));
        call.count(names::RESPONSE_BYTES, self.response_bytes.try_into().unwrap_or(u64::MAX));
        call.add(names::OVERHEAD, self.phases.overhead.map(|took| took.as_secs_f64()));
        for (name, took) in names::PHASES.iter().zip(self.phases.named()) {
            call.add(name, took.1.map(|took| took.as_secs_f64()));
        }
        client.text(names::UPSTREAM_REQUEST, self.upstream_request.as_deref());
        client.add(names::RESPONSE_FIRST_CHUNK, self.phases.first_chunk.map(|took| took.as_secs_f64()));
        client.text(names::RESPONSE_ID, self.response_id().map(short));
        if let Some(terminal) = terminal {
            client.text(names::RESPONSE_MODEL, terminal.model.as_deref().map(short));
            client.text(names::SERVICE_TIER, terminal.service_tier.as_deref().map(short));
        }
        if let Some(usage) = usage {
            client.count(names::INPUT_TOKENS, usage.input_tokens);
            client.count(names::OUTPUT_TOKENS, usage.output_tokens);
            client.count(names::CACHE_READ_TOKENS, usage.cached_input_tokens);
            client.count(names::CACHE_CREATION_TOKENS, usage.cache_write_input_tokens);
            client.count(names::REASONING_TOKENS, usage.reasoning_output_tokens);
        }
        (call, client)
    }
}

fn operation(operation: Operation) -> &'static str {
    match operation {
        Operation::Responses => "responses",
        Operation::Compact => "compact",
        Operation::InputTokens => "input_tokens",
        Operation::Models => "models",
    }
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
