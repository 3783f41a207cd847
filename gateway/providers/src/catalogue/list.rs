//! A list of models on the wire, in either of its two forms.
//!
//! Reading is lenient: an entry that cannot be read is left out, because one odd model must not hide the others.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use super::{Model, codex_list, openai_list};
use crate::check::NAME_MAX;
use crate::config::ModelFacts;

/// How many models of a list are kept.
const MODELS_MAX: usize = 1000;
/// How much of a digest makes two lists different: 128 bits.
const ETAG_BYTES: usize = 16;

/// The two forms of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListForm {
    /// OpenAI's: `data`, which names models and nothing more.
    OpenAi,
    /// Codex's: `models`, which says how to use them. Models whose developer message is not known are left out: Codex
    /// has one for them, and better facts of models that it knows by itself.
    Codex,
}

/// A list of models as a client reads it.
#[derive(Debug, Clone)]
pub struct ModelList {
    /// The JSON document.
    pub body: Bytes,
    /// A strong tag of exactly this document, in its quotes.
    pub etag: HeaderValue,
}

impl ModelList {
    /// Writes a list. Hidden models stand only in Codex's form, which says that they are hidden.
    pub(crate) fn write(form: ListForm, models: &[Model]) -> ModelList {
        let body = match form {
            ListForm::OpenAi => openai_list::write(models),
            ListForm::Codex => codex_list::write(models),
        };
        let etag = etag(&body);
        ModelList { body: body.into(), etag }
    }
}

fn etag(body: &str) -> HeaderValue {
    let digest = Sha256::digest(body.as_bytes());
    let digits: String = digest.iter().take(ETAG_BYTES).map(|byte| format!("{byte:02x}")).collect();
    // Quotes and digits are always a header's value.
    HeaderValue::try_from(format!("\"{digits}\"")).unwrap_or_else(|_| HeaderValue::from_static("\"\""))
}

/// What a list says of a model.
pub(crate) struct Entry {
    pub(crate) slug: String,
    /// The place in the list, smallest first.
    pub(crate) rank: i64,
    /// Whether clients may use it, but do not offer it.
    pub(crate) hidden: bool,
    pub(crate) facts: ModelFacts,
    /// The entry as it came, if it came in Codex's form.
    pub(crate) codex: Option<Arc<str>>,
}

impl Entry {
    /// A model that is known by facts alone.
    pub(crate) fn new(slug: &str, facts: ModelFacts) -> Entry {
        Entry { slug: slug.to_owned(), rank: 0, hidden: false, facts, codex: None }
    }
}

#[derive(Deserialize)]
struct List<'a> {
    #[serde(borrow)]
    data: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    models: Option<Vec<&'a RawValue>>,
}

/// Reads a list in whichever form it came.
pub(crate) fn read(body: &[u8]) -> Result<Vec<Entry>, serde_json::Error> {
    let list: List<'_> = serde_json::from_slice(body)?;
    let of_codex = list.models.iter().flatten().filter_map(|raw| codex_list::read(raw.get()));
    let mut entries: Vec<Entry> = of_codex.collect();
    if entries.is_empty() {
        entries = list.data.iter().flatten().filter_map(|raw| openai_list::read(raw.get())).collect();
    }
    entries.sort_by(|a, b| (a.rank, &a.slug).cmp(&(b.rank, &b.slug)));
    let mut seen = HashSet::new();
    entries.retain(|entry| seen.insert(entry.slug.clone()));
    entries.truncate(MODELS_MAX);
    Ok(entries)
}

/// Whether a text can be the name of a model.
pub(super) fn is_slug(text: &str) -> bool {
    !text.is_empty() && text.len() <= NAME_MAX && !text.chars().any(char::is_control)
}
