//! All providers of a gateway, and which of them serves a model.
//!
//! A model goes to the provider that lists it in the configuration, else to the one that the last merged list
//! names, else to the default provider. What a provider says of itself never takes a model away from the
//! default provider or from a configured list.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use futures_util::future::join_all;
use http::Uri;

use crate::catalogue::{Catalogue, Model};
use crate::check::{self, Env, Settings};
use crate::config::{Problem, ProviderConfig, ProvidersConfig};
use crate::custom::Custom;
use crate::openai::{self, OpenAi};
use crate::provider::{AccountKind, Capabilities, Destination, Fault, Operation, Provider};
use crate::rehearsal;
use crate::retry::Budget;
use crate::send::Line;
use crate::transport::{Tls, Transport};
use crate::upstream::{Route, Upstream};

/// All providers of a gateway. Cheap to clone.
#[derive(Clone)]
pub struct Providers {
    inner: Arc<Inner>,
}

struct Inner {
    /// By id, the built-in ones included.
    members: BTreeMap<String, Member>,
    default: Arc<Upstream>,
    default_model: Option<String>,
    /// Models that the configuration gives to a provider.
    listed: HashMap<String, Arc<Upstream>>,
    /// Models that only another provider than the default one is known to serve.
    learned: RwLock<HashMap<String, Arc<Upstream>>>,
}

struct Member {
    upstream: Arc<Upstream>,
    catalogue: Catalogue,
    /// Whether it takes any model, or only those of its catalogue.
    open: bool,
    /// Whether somebody asked for it. The rehearsal can be used unasked, but is not shown then.
    shown: bool,
}

/// What may be told about a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderFacts {
    /// The id.
    pub id: String,
    /// The name that people see.
    pub display_name: String,
    /// Whether it serves the models that nobody lists.
    pub is_default: bool,
    /// How the gateway identifies to it.
    pub account: AccountKind,
    /// What it can do.
    pub capabilities: Capabilities,
}

/// Why a call cannot be routed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// No provider serves the model.
    #[error("no provider serves the model {model}")]
    UnknownModel {
        /// What was asked for.
        model: String,
    },
    /// There is no provider of that id.
    #[error("there is no provider {provider}")]
    UnknownProvider {
        /// What was asked for.
        provider: String,
    },
    /// The provider serves other models only.
    #[error("provider {provider} does not serve the model {model}")]
    ProviderDoesNotServe {
        /// What was asked for.
        provider: String,
        /// What was asked for.
        model: String,
    },
}

impl RouteError {
    /// Who can do something about it: always the caller.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::UnknownModel { .. } | Self::UnknownProvider { .. } | Self::ProviderDoesNotServe { .. } => {
                Fault::Caller
            }
        }
    }

    /// Whether the same call can succeed later: never, with this configuration.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::UnknownModel { .. } | Self::UnknownProvider { .. } | Self::ProviderDoesNotServe { .. } => {
                false
            }
        }
    }
}

impl Providers {
    /// Checks a whole configuration and prepares everything that calls need; makes no connection. `env` reads
    /// an environment variable.
    pub fn build(config: &ProvidersConfig, env: Env<'_>) -> Result<Providers, Vec<Problem>> {
        let mut build = Build { config, env, problems: Vec::new(), tls: None };
        let default = build.default_id();
        let members = build.members(default.as_deref());
        let listed = build.listed(&members, default.as_deref());
        build.default_model(&members, &listed, default.as_deref());
        let default = default.and_then(|id| Some(Arc::clone(&members.get(&id)?.upstream)));
        match default {
            Some(default) if build.problems.is_empty() => {
                let default_model = config.default_model.clone();
                let learned = RwLock::default();
                Ok(Providers { inner: Arc::new(Inner { members, default, default_model, listed, learned }) })
            }
            _ => Err(build.problems),
        }
    }

    /// The provider for a model. A hint names the provider that a conversation began with; it is kept.
    pub fn route(&self, model: &str, hint: Option<&str>) -> Result<Arc<Upstream>, RouteError> {
        let inner = &*self.inner;
        if let Some(id) = hint.filter(|hint| !hint.is_empty()) {
            let member = inner.members.get(id);
            let member = member.ok_or_else(|| RouteError::UnknownProvider { provider: id.to_owned() })?;
            if member.open || member.catalogue.lists(model) {
                return Ok(Arc::clone(&member.upstream));
            }
            let (provider, model) = (id.to_owned(), model.to_owned());
            return Err(RouteError::ProviderDoesNotServe { provider, model });
        }
        if let Some(upstream) = inner.listed.get(model) {
            return Ok(Arc::clone(upstream));
        }
        let learned = inner.learned.read().unwrap_or_else(PoisonError::into_inner).get(model).cloned();
        if let Some(upstream) = learned {
            return Ok(upstream);
        }
        match inner.members.get(inner.default.id()) {
            Some(default) if default.open => Ok(Arc::clone(&default.upstream)),
            _ => Err(RouteError::UnknownModel { model: model.to_owned() }),
        }
    }

