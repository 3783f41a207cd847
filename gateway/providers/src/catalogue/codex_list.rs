//! Codex's own form of a model list, which says how a model is used.
//!
//! An entry that came in this form goes out as it came, with the administrator's facts set and with what Codex cannot do
//! without: it refuses a whole list for one entry that it cannot read. All other entries are made of facts.

use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::list::is_slug;
use super::{Entry, Model};
use crate::config::{ModelFacts, ReasoningEffort};

#[cfg(test)]
mod tests;

const INSTRUCTIONS: &str = "base_instructions";
const LEVELS: &str = "supported_reasoning_levels";
/// Summaries that Codex knows; it reads no entry with another one.
const SUMMARIES: [&str; 4] = ["auto", "concise", "detailed", "none"];
/// How much of a tool's output Codex keeps for a model that says nothing of it.
const OUTPUT_BYTES_KEPT: u64 = 10_000;
/// Where a template takes the text of a personality.
const PERSONALITY: &str = "{{ personality }}";

/// Whether a value looks as Codex needs it.
type Fits = fn(&Value) -> bool;

/// What Codex requires of an entry besides the developer message, and how each value has to look.
const REQUIRED: [(&str, Fits); 9] = [
    ("display_name", Value::is_string),
    (LEVELS, is_levels),
    ("shell_type", Value::is_string),
    ("visibility", Value::is_string),
    ("supported_in_api", Value::is_boolean),
    ("priority", Value::is_i64),
    ("support_verbosity", Value::is_boolean),
    ("truncation_policy", Value::is_object),
    ("experimental_supported_tools", Value::is_array),
];

/// An entry that is made of facts.
#[derive(Serialize)]
struct Info<'a> {
    slug: &'a str,
    display_name: &'a str,
    description: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    default_reasoning_level: Option<&'a str>,
    supported_reasoning_levels: Vec<Level<'a>>,
    shell_type: &'static str,
    visibility: &'static str,
    supported_in_api: bool,
    priority: usize,
    availability_nux: Option<()>,
    upgrade: Option<()>,
    base_instructions: &'a str,
    supports_reasoning_summaries: bool,
    supports_reasoning_summary_parameter: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    default_reasoning_summary: Option<&'a str>,
    support_verbosity: bool,
    default_verbosity: Option<()>,
    apply_patch_tool_type: Option<()>,
    truncation_policy: Truncation,
    supports_parallel_tool_calls: bool,
    supports_image_detail_original: bool,
    prefer_websockets: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    context_window: Option<u64>,
    experimental_supported_tools: [&'static str; 0],
}

#[derive(Serialize)]
struct Level<'a> {
    effort: &'a str,
    description: &'a str,
}

#[derive(Serialize)]
struct Truncation {
    mode: &'static str,
    limit: u64,
}

/// Reads one entry.
pub(super) fn read(raw: &str) -> Option<Entry> {
    let entry: Value = serde_json::from_str(raw).ok()?;
    let text = |name: &str| entry.get(name)?.as_str().map(str::to_owned);
    let flag = |name: &str| entry.get(name)?.as_bool();
    let slug = text("slug").filter(|slug| is_slug(slug))?;
    let levels = entry.get(LEVELS).and_then(Value::as_array);
    let facts = ModelFacts {
        display_name: text("display_name"),
        description: text("description"),
        reasoning_efforts: levels.map(|levels| levels.iter().filter_map(level).collect()),
        default_reasoning_effort: text("default_reasoning_level"),
        context_window: entry.get("context_window").and_then(Value::as_u64),
        supports_parallel_tool_calls: flag("supports_parallel_tool_calls"),
        supports_reasoning_summaries: flag("supports_reasoning_summaries")
            .or(flag("supports_reasoning_summary_parameter")),
        base_instructions: instructions(&entry),
        default_reasoning_summary: text("default_reasoning_summary"),
        supports_image_detail_original: flag("supports_image_detail_original"),
        prefer_websockets: flag("prefer_websockets"),
    };
    let rank = entry.get("priority").and_then(Value::as_i64).unwrap_or_default();
    let hidden = text("visibility").is_some_and(|visibility| visibility != "list");
    Some(Entry { slug, rank, hidden, facts, codex: Some(raw.into()) })
}

/// What of an entry in a file is not as Codex needs it; missing values are made up for.
pub(super) fn complaint(entry: &Map<String, Value>) -> Option<String> {
    let wrong = |(name, fits): &&(&str, Fits)| entry.get(*name).is_some_and(|value| !fits(value));
    let (name, _) = REQUIRED.iter().find(wrong)?;
    Some(format!("{name} is not what Codex reads there"))
}

/// The entry as it goes out; none if it lacks the developer message, which nobody can make up.
pub(super) fn complete(raw: &str, configured: &ModelFacts, model: &Model) -> Option<Arc<str>> {
    let mut entry: Map<String, Value> = serde_json::from_str(raw).ok()?;
    let mut changes = overrides(configured);
    let made_up = serde_json::to_value(Info::of(model, "", 0)).ok()?;
    for (name, fits) in REQUIRED {
        if !entry.get(name).is_some_and(fits) && !changes.contains_key(name) {
            changes.insert(name.to_owned(), made_up.get(name)?.clone());
        }
    }
    changes.retain(|name, value| entry.get(name) != Some(value));
    let unchanged = changes.is_empty();
    if changes.contains_key(INSTRUCTIONS)
        && let Some(template) =
            entry.get_mut("model_messages").and_then(|it| it.get_mut("instructions_template"))
    {
        // A template would win over the instructions.
        *template = Value::Null;
    }
    entry.extend(changes);
    if !entry.get(INSTRUCTIONS).is_some_and(Value::is_string) && template(&entry).is_none() {
        return None;
    }
    Some(if unchanged { raw.into() } else { Value::Object(entry).to_string().into() })
}

