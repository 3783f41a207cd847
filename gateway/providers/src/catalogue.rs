//! The models of one provider: configured, built in, or asked for and remembered.
//!
//! A provider that cannot be asked keeps the list it had; one that never answered has none. Asking is bounded in
//! time and size, happens once however many callers wait, and belongs to the caller: if that one goes away, the
//! next one asks.

mod model;

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

pub use model::Model;

use crate::body::BodyError;
use crate::check::NAME_MAX;
use crate::config::{ModelFacts, ReasoningEffort};
use crate::provider::{Operation, Provider};
use crate::send::{Line, SendError};

/// How long a list is good.
const FRESH: Duration = Duration::from_secs(5 * 60);
/// How long a provider that could not be asked is left alone.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(30);
/// How long asking may take.
const ASK_MAX: Duration = Duration::from_secs(5);
/// The largest list that is read.
const LIST_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How many models of a list are kept.
const MODELS_MAX: usize = 1000;

/// The models of one provider.
pub(crate) struct Catalogue {
    /// What the administrator knows.
    configured: BTreeMap<String, ModelFacts>,
    known: Mutex<Known>,
    /// Held by the caller that asks the provider.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Clone)]
struct Known {
    models: Arc<[Model]>,
    /// When the provider is asked next; never for a list that was configured.
    ask_at: Option<Instant>,
    /// Whether the provider has ever answered.
    answered: bool,
}

impl Catalogue {
    /// A list that is known from the start.
    pub(crate) fn fixed(models: Vec<Model>) -> Catalogue {
        let known = Known { models: models.into(), ask_at: None, answered: true };
        Catalogue {
            configured: BTreeMap::new(),
            known: Mutex::new(known),
            asking: tokio::sync::Mutex::new(()),
        }
    }

    /// The list that was configured for a provider.
    pub(crate) fn configured(
        provider: &dyn Provider,
        slugs: &[String],
        facts: &BTreeMap<String, ModelFacts>,
    ) -> Catalogue {
        let model = |slug: &String| {
            let configured = facts.get(slug).cloned().unwrap_or_default();
            let facts = configured.or(provider.model_facts(slug).unwrap_or_default());
            Model::new(slug, provider.id(), facts)
        };
        Catalogue::fixed(slugs.iter().map(model).collect())
    }

    /// A list that the provider is asked for; until it answers, the models that were configured.
    pub(crate) fn remote(provider: &dyn Provider, configured: BTreeMap<String, ModelFacts>) -> Catalogue {
        let models = of_configuration(provider, &configured).collect();
        let known = Known { models, ask_at: Some(Instant::now()), answered: false };
        Catalogue { configured, known: Mutex::new(known), asking: tokio::sync::Mutex::new(()) }
    }

    /// The models, asking the provider if its list is not fresh. Never fails: see the module's description.
    pub(crate) async fn models(&self, provider: &dyn Provider, line: Option<&Line>) -> Arc<[Model]> {
        let known = self.known().clone();
        let Some(line) = line.filter(|_| known.is_due()) else { return known.models };
        let _turn = if known.answered {
            // An old list is better than waiting for somebody else's question.
            match self.asking.try_lock() {
                Ok(turn) => turn,
                Err(_) => return known.models,
            }
        } else {
            self.asking.lock().await
        };
        if self.known().is_due() {
            let asked = tokio::time::timeout(ASK_MAX, self.ask(provider, line)).await;
            self.remember(provider, asked.unwrap_or(Err(AskError::TooSlow)));
        }
        self.known().models.clone()
    }

    /// Whether the list, as far as it is known, has this model.
    pub(crate) fn lists(&self, slug: &str) -> bool {
        self.known().models.iter().any(|model| model.slug == slug)
    }

    /// The models that are known now.
    pub(crate) fn slugs(&self) -> Vec<String> {
        self.known().models.iter().map(|model| model.slug.clone()).collect()
    }

    async fn ask(&self, provider: &dyn Provider, line: &Line) -> Result<Arc<[Model]>, AskError> {
        let endpoint = provider.endpoint(Operation::Models, "").ok_or(SendError::NotOffered)?;
        let answer = line.models(endpoint, HeaderMap::new(), ASK_MAX).await?;
        if !answer.status.is_success() {
            return Err(AskError::Refused { status: answer.status.as_u16() });
        }
        let body = answer.body.collect(LIST_BYTES_MAX).await?;
        Ok(parse(&body, provider, &self.configured)?.into())
    }

