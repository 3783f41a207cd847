//! The models of all providers as one list, for everybody or as one caller sees it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::join_all;
use http::HeaderValue;

use super::{Alias, Inner, Member, Providers};
use crate::bedrock;
use crate::catalogue::{ListForm, Model, ModelList, Viewer, Viewers};
use crate::openai;
use crate::rehearsal;
use crate::upstream::{CallerCredential, Upstream};

/// The most names that callers' own lists may teach the routing.
const LEARNED_MAX: usize = 10_000;
/// How many tags are remembered of lists that not everybody sees.
const ETAGS_MAX: usize = 4_096;
/// The end of the tag of a list that a provider has announced to be old.
const DUE: &str = "-due\"";

/// The tags of the lists that were last written in Codex's form.
pub(super) struct Etags {
    /// Of those who are shown all models.
    shared: Mutex<Option<HeaderValue>>,
    own: Viewers<HeaderValue>,
}

impl Default for Etags {
    fn default() -> Self {
        Self { shared: Mutex::default(), own: Viewers::new(ETAGS_MAX) }
    }
}

impl Providers {
    /// The models that clients offer, each once, under the provider that [`Providers::route`] gives for it. A provider
    /// that cannot be asked contributes what it last said.
    pub async fn models(&self) -> Vec<Model> {
        self.models_for(None, &|model| !model.hidden).await
    }

    /// The same as one caller sees it, hidden models included. Providers that are called with the caller's credential
    /// are asked with it; without one they contribute what was configured. `allowed` says which models the caller may
    /// know of.
    pub async fn models_for(
        &self,
        caller: Option<&CallerCredential>,
        allowed: &(dyn Fn(&Model) -> bool + Sync),
    ) -> Vec<Model> {
        let inner = &*self.inner;
        let lists =
            join_all(inner.shown().map(|member| async move {
                (member, member.catalogue.models(&member.upstream, caller).await)
            }))
            .await;
        let mut merged: Vec<Model> = Vec::new();
        let mut taken = HashMap::new();
        for (member, models) in &lists {
            for model in models.iter() {
                let owner = inner.listed.get(&model.slug).unwrap_or(&member.upstream);
                if owner.id() == member.upstream.id() && !taken.contains_key(&model.slug) {
                    taken.insert(model.slug.clone(), Arc::clone(&member.upstream));
                    merged.push(model.clone());
                }
            }
        }
        inner.learn(taken);
        for (name, alias) in &inner.aliases {
            inner.add_alias(&mut merged, name, alias, &lists);
        }
        merged.retain(allowed);
        inner.mark_default(&mut merged);
        merged
    }

    /// The same as a document. Its tag is what [`Providers::models_etag`] gives from now on, if it is in Codex's form.
    pub async fn model_list(
        &self,
        form: ListForm,
        viewer: Viewer<'_>,
        allowed: &(dyn Fn(&Model) -> bool + Sync),
    ) -> ModelList {
        let list = ModelList::write(form, &self.models_for(viewer.credential, allowed).await);
        if form == ListForm::Codex {
            let etags = &self.inner.etags;
            match self.inner.apart(viewer) {
                Some(viewer) => etags.own.insert(viewer, list.etag.clone()),
                None => {
                    *etags.shared.lock().unwrap_or_else(PoisonError::into_inner) = Some(list.etag.clone())
                }
            }
        }
        list
    }

