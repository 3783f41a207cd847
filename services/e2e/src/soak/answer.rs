//! What a caller was told, on either surface, and how the answer ended.

use bytes::Bytes;
use tidegate_responses::{Framer, Terminal, event::Status};

use super::caller::Head;

/// No event of a scenario is larger.
const EVENT_BYTES_MAX: usize = 4 << 20;

/// How an answer ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// With the event that says so.
    Completed,
    /// With a typed failure inside the stream; this is its reason.
    Failed(String),
    /// Before the stream began, with a typed failure.
    Refused { status: String, reason: String, retry: bool },
    /// In no way that a caller can act upon.
    Silent(String),
}

/// A whole answer.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) end: End,
    /// What the gateway says of the answer, by the names of its headers.
    pub(super) fields: Vec<(String, String)>,
    /// The body of an HTTP answer as it came.
    pub(super) body: Vec<u8>,
    /// The events, by type.
    pub(super) events: Vec<(String, Bytes)>,
}

impl Told {
    pub(super) fn silent(why: impl Into<String>) -> Self {
        Self { end: End::Silent(why.into()), fields: Vec::new(), body: Vec::new(), events: Vec::new() }
    }

    /// What the gateway says of the answer.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    /// The events of a stream.
    pub(super) fn events_of(stream: &[u8]) -> Vec<(String, Bytes)> {
        events(stream)
    }

    /// The same answer without the last words of the gateway's own.
    pub(super) fn without_failure(&self) -> &[u8] {
        const FAILED: &[u8] = b"event: response.failed";
        let at = self.body.windows(FAILED.len()).position(|bytes| bytes == FAILED);
        at.and_then(|at| self.body.get(..at)).unwrap_or(&self.body)
    }

    /// An HTTP answer whose body came so far; `ending` says how it went on.
    pub(super) fn over_http(head: Head, body: Vec<u8>, ending: anyhow::Result<()>) -> Self {
        let Head { status, fields } = head;
        let events = events(&body);
        let end = match ending {
            Err(why) => End::Silent(format!("{why:#}")),
            Ok(()) if status == 200 => ending_of(&events),
            Ok(()) => {
                let error: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
                let reason = error.pointer("/error/code").and_then(|code| code.as_str()).unwrap_or_default();
                let retry = fields.iter().any(|(name, value)| name == "retry-after" && !value.is_empty());
                End::Refused { status: status.to_string(), reason: reason.to_owned(), retry }
            }
        };
        Self { end, fields, body, events }
    }
}

fn events(body: &[u8]) -> Vec<(String, Bytes)> {
    let mut framer = Framer::new(EVENT_BYTES_MAX);
    let mut body = body.to_vec();
    // A last event may come without its blank line.
    body.extend_from_slice(b"\n\n");
    let Ok(blocks) = framer.push(body.into()) else { return Vec::new() };
    let mut events = Vec::new();
    for block in blocks {
        for frame in block.frames() {
            if let Some(kind) = frame.kind_str().filter(|_| !frame.data().is_empty()) {
                events.push((kind.into_owned(), frame.data()));
            }
        }
    }
    events
}

/// How a stream ended that came whole by the rules of HTTP.
fn ending_of(events: &[(String, Bytes)]) -> End {
    let Some((kind, data)) = events.last() else { return End::Silent("no event came".to_owned()) };
    let frame = tidegate_responses::sse::encode(kind, data);
    let kind_of = |bytes: Bytes| {
        let block = Framer::new(EVENT_BYTES_MAX).push(bytes).ok()?.into_iter().next()?;
        block.frames().next().map(|frame| frame.kind())
    };
    let kind_of_last = kind_of(frame);
    let terminal =
        kind_of_last.filter(|kind| kind.is_terminal()).and_then(|kind| Terminal::parse(kind, data).ok());
    match terminal {
        None => End::Silent(format!("the last event is {kind}")),
        Some(terminal) if matches!(terminal.status, Status::Completed) => End::Completed,
        Some(terminal) => End::Failed(terminal.error.and_then(|error| error.code).unwrap_or_default()),
    }
}
