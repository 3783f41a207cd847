//! Log lines on standard error, as text for people or JSON for machines.
//!
//! Standard output belongs to the stdio transport and is never written. Lines go through a bounded queue to a
//! thread of their own, so a stalled reader of standard error loses lines (and is told how many) but never holds
//! up a request.

mod writer;

use std::io::IsTerminal as _;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing::Subscriber;
use tracing_subscriber::filter::EnvFilter;
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
    pub level: String,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { format: Format::Auto, level: "info".to_owned() }
    }
}

/// A filter that cannot be parsed.
#[derive(Debug, thiserror::Error)]
#[error("log filter {filter:?} is not understood; write a level such as info, or target=level pairs")]
pub struct FilterError {
    filter: String,
}

/// Parses a filter strictly: a typing error must not silence the log.
pub(crate) fn filter(text: &str) -> Result<EnvFilter, FilterError> {
    EnvFilter::builder().parse(text).map_err(|_| FilterError { filter: text.to_owned() })
}

impl LogConfig {
    /// The layer that writes the lines, and the handle that flushes them at the end.
    pub(crate) fn layer<S>(&self) -> Result<(Box<dyn Layer<S> + Send + Sync>, Flush), FilterError>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        let terminal = std::io::stderr().is_terminal();
        let filter = filter(&self.level)?;
        let (writer, flush) = writer::start(std::io::stderr());
        let json = match self.format {
            Format::Auto => !terminal,
            Format::Human => false,
            Format::Json => true,
        };
        let layer = fmt::layer().with_writer(writer);
        let layer = if json {
            layer
                .json()
                .flatten_event(true)
                .with_current_span(true)
                .with_span_list(false)
                .with_filter(filter)
                .boxed()
        } else {
            layer.with_ansi(terminal).with_filter(filter).boxed()
        };
        Ok((layer, flush))
    }
}
