//! Configuration as clients read and write it, and the lists of things that it could configure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::configuration::{Layer, Source, Values};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReadParams {
    #[serde(default)]
    pub(crate) include_layers: bool,
}

#[derive(Debug, Serialize)]
pub(crate) struct ReadResponse<'a> {
    pub(crate) config: Map<String, Value>,
    pub(crate) origins: BTreeMap<&'a str, LayerName<'a>>,
    pub(crate) layers: Option<Vec<ShownLayer<'a>>>,
}

/// Which layer, in which version.
#[derive(Debug, Serialize)]
pub(crate) struct LayerName<'a> {
    pub(crate) name: &'a Source,
    pub(crate) version: &'a str,
}

/// A layer with what it says.
#[derive(Debug, Serialize)]
pub(crate) struct ShownLayer<'a> {
    name: &'a Source,
    version: &'a str,
    config: &'a Values,
}

impl<'a> From<&'a Layer<'_>> for ShownLayer<'a> {
    fn from(layer: &'a Layer<'_>) -> Self {
        Self { name: &layer.source, version: &layer.version, config: layer.values }
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct Requirements {
    pub(crate) requirements: Option<Required>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Required {
    pub(crate) allowed_approval_policies: Option<Vec<Value>>,
    pub(crate) allowed_sandbox_modes: Option<Vec<Value>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WriteParams {
    #[serde(flatten)]
    pub(crate) edit: Edit,
    #[serde(default)]
    pub(crate) expected_version: Option<String>,
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
pub(crate) struct WriteResponse<'a> {
    pub(crate) status: &'static str,
    pub(crate) version: String,
    pub(crate) file_path: String,
    pub(crate) overridden_metadata: Option<Overridden<'a>>,
}

/// What rules over a choice that was just made.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Overridden<'a> {
    pub(crate) effective_value: Value,
    pub(crate) message: String,
    pub(crate) overriding_layer: LayerName<'a>,
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
