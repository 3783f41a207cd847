//! What a program asks for, checked as a whole before anything of it has an effect.

use agent_session::{Overrides, TraceContext};
use agent_threads::{ServiceTier, UserInput};
use serde_json::Value;
use tidegate_proto::agent::v1::{InputPart, Settings, input_part};
use tonic::Status;
use tonic::metadata::MetadataMap;

use super::failure::invalid;
use crate::methods::overrides::absolute;
use crate::server::Shared;

/// The longest name of a model, an effort, a tier or a source.
const NAME_BYTES_MAX: usize = 256;
/// How much of the reasoning can be summarized.
const SUMMARIES: [&str; 4] = ["auto", "concise", "detailed", "none"];

/// The changes of a thread's settings.
pub(super) fn overrides(settings: Option<Settings>, shared: &Shared) -> Result<Overrides, Status> {
    let Settings { model, cwd, effort, summary, service_tier, developer_instructions, base_instructions } =
        settings.unwrap_or_default();
    for (what, name) in [("model", &model), ("effort", &effort), ("service_tier", &service_tier)] {
        check_name(what, name.as_deref().unwrap_or_default())?;
    }
    let known = |summary: &String| summary.is_empty() || SUMMARIES.contains(&summary.as_str());
    if summary.as_ref().is_some_and(|summary| !known(summary)) {
        return Err(invalid("summary is none of auto, concise, detailed and none"));
    }
    let cwd = cwd.filter(|cwd| !cwd.is_empty());
    Ok(Overrides {
        model,
        cwd: cwd.map(|cwd| absolute(&cwd, shared)).transpose().map_err(|why| invalid(&why.to_string()))?,
        effort,
        summary,
        service_tier: ServiceTier::maybe(service_tier),
        developer_instructions,
        base_instructions,
        ..Overrides::default()
    })
}

/// A name that nobody could mean is refused.
pub(super) fn check_name(what: &str, name: &str) -> Result<(), Status> {
    if name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
        return Err(invalid(&format!("{what} is not a name of at most {NAME_BYTES_MAX} bytes")));
    }
    Ok(())
}

/// A text as what it says, if it says something.
pub(super) fn some(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

/// The parts of a user message.
pub(super) fn message(text: String, parts: Vec<InputPart>) -> Result<Vec<UserInput>, Status> {
    let mut message = Vec::with_capacity(parts.len() + 1);
    if !text.is_empty() || parts.is_empty() {
        message.push(UserInput::Text { text, text_elements: Vec::new() });
    }
    for InputPart { part } in parts {
        message.push(match part {
            Some(input_part::Part::Text(text)) => UserInput::Text { text, text_elements: Vec::new() },
            Some(input_part::Part::ImageUrl(url)) if !url.is_empty() => {
                UserInput::Image { url, detail: None }
            }
            Some(input_part::Part::ImageUrl(_)) | None => {
                return Err(invalid("a part of the message is empty or of an unknown kind"));
            }
        });
    }
    Ok(message)
}

/// The schema that a turn's answers follow.
pub(super) fn output_schema(text: &str) -> Result<Option<Value>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    match serde_json::from_str(text) {
        Ok(schema @ Value::Object(_)) => Ok(Some(schema)),
        Ok(_) | Err(_) => Err(invalid("output_schema is not a JSON object")),
    }
}

/// The trace that a request belongs to.
pub(super) fn trace(metadata: &MetadataMap) -> TraceContext {
    let header = |name: &str| metadata.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    TraceContext::said(header("traceparent"), header("tracestate"))
}
