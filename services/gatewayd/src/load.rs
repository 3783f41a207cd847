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
    cli::chain,
    config::{Error, Problem, Service, Source},
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
    /// What works, but is not what was meant.
    pub(crate) warnings: Vec<String>,
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
    fn source(&self) -> Result<Source, Error> {
        let source = match &self.file {
            Some(file) => Source::read(file)?,
            None => Source::from_text("the built-in configuration", ""),
        };
        source.is_of(Service::Gateway)?;
        Ok(source)
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
        let source = self.source()?;
        let environment = |name: &str| std::env::var(name).ok();
        let mut policy = None;
        let checked = source.parse_checked(|mut config: GatewaydConfig| {
            source.resolve(config.paths_mut());
            seen.followed.add(config.policy_file.clone());
            let of_callers = config.authentication.files().map(|file| source.directory().join(file));
            seen.beside.add(of_callers);
            seen.beside
                .add(config.model_providers.values().flat_map(|table| table.files().map(Path::to_owned)));
            if !self.listen.is_empty() {
                config.listen.clone_from(&self.listen);
            }
            let mut problems = Vec::new();
            policy = WrittenPolicy::of(&config, &mut problems);
            let surroundings = Surroundings {
                directory: source.directory(),
                listens_by_flags: !self.listen.is_empty(),
                environment: &environment,
                previous,
            };
            let checked = keep(check(config, &surroundings), &mut problems);
            checked.filter(|_| problems.is_empty()).ok_or(problems)
        });
        // The policy's own mistakes are told beside those of the file that names it.
        let (checked, policy) = match (checked, policy.transpose()) {
            (Ok(checked), Ok(policy)) => (checked, policy),
            (Err(error), Err(of_policy)) => return Err(error.and(of_policy)),
            (Err(error), Ok(_)) | (Ok(_), Err(error)) => return Err(error),
        };
        let Checked { calls, .. } = &checked;
        let policy = policy.map(|policy| policy.of_names_in(&calls.providers)).transpose()?;
        let calls = Configuration { policy: Arc::new(policy.unwrap_or_default()), ..checked.calls };
        Ok(Checked { calls, ..checked })
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
    let source = Origin { file: Some(config.to_owned()), listen: Vec::new() }.source()?;
    let written = source.parse_checked(|mut config: GatewaydConfig| {
        source.resolve(config.paths_mut());
        let mut problems = Vec::new();
        let written = WrittenPolicy::of(&config, &mut problems);
        if problems.is_empty() { Ok(written) } else { Err(problems) }
    })?;
    Ok(written.transpose()?.map(|written| written.policy).unwrap_or_default())
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
    /// The policy that a configuration names, if it names one. A file that cannot be read is a problem of the key that
    /// names it; what is wrong in the file is the file's.
    fn of(config: &GatewaydConfig, problems: &mut Vec<Problem>) -> Option<Result<Self, Error>> {
        let file = config.policy_file.as_deref()?;
        let message = match Self::read(file) {
            Ok(written) => return Some(Ok(written)),
            Err(error @ (Error::Invalid(_) | Error::Both(..))) => return Some(Err(error)),
            Err(Error::NotFound { file }) => format!("names {}, and there is no such file", file.display()),
            Err(error) => format!("names a file that cannot be used: {}", chain(&error)),
        };
        problems.push(
            Problem::new("policy_file", message).fix("correct the path, write the file, or take the key out"),
        );
        None
    }

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
fn check(config: GatewaydConfig, surroundings: &Surroundings<'_>) -> Result<Checked, Vec<Problem>> {
    let mut problems = Vec::new();
    let asks_for_certificates = config.tls.as_ref().is_some_and(|tls| tls.client_ca_file.is_some());
    let first_certificate = config.callers.iter().position(|row| row.spiffe.is_some());
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
    keep(config.telemetry.check("telemetry"), &mut problems);
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
            let mut warnings = providers.warnings().to_vec();
            warnings.extend(first_certificate.filter(|_| !asks_for_certificates).map(without_certificates));
            let calls = Configuration { limits: config.limits, providers, callers, policy: Arc::default() };
            Ok(Checked { start, calls, warnings })
        }
        _ => Err(problems),
    }
}

/// A row that no caller can have, because nobody is asked for a certificate.
fn without_certificates(row: usize) -> String {
    format!(
        "`callers[{row}].spiffe` stands for nobody: clients are not asked for certificates; name the authorities that \
         issue them in `client_ca_file` under [tls]"
    )
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
    // Their messages follow a colon, those of everybody else go on with the sentence.
    let problem = |gateway_providers::Problem { key, message, fix }| {
        let message = format!("`{key}`: {message}");
        Problem { message, ..Problem::new(key, "").fix(fix) }
    };
    Providers::build_from(previous, config, surroundings.environment)
        .map_err(|found| found.into_iter().map(problem).collect())
}

fn keep<T>(result: Result<T, Vec<Problem>>, problems: &mut Vec<Problem>) -> Option<T> {
    result.map_err(|found| problems.extend(found)).ok()
}

#[cfg(test)]
mod tests;