    fn remember(&self, provider: &dyn Provider, asked: Result<Arc<[Model]>, AskError>) {
        let mut known = self.known();
        match asked {
            Ok(models) => {
                *known = Known { models, ask_at: Some(Instant::now() + FRESH), answered: true };
            }
            Err(error) => {
                known.ask_at = Some(Instant::now() + PAUSE_AFTER_FAILURE);
                let (id, kept) = (provider.id(), known.models.len());
                let error: &dyn std::error::Error = &error;
                tracing::warn!(provider = id, kept, error, "cannot list the models of a provider");
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // The value is replaced as a whole, so a panic elsewhere cannot leave half of it.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn is_due(&self) -> bool {
        self.ask_at.is_some_and(|at| at <= Instant::now())
    }
}

/// Why a provider's models are not known. Only ever logged.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error("no answer within {} s", ASK_MAX.as_secs())]
    TooSlow,
    #[error(transparent)]
    Send(#[from] SendError),
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error("answered with status {status}")]
    Refused { status: u16 },
    #[error("not a list of models")]
    Malformed(#[from] serde_json::Error),
}

/// Both forms of a list: OpenAI's `data`, Codex's `models`.
#[derive(Deserialize)]
struct List {
    #[serde(default)]
    data: Vec<Value>,
    #[serde(default)]
    models: Vec<Value>,
}

/// Reads a list. Entries that cannot be read are left out: one odd model must not hide the others.
fn parse(
    body: &[u8],
    provider: &dyn Provider,
    configured: &BTreeMap<String, ModelFacts>,
) -> Result<Vec<Model>, serde_json::Error> {
    let list: List = serde_json::from_slice(body)?;
    let mut entries = match list.models.is_empty() {
        true => list.data.iter().filter_map(from_data).collect::<Vec<_>>(),
        false => list.models.iter().filter_map(from_codex).collect(),
    };
    entries.sort_by(|a, b| (a.rank, &a.slug).cmp(&(b.rank, &b.slug)));
    let mut seen = HashSet::new();
    let models = entries.into_iter().filter(|entry| seen.insert(entry.slug.clone())).filter_map(|entry| {
        let built_in = provider.model_facts(&entry.slug)?;
        let configured = configured.get(&entry.slug).cloned().unwrap_or_default();
        Some(Model::new(&entry.slug, provider.id(), configured.or(entry.facts).or(built_in)))
    });
    let mut models: Vec<Model> = models.take(MODELS_MAX).collect();
    for model in of_configuration(provider, configured) {
        if !models.iter().any(|listed| listed.slug == model.slug) {
            models.push(model);
        }
    }
    Ok(models)
}

/// The models that only the administrator knows.
fn of_configuration<'a>(
    provider: &'a dyn Provider,
    configured: &'a BTreeMap<String, ModelFacts>,
) -> impl Iterator<Item = Model> + 'a {
    configured.iter().map(|(slug, facts)| {
        let facts = facts.clone().or(provider.model_facts(slug).unwrap_or_default());
        Model::new(slug, provider.id(), facts)
    })
}

struct Entry {
    slug: String,
    /// The place in the list, smallest first.
    rank: i64,
    facts: ModelFacts,
}

/// An entry of OpenAI's form. The size of the context is an addition of some servers, under several names.
fn from_data(entry: &Value) -> Option<Entry> {
    let sizes = ["context_window", "max_model_len", "context_length"];
    let facts = ModelFacts {
        context_window: sizes.into_iter().find_map(|name| entry.get(name)?.as_u64()),
        ..ModelFacts::default()
    };
    let created = entry.get("created").and_then(Value::as_i64).unwrap_or_default();
    // The newest first.
    Some(Entry { slug: slug(entry, "id")?, rank: created.saturating_neg(), facts })
}

/// An entry of Codex's form. Models that Codex hides are left out.
fn from_codex(entry: &Value) -> Option<Entry> {
    let text = |name: &str| entry.get(name)?.as_str().map(str::to_owned);
    let flag = |name: &str| entry.get(name)?.as_bool();
    if text("visibility").is_some_and(|visibility| visibility != "list") {
        return None;
    }
    let levels = entry.get("supported_reasoning_levels").and_then(Value::as_array);
    let facts = ModelFacts {
        display_name: text("display_name"),
        description: text("description"),
        reasoning_efforts: levels.map(|levels| levels.iter().filter_map(level).collect()),
        default_reasoning_effort: text("default_reasoning_level"),
        context_window: entry.get("context_window").and_then(Value::as_u64),
        supports_parallel_tool_calls: flag("supports_parallel_tool_calls"),
        supports_reasoning_summaries: flag("supports_reasoning_summaries"),
        base_instructions: text("base_instructions"),
        ..ModelFacts::default()
    };
    let rank = entry.get("priority").and_then(Value::as_i64).unwrap_or_default();
    Some(Entry { slug: slug(entry, "slug")?, rank, facts })
}

fn level(level: &Value) -> Option<ReasoningEffort> {
    let description = level.get("description").and_then(Value::as_str).unwrap_or_default().to_owned();
    Some(ReasoningEffort { effort: level.get("effort")?.as_str()?.to_owned(), description })
}

fn slug(entry: &Value, name: &str) -> Option<String> {
    let slug = entry.get(name)?.as_str()?;
    let fits = !slug.is_empty() && slug.len() <= NAME_MAX && !slug.chars().any(char::is_control);
    fits.then(|| slug.to_owned())
}
