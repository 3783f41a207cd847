//! OpenAI's own API, as a provider.
//!
//! It takes Codex's requests as they are: first-party metadata stays in, nothing is edited.

use tidegate_responses::{Request, Splices};

use crate::config::{ModelFacts, ReasoningEffort};
use crate::custom::Addresses;
use crate::provider::{Capabilities, Endpoint, Operation, Provider};

/// The id of the built-in provider.
pub(crate) const ID: &str = "openai";
/// The environment variable with its key.
pub(crate) const ENV_KEY: &str = "OPENAI_API_KEY";
/// The deprecated way to say where the API is.
pub(crate) const ENV_BASE_URL: &str = "OPENAI_BASE_URL";
/// Where the API is unless the configuration says otherwise.
pub(crate) const BASE_URL: &str = "https://api.openai.com/v1";
/// Optional account headers and the environment variables that hold them.
pub(crate) const ENV_HEADERS: [(&str, &str); 2] =
    [("openai-organization", "OPENAI_ORGANIZATION"), ("openai-project", "OPENAI_PROJECT")];

/// Parts of slugs in OpenAI's list whose models do not answer Responses calls with text.
const OTHER_APIS: [&str; 14] = [
    "audio",
    "babbage",
    "dall-e",
    "davinci",
    "embedding",
    "image",
    "instruct",
    "moderation",
    "realtime",
    "search-preview",
    "sora",
    "transcribe",
    "tts",
    "whisper",
];
/// Starts of slugs whose models reason.
const REASONING: [&str; 4] = ["gpt-5", "gpt-6", "o3", "o4"];

pub(crate) struct OpenAi {
    pub(crate) addresses: Addresses,
    pub(crate) websockets: bool,
}

impl Provider for OpenAi {
    fn id(&self) -> &str {
        ID
    }

    fn display_name(&self) -> &str {
        "OpenAI"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { websockets: self.websockets, continuation: true, compaction: true, first_party: true }
    }

    fn endpoint(&self, operation: Operation, _: &str) -> Option<Endpoint> {
        Some(self.addresses.endpoint(operation))
    }

    fn edits(&self, _: &Request) -> Splices {
        Splices::new()
    }

    fn model_facts(&self, slug: &str) -> Option<ModelFacts> {
        if OTHER_APIS.iter().any(|part| slug.contains(part)) {
            return None;
        }
        let mut facts = ModelFacts { supports_parallel_tool_calls: Some(true), ..ModelFacts::default() };
        if REASONING.iter().any(|start| slug.starts_with(start)) {
            let effort = |effort: &str, description: &str| ReasoningEffort {
                effort: effort.to_owned(),
                description: description.to_owned(),
            };
            facts.supports_reasoning_summaries = Some(true);
            facts.default_reasoning_effort = Some("medium".to_owned());
            facts.reasoning_efforts = Some(vec![
                effort("low", "Answers sooner, thinks less"),
                effort("medium", "Balances speed and depth"),
                effort("high", "Thinks longest, for hard problems"),
            ]);
        }
        Some(facts)
    }
}
