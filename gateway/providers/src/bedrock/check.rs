//! Checks the table of one of the two providers: which keys may stand there, in which region it is, and what it
//! identifies with.

use secrecy::SecretString;

use super::commands::{EXPORT_DEFAULT_MS, REFRESH_DEFAULT_MS, program};
use super::{Kind, region};
use crate::check::Env;
use crate::config::{AwsConfig, Problem, ProviderConfig};
use crate::credential::{AwsChain, AwsSource, CredentialSource};

/// A bearer key of Bedrock. Wins over signatures.
const BEARER: &str = "AWS_BEARER_TOKEN_BEDROCK";
/// The keys that may be set. AWS's own sources and endpoints leave nothing else to say.
const KEYS: [&str; 5] = ["base_url", "auth", "http_headers", "aws", "trace_context"];
/// Headers that a signature makes itself.
const MADE: [&str; 3] = ["x-amz-content-sha256", "x-amz-date", "x-amz-security-token"];

/// What the table says.
pub(crate) struct Checked {
    pub(crate) region: String,
    /// What of the table other providers have too, with an address in any case.
    pub(crate) table: ProviderConfig,
    /// What calls are authorized with; none if the table's `auth` says it.
    pub(crate) credential: Option<CredentialSource>,
    /// For people: the region, and what calls are authorized with.
    pub(crate) note: String,
}

/// Checks a table. Problems are added to `problems`; if there are any, what is given must not be used.
pub(crate) fn check(
    kind: Kind,
    config: &ProviderConfig,
    env: Env<'_>,
    problems: &mut Vec<Problem>,
) -> Checked {
    let mut check = Check { kind, config, env, problems };
    check.keys();
    let aws = config.aws.clone().unwrap_or_default();
    let region = region::choose(aws.region.as_deref(), aws.profile.as_deref(), env);
    let mut origin = kind.origin(&region.name);
    if let Some(fix) = region::refused(kind, &region.name) {
        let message =
            format!("Amazon Bedrock cannot be used in {}, which {} says", region.name, region.source);
        check.problem("aws.region", message, fix);
        origin = kind.origin(region::DEFAULT);
    }
    let (credential, with) = check.credential(&aws, &region.name);
    let table = ProviderConfig {
        base_url: Some(config.base_url.clone().unwrap_or(origin)),
        auth: config.auth.clone(),
        http_headers: config.http_headers.clone(),
        trace_context: config.trace_context,
        ..ProviderConfig::default()
    };
    let note = format!("region {} ({}), {with}", region.name, region.source);
    Checked { region: region.name, table, credential, note }
}

struct Check<'a> {
    kind: Kind,
    config: &'a ProviderConfig,
    env: Env<'a>,
    problems: &'a mut Vec<Problem>,
}

impl Check<'_> {
    fn problem(&mut self, key: &str, message: impl Into<String>, fix: impl Into<String>) {
        let key = self.key(key);
        self.problems.push(Problem { key, message: message.into(), fix: fix.into() });
    }

    fn key(&self, key: &str) -> String {
        format!("model_providers.{}.{key}", self.kind.id())
    }

    fn keys(&mut self) {
        for key in self.config.keys().into_iter().filter(|key| !KEYS.contains(key)) {
            let message = format!("{} is built in; this key cannot be changed", self.kind.id());
            let fix = "only base_url, auth, http_headers, trace_context and the table aws may be set";
            self.problem(key, message, fix);
        }
        for name in self.config.http_headers.keys() {
            if MADE.iter().any(|made| made.eq_ignore_ascii_case(name)) {
                let key = format!("http_headers.{name}");
                self.problem(&key, "the signature sets this header itself", "remove it");
            }
        }
    }

    /// What calls are authorized with, and the same in words.
    fn credential(&mut self, aws: &AwsConfig, region: &str) -> (Option<CredentialSource>, String) {
        let named = [
            ("aws.profile", aws.profile.is_some()),
            ("aws.credential_export", aws.credential_export.is_some()),
            ("aws.auth_refresh", aws.auth_refresh.is_some()),
        ];
        if self.config.auth.is_some() {
            for (key, _) in named.into_iter().filter(|(_, set)| *set) {
                let message = "auth gives a bearer token, so nothing is signed";
                self.problem(key, message, "remove the key, or the table auth");
            }
            return (None, "bearer token of a command".to_owned());
        }
        let key = self.key("aws.credential_export");
        let export = aws
            .credential_export
            .as_ref()
            .map(|config| program((&key, config), EXPORT_DEFAULT_MS, None, self.env, self.problems));
        let (key, profile) = (self.key("aws.auth_refresh"), aws.profile.as_deref());
        let refresh = aws
            .auth_refresh
            .as_ref()
            .map(|config| program((&key, config), REFRESH_DEFAULT_MS, profile, self.env, self.problems));
        if aws.profile.as_ref().is_some_and(|profile| profile.trim().is_empty()) {
            self.problem("aws.profile", "empty", "name a profile, or remove the key");
        }
        if aws.profile.is_some() && export.is_some() {
            let message = "aws.profile and aws.credential_export exclude each other";
            self.problem("aws.credential_export", message, "keep one of them");
        }
        if let Some(token) = (self.env)(BEARER) {
            return (self.bearer(&token), format!("bearer token of {BEARER}"));
        }
        let (source, with) = match (export, &aws.profile) {
            (Some(program), _) => {
                (AwsSource::Export(program), "signing with a command's credentials".to_owned())
            }
            (None, Some(profile)) => {
                let with = format!("signing with the credentials of profile {profile}");
                (AwsSource::Profile(profile.clone()), with)
            }
            (None, None) => (AwsSource::Default, "signing with AWS credentials".to_owned()),
        };
        let chain = AwsChain::new(source, region, refresh);
        (Some(chain.into_source()), with)
    }

    fn bearer(&mut self, token: &str) -> Option<CredentialSource> {
        let token = token.trim();
        let source = match token.is_empty() {
            true => None,
            false => CredentialSource::bearer(&SecretString::from(token)),
        };
        if source.is_none() {
            let (message, fix) = match token.is_empty() {
                true => ("is empty", "give a key, or unset the variable to sign with AWS credentials"),
                false => ("cannot stand in a header", "remove control characters from it"),
            };
            self.problem("aws", format!("environment variable {BEARER} {message}"), fix);
        }
        source
    }
}
