//! What a person sees in a thread.
//!
//! Stored as JSON: a field may be added with a default, none may change its meaning. An item of a kind that this version
//! does not know fails to load rather than vanish.

use serde::{Deserialize, Serialize};

use crate::ItemId;

/// Something that a person sees in a thread.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Item {
    /// What the user said.
    UserMessage {
        /// The item's id.
        id: ItemId,
        /// The client's own id of the message; a repeat with the same id is the same message.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        client_id: Option<String>,
        /// The parts of the message.
        content: Vec<UserInput>,
    },
    /// What the model said.
    AgentMessage {
        /// The item's id.
        id: ItemId,
        /// The text.
        text: String,
        /// Whether the model marked it as commentary or as its final answer.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        phase: Option<Phase>,
    },
    /// What the model thought, as far as it is shown.
    Reasoning {
        /// The item's id.
        id: ItemId,
        /// Summaries, one a part.
        summary: Vec<String>,
        /// The reasoning itself, where a provider shows it.
        content: Vec<String>,
    },
    /// The model's input was made shorter here.
    ContextCompaction {
        /// The item's id.
        id: ItemId,
    },
}

impl Item {
    /// The item's id.
    #[must_use]
    pub fn id(&self) -> &ItemId {
        match self {
            Self::UserMessage { id, .. }
            | Self::AgentMessage { id, .. }
            | Self::Reasoning { id, .. }
            | Self::ContextCompaction { id } => id,
        }
    }
}

/// How closely a model looks at an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageDetail {
    /// As it chooses.
    Auto,
    /// At a small copy.
    Low,
    /// At all of it, scaled down where it is large.
    High,
    /// At every pixel.
    Original,
}

/// A part of a user message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum UserInput {
    /// Text.
    Text {
        /// The text.
        text: String,
        /// The client's marks inside the text, kept as they came.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        text_elements: Vec<serde_json::Value>,
    },
    /// An image by URL (often a `data:` URL).
    Image {
        /// The URL.
        url: String,
        /// How closely the model looks at it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        detail: Option<ImageDetail>,
    },
    /// An image in a file of the service's machine, as it was when the message came.
    LocalImage {
        /// The file.
        path: String,
        /// How closely the model looks at it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        detail: Option<ImageDetail>,
    },
    /// Something that the text speaks of by name: the model knows it from the text alone.
    Mention {
        /// What it is called in the text.
        name: String,
        /// What is meant.
        path: String,
    },
    /// A skill that the text speaks of by name.
    Skill {
        /// What it is called in the text.
        name: String,
        /// Where it stands.
        path: String,
    },
}

/// What part of an answer a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Said on the way.
    Commentary,
    /// The answer.
    FinalAnswer,
}
