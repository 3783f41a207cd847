//! Makes an event's headers name the model that the caller asked for.
//!
//! Codex compares `openai-model` with the slug that it sent and warns its user of an abused account when they
//! differ, so a gateway that routes a model elsewhere writes the caller's own name there. Codex 0.169.0 was
//! seen to read it from `response.metadata` events, `{"type":"response.metadata","headers":{...}}`; other
//! clients of its source also look at `response.headers` and at the name `x-openai-model`, in any event. All of
//! these are changed. `response.model` is compared by nobody and stays.

use bytes::Bytes;
use memchr::memmem;

use crate::headers::OPENAI_MODEL;
use crate::json::{self, Member, Span, ValueKind};
use crate::splice::Splices;

#[cfg(test)]
mod tests;

/// The same under another name.
const X_OPENAI_MODEL: &str = "x-openai-model";

/// The event's JSON with `slug` as the model in its headers; none when there is nothing to change.
///
/// A value is a string, or an array of strings of which the first counts; an array becomes one of `slug`
/// alone. Values of other types are nobody's model and stay, and so does a text that is not JSON.
pub fn rewrite_model(data: &Bytes, slug: &str) -> Option<Bytes> {
    if memmem::find(data, b"headers").is_none() && memmem::find(data, br"\u").is_none() {
        return None;
    }
    let event = json::document(data).ok()?;
    let mut splices = Splices::new();
    for member in members(data, event) {
        if member.is_named(data, "headers") {
            rewrite_headers(data, member.value, slug, &mut splices);
        } else if member.is_named(data, "response") {
            for member in members(data, member.value).filter(|member| member.is_named(data, "headers")) {
                rewrite_headers(data, member.value, slug, &mut splices);
            }
        }
    }
    (!splices.is_empty()).then(|| splices.apply(data))
}

fn rewrite_headers(data: &[u8], headers: Span, slug: &str, splices: &mut Splices) {
    for header in members(data, headers).filter(|header| names_model(data, header)) {
        match json::kind(data, header.value) {
            Some(ValueKind::String) if !is_slug(data, header.value, slug) => {
                splices.replace(header.value, json::quoted(slug));
            }
            Some(ValueKind::Array) => {
                let mut models = json::elements(data, header.value).map_while(Result::ok);
                if models.any(|model| !is_slug(data, model, slug)) {
                    splices.replace(header.value, format!("[{}]", json::quoted(slug)));
                }
            }
            _ => {}
        }
    }
}

/// The members of a checked value; none when it is no object.
fn members(data: &[u8], value: Span) -> impl Iterator<Item = Member> + '_ {
    json::members(data, value).map_while(Result::ok)
}

fn names_model(data: &[u8], header: &Member) -> bool {
    json::string(data, header.key).is_ok_and(|name| {
        name.eq_ignore_ascii_case(OPENAI_MODEL) || name.eq_ignore_ascii_case(X_OPENAI_MODEL)
    })
}

fn is_slug(data: &[u8], value: Span, slug: &str) -> bool {
    json::string(data, value).is_ok_and(|model| model == slug)
}
