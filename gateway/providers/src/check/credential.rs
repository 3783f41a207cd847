//! The credential of a provider: which source is configured, and that it is one only.

use secrecy::{ExposeSecret, SecretString};

use super::Check;
use crate::credential::CredentialSource;
use crate::openai;

impl Check<'_> {
    pub(super) fn credential(&mut self) -> Option<CredentialSource> {
        let config = self.config;
        let bearer = config.experimental_bearer_token.as_ref();
        if config.pass_through == Some(true) {
            return Some(CredentialSource::Caller);
        }
        let openai_key = config.requires_openai_auth == Some(true);
        let sources = [config.env_key.is_some(), bearer.is_some(), openai_key];
        if sources.into_iter().filter(|set| *set).count() > 1 {
            let message = "env_key, experimental_bearer_token and requires_openai_auth exclude each other";
            self.problem("", message, "keep one of them");
            return None;
        }
        let (key, secret) = if let Some(token) = bearer {
            ("experimental_bearer_token", SecretString::from(token.expose_secret().trim().to_owned()))
        } else if let Some(variable) = &config.env_key {
            ("env_key", self.read_env("env_key", variable)?)
        } else if openai_key {
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
