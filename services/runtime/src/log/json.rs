//! Renders an event as one JSON object a line: time, level, the event's own fields, target, and the span that it stands in.
//!
//! Written without building values first, and into plain text that the event's own buffer gets in one piece: each call has
//! a line, and at the usual formatter's price lines are a good part of what a small call costs.

use std::cell::RefCell;
use std::fmt::{self, Write as _};
use std::time::{SystemTime, UNIX_EPOCH};

use time::UtcDateTime;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{FormatEvent, JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

/// A call's line is shorter than this.
const LINE: usize = 1024;

/// The form of log lines for machines.
pub(super) struct Json;

impl<S> FormatEvent<S, JsonFields> for Json
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        let mut line = String::with_capacity(LINE);
        line.push_str("{\"timestamp\":\"");
        push_time(&mut line, SystemTime::now());
        line.push_str("\",\"level\":\"");
        line.push_str(metadata.level().as_str());
        line.push('"');
        event.record(&mut Fields(&mut line));
        line.push_str(",\"target\":");
        push_quoted(&mut line, metadata.target());
        if let Some(span) = context.lookup_current() {
            let extensions = span.extensions();
            let fields = extensions.get::<FormattedFields<JsonFields>>().map_or("", |fields| fields.as_str());
            // The fields are an object's text already; the span's name becomes one of them.
            let fields = fields.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or_default();
            line.push_str(",\"span\":{");
            if !fields.is_empty() {
                line.push_str(fields);
                line.push(',');
            }
            line.push_str("\"name\":");
            push_quoted(&mut line, span.name());
            line.push('}');
        }
        line.push_str("}\n");
        writer.write_str(&line)
    }
}

/// The time as RFC 3339 has it, to the microsecond. Up to the second it is the same for many lines, so that text is kept.
fn push_time(line: &mut String, now: SystemTime) {
    thread_local! {
        static SECOND: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
    }
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    SECOND.with_borrow_mut(|(second, text)| {
        if text.is_empty() || *second != now.as_secs() {
            *second = now.as_secs();
            *text = second_text(*second);
        }
        line.push_str(text);
    });
    // A leading one keeps the zeros.
    let micros = 1_000_000 + now.subsec_micros();
    line.push('.');
    line.push_str(itoa::Buffer::new().format(micros).get(1..).unwrap_or_default());
    line.push('Z');
}

fn second_text(second: u64) -> String {
    let time = i64::try_from(second).ok().and_then(|second| UtcDateTime::from_unix_timestamp(second).ok());
    let time = time.unwrap_or(UtcDateTime::UNIX_EPOCH);
    let (year, month, day) = (time.year(), u8::from(time.month()), time.day());
    let (hour, minute, second) = time.as_hms();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

/// Writes fields as `,"name":value`.
struct Fields<'a>(&'a mut String);

impl Fields<'_> {
    fn name(&mut self, field: &Field) -> &mut String {
        self.0.push(',');
        push_quoted(self.0, field.name().strip_prefix("r#").unwrap_or(field.name()));
        self.0.push(':');
        self.0
    }

    fn number(&mut self, field: &Field, value: impl itoa::Integer) {
        self.name(field).push_str(itoa::Buffer::new().format(value));
    }
}

impl Visit for Fields<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        let line = self.name(field);
        // JSON has no word for what is not a number. A text takes whatever it is given, so nothing is lost here.
        let _ = if value.is_finite() { write!(line, "{value}") } else { line.write_str("null") };
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.number(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.number(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.name(field).push_str(if value { "true" } else { "false" });
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        push_quoted(self.name(field), value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let line = self.name(field);
        line.push('"');
        // Fails only if the value's own writing does, and then what it has written stands.
        let _ = write!(Escaped(line), "{value:?}");
        line.push('"');
    }
}

fn push_quoted(line: &mut String, text: &str) {
    line.push('"');
    push_escaped(line, text);
    line.push('"');
}

/// Escapes what may not stand in a JSON string.
fn push_escaped(line: &mut String, text: &str) {
    if is_plain(text.as_bytes()) {
        line.push_str(text);
        return;
    }
    let mut rest = text;
    while let Some(at) = rest.bytes().position(is_special) {
        // All of these are one byte long, so both cuts are between characters.
        let (plain, from) = rest.split_at(at);
        let (special, after) = from.split_at(1);
        line.push_str(plain);
        match special {
            "\"" => line.push_str("\\\""),
            "\\" => line.push_str("\\\\"),
            "\n" => line.push_str("\\n"),
            other => {
                let code = other.bytes().next().map_or(0, u32::from);
                let _ = write!(line, "\\u{code:04x}");
            }
        }
        rest = after;
    }
    line.push_str(rest);
}

fn is_special(byte: u8) -> bool {
    matches!(byte, b'"' | b'\\' | 0..0x20)
}

/// Whether nothing needs an escape, told eight bytes at a time: every text of a line is asked.
fn is_plain(text: &[u8]) -> bool {
    let Some(last) = text.last_chunk() else { return !text.iter().copied().any(is_special) };
    let (words, _) = text.as_chunks();
    !words.iter().chain([last]).any(|word| has_special(u64::from_le_bytes(*word)))
}

fn has_special(word: u64) -> bool {
    const EACH: u64 = u64::from_le_bytes([1; 8]);
    const HIGH: u64 = EACH << 7;
    // A byte below the limit borrows from its high bit, which was not set before.
    let any_below = |word: u64, limit: u64| word.wrapping_sub(EACH * limit) & !word & HIGH != 0;
    any_below(word, 0x20)
        || any_below(word ^ (EACH * u64::from(b'"')), 1)
        || any_below(word ^ (EACH * u64::from(b'\\')), 1)
}

struct Escaped<'a>(&'a mut String);

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        push_escaped(self.0, text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::{is_plain, is_special, push_time};

    #[test]
    fn what_needs_an_escape_is_seen_wherever_it_stands() {
        for len in 0..20 {
            let mut text = vec![b'a'; len];
            assert!(is_plain(&text), "{len}");
            for at in 0..len {
                for byte in 0..=u8::MAX {
                    text[at] = byte;
                    assert_eq!(is_plain(&text), !is_special(byte), "{byte} at {at} of {len}");
                }
                // Its neighbors must not be taken for it.
                text[at] = if at % 2 == 0 { 0x80 } else { b'!' };
            }
        }
    }

    #[test]
    fn times_are_those_of_rfc_3339() {
        let time = |micros| {
            let mut line = String::new();
            push_time(&mut line, UNIX_EPOCH + Duration::from_micros(micros));
            line
        };
        assert_eq!(time(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(time(1_709_210_096_000_007), "2024-02-29T12:34:56.000007Z");
        assert_eq!(time(1_709_210_096_999_999), "2024-02-29T12:34:56.999999Z");
        assert_eq!(time(1_709_210_097_000_000), "2024-02-29T12:34:57.000000Z");
        assert_eq!(time(1_709_210_096_123_456), "2024-02-29T12:34:56.123456Z");
    }
}
