//! Which models Bedrock serves, where, and what clients need to know of them: the table of this version, and what the
//! configuration adds.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Kind;
use crate::check::NAME_MAX;
use crate::config::{BedrockModelConfig, ModelFacts, Problem, ReasoningEffort};

/// The table of this version, in the order in which models are offered.
const TABLE: &str = include_str!("models.json");
/// The paths that AWS serves the Responses API under.
const PATHS: [&str; 2] = ["/openai/v1", "/v1"];

/// A model and where it is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Served {
    pub(crate) id: String,
    pub(crate) kind: Kind,
    /// The path before `/responses`.
    pub(crate) path: String,
    /// The service name in signatures, if it is not the provider's.
    pub(crate) signing_name: Option<String>,
    pub(crate) facts: ModelFacts,
}

/// A line of the table.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    id: String,
    provider: String,
    path: String,
    name: String,
    efforts: Vec<String>,
    default_effort: String,
    context_window: u64,
    image_detail_original: bool,
}

/// The table of this version. It has lines for both providers: a test says so, and that it can be read.
fn built_in() -> Vec<Served> {
    let lines: Vec<Line> = serde_json::from_str(TABLE).unwrap_or_default();
    lines.into_iter().filter_map(Line::served).collect()
}

/// Everything that is served: the table of this version, changed and extended by the configuration.
pub(crate) fn served(
    configured: &BTreeMap<String, BedrockModelConfig>,
    problems: &mut Vec<Problem>,
) -> Vec<Served> {
    let mut all = built_in();
    for (id, config) in configured {
        let Some(added) = added(id, config, problems) else { continue };
        match all.iter_mut().find(|known| known.id == added.id && known.kind == added.kind) {
            Some(known) => {
                let facts = added.facts.or(std::mem::take(&mut known.facts));
                *known = Served { facts, ..added };
            }
            None => all.push(added),
        }
    }
    all
}

fn added(id: &str, config: &BedrockModelConfig, problems: &mut Vec<Problem>) -> Option<Served> {
    let before = problems.len();
    let mut problem = |key: &str, message: &str, fix: &str| {
        let key = format!("bedrock_models.{id}{key}");
        problems.push(Problem { key, message: message.to_owned(), fix: fix.to_owned() });
    };
    if id.is_empty() || id.len() > NAME_MAX || id.chars().any(char::is_control) {
        problem("", "not a model's id", "write it as the model's card does");
    }
    let kind = Kind::of(&config.provider);
    if kind.is_none() {
        problem(".provider", "not one of the two", "amazon-bedrock or amazon-bedrock-runtime");
    }
    if !PATHS.contains(&config.path.as_str()) {
        problem(".path", "bedrock serves nothing there", "/openai/v1 or /v1, as the model's card says");
    }
    let name = config.signing_name.as_deref().unwrap_or("bedrock");
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.is_empty() || !name.bytes().all(plain) {
        problem(".signing_name", "not a service name", "for example bedrock-mantle or bedrock");
    }
    let (facts, default) = (&config.facts, &config.facts.default_reasoning_effort);
    let efforts = facts.reasoning_efforts.as_deref().unwrap_or_default();
    if default.as_ref().is_some_and(|default| efforts.iter().all(|known| known.effort != *default)) {
        problem(".facts.default_reasoning_effort", "not among reasoning_efforts", "name one of them");
    }
    if facts.context_window == Some(0) {
        problem(".facts.context_window", "zero", "the number of tokens, or no key");
    }
    (problems.len() == before).then_some(())?;
    let (path, signing_name) = (config.path.clone(), config.signing_name.clone());
    Some(Served { id: id.to_owned(), kind: kind?, path, signing_name, facts: facts.clone() })
}

impl Line {
    fn served(self) -> Option<Served> {
        let effort = |effort: String| {
            let description = description(&effort).to_owned();
            ReasoningEffort { effort, description }
        };
        let facts = ModelFacts {
            display_name: Some(self.name),
            reasoning_efforts: Some(self.efforts.into_iter().map(effort).collect()),
            default_reasoning_effort: Some(self.default_effort),
            context_window: Some(self.context_window),
            supports_parallel_tool_calls: Some(true),
            supports_reasoning_summaries: Some(true),
            supports_image_detail_original: Some(self.image_detail_original),
            ..ModelFacts::default()
        };
        let kind = Kind::of(&self.provider)?;
        Some(Served { id: self.id, kind, path: self.path, signing_name: None, facts })
    }
}

/// One sentence for a picker.
fn description(effort: &str) -> &'static str {
    match effort {
        "minimal" => "Hardly thinks, answers at once",
        "low" => "Answers sooner, thinks less",
        "medium" => "Balances speed and depth",
        "high" => "Thinks long, for hard problems",
        "xhigh" => "Thinks longer still",
        "max" => "Thinks as long as it helps",
        "ultra" => "Spends the most, on the hardest problems",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_can_be_read_and_stands_once() {
        let lines: Vec<Line> = serde_json::from_str(TABLE).unwrap();
        let count = lines.len();
        for line in &lines {
            assert!(PATHS.contains(&line.path.as_str()), "{}", line.id);
            assert!(line.efforts.contains(&line.default_effort), "{}", line.id);
            assert!(line.efforts.iter().all(|effort| !description(effort).is_empty()), "{}", line.id);
        }
        let served = built_in();
        assert_eq!(served.len(), count);
        let ids: std::collections::BTreeSet<_> = served.iter().map(|it| &it.id).collect();
        assert_eq!(ids.len(), count);
        for kind in Kind::BOTH {
            assert!(served.iter().any(|it| it.kind == kind));
        }
    }

    #[test]
    fn the_configuration_adds_and_overrides() {
        let text = r#"{
            "openai.gpt-oss-20b": {"provider": "amazon-bedrock", "path": "/openai/v1", "facts": {"context_window": 64000}},
            "openai.gpt-9": {"provider": "amazon-bedrock-runtime", "path": "/v1", "signing_name": "bedrock-mantle"}
        }"#;
        let mut problems = Vec::new();
        let all = served(&serde_json::from_str(text).unwrap(), &mut problems);
        assert_eq!(problems, []);
        let oss = all.iter().find(|it| it.id == "openai.gpt-oss-20b").unwrap();
        assert_eq!((oss.path.as_str(), oss.facts.context_window), ("/openai/v1", Some(64_000)));
        assert_eq!(oss.facts.display_name.as_deref(), Some("gpt-oss 20B"));
        let new = all.last().unwrap();
        assert_eq!((new.kind, new.signing_name.as_deref()), (Kind::Runtime, Some("bedrock-mantle")));
    }

    #[test]
    fn what_is_wrong_with_an_addition_is_told() {
        let text = r#"{"x": {"provider": "bedrock", "path": "/v2", "signing_name": "",
            "facts": {"context_window": 0, "default_reasoning_effort": "low"}}}"#;
        let mut problems = Vec::new();
        served(&serde_json::from_str(text).unwrap(), &mut problems);
        let keys: Vec<_> = problems.iter().map(|problem| problem.key.as_str()).collect();
        assert_eq!(
            keys,
            [
                "bedrock_models.x.provider",
                "bedrock_models.x.path",
                "bedrock_models.x.signing_name",
                "bedrock_models.x.facts.default_reasoning_effort",
                "bedrock_models.x.facts.context_window"
            ]
        );
    }
}
