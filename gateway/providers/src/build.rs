//! Turns a whole configuration into providers that can be called.
//!
//! Collects every problem on the way. Reads the machine's certificates if a provider needs them; makes no
//! connection.

mod made_of;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use rustls::RootCertStore;

use crate::bedrock::{self, Bedrock};
use crate::catalogue::Catalogue;
use crate::check::{self, Env, Settings};
use crate::config::{Problem, ProviderConfig, ProvidersConfig};
use crate::custom::{Addresses, Custom};
use crate::openai::{self, OpenAi};
use crate::provider::Provider;
use crate::registry::{Alias, Member};
use crate::rehearsal;
use crate::retry::Budget;
use crate::send::Line;
use crate::sign::Signer;
use crate::transport::{Dialer, Network, Proxy, Transport, roots_of_this_machine};
use crate::upstream::{Route, Upstream};
pub(crate) use made_of::MadeOf;

/// Providers by id.
pub(crate) type Members = BTreeMap<String, Arc<Member>>;

/// What a configuration becomes.
pub(crate) struct Built {
    /// By id, the rehearsal included.
    pub(crate) members: Members,
    pub(crate) default: Arc<Upstream>,
    /// Models that the configuration gives to a provider.
    pub(crate) listed: HashMap<String, Arc<Upstream>>,
    pub(crate) aliases: HashMap<String, Alias>,
    /// What works, but should be written in another way.
    pub(crate) warnings: Vec<String>,
}

/// Builds everything, or tells every problem. Members of `previous` that would be built the same are kept.
pub(crate) fn build(
    config: &ProvidersConfig,
    env: Env<'_>,
    previous: Option<&Members>,
) -> Result<Built, Vec<Problem>> {
    let mut problems = Vec::new();
    let bedrock_models = bedrock::served(&config.bedrock_models, &mut problems);
    let warnings = Vec::new();
    let mut build = Build { config, env, previous, problems, warnings, roots: None, bedrock_models };
    let default = build.default_id();
    let members = build.members(default.as_deref());
    let listed = build.listed(&members, default.as_deref());
    let aliases = build.aliases(&members);
    build.default_model(&members, &listed, default.as_deref());
    build.service_tiers();
    let default = default.and_then(|id| Some(Arc::clone(&members.get(&id)?.upstream)));
    match default {
        Some(default) if build.problems.is_empty() => {
            Ok(Built { members, default, listed, aliases, warnings: build.warnings })
        }
        _ => Err(build.problems),
    }
}

/// Collects what a configuration becomes, and its problems.
struct Build<'a> {
    config: &'a ProvidersConfig,
    env: Env<'a>,
    previous: Option<&'a Members>,
    problems: Vec<Problem>,
    warnings: Vec<String>,
    /// Read from the machine when the first provider needs it.
    roots: Option<Arc<RootCertStore>>,
    bedrock_models: Vec<bedrock::Served>,
}

impl<'a> Build<'a> {
    fn problem(&mut self, key: &str, message: impl Into<String>, fix: impl Into<String>) {
        self.problems.push(Problem { key: key.to_owned(), message: message.into(), fix: fix.into() });
    }

