//! A model, and how what is known of it from several places becomes one.

use std::sync::Arc;

use super::{Entry, codex_list};
use crate::config::ModelFacts;

/// A model and what clients need to know to use it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// What a request names.
    pub slug: String,
    /// The name that people see.
    pub display_name: String,
    /// One sentence for a picker; may be empty.
    pub description: String,
    /// The id of the provider that serves it.
    pub provider: String,
    /// Whether clients start with it. True for one model of a merged list at most.
    pub is_default: bool,
    /// Whether clients may use it, but do not offer it.
    pub hidden: bool,
    /// Efforts that a request may name, with a description each, from least to most.
    pub reasoning_efforts: Vec<(String, String)>,
    /// The effort that is used when a request names none.
    pub default_reasoning_effort: Option<String>,
    /// How many tokens fit into the context, if that is known.
    pub context_window: Option<u64>,
    /// Whether it may call several tools at once.
    pub supports_parallel_tool_calls: bool,
    /// Whether it can summarize its reasoning.
    pub supports_reasoning_summaries: bool,
    /// The developer message that a conversation with it begins with.
    pub base_instructions: Option<String>,
    /// The reasoning summary to ask for when nothing else is said.
    pub default_reasoning_summary: Option<String>,
    /// Whether images may be sent in their original detail.
    pub supports_image_detail_original: bool,
    /// Whether calls go over the provider's WebSocket where it has one.
    pub prefer_websockets: bool,
    /// Whether somebody said that they do not.
    pub(crate) refuses_websockets: bool,
    /// The entry in Codex's own form, if the model came with one.
    pub(super) codex: Option<Arc<str>>,
}

impl Model {
    /// A model that is known by facts alone.
    pub(crate) fn new(slug: &str, provider: &str, facts: ModelFacts) -> Model {
        let efforts = facts.reasoning_efforts.unwrap_or_default();
        Model {
            slug: slug.to_owned(),
            display_name: facts.display_name.unwrap_or_else(|| slug.to_owned()),
            description: facts.description.unwrap_or_default(),
            provider: provider.to_owned(),
            is_default: false,
            hidden: false,
            reasoning_efforts: efforts.into_iter().map(|it| (it.effort, it.description)).collect(),
            default_reasoning_effort: facts.default_reasoning_effort,
            context_window: facts.context_window,
            supports_parallel_tool_calls: facts.supports_parallel_tool_calls.unwrap_or(false),
            supports_reasoning_summaries: facts.supports_reasoning_summaries.unwrap_or(false),
            base_instructions: facts.base_instructions,
            default_reasoning_summary: facts.default_reasoning_summary,
            supports_image_detail_original: facts.supports_image_detail_original.unwrap_or(false),
            prefer_websockets: facts.prefer_websockets.unwrap_or(false),
            refuses_websockets: facts.prefer_websockets == Some(false),
            codex: None,
        }
    }

    /// A model of a list: what the administrator says wins, then the list, then what is built in.
    pub(super) fn of(entry: Entry, provider: &str, configured: ModelFacts, built_in: ModelFacts) -> Model {
        let Entry { slug, hidden, facts, codex, .. } = entry;
        let mut model = Model::new(&slug, provider, configured.clone().or(facts).or(built_in));
        model.hidden = hidden;
        model.codex = codex.and_then(|codex| codex_list::complete(&codex, &configured, &model));
        model
    }

    /// The same model under a name that only the gateway knows.
    pub(crate) fn renamed(&self, slug: &str) -> Model {
        let codex = self.codex.as_deref().and_then(|codex| codex_list::rename(codex, slug));
        let slug = slug.to_owned();
        Model { display_name: slug.clone(), slug, hidden: false, codex, ..self.clone() }
    }
}

impl ModelFacts {
    /// These facts, completed by others.
    pub(crate) fn or(self, below: ModelFacts) -> ModelFacts {
        ModelFacts {
            display_name: self.display_name.or(below.display_name),
            description: self.description.or(below.description),
            reasoning_efforts: self.reasoning_efforts.or(below.reasoning_efforts),
            default_reasoning_effort: self.default_reasoning_effort.or(below.default_reasoning_effort),
            context_window: self.context_window.or(below.context_window),
            supports_parallel_tool_calls: self
                .supports_parallel_tool_calls
                .or(below.supports_parallel_tool_calls),
            supports_reasoning_summaries: self
                .supports_reasoning_summaries
                .or(below.supports_reasoning_summaries),
            base_instructions: self.base_instructions.or(below.base_instructions),
            default_reasoning_summary: self.default_reasoning_summary.or(below.default_reasoning_summary),
            supports_image_detail_original: self
                .supports_image_detail_original
                .or(below.supports_image_detail_original),
            prefer_websockets: self.prefer_websockets.or(below.prefer_websockets),
        }
    }
}