/// The entry under another name.
pub(super) fn rename(raw: &str, slug: &str) -> Option<Arc<str>> {
    let mut entry: Map<String, Value> = serde_json::from_str(raw).ok()?;
    for name in ["slug", "display_name"] {
        entry.insert(name.to_owned(), slug.into());
    }
    entry.insert("visibility".to_owned(), "list".into());
    Some(Value::Object(entry).to_string().into())
}

/// Writes the models that Codex can be told of; see [`super::ListForm::Codex`].
pub(super) fn write(models: &[Model]) -> String {
    let mut out = String::from(r#"{"models":["#);
    for (place, model) in models.iter().enumerate() {
        let made_up = || {
            let instructions = model.base_instructions.as_deref()?;
            Some(serde_json::to_string(&Info::of(model, instructions, place)).ok()?.into())
        };
        let entry: Option<Arc<str>> = model.codex.clone().or_else(made_up);
        if let Some(entry) = entry {
            if !out.ends_with('[') {
                out.push(',');
            }
            out.push_str(&entry);
        }
    }
    out.push_str("]}");
    out
}

impl<'a> Info<'a> {
    fn of(model: &'a Model, instructions: &'a str, priority: usize) -> Info<'a> {
        let levels = model.reasoning_efforts.iter();
        let summary = model.default_reasoning_summary.as_deref();
        Info {
            slug: &model.slug,
            display_name: &model.display_name,
            description: &model.description,
            default_reasoning_level: model.default_reasoning_effort.as_deref(),
            supported_reasoning_levels: levels
                .map(|(effort, description)| Level { effort, description })
                .collect(),
            shell_type: "shell_command",
            visibility: if model.hidden { "hide" } else { "list" },
            supported_in_api: true,
            priority,
            availability_nux: None,
            upgrade: None,
            base_instructions: instructions,
            supports_reasoning_summaries: model.supports_reasoning_summaries,
            supports_reasoning_summary_parameter: model.supports_reasoning_summaries,
            default_reasoning_summary: summary.filter(|summary| SUMMARIES.contains(summary)),
            support_verbosity: false,
            default_verbosity: None,
            apply_patch_tool_type: None,
            truncation_policy: Truncation { mode: "bytes", limit: OUTPUT_BYTES_KEPT },
            supports_parallel_tool_calls: model.supports_parallel_tool_calls,
            supports_image_detail_original: model.supports_image_detail_original,
            prefer_websockets: model.prefer_websockets,
            context_window: model.context_window,
            experimental_supported_tools: [],
        }
    }
}

/// The administrator's facts under Codex's names.
fn overrides(facts: &ModelFacts) -> Map<String, Value> {
    let efforts = facts.reasoning_efforts.as_ref().map(|efforts| {
        let level = |it: &ReasoningEffort| json!({"effort": it.effort, "description": it.description});
        Value::from(efforts.iter().map(level).collect::<Vec<_>>())
    });
    let text = |text: &Option<String>| text.as_deref().map(Value::from);
    let summary = facts.default_reasoning_summary.as_deref().filter(|it| SUMMARIES.contains(it));
    [
        ("display_name", text(&facts.display_name)),
        ("description", text(&facts.description)),
        (LEVELS, efforts),
        ("default_reasoning_level", text(&facts.default_reasoning_effort)),
        ("context_window", facts.context_window.map(Value::from)),
        ("supports_parallel_tool_calls", facts.supports_parallel_tool_calls.map(Value::from)),
        ("supports_reasoning_summaries", facts.supports_reasoning_summaries.map(Value::from)),
        ("supports_reasoning_summary_parameter", facts.supports_reasoning_summaries.map(Value::from)),
        (INSTRUCTIONS, text(&facts.base_instructions)),
        ("default_reasoning_summary", summary.map(Value::from)),
        ("supports_image_detail_original", facts.supports_image_detail_original.map(Value::from)),
        ("prefer_websockets", facts.prefer_websockets.map(Value::from)),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name.to_owned(), value?)))
    .collect()
}

/// The developer message of an entry: its template, which wins, with the default personality, or the plain text.
fn instructions(entry: &Value) -> Option<String> {
    let plain = || entry.get(INSTRUCTIONS)?.as_str().map(str::to_owned);
    let templated = || {
        let variables = entry.get("model_messages")?.get("instructions_variables");
        let personality =
            variables.and_then(|it| it.get("personality_default")?.as_str()).unwrap_or_default();
        Some(template(entry.as_object()?)?.replace(PERSONALITY, personality))
    };
    templated().or_else(plain)
}

fn template(entry: &Map<String, Value>) -> Option<&str> {
    entry.get("model_messages")?.get("instructions_template")?.as_str()
}

fn is_levels(value: &Value) -> bool {
    let is_level = |value: &Value| {
        ["effort", "description"].iter().all(|name| value.get(name).is_some_and(Value::is_string))
    };
    value.as_array().is_some_and(|levels| levels.iter().all(is_level))
}

fn level(level: &Value) -> Option<ReasoningEffort> {
    let description = level.get("description").and_then(Value::as_str).unwrap_or_default().to_owned();
    Some(ReasoningEffort { effort: level.get("effort")?.as_str()?.to_owned(), description })
}
