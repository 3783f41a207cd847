//! Finds where JSON values start and end in a byte slice, without building them.
//!
//! The whole of RFC 8259's grammar is checked, with a bound on nesting; duplicate keys and unpaired surrogate
//! escapes are grammar-valid and pass. The scanner works on bytes and does not check UTF-8: a caller that has
//! not yet done so uses [`check_utf8`]. Never recurses, so nesting cannot exhaust the stack.

use std::borrow::Cow;
use std::ops::Range;

mod block;
mod grammar;

use self::grammar::skip_string;
pub(crate) use self::grammar::{skip_value, skip_value_below, skip_whitespace};

#[cfg(test)]
pub(crate) mod tests;

/// Arrays and objects may be nested this deep.
pub const DEPTH_MAX: u32 = 128;

/// A half-open range of byte offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// Offset of the first byte.
    pub start: usize,
    /// Offset after the last byte.
    pub end: usize,
}

impl Span {
    /// A span from `start` up to `end`.
    pub fn new(start: usize, end: usize) -> Span {
        Span { start, end }
    }

    /// The same as a standard range.
    pub fn range(self) -> Range<usize> {
        self.start..self.end
    }

    /// How many bytes it covers.
    pub fn len(self) -> usize {
        self.end.saturating_sub(self.start)
    }

    /// Whether it covers no byte.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The bytes it covers; empty when it does not lie inside `bytes`.
    pub fn of(self, bytes: &[u8]) -> &[u8] {
        bytes.get(self.range()).unwrap_or_default()
    }

    /// Whether every byte of `other` is also covered by this span.
    pub fn contains(self, other: Span) -> bool {
        self.start <= other.start && other.end <= self.end
    }
}

/// Why bytes are not JSON that we read. The sender's fault; sending the same bytes again cannot help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A byte sequence is not UTF-8.
    #[error("not utf-8 at byte {offset}")]
    NotUtf8 {
        /// Where the first invalid sequence starts.
        offset: usize,
    },
    /// The grammar asks for something else here.
    #[error("invalid json at byte {offset}, expected {expected}")]
    Syntax {
        /// Where the unexpected byte (or the end) is.
        offset: usize,
        /// What the grammar allows there.
        expected: &'static str,
    },
    /// Nesting goes beyond [`DEPTH_MAX`].
    #[error("json nested too deep at byte {offset}")]
    TooDeep {
        /// Where the array or object that is too deep starts.
        offset: usize,
    },
}

/// What a value is, told by its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueKind {
    /// `{...}`
    Object,
    /// `[...]`
    Array,
    /// `"..."`
    String,
    /// A number.
    Number,
    /// `true` or `false`
    Bool,
    /// `null`
    Null,
}

/// The kind of the value at a span that the scanner returned.
pub fn kind(bytes: &[u8], value: Span) -> Option<ValueKind> {
    match value.of(bytes).first()? {
        b'{' => Some(ValueKind::Object),
        b'[' => Some(ValueKind::Array),
        b'"' => Some(ValueKind::String),
        b't' | b'f' => Some(ValueKind::Bool),
        b'n' => Some(ValueKind::Null),
        b'-' | b'0'..=b'9' => Some(ValueKind::Number),
        _ => None,
    }
}

/// Checks that all bytes are UTF-8.
pub fn check_utf8(bytes: &[u8]) -> Result<(), Error> {
    std::str::from_utf8(bytes).map(drop).map_err(|error| Error::NotUtf8 { offset: error.valid_up_to() })
}

/// Checks one complete JSON text (UTF-8, grammar, nothing after it) and returns the span of its value.
pub fn document(bytes: &[u8]) -> Result<Span, Error> {
    whole(bytes, |start| skip_value(bytes, start))
}

/// Checks like [`document`]; the value itself is checked by `read`, which returns the offset after it.
pub(crate) fn whole(bytes: &[u8], read: impl FnOnce(usize) -> Result<usize, Error>) -> Result<Span, Error> {
    check_utf8(bytes)?;
    let start = skip_whitespace(bytes, 0);
    let end = read(start)?;
    end_of_text(bytes, end)?;
    Ok(Span { start, end })
}

/// Fails unless only whitespace follows `at`.
pub(crate) fn end_of_text(bytes: &[u8], at: usize) -> Result<(), Error> {
    let rest = skip_whitespace(bytes, at);
    if rest < bytes.len() { syntax(rest, "the end of the text") } else { Ok(()) }
}

