//! What a caller says of the thread that its call belongs to, for logs and traces. Decides nothing and is not believed.

use std::{ops::Range, sync::LazyLock};

use http::{HeaderMap, HeaderName};
use memchr::memmem::Finder;
use tidegate_proto::gateway::v1::{Envelope, RequestKind};
use tidegate_responses::headers as names;

/// The longest id that is kept; Codex's own have 36 to 40 bytes.
const ID_BYTES_MAX: usize = 128;

pub(crate) const THREAD: HeaderName = HeaderName::from_static(names::THREAD_ID);
const SESSION: HeaderName = HeaderName::from_static(names::SESSION_ID);
const WINDOW: HeaderName = HeaderName::from_static(names::X_CODEX_WINDOW_ID);
const ORIGINATOR: HeaderName = HeaderName::from_static(names::ORIGINATOR);
const METADATA: HeaderName = HeaderName::from_static(names::X_CODEX_TURN_METADATA);

static TURN: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(r#""turn_id":""#));
static KIND: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(r#""request_kind":""#));

/// The ids of a call, in one piece of memory of their own: a header would keep all that came with it.
#[derive(Debug, Default)]
pub(crate) struct CodexIds {
    text: String,
    /// Where each id ends; it begins where the one before ends.
    ends: [usize; COUNT],
}

const COUNT: usize = 6;

impl CodexIds {
    /// Of the headers that Codex sends.
    pub(crate) fn of_headers(headers: &HeaderMap) -> Self {
        let header =
            |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let metadata = headers.get(METADATA).map(|value| value.as_bytes()).unwrap_or_default();
        Self::new([
            header(THREAD),
            header(SESSION),
            told(metadata, &TURN),
            header(WINDOW),
            header(ORIGINATOR),
            told(metadata, &KIND),
        ])
    }

    /// Of the contract's envelope.
    pub(crate) fn of_envelope(envelope: &Envelope) -> Self {
        let kind = match envelope.request_kind() {
            RequestKind::Unspecified => "",
            RequestKind::Turn => "turn",
            RequestKind::Prewarm => "prewarm",
            RequestKind::Compaction => "compaction",
        };
        let window = &envelope.window_id;
        Self::new([
            &envelope.thread_id,
            &envelope.session_id,
            &envelope.turn_id,
            window,
            &envelope.originator,
            kind,
        ])
    }

    fn new(ids: [&str; COUNT]) -> Self {
        let ids = ids.map(|id| id.get(..id.floor_char_boundary(ID_BYTES_MAX)).unwrap_or_default());
        let mut text = String::with_capacity(ids.iter().map(|id| id.len()).sum());
        let ends = ids.map(|id| {
            text.push_str(id);
            text.len()
        });
        Self { text, ends }
    }

    pub(crate) fn thread(&self) -> Option<&str> {
        self.id(0..self.ends[0])
    }

    pub(crate) fn session(&self) -> Option<&str> {
        self.id(self.ends[0]..self.ends[1])
    }

    pub(crate) fn turn(&self) -> Option<&str> {
        self.id(self.ends[1]..self.ends[2])
    }

    pub(crate) fn window(&self) -> Option<&str> {
        self.id(self.ends[2]..self.ends[3])
    }

    pub(crate) fn originator(&self) -> Option<&str> {
        self.id(self.ends[3]..self.ends[4])
    }

    /// What the call is for: a turn, a prewarm, a compaction.
    pub(crate) fn request_kind(&self) -> Option<&str> {
        self.id(self.ends[4]..self.ends[5])
    }

    fn id(&self, place: Range<usize>) -> Option<&str> {
        self.text.get(place).filter(|id| !id.is_empty())
    }
}

/// The text after a key of Codex's compact metadata. Quotes inside texts are escaped there, so a key is not found in one; a
/// value with escapes is no id.
fn told<'a>(metadata: &'a [u8], key: &Finder<'_>) -> &'a str {
    let value = key.find(metadata).and_then(|at| metadata.get(at + key.needle().len()..));
    let value = value.and_then(|value| {
        let end = memchr::memchr2(b'"', b'\\', value)?;
        value.get(..end).filter(|_| value.get(end) == Some(&b'"'))
    });
    value.and_then(|value| std::str::from_utf8(value).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn all(ids: &CodexIds) -> [Option<&str>; COUNT] {
        [ids.thread(), ids.session(), ids.turn(), ids.window(), ids.originator(), ids.request_kind()]
    }

    #[test]
    fn headers_and_envelope_say_the_same() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("thread-id", "th"),
            ("session-id", "se"),
            ("x-codex-window-id", "th:0"),
            ("originator", "codex_exec"),
            (
                "x-codex-turn-metadata",
                r#"{"root_turn_id":"no","agent_name":"\"turn_id\":\"no\"","turn_id":"tu","request_kind":"turn"}"#,
            ),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let expected = [Some("th"), Some("se"), Some("tu"), Some("th:0"), Some("codex_exec"), Some("turn")];
        assert_eq!(all(&CodexIds::of_headers(&headers)), expected);
        let envelope = Envelope {
            thread_id: "th".to_owned(),
            session_id: "se".to_owned(),
            turn_id: "tu".to_owned(),
            window_id: "th:0".to_owned(),
            originator: "codex_exec".to_owned(),
            request_kind: RequestKind::Turn.into(),
            ..Envelope::default()
        };
        assert_eq!(all(&CodexIds::of_envelope(&envelope)), expected);
    }

    #[test]
    fn what_is_missing_broken_or_long_harms_nothing() {
        assert_eq!(all(&CodexIds::of_headers(&HeaderMap::new())), [None; COUNT]);
        for metadata in
            ["", "{", r#"{"turn_id":"#, r#"{"turn_id":""#, r#"{"turn_id":"open"#, r#"{"turn_id":"a\u0041"}"#]
        {
            assert_eq!(told(metadata.as_bytes(), &TURN), "", "{metadata}");
        }
        let envelope =
            Envelope { thread_id: "é".repeat(100), turn_id: "tu".to_owned(), ..Envelope::default() };
        let ids = CodexIds::of_envelope(&envelope);
        assert_eq!((ids.thread(), ids.turn()), (Some(&*"é".repeat(64)), Some("tu")));
    }
}
