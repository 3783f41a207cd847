//! Takes local paths out of turn metadata, for a policy that keeps them inside.
//!
//! Keys of `workspaces` and strings that are paths as a whole are replaced; a path inside a longer text is
//! not recognized. Everything else keeps its bytes.

use bytes::Bytes;

use crate::headers::X_CODEX_TURN_METADATA;
use crate::json::{self, Member, Span, ValueKind};
use crate::request::Request;
use crate::splice::Splices;

#[cfg(test)]
mod tests;

/// Its keys are the paths of the workspaces.
const WORKSPACES: &str = "workspaces";

/// Metadata that is longer is not searched. What Codex sends has one or two kilobytes.
pub const METADATA_BYTES_MAX: usize = 256 * 1024;

/// Looks like a path, but names an agent in a tree of agents.
const AGENT_NAME: &str = "agent_name";

/// Stands where a path was.
const REDACTED: &str = r#""redacted""#;

/// The metadata's JSON text without local paths; none when there is nothing to change.
///
/// A text that is not JSON, or longer than [`METADATA_BYTES_MAX`], becomes an empty object: what cannot be
/// searched does not leave.
pub fn workspaces(turn_metadata: &str) -> Option<String> {
    if turn_metadata.len() > METADATA_BYTES_MAX {
        return Some("{}".to_owned());
    }
    let body = Bytes::copy_from_slice(turn_metadata.as_bytes());
    let Ok(whole) = json::document(&body) else { return Some("{}".to_owned()) };
    let mut edits = Edits { body: &body, splices: Splices::new(), keys: 0 };
    if json::kind(&body, whole) == Some(ValueKind::Object) {
        edits.metadata(whole);
    } else {
        edits.value(whole);
    }
    if edits.splices.is_empty() {
        return None;
    }
    let edited = edits.splices.apply(&body);
    Some(String::from_utf8_lossy(&edited).into_owned())
}

/// Does the same inside a request, where the metadata is a string of `client_metadata`.
pub fn redact_request(request: &Request, splices: &mut Splices) {
    let body = request.body();
    let Some(client_metadata) = request.client_metadata() else { return };
    for member in json::members(body, client_metadata).map_while(Result::ok) {
        if !member.is_named(body, X_CODEX_TURN_METADATA) {
            continue;
        }
        match json::string(body, member.value) {
            Ok(text) => {
                if let Some(redacted) = workspaces(&text) {
                    splices.replace(member.value, json::quoted(&redacted));
                }
            }
            // Not the string that it should be, so not to be searched as one.
            Err(_) => splices.replace(member.value, r#""{}""#),
        }
    }
}

struct Edits<'a> {
    body: &'a [u8],
    splices: Splices,
    /// How many keys outside `workspaces` have been replaced.
    keys: usize,
}

impl Edits<'_> {
    fn metadata(&mut self, object: Span) {
        for member in json::members(self.body, object).map_while(Result::ok) {
            if member.is_named(self.body, AGENT_NAME)
                && json::kind(self.body, member.value) == Some(ValueKind::String)
            {
                continue;
            }
            if member.is_named(self.body, WORKSPACES)
                && json::kind(self.body, member.value) == Some(ValueKind::Object)
            {
                self.workspaces(member.value);
            } else {
                self.member(member);
            }
        }
    }

    fn workspaces(&mut self, object: Span) {
        for (index, member) in json::members(self.body, object).map_while(Result::ok).enumerate() {
            let key = format!("\"workspace-{}\"", index + 1);
            if member.key.of(self.body) != key.as_bytes() {
                self.splices.replace(member.key, key);
            }
            self.value(member.value);
        }
    }

    fn member(&mut self, member: Member) {
        if self.is_path(member.key) {
            self.keys += 1;
            self.splices.replace(member.key, format!("\"redacted-{}\"", self.keys));
        }
        self.value(member.value);
    }

    /// Recurses as deep as the scanner allowed, [`json::DEPTH_MAX`]; each level reads its values again.
    fn value(&mut self, value: Span) {
        match json::kind(self.body, value) {
            Some(ValueKind::String) if self.is_path(value) => self.splices.replace(value, REDACTED),
            Some(ValueKind::Object) => {
                for member in json::members(self.body, value).map_while(Result::ok) {
                    self.member(member);
                }
            }
            Some(ValueKind::Array) => {
                for element in json::elements(self.body, value).map_while(Result::ok) {
                    self.value(element);
                }
            }
            _ => {}
        }
    }

    fn is_path(&self, string: Span) -> bool {
        json::string(self.body, string).is_ok_and(|text| is_path(&text))
    }
}

/// Whether a whole string is an absolute path of Unix or Windows, or a URL of one.
fn is_path(text: &str) -> bool {
    let drive = matches!(text.as_bytes(), [letter, b':', b'\\' | b'/', ..] if letter.is_ascii_alphabetic());
    drive || text == "~" || ["/", "~/", r"\\", "file:"].iter().any(|start| text.starts_with(start))
}
