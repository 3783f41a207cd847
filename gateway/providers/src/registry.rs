//! All providers of a gateway, and which of them serves a model.
//!
//! A model goes to the provider that lists it in the configuration, else to the one that the last merged list
//! names, else to the default provider. What a provider says of itself never takes a model away from the
//! default provider or from a configured list.

mod listing;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures_util::future::join_all;

use crate::bedrock;
use crate::build::{Built, MadeOf, Members, build};
use crate::catalogue::Catalogue;
use crate::check::Env;
use crate::config::{Problem, ProvidersConfig, ServiceTierConfig};
use crate::provider::{AccountKind, Capabilities, Fault};
use crate::upstream::{CallerCredential, Route, Upstream};
use listing::Etags;

/// All providers of a gateway. Cheap to clone.
#[derive(Clone)]
pub struct Providers {
    inner: Arc<Inner>,
}

struct Inner {
    /// By id, the built-in ones included.
    members: Members,
    default: Arc<Upstream>,
    default_model: Option<String>,
    /// Models that the configuration gives to a provider.
    listed: HashMap<String, Arc<Upstream>>,
    /// Names that clients use for a model of a provider.
    aliases: HashMap<String, Alias>,
    service_tier: ServiceTierConfig,
    warnings: Vec<String>,
    /// The keys that are set in each provider's table.
    keys: HashMap<String, Vec<&'static str>>,
    /// Models that only another provider than the default one is known to serve.
    learned: RwLock<HashMap<String, Arc<Upstream>>>,
    etags: Etags,
}

/// One provider and what it serves.
pub(crate) struct Member {
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) catalogue: Catalogue,
    /// Whether it takes any model, or only those of its catalogue.
    pub(crate) open: bool,
    /// Whether somebody asked for it. The rehearsal can be used unasked, but is not shown then.
    pub(crate) shown: bool,
    /// How many times an agent may begin a broken stream again.
    pub(crate) stream_retries_max: u32,
    /// What it was built from; none for what is always the same.
    pub(crate) made_of: Option<MadeOf>,
}

/// Where calls for a name go instead.
pub(crate) struct Alias {
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) model: String,
}

/// Which provider serves a model, and under which name.
#[derive(Debug, Clone)]
pub struct Routed {
    /// The provider.
    pub upstream: Arc<Upstream>,
    /// The model's name there, if it is not the one that was asked for.
    pub model: Option<String>,
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
    /// What people should know of it, for example what was chosen because nobody said it.
    pub note: Option<String>,
    /// How often a call is repeated before its answer begins.
    pub request_max_retries: u32,
    /// How many times a caller may begin a broken stream again.
    pub stream_max_retries: u32,
    /// How long the provider may be silent before its answer is given up; none if it always answers at once.
    pub stream_idle_timeout: Option<Duration>,
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
    /// The provider serves only models that somebody has described.
    #[error("provider {provider} does not know the model {model}: it can be added to bedrock_models")]
    NotDescribed {
        /// The provider.
        provider: String,
        /// What was asked for.
        model: String,
    },
}

impl RouteError {
    fn not_served(provider: &str, model: &str) -> RouteError {
        let described = bedrock::Kind::of(provider).is_some();
        let (provider, model) = (provider.to_owned(), model.to_owned());
        match described {
            true => RouteError::NotDescribed { provider, model },
            false => RouteError::ProviderDoesNotServe { provider, model },
        }
    }

    /// Who can do something about it: always the caller.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::UnknownModel { .. }
            | Self::UnknownProvider { .. }
            | Self::ProviderDoesNotServe { .. }
            | Self::NotDescribed { .. } => Fault::Caller,
        }
    }

    /// Whether the same call can succeed later: never, with this configuration.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::UnknownModel { .. }
            | Self::UnknownProvider { .. }
            | Self::ProviderDoesNotServe { .. }
            | Self::NotDescribed { .. } => false,
        }
    }
}

impl Providers {
    /// Checks a whole configuration and prepares everything that calls need; makes no connection. `env` reads
    /// an environment variable.
    pub fn build(config: &ProvidersConfig, env: Env<'_>) -> Result<Providers, Vec<Problem>> {
        Self::build_from(None, config, env)
    }

