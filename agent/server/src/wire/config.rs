//! Configuration as clients read and write it, and the lists of things that it could configure.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReadParams {
    #[serde(default)]
    pub(crate) include_layers: bool,
}

#[derive(Debug, Serialize)]
pub(crate) struct ReadResponse {
    pub(crate) config: Map<String, Value>,
    pub(crate) origins: Map<String, Value>,
    pub(crate) layers: Option<[(); 0]>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Requirements {
    pub(crate) requirements: (),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BatchWriteParams {
    pub(crate) edits: Vec<Edit>,
    #[serde(default)]
    pub(crate) expected_version: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Edit {
    pub(crate) key_path: String,
    pub(crate) value: Value,
    pub(crate) merge_strategy: MergeStrategy,
}

/// For single values, both mean the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum MergeStrategy {
    Replace,
    Upsert,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WriteResponse {
    pub(crate) status: &'static str,
    pub(crate) version: String,
    pub(crate) file_path: String,
    pub(crate) overridden_metadata: (),
}

/// The parameters of lists that are asked for by working directory.
#[derive(Debug, Deserialize)]
pub(crate) struct ByDirectory {
    #[serde(default)]
    pub(crate) cwds: Vec<String>,
}

/// No hooks run here.
#[derive(Debug, Serialize)]
pub(crate) struct Hooks {
    pub(crate) cwd: String,
    pub(crate) hooks: [(); 0],
    pub(crate) warnings: [(); 0],
    pub(crate) errors: [(); 0],
}

/// No skills are known here.
#[derive(Debug, Serialize)]
pub(crate) struct Skills {
    pub(crate) cwd: String,
    pub(crate) skills: [(); 0],
    pub(crate) errors: [(); 0],
}

/// No plugins are known here.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Plugins {
    pub(crate) marketplaces: [(); 0],
    pub(crate) marketplace_load_errors: [(); 0],
}
