//! What a provider was made of, so that a new configuration keeps those that it does not change.
//!
//! A provider that is kept keeps its connections, its minted tokens and its list of models.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::config::{BedrockModelConfig, ProviderConfig};

/// Everything that a provider depends on, the environment of the process aside, which does not change.
#[derive(Debug, PartialEq)]
pub(crate) struct MadeOf {
    table: ProviderConfig,
    /// The default model, if this provider is the one that serves it.
    default_model: Option<String>,
    bedrock_models: BTreeMap<String, BedrockModelConfig>,
    files: Vec<(PathBuf, Option<Stamp>)>,
}

/// What tells one state of a file from another.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    bytes: u64,
}

impl MadeOf {
    pub(super) fn new(
        table: &ProviderConfig,
        default_model: Option<&String>,
        bedrock_models: &BTreeMap<String, BedrockModelConfig>,
    ) -> MadeOf {
        MadeOf {
            table: table.clone(),
            default_model: default_model.cloned(),
            bedrock_models: bedrock_models.clone(),
            files: table.files().map(|file| (file.to_owned(), Stamp::of(file))).collect(),
        }
    }
}

impl Stamp {
    fn of(file: &Path) -> Option<Stamp> {
        let found = std::fs::metadata(file).ok()?;
        Some(Stamp { modified: found.modified().ok(), bytes: found.len() })
    }
}
