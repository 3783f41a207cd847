//! Lists of threads and of what is in them: what a client asks for, and what it gets.

use std::collections::HashMap;

use agent_threads::ThreadId;
use serde::{Deserialize, Serialize};

use super::page::SortDirection;
use super::read_state::ReadState;
use super::thread::Thread;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ListParams {
    #[serde(default)]
    pub(crate) cursor: Option<String>,
    #[serde(default)]
    pub(crate) limit: Option<u32>,
    #[serde(default)]
    pub(crate) sort_key: Option<SortKey>,
    #[serde(default)]
    pub(crate) sort_direction: Option<SortDirection>,
    #[serde(default)]
    pub(crate) archived: Option<bool>,
    #[serde(default)]
    pub(crate) source_kinds: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) model_providers: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) cwd: Option<OneOrMany>,
    #[serde(default)]
    pub(crate) search_term: Option<String>,
    #[serde(default)]
    pub(crate) excluded_thread_ids: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) originators: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) section_id: Option<String>,
    #[serde(default)]
    pub(crate) project_id: Option<String>,
    #[serde(default)]
    pub(crate) parent_thread_id: Option<String>,
    #[serde(default)]
    pub(crate) ancestor_thread_id: Option<String>,
    #[serde(default)]
    pub(crate) attached_to_thread_id: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SortKey {
    CreatedAt,
    UpdatedAt,
    RecencyAt,
    SectionPosition,
}

/// A text or a list of texts.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    pub(crate) fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::Many(texts) => texts,
        }
    }
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ListResponse<'a> {
    pub(crate) data: Vec<Thread<'a>>,
    pub(crate) read_states: HashMap<ThreadId, ReadState>,
    pub(crate) next_cursor: Option<String>,
    pub(crate) backwards_cursor: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LoadedParams {
    #[serde(default)]
    pub(crate) cursor: Option<String>,
    #[serde(default)]
    pub(crate) limit: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ItemsParams {
    pub(crate) thread_id: String,
    #[serde(default)]
    pub(crate) turn_id: Option<String>,
    #[serde(default)]
    pub(crate) cursor: Option<ItemsCursor>,
    #[serde(default)]
    pub(crate) limit: Option<u32>,
    #[serde(default)]
    pub(crate) sort_direction: Option<SortDirection>,
}

/// Where a page of items begins.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum ItemsCursor {
    /// Where another page said.
    Opaque(String),
    /// Past an item of the turn that is asked for.
    Anchor(Anchor),
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(crate) enum Anchor {
    Item { item_id: String },
}
