//! Removes what only OpenAI's own service is meant to get from a request that goes elsewhere.
//!
//! Other providers refuse unknown fields, and what these say about a user is not theirs to know. Only members
//! of the input items themselves are looked at, of items of any type; what stands deeper is content. Item ids
//! stay: a continuation refers to them.

use memchr::memmem;

use crate::json::{self, Span, ValueKind};
use crate::request::Request;
use crate::splice::Splices;

#[cfg(test)]
mod tests;

/// Members of an input item.
const ITEM_MEMBERS: [&str; 2] = ["metadata", "internal_chat_message_metadata_passthrough"];

/// What each of [`ITEM_MEMBERS`] contains.
const ITEM_MARK: &[u8] = b"metadata";

/// Keys of `client_metadata`.
const CLIENT_METADATA_KEYS: [&str; 2] = ["mcp_attribution", "guardian_credits_requested"];

/// Takes the first-party members out. An input that has none costs two searches and is not walked.
pub fn strip(request: &Request, splices: &mut Splices) {
    let body = request.body();
    if let Some(input) = request.member("input")
        && json::kind(body, input) == Some(ValueKind::Array)
        && may_name_a_member(input.of(body))
    {
        for item in json::elements(body, input).map_while(Result::ok) {
            remove(body, item, &ITEM_MEMBERS, splices);
        }
    }
    if let Some(metadata) = request.client_metadata() {
        remove(body, metadata, &CLIENT_METADATA_KEYS, splices);
    }
}

/// A letter of a key can only be spelled in another way with a `\u` escape.
fn may_name_a_member(input: &[u8]) -> bool {
    memmem::find(input, ITEM_MARK).is_some() || memmem::find(input, br"\u").is_some()
}

/// Removes every member of these names, also one that stands twice. A value that is no object has none.
fn remove(body: &[u8], object: Span, names: &[&str], splices: &mut Splices) {
    for member in json::members(body, object).map_while(Result::ok) {
        if names.iter().any(|name| member.is_named(body, name)) {
            splices.remove_entry(member.entry());
        }
    }
}