/// The text of the string at `value`, unescaped; borrowed when it has no escapes.
///
/// Fails for anything but a string, and for escapes that name no character (an unpaired surrogate).
pub fn string(bytes: &[u8], value: Span) -> Result<Cow<'_, str>, Error> {
    let raw = value.of(bytes);
    let Some(inner) = raw.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")) else {
        return syntax(value.start, "a string");
    };
    if memchr::memchr(b'\\', inner).is_none() {
        return match std::str::from_utf8(inner) {
            Ok(text) => Ok(Cow::Borrowed(text)),
            Err(error) => Err(Error::NotUtf8 { offset: value.start + 1 + error.valid_up_to() }),
        };
    }
    match serde_json::from_slice(raw) {
        Ok(text) => Ok(Cow::Owned(text)),
        Err(_) => syntax(value.start, "a string whose escapes name characters"),
    }
}

/// A text as a JSON string, quotes included.
pub fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// One `"key": value` of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// The key with its quotes.
    pub key: Span,
    /// The value.
    pub value: Span,
}

impl Member {
    /// From the key's first quote to the end of the value: what [`crate::Splices::remove_entry`] takes.
    pub fn entry(&self) -> Span {
        Span { start: self.key.start, end: self.value.end }
    }

    /// Whether the key, unescaped, is `name`.
    pub fn is_named(&self, bytes: &[u8], name: &str) -> bool {
        let raw = self.key.of(bytes);
        let inner = raw.get(1..raw.len().saturating_sub(1)).unwrap_or_default();
        if inner == name.as_bytes() {
            return true;
        }
        // Escapes only make a key longer.
        inner.len() > name.len()
            && memchr::memchr(b'\\', inner).is_some()
            && string(bytes, self.key).is_ok_and(|key| key == name)
    }
}

/// Walks the members of the object at `object`, in order. After an error the walk is over.
pub fn members(bytes: &[u8], object: Span) -> Members<'_> {
    members_below(bytes, object, 1)
}

/// Like [`members`], for an object that is the `depth`th of the containers around its values.
pub(crate) fn members_below(bytes: &[u8], object: Span, depth: u32) -> Members<'_> {
    Members { walk: Walk::new(bytes, object, b'{'), depth }
}

/// Walks the elements of the array at `array`, in order. After an error the walk is over.
pub fn elements(bytes: &[u8], array: Span) -> Elements<'_> {
    Elements { walk: Walk::new(bytes, array, b'[') }
}

/// Checks the value at `at`, which stands inside `outer` containers, and returns the offset after it. If it is an object,
/// `read` gets the name and the place of each member's value, and checks that in turn.
pub(crate) fn each_member(
    bytes: &[u8],
    at: usize,
    outer: u32,
    mut read: impl FnMut(&[u8], usize) -> Result<usize, Error>,
) -> Result<usize, Error> {
    if bytes.get(at) != Some(&b'{') {
        return skip_value_below(bytes, at, outer);
    }
    let mut walk = members_below(bytes, Span { start: at, end: bytes.len() }, outer + 1);
    while let Some((key, value)) = walk.start()? {
        let end = read(&name(bytes, key), value)?;
        walk.go_on(end);
    }
    Ok(walk.end())
}

/// A key, unescaped; as it stands when its escapes name no character, because then it is no name of ours.
fn name(bytes: &[u8], key: Span) -> Cow<'_, [u8]> {
    let raw = key.of(bytes);
    let inner = raw.get(1..raw.len().saturating_sub(1)).unwrap_or_default();
    if !inner.contains(&b'\\') {
        return Cow::Borrowed(inner);
    }
    string(bytes, key).map_or(Cow::Borrowed(inner), |key| Cow::Owned(key.into_owned().into_bytes()))
}

/// The value of the first member of the object at `object` that is called `name`.
pub fn member(bytes: &[u8], object: Span, name: &str) -> Option<Span> {
    members(bytes, object)
        .map_while(Result::ok)
        .find(|member| member.is_named(bytes, name))
        .map(|member| member.value)
}

/// Iterator over an object's members; see [`members`].
#[derive(Debug)]
pub struct Members<'a> {
    walk: Walk<'a>,
    depth: u32,
}

/// Iterator over an array's elements; see [`elements`].
#[derive(Debug)]
pub struct Elements<'a> {
    walk: Walk<'a>,
}

