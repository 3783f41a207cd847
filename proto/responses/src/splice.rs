//! Collects edits to a JSON text and applies them in one copy, leaving every other byte as it was.
//!
//! Edits name spans of the original text, so rules can be written without knowing of each other. When two
//! meet, the outer one wins, and of two on the same span the later one. Commas are settled when the edits are
//! applied, from what is left: removing neighbors, or all members, or removing and inserting, gives valid JSON.
//! The text itself must be valid JSON, and spans must come from its scan.

use bytes::{BufMut, Bytes, BytesMut};

use crate::json::{self, Span};
use crate::request::Request;

#[cfg(test)]
mod tests;

/// Edits to one JSON text.
#[derive(Clone, Default)]
pub struct Splices {
    edits: Vec<Edit>,
}

impl std::fmt::Debug for Splices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Splices").field("edits", &self.edits.len()).finish()
    }
}

#[derive(Clone)]
struct Edit {
    span: Span,
    change: Change,
}

#[derive(Clone)]
enum Change {
    /// Other bytes instead.
    Replace(Bytes),
    /// A member or an element goes, and a comma with it.
    RemoveEntry,
    /// A member is added at the end of the object whose last non-blank byte is before the (empty) span.
    Insert { key: String, value: Bytes },
}

impl Splices {
    /// No edits yet.
    pub fn new() -> Splices {
        Splices::default()
    }

    /// Whether applying would change nothing.
    pub fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }

    /// Puts `bytes` where `span` is. The result must again be JSON: this is for whole values.
    pub fn replace(&mut self, span: Span, bytes: impl Into<Bytes>) {
        self.put(Edit { span, change: Change::Replace(bytes.into()) });
    }

    /// Takes out one entry of any object or array: a member from key to value ([`json::Member::entry`]), or
    /// an array's element.
    pub fn remove_entry(&mut self, entry: Span) {
        self.put(Edit { span: entry, change: Change::RemoveEntry });
    }

    /// Takes out a top-level member, if it is there; also one that these edits have inserted.
    pub fn remove_member(&mut self, request: &Request, key: &str) {
        let at = insertion_point(request.body(), request.object());
        self.edits.retain(|edit| !edit.inserts(at, key));
        if let Some(member) = request.entry(key) {
            self.remove_entry(member.entry());
        }
    }

    /// Adds a top-level member at the end, unless one of that name is there; tells whether it did.
    pub fn insert_member(&mut self, request: &Request, key: &str, raw_json: impl Into<Bytes>) -> bool {
        let (body, object) = (request.body(), request.object());
        let pending = insertion_point(body, object);
        let kept = request.entry(key).is_some_and(|member| !self.removes(member.entry()));
        if kept || self.edits.iter().any(|edit| edit.inserts(pending, key)) {
            return false;
        }
        self.insert_into(body, object, key, raw_json);
        true
    }

    /// Makes a top-level member have this value, whether it is there or not.
    pub fn set_member(&mut self, request: &Request, key: &str, raw_json: impl Into<Bytes>) {
        match request.entry(key) {
            Some(member) => {
                let pending = insertion_point(request.body(), request.object());
                self.edits.retain(|edit| edit.span != member.entry() && !edit.inserts(pending, key));
                self.replace(member.value, raw_json);
            }
            None => self.insert_into(request.body(), request.object(), key, raw_json),
        }
    }

    /// Adds a member at the end of any object of the text; the key must not be in it. A second insert of the
    /// same key replaces the first.
    pub fn insert_into(&mut self, body: &[u8], object: Span, key: &str, raw_json: impl Into<Bytes>) {
        let value = raw_json.into();
        debug_assert!(json::document(&value).is_ok(), "an inserted value is JSON");
        let at = insertion_point(body, object);
        self.edits.retain(|edit| !edit.inserts(at, key));
        let change = Change::Insert { key: key.to_owned(), value };
        self.put(Edit { span: Span { start: at, end: at }, change });
    }

    fn removes(&self, entry: Span) -> bool {
        self.edits.iter().any(|edit| matches!(edit.change, Change::RemoveEntry) && edit.span.contains(entry))
    }

    /// Keeps the edits ordered by place, and only the outermost of those that meet.
    fn put(&mut self, new: Edit) {
        let hides = |outer: &Edit, inner: &Edit| {
            !matches!(outer.change, Change::Insert { .. })
                && outer.span.contains(inner.span)
                // An insert at the very end of a span stands behind it, not in it.
                && !(inner.span.is_empty() && inner.span.start == outer.span.end)
        };
        // What is kept is ordered and not nested, so only a neighbor can hide the new edit, and what it hides
        // stands together: rules may make as many edits as a request has items.
        let order = |edit: &Edit| (edit.span.start, edit.span.end);
        let place = self.edits.partition_point(|old| order(old) <= order(&new));
        let neighbors = place.checked_sub(1).into_iter().chain([place]);
        let hidden =
            neighbors.filter_map(|at| self.edits.get(at)).any(|old| old.span != new.span && hides(old, &new));
        if hidden {
            return;
        }
        let from = self.edits.partition_point(|old| old.span.start < new.span.start);
        let within = self.edits.iter().skip(from).take_while(|old| hides(&new, old)).count();
        self.edits.drain(from..from + within);
        let place = self.edits.partition_point(|old| order(old) <= order(&new));
        self.edits.insert(place, new);
    }

    /// The text with all edits made; the same bytes, not a copy, when there are none.
    pub fn apply(&self, body: &Bytes) -> Bytes {
        if self.edits.is_empty() {
            return body.clone();
        }
        let added: usize = self.edits.iter().map(Edit::added_len).sum();
        let mut out = BytesMut::with_capacity(body.len() + added);
        let mut writer = Writer { body, out: &mut out, at: 0 };
        let mut rest = self.edits.as_slice();
        while let Some((edit, tail)) = rest.split_first() {
            rest = match &edit.change {
                Change::Replace(bytes) => {
                    writer.copy_up_to(edit.span.start);
                    writer.out.put_slice(bytes);
                    writer.at = writer.at.max(edit.span.end);
                    tail
                }
                Change::RemoveEntry => {
                    let (run, tail) = removal_run(body, edit.span, tail);
                    writer.remove(run);
                    tail
                }
                Change::Insert { key, value } => {
                    writer.insert(edit.span.start, key, value);
                    tail
                }
            };
        }
        writer.copy_up_to(body.len());
        out.freeze()
    }
}

