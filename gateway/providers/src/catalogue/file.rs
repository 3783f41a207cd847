//! A file with models in Codex's own form, read once when the configuration is built.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Entry, codex_list};

#[cfg(test)]
mod tests;

/// The largest file that is read.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

#[derive(Deserialize)]
struct File {
    models: Vec<Box<RawValue>>,
}

/// The models of a file, in its order of priority, or what is wrong with it and where.
pub(crate) fn read_models_file(path: &Path) -> Result<Vec<Entry>, String> {
    let name = path.display();
    let size = fs::metadata(path).map_err(|error| format!("cannot read {name}: {error}"))?.len();
    if size > FILE_BYTES_MAX {
        return Err(format!("{name} is larger than {FILE_BYTES_MAX} bytes"));
    }
    let text = fs::read_to_string(path).map_err(|error| format!("cannot read {name}: {error}"))?;
    parse(&text).map_err(|message| format!("{name}: {message}"))
}

fn parse(text: &str) -> Result<Vec<Entry>, String> {
    let file: File = serde_json::from_str(text)
        .map_err(|error| format!("not a list of models in Codex's form, {{\"models\": [...]}}: {error}"))?;
    if file.models.is_empty() {
        return Err("models is empty".to_owned());
    }
    let mut slugs = HashSet::new();
    let mut entries = Vec::with_capacity(file.models.len());
    for (index, raw) in file.models.iter().enumerate() {
        let wrong = |message: &str| format!("models[{index}]: {message}");
        let Ok(object) = serde_json::from_str(raw.get()) else { return Err(wrong("not an object")) };
        let Some(entry) = codex_list::read(raw.get()) else {
            return Err(wrong("slug is not a model's name"));
        };
        let slug = &entry.slug;
        if let Some(complaint) = codex_list::complaint(&object) {
            return Err(wrong(&format!("{complaint} (model {slug})")));
        }
        if !slugs.insert(slug.clone()) {
            return Err(wrong(&format!("{slug} is listed twice")));
        }
        entries.push(entry);
    }
    entries.sort_by_key(|entry| entry.rank);
    Ok(entries)
}
