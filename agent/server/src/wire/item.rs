//! Items and the parts of user messages.

use agent_threads::{
    ImageDetail, Item as Domain, ItemRecord, Phase as DomainPhase, ThreadId, TurnId, UserInput as DomainInput,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::rpc::Refusal;

/// An item. The nulls are fields that Codex's own items have and ours have nothing for.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(crate) enum Item<'a> {
    UserMessage {
        id: &'a str,
        client_id: Option<&'a str>,
        content: Vec<UserInput<'a>>,
        #[serde(flatten)]
        times: Times,
    },
    AgentMessage {
        moderation: (),
        id: &'a str,
        text: &'a str,
        phase: Option<Phase>,
        memory_citation: (),
        delivery: (),
        questions: (),
        #[serde(flatten)]
        times: Times,
    },
    Reasoning {
        id: &'a str,
        summary: &'a [String],
        content: &'a [String],
        #[serde(flatten)]
        times: Times,
    },
    ContextCompaction {
        id: &'a str,
        #[serde(flatten)]
        times: Times,
    },
}

/// When an item began and when it was complete, in Unix milliseconds.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Times {
    pub(crate) started_at_ms: i64,
    pub(crate) completed_at_ms: Option<i64>,
}

#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    Commentary,
    FinalAnswer,
}

/// A part of a user message, as it is shown.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub(crate) enum UserInput<'a> {
    Text {
        text: &'a str,
        text_elements: &'a [Value],
    },
    Image {
        url: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        detail: Option<ImageDetail>,
    },
    LocalImage {
        path: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        detail: Option<ImageDetail>,
    },
    Mention {
        name: &'a str,
        path: &'a str,
    },
    Skill {
        name: &'a str,
        path: &'a str,
    },
}

/// A part of a user message, as clients send it.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub(crate) enum Input {
    Text {
        text: String,
        #[serde(default)]
        text_elements: Vec<Value>,
    },
    Image {
        url: Option<String>,
        detail: Option<ImageDetail>,
    },
    LocalImage {
        path: String,
        detail: Option<ImageDetail>,
    },
    Audio {},
    LocalAudio {},
    Skill {
        name: String,
        path: String,
    },
    Mention {
        name: String,
        path: String,
    },
}

/// The parts of a message; kinds that a turn cannot carry yet are refused rather than dropped.
pub(crate) fn message(input: Vec<Input>) -> Result<Vec<DomainInput>, Refusal> {
    let unsupported = |kind: &str| Refusal::invalid(format!("input of type `{kind}` is not supported"));
    input
        .into_iter()
        .map(|part| match part {
            Input::Text { text, text_elements } => Ok(DomainInput::Text { text, text_elements }),
            Input::Image { url: Some(url), detail } => Ok(DomainInput::Image { url, detail }),
            Input::Image { url: None, .. } => Err(Refusal::invalid("Invalid request: missing field `url`")),
            Input::LocalImage { path, detail } => Ok(DomainInput::LocalImage { path, detail }),
            Input::Audio {} => Err(unsupported("audio")),
            Input::LocalAudio {} => Err(unsupported("localAudio")),
            Input::Skill { name, path } => Ok(DomainInput::Skill { name, path }),
            Input::Mention { name, path } => Ok(DomainInput::Mention { name, path }),
        })
        .collect()
}

impl<'a> Item<'a> {
    /// An item with its times.
    pub(crate) fn new(item: &'a Domain, times: Times) -> Self {
        match item {
            Domain::UserMessage { id, client_id, content } => Self::UserMessage {
                id: id.as_str(),
                client_id: client_id.as_deref(),
                content: content.iter().map(UserInput::from).collect(),
                times,
            },
            Domain::AgentMessage { id, text, phase } => Self::AgentMessage {
                moderation: (),
                id: id.as_str(),
                text,
                phase: phase.map(Phase::from),
                memory_citation: (),
                delivery: (),
                questions: (),
                times,
            },
            Domain::Reasoning { id, summary, content } => {
                Self::Reasoning { id: id.as_str(), summary, content, times }
            }
            Domain::ContextCompaction { id } => Self::ContextCompaction { id: id.as_str(), times },
        }
    }

    /// A stored item; the log knows when it was complete.
    pub(crate) fn stored(record: &'a ItemRecord) -> Self {
        Self::new(&record.item, Times { started_at_ms: record.at_ms, completed_at_ms: Some(record.at_ms) })
    }
}

impl<'a> From<&'a DomainInput> for UserInput<'a> {
    fn from(input: &'a DomainInput) -> Self {
        match input {
            DomainInput::Text { text, text_elements } => Self::Text { text, text_elements },
            DomainInput::Image { url, detail } => Self::Image { url, detail: *detail },
            DomainInput::LocalImage { path, detail } => Self::LocalImage { path, detail: *detail },
            DomainInput::Mention { name, path } => Self::Mention { name, path },
            DomainInput::Skill { name, path } => Self::Skill { name, path },
        }
    }
}

impl From<DomainPhase> for Phase {
    fn from(phase: DomainPhase) -> Self {
        match phase {
            DomainPhase::Commentary => Self::Commentary,
            DomainPhase::FinalAnswer => Self::FinalAnswer,
        }
    }
}

/// An element of a list of items.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Entry<'a> {
    turn_id: TurnId,
    item: Item<'a>,
    #[serde(flatten)]
    times: Times,
}

impl<'a> From<&'a ItemRecord> for Entry<'a> {
    fn from(record: &'a ItemRecord) -> Self {
        let times = Times { started_at_ms: record.at_ms, completed_at_ms: Some(record.at_ms) };
        Self { turn_id: record.turn_id, item: Item::stored(record), times }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Started<'a> {
    pub(crate) item: Item<'a>,
    pub(crate) thread_id: ThreadId,
    pub(crate) turn_id: TurnId,
    pub(crate) started_at_ms: i64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Completed<'a> {
    pub(crate) item: Item<'a>,
    pub(crate) thread_id: ThreadId,
    pub(crate) turn_id: TurnId,
    pub(crate) content_token_count: (),
    pub(crate) completed_at_ms: i64,
}
