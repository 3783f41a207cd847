//! Renders what is known of a turn into the forms that providers take: the metadata JSON, the flat fields of
//! `client_metadata` and the compatibility headers.
//!
//! One envelope feeds all three, so they cannot disagree. A caller may add keys of its own, never change one
//! that the envelope sets. An empty field is left out everywhere.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::headers::{
    ORIGINATOR, SESSION_ID, THREAD_ID, X_CLIENT_REQUEST_ID, X_CODEX_INSTALLATION_ID,
    X_CODEX_PARENT_THREAD_ID, X_CODEX_ROOT_TURN_ID, X_CODEX_TURN_METADATA, X_CODEX_WINDOW_ID,
};
use crate::json::{self, Member, Span, ValueKind};
use crate::redact;
use crate::request::Request;
use crate::splice::Splices;

#[cfg(test)]
mod tests;

/// Metadata that is longer travels in the body alone: servers refuse requests with large headers.
pub const METADATA_HEADER_BYTES_MAX: usize = 8 * 1024;

/// Keys of the metadata that have a field in [`TurnMetadata`].
const RESERVED: [&str; 13] = [
    "installation_id",
    "session_id",
    "thread_id",
    "turn_id",
    "window_id",
    "window_number",
    "request_kind",
    "root_turn_id",
    "parent_thread_id",
    "forked_from_thread_id",
    "thread_source",
    "sandbox",
    "turn_started_at_unix_ms",
];

/// What is known of the turn that a request belongs to. Empty and none mean unknown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TurnMetadata<'a> {
    /// The installation that the call comes from.
    pub installation_id: &'a str,
    /// Shared by a tree of threads.
    pub session_id: &'a str,
    /// The thread.
    pub thread_id: &'a str,
    /// The turn.
    pub turn_id: &'a str,
    /// The turn that started this tree of work.
    pub root_turn_id: &'a str,
    /// The thread that started this one.
    pub parent_thread_id: &'a str,
    /// The thread that this one was forked from.
    pub forked_from_thread_id: &'a str,
    /// The thread part of the context window's id.
    pub window_id: &'a str,
    /// The window's number; means nothing without [`TurnMetadata::window_id`].
    pub window_number: u64,
    /// Why the thread exists.
    pub thread_source: &'a str,
    /// The client program; goes into its header only.
    pub originator: &'a str,
    /// `turn`, `prewarm` or `compaction`.
    pub request_kind: Option<&'a str>,
    /// When the turn started.
    pub turn_started_at_unix_ms: Option<i64>,
    /// The sandbox in force.
    pub sandbox: &'a str,
    /// Further keys. One that has a field above is ignored here.
    pub extra: BTreeMap<&'a str, &'a str>,
}