impl Members<'_> {
    /// The offset after the closing brace, once the walk has come to it.
    pub(crate) fn end(&self) -> usize {
        self.walk.at
    }

    /// The next member's key and where its value starts, for one who looks into the value and then tells where it ended
    /// ([`Members::go_on`]).
    pub(crate) fn start(&mut self) -> Result<Option<(Span, usize)>, Error> {
        let Some(at) = self.walk.entry(b'}')? else { return Ok(None) };
        let bytes = self.walk.bytes;
        if bytes.get(at) != Some(&b'"') {
            return syntax(at, "a key");
        }
        let key = Span { start: at, end: skip_string(bytes, at)? };
        let colon = skip_whitespace(bytes, key.end);
        if bytes.get(colon) != Some(&b':') {
            return syntax(colon, "a colon");
        }
        Ok(Some((key, skip_whitespace(bytes, colon + 1))))
    }

    pub(crate) fn go_on(&mut self, end: usize) {
        self.walk.at = end;
    }

    fn read(&mut self) -> Result<Option<Member>, Error> {
        let Some((key, start)) = self.start()? else { return Ok(None) };
        let value = Span { start, end: skip_value_below(self.walk.bytes, start, self.depth)? };
        self.go_on(value.end);
        Ok(Some(Member { key, value }))
    }
}

impl Iterator for Members<'_> {
    type Item = Result<Member, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let read = self.read();
        self.walk.finish_on_error(&read);
        read.transpose()
    }
}

impl Elements<'_> {
    /// The offset after the closing bracket, once the walk has come to it.
    pub(crate) fn end(&self) -> usize {
        self.walk.at
    }

    /// Where the next element starts, for one who looks into it and then tells where it ended ([`Elements::go_on`]).
    pub(crate) fn start(&mut self) -> Result<Option<usize>, Error> {
        self.walk.entry(b']')
    }

    pub(crate) fn go_on(&mut self, end: usize) {
        self.walk.at = end;
    }

    fn read(&mut self) -> Result<Option<Span>, Error> {
        let Some(start) = self.start()? else { return Ok(None) };
        let end = skip_value_below(self.walk.bytes, start, 1)?;
        self.go_on(end);
        Ok(Some(Span { start, end }))
    }
}

impl Iterator for Elements<'_> {
    type Item = Result<Span, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let read = self.read();
        self.walk.finish_on_error(&read);
        read.transpose()
    }
}

/// What walking an array and walking an object have in common: brackets and commas.
#[derive(Debug)]
struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
    open: u8,
    state: WalkState,
}

#[derive(Debug, PartialEq, Eq)]
enum WalkState {
    Before,
    Inside,
    Over,
}

impl<'a> Walk<'a> {
    fn new(bytes: &'a [u8], container: Span, open: u8) -> Walk<'a> {
        let bytes = bytes.get(..container.end).unwrap_or(bytes);
        Walk { bytes, at: container.start, open, state: WalkState::Before }
    }

    /// Offset of the next entry's first byte, or none at the closing bracket.
    fn entry(&mut self, close: u8) -> Result<Option<usize>, Error> {
        let first = match self.state {
            WalkState::Over => return Ok(None),
            WalkState::Before => {
                if self.bytes.get(self.at) != Some(&self.open) {
                    return syntax(self.at, if self.open == b'{' { "an object" } else { "an array" });
                }
                self.state = WalkState::Inside;
                true
            }
            WalkState::Inside => false,
        };
        // The byte at `self.at` is the opening bracket the first time, else the one after an entry.
        let at = skip_whitespace(self.bytes, if first { self.at + 1 } else { self.at });
        match self.bytes.get(at) {
            Some(byte) if *byte == close => {
                self.state = WalkState::Over;
                self.at = at + 1;
                Ok(None)
            }
            Some(b',') if !first => Ok(Some(skip_whitespace(self.bytes, at + 1))),
            _ if first => Ok(Some(at)),
            _ => syntax(at, "a comma or a closing bracket"),
        }
    }

    fn finish_on_error<T>(&mut self, read: &Result<T, Error>) {
        if read.is_err() {
            self.state = WalkState::Over;
        }
    }
}

fn syntax<T>(offset: usize, expected: &'static str) -> Result<T, Error> {
    Err(Error::Syntax { offset, expected })
}