    /// The models of all providers, each once, under the provider that [`Providers::route`] gives for it. A
    /// provider that cannot be asked contributes what it last said.
    pub async fn models(&self) -> Vec<Model> {
        let inner = &*self.inner;
        let lists = join_all(inner.shown().map(|member| async move {
            let line = match &member.upstream.route {
                Route::Http(line) => Some(&**line),
                Route::Rehearsal => None,
            };
            (member, member.catalogue.models(&*member.upstream.provider, line).await)
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
        taken.retain(|_, upstream| upstream.id() != inner.default.id());
        *inner.learned.write().unwrap_or_else(PoisonError::into_inner) = taken;
        inner.mark_default(&mut merged);
        merged
    }

    /// The providers, without anything secret; the default one first.
    #[must_use]
    pub fn describe(&self) -> Vec<ProviderFacts> {
        let facts = |member: &Member| {
            let provider = &member.upstream.provider;
            ProviderFacts {
                id: provider.id().to_owned(),
                display_name: provider.display_name().to_owned(),
                is_default: provider.id() == self.inner.default.id(),
                account: member.upstream.account(),
                capabilities: provider.capabilities(),
            }
        };
        self.inner.shown().map(facts).collect()
    }
}

impl std::fmt::Debug for Providers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ids: Vec<_> = self.inner.shown().map(|member| member.upstream.id()).collect();
        f.debug_struct("Providers").field("ids", &ids).finish_non_exhaustive()
    }
}

impl Inner {
    /// The members that are shown, the default one first.
    fn shown(&self) -> impl Iterator<Item = &Member> {
        let is_default = |member: &&Member| member.upstream.id() == self.default.id();
        let default = self.members.values().filter(is_default);
        let others = self.members.values().filter(move |member| !is_default(member));
        default.chain(others).filter(|member| member.shown)
    }

    /// Marks the configured default model, else the first one of the default provider, else the first.
    fn mark_default(&self, models: &mut [Model]) {
        let configured = models.iter().position(|model| Some(&model.slug) == self.default_model.as_ref());
        let first = || models.iter().position(|model| model.provider == self.default.id());
        let index = configured.or_else(first).unwrap_or(0);
        if let Some(model) = models.get_mut(index) {
            model.is_default = true;
        }
    }
}

/// Collects what a configuration becomes, and its problems.
struct Build<'a> {
    config: &'a ProvidersConfig,
    env: Env<'a>,
    problems: Vec<Problem>,
    /// Read from the machine when the first provider needs it.
    tls: Option<Tls>,
}