impl Edit {
    fn inserts(&self, at: usize, name: &str) -> bool {
        matches!(&self.change, Change::Insert { key, .. } if key == name && self.span.start == at)
    }

    fn added_len(&self) -> usize {
        match &self.change {
            Change::Replace(bytes) => bytes.len(),
            Change::RemoveEntry => 0,
            // Quotes, colon and comma; escapes in a key are rare and may cost a reallocation.
            Change::Insert { key, value } => key.len() + value.len() + 4,
        }
    }
}

/// After the last byte of an object that is neither blank nor its closing brace.
fn insertion_point(body: &[u8], object: Span) -> usize {
    before_blanks(body, object.end.saturating_sub(1))
}

/// The offset after the last non-blank byte before `at`.
fn before_blanks(body: &[u8], at: usize) -> usize {
    let head = body.get(..at).unwrap_or_default();
    head.iter().rposition(|byte| !matches!(byte, b' ' | b'\n' | b'\r' | b'\t')).map_or(0, |last| last + 1)
}

/// Joins removals of neighboring entries into one span, and returns the edits after them.
fn removal_run<'a>(body: &[u8], first: Span, mut edits: &'a [Edit]) -> (Span, &'a [Edit]) {
    let mut run = first;
    while let Some((next, tail)) = edits.split_first() {
        let comma = json::skip_whitespace(body, run.end);
        let adjacent =
            body.get(comma) == Some(&b',') && json::skip_whitespace(body, comma + 1) == next.span.start;
        if !adjacent || !matches!(next.change, Change::RemoveEntry) {
            break;
        }
        run.end = next.span.end;
        edits = tail;
    }
    (run, edits)
}

struct Writer<'a> {
    body: &'a [u8],
    out: &'a mut BytesMut,
    /// Everything before this offset is written or dropped.
    at: usize,
}

impl Writer<'_> {
    fn copy_up_to(&mut self, offset: usize) {
        self.out.put_slice(self.body.get(self.at..offset).unwrap_or_default());
        self.at = self.at.max(offset);
    }

    /// Drops a run of entries, with the comma before it, or else the one after it.
    fn remove(&mut self, run: Span) {
        let comma = before_blanks(self.body, run.start).saturating_sub(1);
        if self.body.get(comma) == Some(&b',') {
            self.copy_up_to(comma);
            self.at = run.end;
            return;
        }
        self.copy_up_to(run.start);
        let after = json::skip_whitespace(self.body, run.end);
        let comma = self.body.get(after) == Some(&b',');
        self.at = if comma { json::skip_whitespace(self.body, after + 1) } else { run.end };
    }

    /// Writes a member at the end of an object, with a comma if an entry is left before it. What is written
    /// so far tells: removals before this place are already done.
    fn insert(&mut self, place: usize, key: &str, value: &[u8]) {
        self.copy_up_to(place);
        let written = before_blanks(self.out, self.out.len());
        if self.out.get(written.wrapping_sub(1)) != Some(&b'{') {
            self.out.put_u8(b',');
        }
        self.out.put_slice(json::quoted(key).as_bytes());
        self.out.put_u8(b':');
        self.out.put_slice(value);
    }
}
