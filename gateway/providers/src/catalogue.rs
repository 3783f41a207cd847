//! The models of one provider: configured, built in, or asked for and remembered.
//!
//! A provider that is called with its callers' own credentials is asked with them too, and each caller sees only
//! what was told to its credential. Which provider serves a model is decided elsewhere.

mod codex_list;
mod file;
mod list;
mod model;
mod openai_list;
mod remembered;
mod viewers;

use std::collections::BTreeMap;
use std::sync::Arc;

use http::HeaderValue;

pub(crate) use file::read_models_file;
pub(crate) use list::{Entry, read as read_list};
pub use list::{ListForm, ModelList};
pub use model::Model;
pub use viewers::Viewer;
pub(crate) use viewers::Viewers;

use crate::config::ModelFacts;
use crate::provider::{AccountKind, Provider};
use crate::send::Line;
use crate::upstream::{CallerCredential, Route, Upstream};
use remembered::{Question, Remembered};

/// How many callers' own lists are remembered.
const OWN_LISTS_MAX: usize = 64;

/// The models of one provider.
pub(crate) struct Catalogue {
    /// What the administrator knows; wins over what a provider says.
    configured: BTreeMap<String, ModelFacts>,
    /// The list that everybody sees.
    shared: Remembered,
    /// The lists of callers that brought a credential of their own.
    own: Viewers<Arc<Remembered>>,
}

impl Catalogue {
    /// A list that is known from the start.
    pub(crate) fn fixed(models: Vec<Model>) -> Catalogue {
        Catalogue {
            configured: BTreeMap::new(),
            shared: Remembered::fixed(models.into()),
            own: Viewers::new(OWN_LISTS_MAX),
        }
    }

    /// The list that was configured for a provider. `known` is what is known of models from elsewhere: a file, or a
    /// table that comes with this version. Without `slugs` it is the list.
    pub(crate) fn configured(
        provider: &dyn Provider,
        slugs: Option<&[String]>,
        known: Vec<Entry>,
        facts: &BTreeMap<String, ModelFacts>,
    ) -> Catalogue {
        let Some(slugs) = slugs else { return Catalogue::fixed(merge(known, provider, facts)) };
        let mut known: BTreeMap<String, Entry> =
            known.into_iter().map(|entry| (entry.slug.clone(), entry)).collect();
        let model = |slug: &String| {
            let entry = known.remove(slug).unwrap_or_else(|| Entry::new(slug, ModelFacts::default()));
            let configured = facts.get(slug).cloned().unwrap_or_default();
            Model::of(entry, provider.id(), configured, provider.model_facts(slug).unwrap_or_default())
        };
        Catalogue::fixed(slugs.iter().map(model).collect())
    }

    /// A list that the provider is asked for; until it answers, the models that were configured.
    pub(crate) fn remote(provider: &dyn Provider, configured: BTreeMap<String, ModelFacts>) -> Catalogue {
        let models = merge(Vec::new(), provider, &configured).into();
        Catalogue { configured, shared: Remembered::unasked(models), own: Viewers::new(OWN_LISTS_MAX) }
    }

    /// The models, asking the provider if its list is not fresh. Never fails: a provider that cannot be asked keeps
    /// the list that it had.
    pub(crate) async fn models(
        &self,
        upstream: &Upstream,
        caller: Option<&CallerCredential>,
    ) -> Arc<[Model]> {
        let Route::Http(line) = &upstream.route else { return self.shared.models() };
        if !self.is_per_caller(line) {
            return self.shared.ask(&self.question(upstream, line, None)).await;
        }
        match caller {
            // Nobody's credential is there to ask with.
            None => self.shared.models(),
            Some(caller) => {
                let unasked = || Arc::new(Remembered::unasked(self.shared.models()));
                let own = self.own.get_or_insert_with(caller, unasked);
                own.ask(&self.question(upstream, line, Some(caller))).await
            }
        }
    }

    /// Whether callers see different lists of this provider.
    pub(crate) fn has_own_lists(&self, upstream: &Upstream) -> bool {
        matches!(&upstream.route, Route::Http(line) if self.is_per_caller(line))
    }

    /// The provider says that its list is now another one. Whether that is news, so that it is asked again.
    pub(crate) fn announced(
        &self,
        upstream: &Upstream,
        etag: &HeaderValue,
        caller: Option<&CallerCredential>,
    ) -> bool {
        if !self.has_own_lists(upstream) {
            return self.shared.announced(etag);
        }
        caller.and_then(|caller| self.own.get(caller)).is_some_and(|own| own.announced(etag))
    }

    /// Whether the list, as far as it is known to everybody, has this model.
    pub(crate) fn lists(&self, slug: &str) -> bool {
        self.shared.models().iter().any(|model| model.slug == slug)
    }

    /// Whether this model's calls stay away from the provider's WebSocket, as far as its caller's list is known.
    pub(crate) fn refuses_websockets(&self, slug: &str, caller: Option<&CallerCredential>) -> bool {
        let own = caller.and_then(|caller| self.own.get(caller));
        let models = own.map_or_else(|| self.shared.models(), |own| own.models());
        models.iter().any(|model| model.slug == slug && model.refuses_websockets)
    }

    /// The models that are known to everybody now.
    pub(crate) fn slugs(&self) -> Vec<String> {
        self.shared.models().iter().map(|model| model.slug.clone()).collect()
    }

    fn is_per_caller(&self, line: &Line) -> bool {
        line.credential.is_caller() && !self.shared.is_fixed()
    }

    fn question<'a>(
        &'a self,
        upstream: &'a Upstream,
        line: &'a Line,
        caller: Option<&'a CallerCredential>,
    ) -> Question<'a> {
        // Only OpenAI's backend for ChatGPT accounts has the list in Codex's form, and only with a version.
        let account = upstream.account_of(caller);
        let as_codex = upstream.capabilities().first_party && account == AccountKind::ChatGpt;
        Question { provider: &*upstream.provider, line, caller, configured: &self.configured, as_codex }
    }
}

/// The models of a list with what the administrator and the provider's facts add, and those that only the
/// administrator knows behind them.
fn merge(
    entries: Vec<Entry>,
    provider: &dyn Provider,
    configured: &BTreeMap<String, ModelFacts>,
) -> Vec<Model> {
    let of_list = entries.into_iter().filter_map(|entry| {
        // A provider that knows a model to be of another kind has no facts for it.
        let built_in = provider.model_facts(&entry.slug)?;
        let configured = configured.get(&entry.slug).cloned().unwrap_or_default();
        Some(Model::of(entry, provider.id(), configured, built_in))
    });
    let mut models: Vec<Model> = of_list.collect();
    for (slug, facts) in configured {
        if !models.iter().any(|model| model.slug == *slug) {
            let built_in = provider.model_facts(slug).unwrap_or_default();
            models.push(Model::new(slug, provider.id(), facts.clone().or(built_in)));
        }
    }
    models
}