impl Build<'_> {
    fn problem(&mut self, key: &str, message: impl Into<String>, fix: impl Into<String>) {
        self.problems.push(Problem { key: key.to_owned(), message: message.into(), fix: fix.into() });
    }

    fn default_id(&mut self) -> Option<String> {
        let config = self.config;
        if let Some(id) = &config.default_provider {
            let known = config.model_providers.contains_key(id) || id == openai::ID || id == rehearsal::ID;
            if !known {
                let message = format!("there is no provider {id}");
                self.problem("model_provider", message, format!("add [model_providers.{id}]"));
                return None;
            }
            return Some(id.clone());
        }
        let has_key = (self.env)(openai::ENV_KEY).is_some_and(|key| !key.trim().is_empty());
        let mut custom = config.model_providers.keys().filter(|id| *id != openai::ID && *id != rehearsal::ID);
        match (custom.next(), custom.next()) {
            _ if has_key || config.model_providers.contains_key(openai::ID) => Some(openai::ID.to_owned()),
            (None, _) => Some(rehearsal::ID.to_owned()),
            (Some(only), None) => Some(only.clone()),
            (Some(_), Some(_)) => {
                let message = "several providers and no default";
                self.problem(
                    "model_provider",
                    message,
                    "name the provider for models that none of them lists",
                );
                None
            }
        }
    }

    fn members(&mut self, default: Option<&str>) -> BTreeMap<String, Member> {
        let config = self.config;
        let mut members = BTreeMap::new();
        for (id, table) in &config.model_providers {
            if id != rehearsal::ID
                && let Some(member) = self.configured(id, table, default)
            {
                members.insert(id.clone(), member);
            }
        }
        // OpenAI is there only if somebody asked for it: a key in the environment alone opens no way out.
        if default == Some(openai::ID) && !config.model_providers.contains_key(openai::ID) {
            let member = self.configured(openai::ID, &ProviderConfig::default(), default);
            members.extend(member.map(|member| (openai::ID.to_owned(), member)));
        }
        let rehearsal_table = config.model_providers.get(rehearsal::ID);
        if let Some(table) = rehearsal_table {
            check::empty_table(rehearsal::ID, table, &mut self.problems);
        }
        let shown = rehearsal_table.is_some() || default == Some(rehearsal::ID);
        members.insert(rehearsal::ID.to_owned(), rehearsal_member(shown));
        members
    }

    /// A provider with a table of its own, or OpenAI as the default.
    fn configured(&mut self, id: &str, table: &ProviderConfig, default: Option<&str>) -> Option<Member> {
        let mut settings = check::provider(id, table, self.env, &mut self.problems)?;
        self.add_default_model(id, default, &mut settings);
        let base = settings.base.clone();
        let provider: Box<dyn Provider> = if id == openai::ID {
            Box::new(OpenAi { base })
        } else {
            let display_name = settings.display_name.clone();
            Box::new(Custom { id: id.to_owned(), display_name, base })
        };
        let catalogue = match &settings.models {
            Some(slugs) => Catalogue::configured(&*provider, slugs, &settings.facts),
            None => Catalogue::remote(&*provider, settings.facts.clone()),
        };
        let open = settings.models.is_none();
        let line = self.line(&*provider, settings)?;
        let upstream = Arc::new(Upstream { provider, route: Route::Http(Box::new(line)) });
        Some(Member { upstream, catalogue, open, shown: true })
    }

    /// The default model is known to be served by a default provider that takes any model, listed or not.
    fn add_default_model(&self, id: &str, default: Option<&str>, settings: &mut Settings) {
        let elsewhere = |model: &String| {
            let lists = |table: &ProviderConfig| table.models.as_ref().is_some_and(|it| it.contains(model));
            self.config.model_providers.values().any(lists) || rehearsal::serves(model)
        };
        if let Some(model) = &self.config.default_model
            && default == Some(id)
            && settings.models.is_none()
            && !elsewhere(model)
        {
            settings.facts.entry(model.clone()).or_default();
        }
    }

    fn line(&mut self, provider: &dyn Provider, settings: Settings) -> Option<Line> {
        let uri = |operation| match provider.endpoint(operation) {
            Destination::Http(url) => Some((url.scheme() == "https", Uri::try_from(url.as_str()).ok()?)),
            Destination::InProcess => None,
        };
        let (Some((secure, responses)), Some((_, models))) =
            (uri(Operation::Responses), uri(Operation::Models))
        else {
            let key = format!("model_providers.{}.base_url", provider.id());
            self.problem(&key, "not an address that HTTP can carry", "for example https://host/v1");
            return None;
        };
        let transport = Transport::new(&self.tls(provider.id(), secure)?);
        let Settings { credential, headers, retries_max, idle, .. } = settings;
        let budget = Budget::new();
        Some(Line { transport, credential, responses, models, headers, retries_max, budget, idle })
    }

    fn tls(&mut self, id: &str, secure: bool) -> Option<Tls> {
        if let Some(tls) = &self.tls {
            return Some(tls.clone());
        }
        let tls = if secure { Tls::of_this_machine() } else { Tls::unused() };
        match tls {
            Ok(tls) if secure => Some(self.tls.insert(tls).clone()),
            Ok(tls) => Some(tls),
            Err(error) => {
                let message = format!("no certificates to check TLS connections with: {error}");
                let key = format!("model_providers.{id}.base_url");
                self.problem(&key, message, "install the system's CA certificates (ca-certificates)");
                None
            }
        }
    }

    fn default_model(
        &mut self,
        members: &BTreeMap<String, Member>,
        listed: &HashMap<String, Arc<Upstream>>,
        default: Option<&str>,
    ) {
        let Some(model) = &self.config.default_model else { return };
        let Some(default) = default.and_then(|id| members.get(id)) else { return };
        if !default.open && !listed.contains_key(model) {
            let message = format!("no provider serves {model}");
            self.problem("model", message, "name a model that a provider lists, or add it to its models");
        }
    }

    /// The models that the configuration gives to a provider. The default provider wins, then the first id.
    fn listed(
        &mut self,
        members: &BTreeMap<String, Member>,
        default: Option<&str>,
    ) -> HashMap<String, Arc<Upstream>> {
        let mut listed = HashMap::new();
        let (first, others): (Vec<_>, Vec<_>) =
            members.iter().partition(|(id, _)| Some(id.as_str()) == default);
        for (id, member) in first.into_iter().chain(others).filter(|(_, member)| !member.open) {
            for slug in member.catalogue.slugs() {
                if id != rehearsal::ID && rehearsal::serves(&slug) {
                    let message = format!("{slug} is the built-in rehearsal model");
                    self.problem(&format!("model_providers.{id}.models"), message, "take it out of the list");
                }
                listed.entry(slug).or_insert_with(|| Arc::clone(&member.upstream));
            }
        }
        listed
    }
}

fn rehearsal_member(shown: bool) -> Member {
    let upstream = Arc::new(Upstream { provider: Box::new(rehearsal::Rehearsal), route: Route::Rehearsal });
    Member { upstream, catalogue: Catalogue::fixed(rehearsal::models()), open: false, shown }
}