    /// The same for a new configuration: providers that it does not change are those of `previous`, with their
    /// connections, credentials and lists.
    pub fn build_from(
        previous: Option<&Providers>,
        config: &ProvidersConfig,
        env: Env<'_>,
    ) -> Result<Providers, Vec<Problem>> {
        let members = previous.map(|previous| &previous.inner.members);
        let Built { members, default, listed, aliases, warnings } = build(config, env, members)?;
        let (default_model, learned) = (config.default_model.clone(), RwLock::default());
        let service_tier = config.service_tier.clone();
        let etags = Etags::default();
        let keys = config.model_providers.iter().map(|(id, table)| (id.clone(), table.keys())).collect();
        let inner = Inner {
            members,
            default,
            default_model,
            listed,
            aliases,
            service_tier,
            warnings,
            keys,
            learned,
            etags,
        };
        Ok(Providers { inner: Arc::new(inner) })
    }

    /// Makes one connection to every provider, so that a first call need not wait for DNS, TCP and TLS.
    ///
    /// Ends when the connections have been used or are too old to be; dropping the future keeps those that are there.
    /// What cannot be reached is logged and no more: the call that needs it will tell.
    pub async fn prewarm(&self) {
        join_all(self.inner.members.values().map(|member| member.upstream.prewarm())).await;
    }

    /// What works, but should be written in another way.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.inner.warnings
    }

    /// The service tier for a tenant's requests that name none.
    #[must_use]
    pub fn service_tier(&self, tenant: &str) -> Option<&str> {
        let tiers = &self.inner.service_tier;
        tiers
            .tenants
            .get(tenant)
            .or(tiers.default.as_ref())
            .map(String::as_str)
            .filter(|tier| !tier.is_empty())
    }

    /// The provider for a model, and its name there. A hint names the provider that a conversation began with; it is
    /// kept, and an alias that leads elsewhere is not followed.
    pub fn route(&self, model: &str, hint: Option<&str>) -> Result<Routed, RouteError> {
        let hint = hint.filter(|hint| !hint.is_empty());
        if let Some(alias) = self.inner.aliases.get(model)
            && hint.is_none_or(|hint| hint == alias.upstream.id())
        {
            return Ok(Routed { upstream: Arc::clone(&alias.upstream), model: Some(alias.model.clone()) });
        }
        Ok(Routed { upstream: self.serving(model, hint)?, model: None })
    }

    /// Whether calls for a model, by its name at the provider, stay away from the provider's WebSocket.
    #[must_use]
    pub fn stays_on_http(&self, upstream: &Upstream, model: &str, caller: Option<&CallerCredential>) -> bool {
        let member = self.inner.members.get(upstream.id()).filter(|_| upstream.capabilities().websockets);
        member.is_none_or(|member| member.catalogue.refuses_websockets(model, caller))
    }

    fn serving(&self, model: &str, hint: Option<&str>) -> Result<Arc<Upstream>, RouteError> {
        let inner = &*self.inner;
        if let Some(id) = hint {
            let member = inner.members.get(id);
            let member = member.ok_or_else(|| RouteError::UnknownProvider { provider: id.to_owned() })?;
            if member.open || member.catalogue.lists(model) {
                return Ok(Arc::clone(&member.upstream));
            }
            return Err(RouteError::not_served(id, model));
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
            Some(default) if bedrock::Kind::of(default.upstream.id()).is_some() => {
                Err(RouteError::not_served(default.upstream.id(), model))
            }
            _ => Err(RouteError::UnknownModel { model: model.to_owned() }),
        }
    }

    /// One provider, also one that nobody asked for.
    pub(crate) fn member(&self, id: &str) -> Option<&Member> {
        self.inner.members.get(id).map(Arc::as_ref)
    }

    /// The keys that are set in a provider's table.
    pub(crate) fn keys(&self, id: &str) -> &[&'static str] {
        self.inner.keys.get(id).map(Vec::as_slice).unwrap_or_default()
    }

    /// The providers, without anything secret; the default one first.
    #[must_use]
    pub fn describe(&self) -> Vec<ProviderFacts> {
        let facts = |member: &Member| {
            let provider = &member.upstream.provider;
            let line = match &member.upstream.route {
                Route::Http(line) => Some(line),
                Route::Rehearsal => None,
            };
            ProviderFacts {
                id: provider.id().to_owned(),
                display_name: provider.display_name().to_owned(),
                is_default: provider.id() == self.inner.default.id(),
                account: member.upstream.account(),
                capabilities: provider.capabilities(),
                note: provider.note().map(str::to_owned),
                request_max_retries: line.map_or(0, |line| line.retries_max),
                stream_max_retries: member.stream_retries_max,
                stream_idle_timeout: line.map(|line| line.idle),
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
        let members = || self.members.values().map(Arc::as_ref);
        let default = members().filter(is_default);
        let others = members().filter(move |member| !is_default(member));
        default.chain(others).filter(|member| member.shown)
    }
}
