//! Reads the fields of one frame from its raw bytes.
//!
//! Nothing is parsed before it is asked for, and JSON is only scanned as far as the `type` key.

use std::borrow::Cow;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use memchr::memchr2;

use super::kind::{self, Kind};
use crate::json::{self, Span};

const BOM: &[u8] = b"\xef\xbb\xbf";

/// One complete frame, its blank line included. Its `Debug` form shows no content.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    raw: Bytes,
    /// Where the lines start: after a byte order mark, which only a stream's first frame can have.
    lines_at: usize,
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Frame").field("kind", &self.kind()).field("bytes", &self.raw.len()).finish()
    }
}

impl Frame {
    pub(super) fn new(raw: Bytes, starts_stream: bool) -> Frame {
        let lines_at = if starts_stream && raw.starts_with(BOM) { BOM.len() } else { 0 };
        Frame { raw, lines_at }
    }

    /// The bytes as they came.
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// The value of the (last) `event` field.
    pub fn event(&self) -> Option<&[u8]> {
        let last = self.fields().filter(|field| field.name == b"event").last()?;
        self.raw.get(last.value)
    }

    /// What the frame carries: a slice when it has one `data` field, the lines joined with LF when it has
    /// several, empty when it has none.
    pub fn data(&self) -> Bytes {
        let mut lines = self.data_lines();
        let Some(first) = lines.next() else { return Bytes::new() };
        let Some(second) = lines.next() else { return self.raw.slice(first) };
        let mut joined = BytesMut::from(self.raw.get(first).unwrap_or_default());
        for line in std::iter::once(second).chain(lines) {
            joined.extend_from_slice(b"\n");
            joined.extend_from_slice(self.raw.get(line).unwrap_or_default());
        }
        joined.freeze()
    }

    /// What the frame says. The JSON `type` in its data counts; the `event` field only where there is none.
    pub fn kind(&self) -> Kind {
        let Some(first) = self.data_lines().next() else { return Kind::Comment };
        let first = self.raw.get(first).unwrap_or_default();
        if let Some(name) = kind::leading_type(first) {
            return Kind::from_name(name);
        }
        match &self.typed() {
            Typed::Named(name) => Kind::from_name(name.as_bytes()),
            Typed::Done => Kind::Done,
            Typed::Unnamed => Kind::Other,
        }
    }

    /// The type's name as text: the JSON `type`, else the `event` field; none when neither is there.
    pub fn kind_str(&self) -> Option<Cow<'_, str>> {
        let first = self.data_lines().next()?;
        let first = self.raw.get(first).unwrap_or_default();
        if let Some(name) = kind::leading_type(first).and_then(|name| std::str::from_utf8(name).ok()) {
            return Some(Cow::Borrowed(name));
        }
        match self.typed() {
            Typed::Named(name) => Some(Cow::Owned(name)),
            Typed::Done | Typed::Unnamed => None,
        }
    }

    /// The slow way to the type: any position of the key, escapes, several data lines.
    fn typed(&self) -> Typed {
        let data = self.data();
        if data.trim_ascii() == b"[DONE]" {
            return Typed::Done;
        }
        let start = json::skip_whitespace(&data, 0);
        let object = Span { start, end: data.len() };
        if let Some(name) =
            json::member(&data, object, "type").and_then(|value| json::string(&data, value).ok())
        {
            return Typed::Named(name.into_owned());
        }
        match self.event().and_then(|name| std::str::from_utf8(name).ok()) {
            Some(name) if !name.is_empty() => Typed::Named(name.to_owned()),
            _ => Typed::Unnamed,
        }
    }

    fn data_lines(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        self.fields().filter(|field| field.name == b"data").map(|field| field.value)
    }

    fn fields(&self) -> Fields<'_> {
        Fields { raw: &self.raw, at: self.lines_at }
    }
}

enum Typed {
    Named(String),
    Done,
    Unnamed,
}

struct Field<'a> {
    name: &'a [u8],
    value: Range<usize>,
}

/// The lines of a frame that are fields; comments are left out.
struct Fields<'a> {
    raw: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        loop {
            let start = self.at;
            let rest = self.raw.get(start..)?;
            if rest.is_empty() {
                return None;
            }
            let length = memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
            // The LF of a CRLF is then met as an empty line, which is no field.
            self.at = start + length + 1;
            let line = rest.get(..length)?;
            let colon = memchr::memchr(b':', line);
            let name = line.get(..colon.unwrap_or(length))?;
            if name.is_empty() {
                continue;
            }
            let value = colon.map_or(length, |colon| colon + 1);
            let space = usize::from(line.get(value) == Some(&b' '));
            return Some(Field { name, value: start + value + space..start + length });
        }
    }
}
