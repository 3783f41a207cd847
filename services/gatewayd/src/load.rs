//! Reads a configuration and checks it as a whole, before any of it is used.
//!
//! Several files are one configuration, and mounted config maps change them all at once. A reading during which one of
//! them changed may pair two states, so it is done again.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use gateway_policy::{Known, Policy, PolicyConfig};
use gateway_providers::{Providers, ProvidersConfig};
use gateway_server::Configuration;
use service_runtime::{
    Drain,
    config::{Error, Problem, Source},
    guard::Rules,
    listen::{Address, Tls},
    log::LogConfig,
    serve::Limits,
    telemetry::TelemetryConfig,
    watch::Watched,
};
use tidegate_callers::{Callers, CallersConfig, Host};

use crate::GatewaydConfig;

/// How often files are read that change meanwhile, before they are refused for it.
const READS_MAX: usize = 5;

/// Where a configuration comes from.
#[derive(Debug, Clone, Default)]
pub(crate) struct Origin {
    /// The file; without one every key has its default.
    pub(crate) file: Option<PathBuf>,
    /// Where to listen, instead of what the file says; unless empty.
    pub(crate) listen: Vec<Address>,
}

/// What came of reading a configuration.
pub(crate) struct Loaded {
    /// The configuration, or everything that is wrong with it.
    pub(crate) checked: Result<Checked, Error>,
    /// Its files, looked at before they were read, so that no change falls between.
    pub(crate) files: Watched,
}

/// The files of one reading, each looked at before it was read.
#[derive(Default)]
struct Seen {
    /// What makes another configuration when it changes.
    followed: Watched,
    /// What is read again by itself or only once: keys, certificates, lists of models.
    beside: Watched,
}

/// A configuration that was checked as a whole.
pub(crate) struct Checked {
    pub(crate) start: Start,
    /// What a running gateway can go on with.
    pub(crate) calls: Configuration,
}

/// What is decided once, when the process starts.
pub(crate) struct Start {
    pub(crate) listeners: Vec<(Address, Rules)>,
    pub(crate) tls: Option<Tls>,
    pub(crate) limits: Limits,
    pub(crate) drain: Drain,
    pub(crate) log: LogConfig,
    pub(crate) telemetry: TelemetryConfig,
    /// All of this as it was written, to see whether it was changed.
    pub(crate) written: String,
}

impl Origin {
    /// The policy that a configuration names, if it names one.
    fn policy(&self, config: &GatewaydConfig) -> Result<Option<WrittenPolicy>, Error> {
        config.policy_file.as_deref().map(|file| WrittenPolicy::read(&self.beside(file))).transpose()
    }

    /// A path that starts at the configuration file's directory, unless it is absolute.
    fn beside(&self, path: &Path) -> PathBuf {
        self.directory().join(path)
    }

    fn directory(&self) -> &Path {
        self.file.as_deref().and_then(Path::parent).unwrap_or(Path::new(""))
    }

    /// Reads and checks it. What `previous` has and is not changed is kept: connections, tokens, fetched keys.
    pub(crate) fn load(&self, previous: Option<&Configuration>) -> Loaded {
        let mut reads = 0;
        loop {
            let mut seen = Seen::default();
            let checked = self.read(previous, &mut seen);
            reads += 1;
            let torn = seen.followed.differs() || seen.beside.differs();
            if !torn || reads == READS_MAX {
                let checked = if torn { Err(self.restless()) } else { checked };
                return Loaded { checked, files: seen.followed };
            }
        }
    }

    fn read(&self, previous: Option<&Configuration>, seen: &mut Seen) -> Result<Checked, Error> {
        seen.followed.add(self.file.clone());
        let source = match &self.file {
            Some(file) => Source::read(file)?,
            None => Source::from_text("the built-in configuration", ""),
        };
        let mut config: GatewaydConfig = source.parse()?;
        seen.followed.add(config.policy_file.as_deref().map(|file| self.beside(file)));
        seen.beside.add(config.authentication.files().map(|file| self.beside(file)));
        seen.beside.add(config.model_providers.values().flat_map(|table| table.files().map(Path::to_owned)));
        if !self.listen.is_empty() {
            config.listen.clone_from(&self.listen);
        }
        let policy = self.policy(&config);
        let environment = |name: &str| std::env::var(name).ok();
        let surroundings = Surroundings {
            directory: self.directory(),
            listens_by_flags: !self.listen.is_empty(),
            environment: &environment,
            previous,
        };
        let checked = check(config, &surroundings).map_err(|problems| source.invalid(problems));
        let (start, calls) = checked?;
        let policy = policy?.map(|policy| policy.of_names_in(&calls.providers)).transpose()?;
        let calls = Configuration { policy: Arc::new(policy.unwrap_or_default()), ..calls };
        Ok(Checked { start, calls })
    }

    fn restless(&self) -> Error {
        let problem =
            Problem::new("", "it, or a file that it names, changes again and again while it is read");
        Source::from_text(self.file.clone().unwrap_or_default(), "")
            .invalid(vec![problem.fix("let the files come to rest")])
    }
}

/// The policy of the gateway with this configuration file; one that allows everything if it names none.
pub fn policy_of(config: &Path) -> Result<Policy, Error> {
    let origin = Origin { file: Some(config.to_owned()), listen: Vec::new() };
    let config: GatewaydConfig = Source::read(config)?.parse()?;
    Ok(origin.policy(&config)?.map(|written| written.policy).unwrap_or_default())
}

/// Reads and checks a policy file.
pub fn policy(file: &Path) -> Result<Policy, Error> {
    WrittenPolicy::read(file).map(|written| written.policy)
}