impl TurnMetadata<'_> {
    /// Whether nothing is known that the metadata or the body could tell.
    pub fn is_empty(&self) -> bool {
        self.reserved().is_empty() && self.extra().next().is_none()
    }

    /// The compact JSON of `x-codex-turn-metadata`.
    ///
    /// `existing` is the caller's own: its further keys stay as they are, unless `extra` has them too. If it
    /// is not a JSON object it is ignored.
    pub fn turn_metadata(&self, existing: Option<&str>) -> String {
        let mut out = ObjectText::new();
        let reserved = self.reserved();
        for (key, value) in &reserved {
            out.push(json::quoted(key).as_bytes(), value.as_bytes());
        }
        for (key, value) in self.extra() {
            out.push(json::quoted(key).as_bytes(), json::quoted(value).as_bytes());
        }
        if let Some((text, object)) = existing.and_then(object) {
            for member in json::members(text, object).map_while(Result::ok) {
                let key = key_text(text, member.key);
                let ours =
                    reserved.iter().any(|(name, _)| *name == key) || self.extra.contains_key(key.as_ref());
                if !ours {
                    out.push(member.key.of(text), member.value.of(text));
                }
            }
        }
        out.finish()
    }

    /// Makes `client_metadata` hold the flat fields and the metadata string, keeping the caller's other keys
    /// and what its own metadata string has beyond ours.
    ///
    /// Not for unary compaction, whose schema refuses the field.
    /// With `redact` the metadata string loses local paths ([`redact::workspaces`]), also when the envelope
    /// is empty, which otherwise changes nothing.
    pub fn edit_client_metadata(&self, request: &Request, redact: bool, splices: &mut Splices) {
        if self.is_empty() {
            if redact {
                redact::redact_request(request, splices);
            }
            return;
        }
        let body = request.body();
        let object = request.client_metadata().filter(|at| json::kind(body, *at) == Some(ValueKind::Object));
        let members: Vec<Member> = object
            .map(|object| json::members(body, object).map_while(Result::ok).collect())
            .unwrap_or_default();
        let existing = members
            .iter()
            .find(|member| member.is_named(body, X_CODEX_TURN_METADATA))
            .and_then(|member| json::string(body, member.value).ok());
        let fields = self.flat_fields(self.metadata_text(existing.as_deref(), redact));
        let Some(object) = object else {
            let mut text = ObjectText::new();
            for (key, value) in &fields {
                text.push(json::quoted(key).as_bytes(), json::quoted(value).as_bytes());
            }
            splices.set_member(request, "client_metadata", text.finish());
            return;
        };
        for (key, value) in &fields {
            set(body, object, &members, (key, value), splices);
        }
    }

    /// The compatibility headers, all of visible ASCII. With `redact` the metadata has no local paths.
    ///
    /// A value that cannot be a header is left out, and so is metadata beyond
    /// [`METADATA_HEADER_BYTES_MAX`]: headers describe a call, they do not decide it.
    pub fn headers(&self, redact: bool) -> Vec<(&'static str, String)> {
        let metadata =
            if self.is_empty() { String::new() } else { header_text(&self.metadata_text(None, redact)) };
        let window = self.window();
        let mut headers = Vec::with_capacity(8);
        for (name, value) in [
            (X_CODEX_TURN_METADATA, metadata.as_str()),
            (X_CODEX_WINDOW_ID, &window),
            (SESSION_ID, self.session_id),
            (THREAD_ID, self.thread_id),
            (X_CLIENT_REQUEST_ID, self.thread_id),
            (ORIGINATOR, self.originator),
            (X_CODEX_PARENT_THREAD_ID, self.parent_thread_id),
            (X_CODEX_ROOT_TURN_ID, self.root_turn_id),
        ] {
            let visible = value.bytes().all(|byte| matches!(byte, b' '..=b'~'));
            if !value.is_empty() && visible && value.len() <= METADATA_HEADER_BYTES_MAX {
                headers.push((name, value.to_owned()));
            }
        }
        headers
    }

    fn metadata_text(&self, existing: Option<&str>, redact: bool) -> String {
        let text = self.turn_metadata(existing);
        if redact { redact::workspaces(&text).unwrap_or(text) } else { text }
    }

    fn window(&self) -> String {
        if self.window_id.is_empty() {
            return String::new();
        }
        format!("{}:{}", self.window_id, self.window_number)
    }

    /// The keys that are set, with their JSON.
    fn reserved(&self) -> Vec<(&'static str, String)> {
        let window = self.window();
        let number = (!window.is_empty()).then(|| self.window_number.to_string());
        let started = self.turn_started_at_unix_ms.map(|at| at.to_string());
        let text = |text: &str| (!text.is_empty()).then(|| json::quoted(text));
        // In the order of `RESERVED`.
        let values = [
            text(self.installation_id),
            text(self.session_id),
            text(self.thread_id),
            text(self.turn_id),
            text(&window),
            number,
            text(self.request_kind.unwrap_or_default()),
            text(self.root_turn_id),
            text(self.parent_thread_id),
            text(self.forked_from_thread_id),
            text(self.thread_source),
            text(self.sandbox),
            started,
        ];
        RESERVED.into_iter().zip(values).filter_map(|(key, value)| Some((key, value?))).collect()
    }

    fn extra(&self) -> impl Iterator<Item = (&str, &str)> {
        self.extra.iter().map(|(key, value)| (*key, *value)).filter(|(key, _)| !RESERVED.contains(key))
    }

    /// The members of `client_metadata` that are set.
    fn flat_fields(&self, metadata: String) -> Vec<(&'static str, Cow<'_, str>)> {
        let mut fields = vec![
            (X_CODEX_INSTALLATION_ID, Cow::Borrowed(self.installation_id)),
            ("session_id", Cow::Borrowed(self.session_id)),
            ("thread_id", Cow::Borrowed(self.thread_id)),
            ("turn_id", Cow::Borrowed(self.turn_id)),
            ("root_turn_id", Cow::Borrowed(self.root_turn_id)),
            (X_CODEX_WINDOW_ID, Cow::Owned(self.window())),
            (X_CODEX_TURN_METADATA, Cow::Owned(metadata)),
        ];
        fields.retain(|(_, value)| !value.is_empty());
        fields
    }
}

/// JSON as a header's value: what is not visible ASCII is escaped, which means the same to a JSON reader.
pub fn header_text(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for character in json.chars() {
        match character {
            ' '..='~' => out.push(character),
            // Valid JSON has these between values only.
            '\n' | '\r' | '\t' => out.push(' '),
            _ => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    out
}

/// Gives a member of an object this text; of several with its name one is left.
fn set(body: &[u8], object: Span, members: &[Member], field: (&str, &str), splices: &mut Splices) {
    let (key, value) = field;
    let mut found = members.iter().filter(|member| member.is_named(body, key));
    match found.next() {
        None => splices.insert_into(body, object, key, json::quoted(value)),
        Some(first) if json::string(body, first.value).is_ok_and(|text| text == value) => {}
        Some(first) => splices.replace(first.value, json::quoted(value)),
    }
    for again in found {
        splices.remove_entry(again.entry());
    }
}

/// The object that a text is, if it is one.
fn object(text: &str) -> Option<(&[u8], Span)> {
    let bytes = text.as_bytes();
    let whole = json::document(bytes).ok()?;
    (json::kind(bytes, whole) == Some(ValueKind::Object)).then_some((bytes, whole))
}

/// A key's text; one that names no text (an unpaired surrogate) is none of ours, so its raw form will do.
fn key_text(bytes: &[u8], key: Span) -> Cow<'_, str> {
    json::string(bytes, key).unwrap_or_else(|_| String::from_utf8_lossy(key.of(bytes)))
}

/// A compact object in the making.
struct ObjectText(Vec<u8>);

impl ObjectText {
    fn new() -> ObjectText {
        ObjectText(vec![b'{'])
    }

    /// Adds a member, both parts as JSON.
    fn push(&mut self, key: &[u8], value: &[u8]) {
        if self.0.len() > 1 {
            self.0.push(b',');
        }
        self.0.extend_from_slice(key);
        self.0.push(b':');
        self.0.extend_from_slice(value);
    }

    fn finish(mut self) -> String {
        self.0.push(b'}');
        String::from_utf8_lossy(&self.0).into_owned()
    }
}