    fn default_id(&mut self) -> Option<String> {
        let config = self.config;
        if let Some(id) = &config.default_provider {
            let built_in = id == openai::ID || id == rehearsal::ID || bedrock::Kind::of(id).is_some();
            let known = built_in || config.model_providers.contains_key(id);
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

    fn members(&mut self, default: Option<&str>) -> Members {
        let config = self.config;
        let mut members = Members::new();
        for (id, table) in &config.model_providers {
            if id != rehearsal::ID
                && let Some(member) = self.configured(id, table, default)
            {
                members.insert(id.clone(), member);
            }
        }
        // What is built in is there only if somebody asked for it: a key in the environment alone opens no way out.
        if let Some(id) =
            default.filter(|id| *id != rehearsal::ID && !config.model_providers.contains_key(*id))
        {
            let member = self.configured(id, &ProviderConfig::default(), Some(id));
            members.extend(member.map(|member| (id.to_owned(), member)));
        }
        let rehearsal_table = config.model_providers.get(rehearsal::ID);
        if let Some(table) = rehearsal_table {
            check::empty_table(rehearsal::ID, table, &mut self.problems);
        }
        let shown = rehearsal_table.is_some() || default == Some(rehearsal::ID);
        members.insert(rehearsal::ID.to_owned(), Arc::new(rehearsal_member(shown)));
        members
    }

    /// A provider with a table of its own, or OpenAI as the default.
    fn configured(&mut self, id: &str, table: &ProviderConfig, default: Option<&str>) -> Option<Arc<Member>> {
        let table = &match id {
            openai::ID => self.openai_table(table),
            _ => table.clone(),
        };
        self.look_for_key(id, table);
        let default_model = self.default_model_of(id, default);
        let made_of = MadeOf::new(table, default_model, &self.config.bedrock_models);
        let before = self.previous.and_then(|members| members.get(id));
        if let Some(member) = before.filter(|member| member.made_of.as_ref() == Some(&made_of)) {
            return Some(Arc::clone(member));
        }
        let member = match bedrock::Kind::of(id) {
            Some(kind) => self.bedrock(kind, table)?,
            None => self.of_its_address(id, table, default_model)?,
        };
        Some(Arc::new(Member { made_of: Some(made_of), ..member }))
    }

    /// A provider that is told by its address: OpenAI or a custom one.
    fn of_its_address(
        &mut self,
        id: &str,
        table: &ProviderConfig,
        default_model: Option<&String>,
    ) -> Option<Member> {
        let mut settings = check::provider(id, table, self.env, &mut self.problems)?;
        // The default model is known to be served by a default provider that takes any model, listed or not.
        if let Some(model) = default_model
            && settings.models.is_none()
            && settings.known.is_empty()
        {
            settings.facts.entry(model.clone()).or_default();
        }
        let Some(addresses) = Addresses::below(&settings.base) else {
            let key = format!("model_providers.{id}.base_url");
            self.problem(&key, "not an address that HTTP can carry", "for example https://host/v1");
            return None;
        };
        let websockets = settings.websockets;
        let provider: Box<dyn Provider> = if id == openai::ID {
            Box::new(OpenAi { addresses, websockets })
        } else {
            let display_name = settings.display_name.clone();
            Box::new(Custom { id: id.to_owned(), display_name, addresses, websockets })
        };
        let open = settings.models.is_none() && settings.known.is_empty();
        let catalogue = if open {
            Catalogue::remote(&*provider, settings.facts.clone())
        } else {
            let known = std::mem::take(&mut settings.known);
            Catalogue::configured(&*provider, settings.models.as_deref(), known, &settings.facts)
        };
        let stream_retries_max = settings.stream_retries_max;
        let line = self.line(id, settings)?;
        let upstream = Arc::new(Upstream { provider, route: Route::Http(Box::new(line)) });
        Some(Member { upstream, catalogue, open, shown: true, stream_retries_max, made_of: None })
    }

    /// One of the two providers of Amazon Bedrock, with a table of its own or as the default.
    fn bedrock(&mut self, kind: bedrock::Kind, table: &ProviderConfig) -> Option<Member> {
        let id = kind.id();
        let before = self.problems.len();
        let checked = bedrock::check(kind, table, self.env, &mut self.problems);
        let mut settings = check::provider(id, &checked.table, self.env, &mut self.problems)?;
        (self.problems.len() == before).then_some(())?;
        if let Some(credential) = checked.credential {
            settings.credential = credential;
        }
        let Some(provider) = Bedrock::new(kind, &settings.base, &self.bedrock_models, checked.note) else {
            let key = format!("model_providers.{id}.base_url");
            self.problem(&key, "not an address that HTTP can carry", "for example https://host");
            return None;
        };
        let catalogue = Catalogue::fixed(provider.models());
        let stream_retries_max = settings.stream_retries_max;
        let mut line = self.line(id, settings)?;
        line.signer = Some(Signer::new(&checked.region));
        let upstream =
            Arc::new(Upstream { provider: Box::new(provider), route: Route::Http(Box::new(line)) });
        Some(Member { upstream, catalogue, open: false, shown: true, stream_retries_max, made_of: None })
    }

    /// A file that is not there is no mistake yet: a mounted secret may come later, and is read with the first call.
    fn look_for_key(&mut self, id: &str, table: &ProviderConfig) {
        let Some(file) = table.key_file.as_deref().filter(|file| !file.as_os_str().is_empty()) else {
            return;
        };
        if let Err(error) = std::fs::File::open(file) {
            self.warnings.push(format!(
                "`model_providers.{id}.key_file` is {}, which cannot be read: {error}; calls to {id} fail until it can: \
                 correct the path, or put the key there",
                file.display()
            ));
        }
    }

    /// OpenAI's address can be told in three places; the table wins, then the key, then the environment.
    fn openai_table(&mut self, table: &ProviderConfig) -> ProviderConfig {
        let mut table = table.clone();
        let from_env = (self.env)(openai::ENV_BASE_URL).filter(|url| !url.trim().is_empty());
        if table.base_url.is_none() {
            table.base_url = self.config.openai_base_url.clone().or_else(|| {
                let url = from_env?;
                let variable = openai::ENV_BASE_URL;
                self.warnings.push(format!(
                    "the address of openai is taken from {variable}, which is deprecated: write openai_base_url instead"
                ));
                Some(url)
            });
        }
        table
    }

    fn aliases(&mut self, members: &Members) -> HashMap<String, Alias> {
        let mut aliases = HashMap::new();
        for (name, alias) in &self.config.model_aliases {
            let key = format!("model_aliases.{name}");
            if rehearsal::serves(name) {
                self.problem(&key, "is a built-in rehearsal model", "take another name");
            } else if self.config.model_aliases.contains_key(&alias.model) {
                self.problem(&format!("{key}.model"), "is an alias itself", "name the provider's own model");
            } else if let Some(member) = members.get(&alias.provider) {
                if !member.open && !member.catalogue.lists(&alias.model) {
                    let message = format!("{} does not serve {}", alias.provider, alias.model);
                    self.problem(&format!("{key}.model"), message, "name one of the provider's models");
                }
                let upstream = Arc::clone(&member.upstream);
                aliases.insert(name.clone(), Alias { upstream, model: alias.model.clone() });
            } else if !self.config.model_providers.contains_key(&alias.provider) {
                let message = format!("there is no provider {}", alias.provider);
                let fix = format!("add [model_providers.{}]", alias.provider);
                self.problem(&format!("{key}.provider"), message, fix);
            }
        }
        aliases
    }

    fn service_tiers(&mut self) {
        let tiers = &self.config.service_tier;
        let by_tenant =
            tiers.tenants.iter().map(|(tenant, tier)| (format!("service_tier.tenants.{tenant}"), tier));
        let default = tiers.default.iter().map(|tier| ("service_tier.default".to_owned(), tier));
        for (key, tier) in default.chain(by_tenant) {
            if !matches!(tier.as_str(), "" | "priority" | "fast" | "flex") {
                let message = format!("{tier} is no service tier that can be a default");
                self.problem(&key, message, "priority, flex, or an empty text for none");
            }
        }
    }

    /// The default model, if it is this provider's and no other one's.
    fn default_model_of(&self, id: &str, default: Option<&str>) -> Option<&'a String> {
        let elsewhere = |model: &&String| {
            let lists = |table: &ProviderConfig| table.models.as_ref().is_some_and(|it| it.contains(model));
            self.config.model_providers.values().any(lists) || rehearsal::serves(model)
        };
        self.config.default_model.as_ref().filter(|_| default == Some(id)).filter(|model| !elsewhere(model))
    }

    fn line(&mut self, id: &str, settings: Settings) -> Option<Line> {
        let transport = self.transport(id, settings.base.scheme() == "https", settings.network)?;
        let Settings { credential, headers, retries_max, idle, websocket_connect, .. } = settings;
        let (redact_workspaces, trace_context) = (settings.redact_workspaces, settings.trace_context);
        let budget = Budget::new();
        Some(Line {
            transport,
            credential,
            signer: None,
            headers,
            retries_max,
            budget,
            idle,
            websocket_connect,
            redact_workspaces,
            trace_context,
        })
    }

    fn transport(&mut self, id: &str, secure: bool, network: Network) -> Option<Transport> {
        let needed = secure || network.proxy.as_ref().is_some_and(Proxy::is_secure);
        let roots = match needed {
            true => self.roots(id, network.authorities.is_empty())?,
            false => Arc::new(RootCertStore::empty()),
        };
        match Dialer::new(roots, network) {
            Ok(dialer) => Some(Transport::new(dialer)),
            Err(error) => {
                let message = format!("no TLS connections can be made: {error}");
                self.problem(&format!("model_providers.{id}"), message, "report this; the build is broken");
                None
            }
        }
    }

    /// What the machine trusts. A machine without certificates will do for a provider that brings its own.
    fn roots(&mut self, id: &str, required: bool) -> Option<Arc<RootCertStore>> {
        if let Some(roots) = &self.roots {
            return Some(Arc::clone(roots));
        }
        match roots_of_this_machine() {
            Ok(roots) => Some(Arc::clone(self.roots.insert(Arc::new(roots)))),
            Err(_) if !required => Some(Arc::new(RootCertStore::empty())),
            Err(error) => {
                let message = format!("no certificates to check TLS connections with: {error}");
                let key = format!("model_providers.{id}.base_url");
                let fix = "install the system's CA certificates (ca-certificates), or set ca_file";
                self.problem(&key, message, fix);
                None
            }
        }
    }

    fn default_model(
        &mut self,
        members: &Members,
        listed: &HashMap<String, Arc<Upstream>>,
        default: Option<&str>,
    ) {
        let Some(model) = &self.config.default_model else { return };
        let Some(default) = default.and_then(|id| members.get(id)) else { return };
        let aliased = self.config.model_aliases.contains_key(model);
        if !default.open && !aliased && !listed.contains_key(model) {
            let message = format!("no provider serves {model}");
            self.problem("model", message, "name a model that a provider lists, or add it to its models");
        }
    }

    /// The models that the configuration gives to a provider. The default provider wins, then the first id.
    fn listed(&mut self, members: &Members, default: Option<&str>) -> HashMap<String, Arc<Upstream>> {
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
    let stream_retries_max = check::STREAM_RETRIES_DEFAULT;
    Member {
        upstream,
        catalogue: Catalogue::fixed(rehearsal::models()),
        open: false,
        shown,
        stream_retries_max,
        made_of: None,
    }
}
