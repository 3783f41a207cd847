//! Reads the few request fields that rules need, as spans into the original bytes.
//!
//! A scanned request is known to be UTF-8, to follow the JSON grammar and to be an object in which no key
//! stands twice, so no two readers can understand it differently. It is never re-serialized; to change one,
//! see [`crate::splice`]. What the fields mean, and which are required, is the caller's business.

use std::borrow::Cow;
use std::collections::HashSet;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::json::{self, Member, Span, ValueKind};
use crate::lookalike::{Likeness, compare};

mod items;
#[cfg(test)]
mod tests;

pub(crate) use self::items::Items;

const INPUT: &str = "input";
/// Members kept without an allocation; a Codex request has about fifteen.
const MEMBERS_INLINE: usize = 24;

/// Why a body is not a request. Always the caller's fault; the same bytes fail again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A byte sequence is not UTF-8.
    #[error("request is not utf-8 at byte {offset}")]
    NotUtf8 {
        /// Where the first invalid sequence starts.
        offset: usize,
    },
    /// The JSON grammar asks for something else here.
    #[error("request is not valid json at byte {offset}, expected {expected}")]
    Syntax {
        /// Where the unexpected byte (or the end) is.
        offset: usize,
        /// What the grammar allows there.
        expected: &'static str,
    },
    /// Nesting goes beyond [`json::DEPTH_MAX`].
    #[error("request is nested too deep at byte {offset}")]
    TooDeep {
        /// Where the array or object that is too deep starts.
        offset: usize,
    },
    /// The body is JSON, but not an object.
    #[error("request is not a json object")]
    NotAnObject,
    /// A top-level key stands twice, so readers could disagree about its value.
    #[error("request has the field {field} twice")]
    DuplicateField {
        /// The key.
        field: String,
    },
    /// A field has a value of another type.
    #[error("request field {field} is not {expected}")]
    WrongType {
        /// The key.
        field: &'static str,
        /// What it must be.
        expected: &'static str,
    },
}

impl From<json::Error> for Error {
    fn from(error: json::Error) -> Error {
        match error {
            json::Error::NotUtf8 { offset } => Error::NotUtf8 { offset },
            json::Error::Syntax { offset, expected } => Error::Syntax { offset, expected },
            json::Error::TooDeep { offset } => Error::TooDeep { offset },
        }
    }
}

/// One request body and where its top-level members are.
///
/// Its `Debug` form tells sizes only, because a body is a user's content.
#[derive(Clone)]
pub struct Request {
    body: Bytes,
    object: Span,
    members: SmallVec<[Member; MEMBERS_INLINE]>,
    items: Items,
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request")
            .field("bytes", &self.body.len())
            .field("members", &self.members.len())
            .finish()
    }
}

impl Request {
    /// Checks a whole body and notes its top-level members. Reads every byte once or twice, copies none.
    pub fn scan(body: Bytes) -> Result<Request, Error> {
        json::check_utf8(&body)?;
        let start = json::skip_whitespace(&body, 0);
        if body.get(start) != Some(&b'{') {
            // Broken JSON is told as such; only a proper text of another kind is "not an object".
            json::document(&body)?;
            return Err(Error::NotAnObject);
        }
        let mut walk = json::members(&body, Span { start, end: body.len() });
        let mut members = SmallVec::<[Member; MEMBERS_INLINE]>::new();
        let mut items = Items::default();
        while let Some((key, start)) = walk.start()? {
            let mut member = Member { key, value: Span { start, end: start } };
            member.value.end = match body.get(start) {
                Some(b'[') if member.is_named(&body, INPUT) => items.scan(&body, start)?,
                _ => json::skip_value_below(&body, start, 1)?,
            };
            walk.go_on(member.value.end);
            members.push(member);
        }
        let end = walk.end();
        json::end_of_text(&body, end)?;
        refuse_duplicates(&body, &members)?;
        Ok(Request { object: Span { start, end }, members, items, body })
    }

    /// What was noted of the items of `input`.
    pub(crate) fn items(&self) -> &Items {
        &self.items
    }

