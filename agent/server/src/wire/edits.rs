//! Changes of a thread's history and of what is kept with it.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::thread::Thread;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RevertParams {
    pub(crate) thread_id: String,
    pub(crate) before_turn_id: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RevertResponse<'a> {
    pub(crate) thread: Thread<'a>,
    pub(crate) turns_backwards_cursor: Option<String>,
    pub(crate) items_backwards_cursor: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct InjectParams {
    pub(crate) thread_id: String,
    pub(crate) items: Vec<Box<RawValue>>,
}

/// What of an injected item is looked at.
#[derive(Debug, Deserialize)]
pub(crate) struct InjectedItem {
    #[serde(rename = "type")]
    pub(crate) _kind: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MetadataParams {
    pub(crate) thread_id: String,
    #[serde(default)]
    pub(crate) git_info: Option<GitPatch>,
    #[serde(default)]
    pub(crate) daybreak_enabled: Option<bool>,
    #[serde(default)]
    pub(crate) project_id: Option<String>,
}

/// A change of the Git state that a thread belongs to. A null takes a fact away, no field leaves it as it is.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct GitPatch {
    #[serde(default, deserialize_with = "present")]
    pub(crate) sha: Option<Option<String>>,
    #[serde(default, deserialize_with = "present")]
    pub(crate) branch: Option<Option<String>>,
    #[serde(default, deserialize_with = "present")]
    pub(crate) origin_url: Option<Option<String>>,
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}