/// A policy with the file that it stands in.
struct WrittenPolicy {
    source: Source,
    policy: Policy,
}

impl WrittenPolicy {
    fn read(file: &Path) -> Result<Self, Error> {
        let source = Source::read(file)?;
        let config: PolicyConfig = source.parse()?;
        match Policy::build(&config) {
            Ok(policy) => Ok(Self { source, policy }),
            Err(found) => Err(refused(&source, found)),
        }
    }

    /// The policy, if there is what it names.
    fn of_names_in(self, providers: &Providers) -> Result<Policy, Error> {
        let ids = providers.ids().into_iter().map(str::to_owned).collect();
        let known = Known { providers: ids, models: providers.model_names() };
        match self.policy.unknown_names(&known) {
            unknown if unknown.is_empty() => Ok(self.policy),
            unknown => Err(refused(&self.source, unknown)),
        }
    }
}

fn refused(policy: &Source, found: Vec<gateway_policy::Problem>) -> Error {
    let problem =
        |problem: gateway_policy::Problem| Problem::new(problem.key, problem.message).fix(problem.fix);
    policy.invalid(found.into_iter().map(problem).collect())
}

struct Surroundings<'a> {
    directory: &'a Path,
    /// Whether the command line says where to listen.
    listens_by_flags: bool,
    environment: &'a dyn Fn(&str) -> Option<String>,
    previous: Option<&'a Configuration>,
}

/// Checks everything and tells every problem at once. The policy has a file of its own.
fn check(
    config: GatewaydConfig,
    surroundings: &Surroundings<'_>,
) -> Result<(Start, Configuration), Vec<Problem>> {
    let mut problems = Vec::new();
    let written = format!(
        "{:?}",
        (
            &config.listen,
            &config.tls,
            &config.connections,
            &config.guard,
            &config.drain,
            &config.log,
            &config.telemetry
        )
    );
    let tables = CallersConfig { authentication: config.authentication, callers: config.callers };
    let callers = keep(callers(&tables, surroundings), &mut problems);
    let listeners = listeners(
        (config.listen, surroundings.listens_by_flags),
        &config.guard,
        callers.as_ref(),
        &mut problems,
    );
    let tls = config.tls.and_then(|tls| keep(tls.build("tls"), &mut problems));
    let limits = keep(config.connections.build("connections"), &mut problems);
    let drain = keep(config.drain.build("drain"), &mut problems);
    let providers = ProvidersConfig {
        default_provider: config.model_provider,
        default_model: config.model,
        model_providers: config.model_providers,
        openai_base_url: config.openai_base_url,
        model_aliases: config.model_aliases,
        bedrock_models: config.bedrock_models,
        service_tier: config.service_tier,
    };
    let providers = keep(providers_of(&providers, surroundings), &mut problems);
    match (callers, providers, limits, drain) {
        (Some(callers), Some(providers), Some(limits), Some(drain)) if problems.is_empty() => {
            let (log, telemetry) = (config.log, config.telemetry);
            let start = Start { listeners, tls, limits, drain, log, telemetry, written };
            let policy = Arc::default();
            Ok((start, Configuration { limits: config.limits, providers, callers, policy }))
        }
        _ => Err(problems),
    }
}

fn listeners(
    (addresses, of_flags): (Vec<Address>, bool),
    guard: &service_runtime::guard::GuardConfig,
    callers: Option<&Callers>,
    problems: &mut Vec<Problem>,
) -> Vec<(Address, Rules)> {
    if addresses.is_empty() {
        problems.push(
            Problem::new("listen", "is empty").fix("name at least one address, such as 127.0.0.1:4100"),
        );
    }
    let mut listeners = Vec::new();
    for (index, address) in addresses.into_iter().enumerate() {
        // Callers that could not be checked have problems of their own.
        let stranger = !address.is_local() && callers.is_some_and(|callers| !callers.knows_credentials());
        if stranger {
            let key = if of_flags { "--listen".to_owned() } else { format!("listen[{index}]") };
            let message =
                format!("is {address}, which other machines can reach, and callers are not authenticated");
            let fix = "listen on a loopback address or a unix socket, or say in [authentication] and [[callers]] who may call";
            problems.push(Problem::new(key, message).fix(fix));
        } else if let Some(rules) = keep(guard.build(&address, "guard"), problems) {
            listeners.push((address, rules));
        }
    }
    listeners
}

fn callers(tables: &CallersConfig, surroundings: &Surroundings<'_>) -> Result<Callers, Vec<Problem>> {
    let &Surroundings { directory, environment, previous, .. } = surroundings;
    let host = Host { directory, environment, clock: SystemTime::now };
    let problem =
        |problem: tidegate_callers::Problem| Problem::new(problem.key, problem.message).fix(problem.fix);
    Callers::build_from(previous.map(|previous| &previous.callers), tables, &host)
        .map_err(|found| found.into_iter().map(problem).collect())
}

fn providers_of(
    config: &ProvidersConfig,
    surroundings: &Surroundings<'_>,
) -> Result<Providers, Vec<Problem>> {
    let previous = surroundings.previous.map(|previous| &previous.providers);
    let problem =
        |problem: gateway_providers::Problem| Problem::new(problem.key, problem.message).fix(problem.fix);
    Providers::build_from(previous, config, surroundings.environment)
        .map_err(|found| found.into_iter().map(problem).collect())
}

fn keep<T>(result: Result<T, Vec<Problem>>, problems: &mut Vec<Problem>) -> Option<T> {
    result.map_err(|found| problems.extend(found)).ok()
}

#[cfg(test)]
mod tests;
