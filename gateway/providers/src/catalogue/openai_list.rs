//! OpenAI's form of a model list, which says little more than names.

use serde::Serialize;
use serde_json::Value;

use super::list::is_slug;
use super::{Entry, Model};
use crate::config::ModelFacts;

#[derive(Serialize)]
struct List<'a> {
    object: &'static str,
    data: Vec<Named<'a>>,
}

#[derive(Serialize)]
struct Named<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    owned_by: &'a str,
}

/// Reads one entry. The size of the context is an addition of some servers, under several names.
pub(super) fn read(raw: &str) -> Option<Entry> {
    let entry: Value = serde_json::from_str(raw).ok()?;
    let slug = entry.get("id")?.as_str().filter(|slug| is_slug(slug))?;
    let sizes = ["context_window", "max_model_len", "context_length"];
    let facts = ModelFacts {
        context_window: sizes.into_iter().find_map(|name| entry.get(name)?.as_u64()),
        ..ModelFacts::default()
    };
    let created = entry.get("created").and_then(Value::as_i64).unwrap_or_default();
    // The newest first.
    Some(Entry { rank: created.saturating_neg(), ..Entry::new(slug, facts) })
}

/// Writes the models that clients offer.
pub(super) fn write(models: &[Model]) -> String {
    let shown = models.iter().filter(|model| !model.hidden);
    let data = shown
        .map(|model| Named { id: &model.slug, object: "model", created: 0, owned_by: &model.provider })
        .collect();
    // Texts and numbers can always be written.
    serde_json::to_string(&List { object: "list", data }).unwrap_or_default()
}
