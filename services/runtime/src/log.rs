//! Log lines on standard error, as text for people or JSON for machines.
//!
//! Standard output belongs to the stdio transport and is never written. Lines go through a bounded queue to a
//! thread of their own, so a stalled reader of standard error loses lines (and is told how many) but never holds
//! up a request.

mod json;
mod writer;

use std::io::{self, IsTerminal as _};

use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use tracing::Subscriber;
use tracing_subscriber::filter::{EnvFilter, LevelFilter};
use tracing_subscriber::fmt::format::JsonFields;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, fmt};

pub(crate) use writer::Flush;

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Text when standard error is a terminal, JSON otherwise.
    #[default]
    Auto,
    /// One line of text for people.
    Human,
    /// One JSON object a line.
    Json,
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// How log lines look.
    pub format: Format,
    /// A level (`error`, `warn`, `info`, `debug`, `trace`) or a list of `target=level` filters.
    #[serde(deserialize_with = "filter_text")]
    pub level: String,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { format: Format::Auto, level: "info".to_owned() }
    }
}

/// The layer of log lines.
type Lines<S> = Box<dyn Layer<S> + Send + Sync>;

/// A filter that cannot be parsed.
#[derive(Debug, thiserror::Error)]
#[error(
    "there is no level or filter {filter:?}; write error, warn, info, debug, trace or off, or target=level pairs"
)]
pub struct FilterError {
    filter: String,
}

/// Parses a filter strictly: a typing error must not silence the log.
pub(crate) fn filter(text: &str) -> Result<EnvFilter, FilterError> {
    let refused = |filter: &str| FilterError { filter: filter.to_owned() };
    let words = || text.split(',').map(str::trim).filter(|word| !word.is_empty());
    let is_level = |word: &str| word.parse::<LevelFilter>().is_ok();
    // Any other word alone is a target. Without a level for all the rest it is more likely a level that there is not.
    if let Some(word) = words().find(|word| !word.contains(['=', '[']) && !is_level(word))
        && !words().any(is_level)
    {
        return Err(refused(word));
    }
    EnvFilter::builder().parse(text).map_err(|_| refused(text))
}

/// A filter's text, so that a wrong one is told with its key and place.
pub(crate) fn filter_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    filter(&text).map_err(D::Error::custom)?;
    Ok(text)
}

impl LogConfig {
    /// The layer that writes the lines, and the handle that flushes them at the end.
    pub(crate) fn layer<S>(&self) -> Result<(Lines<S>, Flush), FilterError>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        let sink = std::io::stderr();
        let terminal = sink.is_terminal();
        self.layer_to(sink, terminal)
    }

    fn layer_to<S>(
        &self,
        sink: impl io::Write + Send + 'static,
        terminal: bool,
    ) -> Result<(Lines<S>, Flush), FilterError>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        let filter = filter(&self.level)?;
        let (writer, flush) = writer::start(sink);
        let json = match self.format {
            Format::Auto => !terminal,
            Format::Human => false,
            Format::Json => true,
        };
        let layer = fmt::layer().with_writer(writer);
        let layer = if json {
            layer.fmt_fields(JsonFields::new()).event_format(json::Json).with_filter(filter).boxed()
        } else {
            layer.with_ansi(terminal).with_filter(filter).boxed()
        };
        Ok((layer, flush))
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::{Format, LogConfig, filter};

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: Format, terminal: bool) -> String {
        written(format, terminal, || {
            let _span = tracing::info_span!("turn", thread = "t1").entered();
            tracing::info!(port = 4100, "listening");
            tracing::debug!("not shown");
        })
    }

    fn written(format: Format, terminal: bool, log: impl FnOnce()) -> String {
        let sink = Sink::default();
        let config = LogConfig { format, level: "info".to_owned() };
        let (layer, flush) = config.layer_to(sink.clone(), terminal).unwrap();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), log);
        flush.flush();
        String::from_utf8(sink.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn machines_get_one_json_object_a_line() {
        for format in [Format::Json, Format::Auto] {
            let text = logged(format, false);
            assert_eq!(text.lines().count(), 1, "{text}");
            let line: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!((&line["level"], &line["message"]), (&"INFO".into(), &"listening".into()));
            assert_eq!((&line["port"], &line["span"]["thread"]), (&4100.into(), &"t1".into()));
        }
    }

    #[test]
    fn any_field_is_read_back_from_its_line() {
        let odd = "a \"quote\", a \\, a tab\t, a\nline, a bell\u{7}, é and 😀";
        let text = written(Format::Json, false, || {
            let span = tracing::info_span!("call", thread = odd, turn = 3);
            let _span = span.entered();
            tracing::warn!(text = odd, debug = ?odd, shown = %odd, f = 1.5, nan = f64::NAN, i = -3, u = u64::MAX, yes = true,
                none = None::<u64>, some = Some("x"), r#type = "t", "{odd}");
            let _inner = tracing::info_span!("empty").entered();
            tracing::info!("");
        });
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let [first, second] = lines.as_slice() else { panic!("{text}") };
        let mut first = first.clone();
        assert!(first["timestamp"].as_str().unwrap().ends_with('Z'));
        first.as_object_mut().unwrap().remove("timestamp");
        let expected = serde_json::json!({
            "level": "WARN", "message": odd, "text": odd, "debug": format!("{odd:?}"), "shown": odd, "f": 1.5, "nan": null, "i": -3,
            "u": u64::MAX, "yes": true, "some": "x", "type": "t", "target": module_path!(),
            "span": {"name": "call", "thread": odd, "turn": 3},
        });
        assert_eq!(first, expected);
        assert_eq!(
            (&second["span"], &second["message"]),
            (&serde_json::json!({"name": "empty"}), &"".into())
        );
    }

    #[test]
    fn a_level_that_there_is_not_is_no_filter() {
        for text in [
            "info",
            "WARN",
            "off",
            "3",
            "",
            "hyper=debug",
            "info,hyper",
            "warn,h2=off,agent[turn]",
            "[call]=trace",
        ] {
            assert!(filter(text).is_ok(), "{text}");
        }
        for text in ["loud", "wran,hyper=debug", "hyper=loud", "info,=,="] {
            let told = filter(text).unwrap_err().to_string();
            assert!(told.contains("error, warn, info, debug, trace or off"), "{text}: {told}");
        }
    }

    #[test]
    fn people_get_text_with_color_on_a_terminal_only() {
        assert!(logged(Format::Human, false).contains("turn{thread=\"t1\"}: "));
        assert!(!logged(Format::Human, false).contains('\u{1b}'));
        assert!(logged(Format::Auto, true).contains('\u{1b}'));
    }
}