    /// The tag of the list that a viewer who asks now would get, as far as that is known: the value of `x-models-etag`
    /// in an answer to Codex, which asks for the list again when it has one of another tag.
    #[must_use]
    pub fn models_etag(&self, viewer: Viewer<'_>) -> Option<HeaderValue> {
        let etags = &self.inner.etags;
        match self.inner.apart(viewer) {
            Some(viewer) => etags.own.get(viewer),
            None => etags.shared.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    /// A provider announced the tag of its list, by `x-models-etag` in an answer to a call with this credential. If that
    /// is not the list that was read, it is asked at the next occasion, and clients are told to give one.
    pub fn upstream_models_changed(
        &self,
        provider: &str,
        etag: &HeaderValue,
        caller: Option<&CallerCredential>,
    ) {
        let Some(member) = self.inner.members.get(provider) else { return };
        if member.catalogue.announced(&member.upstream, etag, caller) {
            let mut shared = self.inner.etags.shared.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(etag) = &mut *shared {
                mark_due(etag);
            }
            drop(shared);
            self.inner.etags.own.for_each(mark_due);
        }
    }
}

/// What a rule can name.
impl Providers {
    /// The ids of the providers that there are, and of those that are built in and could be.
    #[must_use]
    pub fn ids(&self) -> Vec<&str> {
        let built_in =
            [openai::ID, rehearsal::ID].into_iter().chain(bedrock::Kind::BOTH.map(bedrock::Kind::id));
        self.inner.members.keys().map(String::as_str).chain(built_in).collect()
    }

    /// The names of models, as they are asked for and as their providers know them. None if some provider takes any name.
    #[must_use]
    pub fn model_names(&self) -> Option<Vec<String>> {
        let members = self.inner.members.values();
        let aliases = self.inner.aliases.iter().flat_map(|(name, alias)| [name.clone(), alias.model.clone()]);
        let closed = members.clone().all(|member| !member.open);
        closed.then(|| members.flat_map(|member| member.catalogue.slugs()).chain(aliases).collect())
    }
}

fn mark_due(etag: &mut HeaderValue) {
    if let Ok(text) = etag.to_str()
        && !text.ends_with(DUE)
        && let Ok(due) = HeaderValue::try_from(format!("{}{DUE}", text.trim_end_matches('"')))
    {
        *etag = due;
    }
}

impl Inner {
    fn has_own_lists(&self) -> bool {
        self.shown().any(|member| member.catalogue.has_own_lists(&member.upstream))
    }

    /// The viewer, as far as it sees another list than everybody.
    fn apart<'a>(&self, viewer: Viewer<'a>) -> Option<Viewer<'a>> {
        let credential = viewer.credential.filter(|_| self.has_own_lists());
        (credential.is_some() || !viewer.name.is_empty()).then_some(Viewer { credential, ..viewer })
    }

    /// Remembers which provider serves a model that nobody was configured for.
    fn learn(&self, mut taken: HashMap<String, Arc<Upstream>>) {
        taken.retain(|_, upstream| upstream.id() != self.default.id());
        let mut learned = self.learned.write().unwrap_or_else(PoisonError::into_inner);
        // A name from one caller's list still leads to its provider when another caller's list has come by.
        let is_own = |upstream: &Upstream| {
            self.members.get(upstream.id()).is_some_and(|member| member.catalogue.has_own_lists(upstream))
        };
        let kept = std::mem::take(&mut *learned).into_iter().filter(|(_, upstream)| is_own(upstream));
        *learned = kept.take(LEARNED_MAX).collect();
        learned.extend(taken);
    }

    /// Adds a name that leads to a model, in the place of a model that it hides.
    fn add_alias(
        &self,
        merged: &mut Vec<Model>,
        name: &str,
        alias: &Alias,
        lists: &[(&Member, Arc<[Model]>)],
    ) {
        let id = alias.upstream.id();
        let list = lists.iter().find(|(member, _)| member.upstream.id() == id);
        let listed = list.and_then(|(_, models)| models.iter().find(|model| model.slug == alias.model));
        let model = match listed {
            Some(model) => model.renamed(name),
            None => {
                Model::new(name, id, alias.upstream.provider.model_facts(&alias.model).unwrap_or_default())
            }
        };
        match merged.iter_mut().find(|model| model.slug == name) {
            Some(hidden) => *hidden = model,
            None => merged.push(model),
        }
    }

    /// Marks the configured default model, else the first one of the default provider, else the first.
    fn mark_default(&self, models: &mut [Model]) {
        let find = |fits: &dyn Fn(&Model) -> bool| models.iter().position(|it| !it.hidden && fits(it));
        let index = find(&|model| Some(&model.slug) == self.default_model.as_ref())
            .or_else(|| find(&|model| model.provider == self.default.id()))
            .or_else(|| find(&|_| true));
        if let Some(model) = index.and_then(|index| models.get_mut(index)) {
            model.is_default = true;
        }
    }
}
