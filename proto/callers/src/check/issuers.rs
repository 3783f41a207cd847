//! Checks `[[authentication.issuers]]`.

use std::{collections::HashSet, sync::Arc};

use url::Url;

use crate::{
    callers::Host,
    config::{Algorithm, IssuerConfig, Problem},
    issuer::{FileKeys, Issuer, Keys, Place, Remote, Spec, is_safe, secret},
};

/// What follows an issuer's address where it publishes its discovery document.
const WELL_KNOWN: &str = "/.well-known/openid-configuration";
const PUBLIC: [Algorithm; 3] = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];
const PLACES: &str =
    "set exactly one of `discovery`, `jwks_url`, `jwks_file`, `secret_file` and `secret_env`";

pub(super) fn check(
    configs: &[IssuerConfig],
    host: &Host<'_>,
    before: &[&Arc<Remote>],
    problems: &mut Vec<Problem>,
) -> Vec<Issuer> {
    let mut names = HashSet::new();
    let mut urls = HashSet::new();
    let mut issuers = Vec::new();
    for (index, config) in configs.iter().enumerate() {
        let key = format!("authentication.issuers[{index}]");
        let mut found = Vec::new();
        if config.name.is_empty() || !names.insert(&config.name) {
            found.push(Problem::new(
                format!("{key}.name"),
                "is empty or the name of an issuer before it",
                "give each issuer a name of its own; rows of [[callers]] use it",
            ));
        }
        if config.issuer.is_empty() || !urls.insert(&config.issuer) {
            found.push(Problem::new(
                format!("{key}.issuer"),
                "is empty or that of an issuer before it",
                "write the exact `iss` of the tokens, once; one issuer can have several audiences",
            ));
        }
        if config.audience.0.is_empty() || config.audience.0.iter().any(String::is_empty) {
            found.push(Problem::new(
                format!("{key}.audience"),
                "is empty",
                "name what the tokens' `aud` says of this service; tokens for others are refused",
            ));
        }
        match keys(config, &key, host, before) {
            Ok(keys) => issuers.push(Issuer {
                name: config.name.as_str().into(),
                url: config.issuer.as_str().into(),
                audiences: config.audience.0.iter().map(|one| one.as_str().into()).collect(),
                keys,
            }),
            Err(problem) => found.push(problem),
        }
        problems.extend(found);
    }
    issuers
}

/// Where the keys are. `Err` is the first thing that is wrong, because the rest depends on it.
fn keys(config: &IssuerConfig, key: &str, host: &Host<'_>, before: &[&Arc<Remote>]) -> Result<Keys, Problem> {
    let IssuerConfig { discovery, jwks_url, jwks_file, secret_file, secret_env, .. } = config;
    let fetched = *discovery || jwks_url.is_some();
    if !fetched && let Some(name) = for_fetching(config) {
        return Err(Problem::new(
            format!("{key}.{name}"),
            "is for keys that are fetched, and these are not",
            "leave it out, or set `discovery` or `jwks_url`",
        ));
    }
    match (discovery, jwks_url, jwks_file, secret_file, secret_env) {
        (true, None, None, None, None) => {
            let address = format!("{}{WELL_KNOWN}", config.issuer.trim_end_matches('/'));
            let url = address_of(&address, &format!("{key}.issuer"))?;
            remote(config, key, host, (Place::Discovery(url), before))
        }
        (false, Some(address), None, None, None) => {
            let url = address_of(address, &format!("{key}.jwks_url"))?;
            remote(config, key, host, (Place::Jwks(url), before))
        }
        (false, None, Some(file), None, None) => {
            let algorithms = algorithms(config, key, &PUBLIC)?;
            let path = host.path(file);
            let unusable = |error| {
                Problem::new(
                    format!("{key}.jwks_file"),
                    format!("names {}, which cannot be used: {error}", path.display()),
                    "name a file with the issuer's public keys: the JSON that its `jwks_uri` answers with",
                )
            };
            FileKeys::open(path.clone(), Some(algorithms)).map(Keys::File).map_err(unusable)
        }
        (false, None, None, Some(file), None) => {
            algorithms(config, key, &[Algorithm::HS256])?;
            let path = host.path(file);
            let unusable = |error| {
                let message = format!("names {}, which cannot be used: {error}", path.display());
                Problem::new(format!("{key}.secret_file"), message, SECRET_FIX)
            };
            FileKeys::open(path.clone(), None).map(Keys::File).map_err(unusable)
        }
        (false, None, None, None, Some(name)) => {
            algorithms(config, key, &[Algorithm::HS256])?;
            let value = (host.environment)(name).ok_or_else(|| "it is not set".to_owned());
            let unusable = |error| {
                let message = format!("names the variable {name}, which cannot be used: {error}");
                Problem::new(format!("{key}.secret_env"), message, SECRET_FIX)
            };
            value.and_then(|value| secret(&value)).map(Arc::new).map(Keys::Fixed).map_err(unusable)
        }
        (false, None, None, None, None) => Err(Problem::new(key, "does not say where its keys are", PLACES)),
        _ => Err(Problem::new(key, "says more than once where its keys are", PLACES)),
    }
}

