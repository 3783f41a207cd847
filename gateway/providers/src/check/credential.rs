//! The credential of a provider: which source is configured, and that it is one only.

use secrecy::{ExposeSecret, SecretString};

use super::Check;
use crate::credential::{CredentialSource, KeyFile};
use crate::openai;

impl Check<'_> {
    pub(super) fn credential(&mut self) -> Option<CredentialSource> {
        let config = self.config;
        let bearer = config.experimental_bearer_token.as_ref();
        let sources = [
            ("env_key", config.env_key.is_some()),
            ("experimental_bearer_token", bearer.is_some()),
            ("requires_openai_auth", config.requires_openai_auth == Some(true)),
            ("auth", config.auth.is_some()),
            ("key_file", config.key_file.is_some()),
            ("pass_through", config.pass_through == Some(true)),
        ];
        let set: Vec<_> = sources.into_iter().filter(|(_, set)| *set).map(|(key, _)| key).collect();
        if let [others @ .., last] = &*set
            && !others.is_empty()
        {
            let message = format!("{} and {last} exclude each other", others.join(", "));
            self.problem("", message, "keep one of them");
            // The table's own mistakes are told all the same.
            config.auth.as_ref().map(|auth| self.command(auth));
            return None;
        }
        if let Some(auth) = &config.auth {
            return Some(self.command(auth));
        }
        if let Some(path) = &config.key_file {
            if path.as_os_str().is_empty() {
                self.problem("key_file", "empty", "name a file, or remove the key");
            }
            return Some(KeyFile { path: path.clone() }.into_source());
        }
        if config.pass_through == Some(true) {
            return Some(CredentialSource::Caller);
        }
        self.fixed(bearer.map(|bearer| &**bearer))
    }

    /// A value of the configuration or the environment, or none at all.
    fn fixed(&mut self, bearer: Option<&SecretString>) -> Option<CredentialSource> {
        let config = self.config;
        let (key, secret) = if let Some(token) = bearer {
            ("experimental_bearer_token", SecretString::from(token.expose_secret().trim().to_owned()))
        } else if let Some(variable) = &config.env_key {
            ("env_key", self.read_env("env_key", variable)?)
        } else if config.requires_openai_auth == Some(true) {
            ("requires_openai_auth", self.read_env("requires_openai_auth", openai::ENV_KEY)?)
        } else if self.is_openai() {
            ("env_key", self.read_env("env_key", openai::ENV_KEY)?)
        } else {
            return Some(CredentialSource::none());
        };
        if secret.expose_secret().is_empty() {
            self.problem(key, "empty", "give a token, or remove the key");
            return None;
        }
        let Some(source) = CredentialSource::bearer(&secret) else {
            self.problem(key, "the value cannot stand in a header", "remove control characters from it");
            return None;
        };
        Some(source)
    }

    fn read_env(&mut self, key: &str, variable: &str) -> Option<SecretString> {
        let value = (self.env)(variable).map(|value| value.trim().to_owned());
        let message = match &value {
            None => format!("environment variable {variable} is not set"),
            Some(value) if value.is_empty() => format!("environment variable {variable} is empty"),
            Some(value) => return Some(SecretString::from(value.as_str())),
        };
        let instructions = self.config.env_key_instructions.as_deref();
        let fix = match instructions {
            Some(instructions) => instructions.to_owned(),
            None => format!("set {variable} for the gateway's process"),
        };
        self.problem(key, message, fix);
        None
    }
}
