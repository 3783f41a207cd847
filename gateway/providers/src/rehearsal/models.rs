//! The models of the rehearsal and what is known of them.

use std::time::Duration;

use crate::catalogue::Model;
use crate::config::{ModelFacts, ReasoningEffort};
use crate::rehearsal::ID;

/// How one of the models answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Style {
    pub(super) slug: &'static str,
    name: &'static str,
    description: &'static str,
    /// The wait before each delta.
    pub(super) pace: Duration,
    pub(super) length: Length,
}

/// How much a model writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Length {
    /// One sentence.
    Short,
    /// A few sentences on the prompt.
    Reply,
    /// Some paragraphs, a few hundred words.
    Essay,
}

const STYLES: [Style; 4] = [
    Style {
        slug: "rehearsal",
        name: "Rehearsal",
        description: "Scripted, needs no account: thinks aloud, then answers in a few sentences. Prompts that begin \
                      with `rehearse:` rehearse faults: `error rate_limit`, `error overloaded`, `error server`, \
                      `error bad_request`, `error context`, `fail`, `cut`, `stall`, `slow`, `incomplete`",
        pace: Duration::from_millis(5),
        length: Length::Reply,
    },
    Style {
        slug: "rehearsal-short",
        name: "Rehearsal, short",
        description: "Scripted: one sentence, as fast as it can be read",
        pace: Duration::ZERO,
        length: Length::Short,
    },
    Style {
        slug: "rehearsal-long",
        name: "Rehearsal, long",
        description: "Scripted: several paragraphs, a few hundred words",
        pace: Duration::from_millis(3),
        length: Length::Essay,
    },
    Style {
        slug: "rehearsal-slow",
        name: "Rehearsal, slow",
        description: "Scripted: several paragraphs at reading speed, to be interrupted",
        pace: Duration::from_millis(120),
        length: Length::Essay,
    },
];

/// The most that the models claim to read.
const CONTEXT_WINDOW: u64 = 128_000;
const INSTRUCTIONS: &str = "You are a rehearsal: a scripted stand-in for a coding model. You answer from a script, \
                            call no tools and change no files.";

/// How the model of that name answers.
pub(super) fn style(slug: &str) -> Option<&'static Style> {
    STYLES.iter().find(|style| style.slug == slug)
}

/// Whether the rehearsal has a model of that name.
pub(crate) fn serves(slug: &str) -> bool {
    style(slug).is_some()
}

/// All models of the rehearsal.
pub(crate) fn models() -> Vec<Model> {
    let effort = |effort: &str, description: &str| ReasoningEffort {
        effort: effort.to_owned(),
        description: description.to_owned(),
    };
    let model = |style: &Style| {
        let facts = ModelFacts {
            display_name: Some(style.name.to_owned()),
            description: Some(style.description.to_owned()),
            reasoning_efforts: Some(vec![
                effort("none", "Answers without thinking aloud"),
                effort("medium", "Thinks aloud, then answers"),
            ]),
            default_reasoning_effort: Some("medium".to_owned()),
            context_window: Some(CONTEXT_WINDOW),
            supports_parallel_tool_calls: Some(true),
            supports_reasoning_summaries: Some(true),
            base_instructions: Some(INSTRUCTIONS.to_owned()),
            ..ModelFacts::default()
        };
        Model::new(style.slug, ID, facts)
    };
    STYLES.iter().map(model).collect()
}