    /// The body exactly as it came.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The span of the top-level object, braces included.
    pub fn object(&self) -> Span {
        self.object
    }

    /// The top-level members in their order.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The top-level member called `key`, with the place of its key.
    pub fn entry(&self, key: &str) -> Option<Member> {
        self.members.iter().find(|member| member.is_named(&self.body, key)).copied()
    }

    /// The span of the value of the top-level member called `key`.
    pub fn member(&self, key: &str) -> Option<Span> {
        self.entry(key).map(|member| member.value)
    }

    /// The raw JSON of the top-level member called `key`.
    pub fn raw(&self, key: &str) -> Option<&[u8]> {
        self.member(key).map(|value| value.of(&self.body))
    }

    /// The model that is asked for.
    pub fn model(&self) -> Result<Option<Cow<'_, str>>, Error> {
        self.string("model")
    }

    /// Whether the answer is to be a stream; a missing or null field means no.
    pub fn stream(&self) -> Result<bool, Error> {
        match self.raw("stream") {
            None | Some(b"null" | b"false") => Ok(false),
            Some(b"true") => Ok(true),
            Some(_) => Err(Error::WrongType { field: "stream", expected: "a boolean" }),
        }
    }

    /// The response that this request continues.
    pub fn previous_response_id(&self) -> Result<Option<Cow<'_, str>>, Error> {
        self.string("previous_response_id")
    }

    /// The service tier that is asked for.
    pub fn service_tier(&self) -> Result<Option<Cow<'_, str>>, Error> {
        self.string("service_tier")
    }

    /// How many tokens the answer may have; none when the field is missing or null.
    pub fn max_output_tokens(&self) -> Result<Option<u64>, Error> {
        let field = "max_output_tokens";
        match self.raw(field) {
            None | Some(b"null") => Ok(None),
            // Other spellings of a number are not read alike by everybody.
            Some(digits) => match std::str::from_utf8(digits).map(str::parse) {
                Ok(Ok(tokens)) => Ok(Some(tokens)),
                _ => Err(Error::WrongType { field, expected: "a whole number" }),
            },
        }
    }

    /// The first of `names` (in lower case) that a top-level key equals only for readers that ignore case.
    pub fn lookalike(&self, names: &[&'static str]) -> Option<&'static str> {
        let alike = |name: &str| {
            self.members.iter().any(|member| compare(&self.body, member, name) == Likeness::Alike)
        };
        names.iter().copied().find(|name| alike(name))
    }

    /// Where the client's metadata is.
    pub fn client_metadata(&self) -> Option<Span> {
        self.member("client_metadata")
    }

    /// The text of a top-level string member; none when it is missing or null.
    pub fn string(&self, field: &'static str) -> Result<Option<Cow<'_, str>>, Error> {
        let Some(value) = self.member(field) else { return Ok(None) };
        match json::kind(&self.body, value) {
            Some(ValueKind::Null) => Ok(None),
            Some(ValueKind::String) => Ok(Some(json::string(&self.body, value)?)),
            _ => Err(Error::WrongType { field, expected: "a string" }),
        }
    }
}

fn refuse_duplicates(body: &[u8], members: &[Member]) -> Result<(), Error> {
    // A key that names no text (an unpaired surrogate) can only be equal to itself, byte for byte.
    let name = |member: &Member| {
        json::string(body, member.key).unwrap_or_else(|_| String::from_utf8_lossy(member.key.of(body)))
    };
    let names: SmallVec<[Cow<'_, str>; MEMBERS_INLINE]> = members.iter().map(name).collect();
    let twice = if names.spilled() {
        let mut seen = HashSet::with_capacity(names.len());
        names.iter().find(|name| !seen.insert(*name))
    } else {
        // As few as requests have are compared faster than hashed.
        names
            .iter()
            .enumerate()
            .find(|(at, name)| names.iter().take(*at).any(|other| other == *name))
            .map(|(_, name)| name)
    };
    match twice {
        Some(name) => Err(Error::DuplicateField { field: name.to_string() }),
        None => Ok(()),
    }
}
