//! Removes what only OpenAI's own service is meant to get from a request that goes elsewhere, and what ties a request to its
//! caller's trace.
//!
//! Other providers refuse unknown fields, and what these say about a user is not theirs to know. Only members
//! of the input items themselves are looked at, of items of any type; what stands deeper is content. Item ids
//! stay: a continuation refers to them.

use crate::json::{self, Member, Span};
use crate::request::Request;
use crate::splice::Splices;

#[cfg(test)]
mod tests;

/// Members of an input item.
const ITEM_MEMBERS: [&str; 2] = ["metadata", "internal_chat_message_metadata_passthrough"];

/// Keys of `client_metadata`.
const CLIENT_METADATA_KEYS: [&str; 2] = ["mcp_attribution", "guardian_credits_requested"];

/// Keys of `client_metadata` that say on a socket what a trace's headers say over HTTP.
const TRACE_KEYS: [&str; 2] = ["ws_request_header_traceparent", "ws_request_header_tracestate"];

/// Takes the first-party members out.
pub fn strip(request: &Request, splices: &mut Splices) {
    let body = request.body();
    for item in &request.items().first_party {
        remove(body, *item, &ITEM_MEMBERS, splices);
    }
    if let Some(metadata) = request.client_metadata() {
        remove(body, metadata, &CLIENT_METADATA_KEYS, splices);
    }
}

/// Takes out which trace the request belongs to.
pub fn strip_trace(request: &Request, splices: &mut Splices) {
    if let Some(metadata) = request.client_metadata() {
        remove(request.body(), metadata, &TRACE_KEYS, splices);
    }
}

/// Whether a member of an input item is one of those that go.
pub(crate) fn is_of_item(body: &[u8], member: &Member) -> bool {
    ITEM_MEMBERS.iter().any(|name| member.is_named(body, name))
}

/// Removes every member of these names, also one that stands twice. A value that is no object has none.
fn remove(body: &[u8], object: Span, names: &[&str], splices: &mut Splices) {
    for member in json::members(body, object).map_while(Result::ok) {
        if names.iter().any(|name| member.is_named(body, name)) {
            splices.remove_entry(member.entry());
        }
    }
}