const SECRET_FIX: &str =
    "share a random secret of at least 32 bytes with the issuer, such as 64 hexadecimal digits";

fn for_fetching(config: &IssuerConfig) -> Option<&'static str> {
    let set = [
        (config.ca_file.is_some(), "ca_file"),
        (config.bearer_token_file.is_some(), "bearer_token_file"),
        (config.proxy.is_some(), "proxy"),
    ];
    set.iter().find(|(set, _)| *set).map(|(_, name)| *name)
}

fn address_of(address: &str, key: &str) -> Result<Url, Problem> {
    Url::parse(address).ok().filter(is_safe).ok_or_else(|| {
        Problem::new(
            key,
            "is not an https address without user and fragment",
            "keys decide who gets in, so they are only fetched over https; http is for this machine alone",
        )
    })
}

fn algorithms(config: &IssuerConfig, key: &str, possible: &[Algorithm]) -> Result<Vec<Algorithm>, Problem> {
    match &config.algorithms {
        None => Ok(possible.to_vec()),
        Some(chosen) if !chosen.is_empty() && chosen.iter().all(|one| possible.contains(one)) => {
            Ok(chosen.clone())
        }
        Some(_) => Err(Problem::new(
            format!("{key}.algorithms"),
            format!("is empty or has one that such keys cannot verify; possible: {}", list(possible)),
            "leave it out, and each key is used with the algorithm that fits it",
        )),
    }
}

fn list(algorithms: &[Algorithm]) -> String {
    let names: Vec<_> = algorithms.iter().map(|one| format!("{one:?}")).collect();
    names.join(", ")
}

fn remote(
    config: &IssuerConfig,
    key: &str,
    host: &Host<'_>,
    (place, before): (Place, &[&Arc<Remote>]),
) -> Result<Keys, Problem> {
    let spec = Spec {
        name: config.name.clone(),
        issuer: config.issuer.clone(),
        place,
        algorithms: algorithms(config, key, &PUBLIC)?,
        ca_file: config.ca_file.as_deref().map(|file| host.path(file)),
        bearer_token_file: config.bearer_token_file.as_deref().map(|file| host.path(file)),
        proxy: config.proxy.clone(),
    };
    if let Err(error) = spec.client() {
        return Err(Problem::new(
            key,
            format!("cannot have its keys fetched: {error}"),
            "correct `ca_file` or `proxy`, or install the system's certificate authorities",
        ));
    }
    let known = before.iter().find(|remote| *remote.spec() == spec).map(|remote| Arc::clone(remote));
    Ok(Keys::Remote(known.unwrap_or_else(|| Arc::new(Remote::new(spec)))))
}
