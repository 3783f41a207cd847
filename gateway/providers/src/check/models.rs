//! The models that a provider is configured with, and what is known of them.

use std::collections::BTreeSet;

use super::{Check, NAME_MAX};
use crate::catalogue::{Entry, read_models_file};

impl Check<'_> {
    /// Checks what is told of models. Gives the ones of `models_file`.
    pub(super) fn models(&mut self) -> Vec<Entry> {
        let config = self.config;
        let read = config.models_file.as_deref().map(read_models_file);
        let known = read.unwrap_or_else(|| Ok(Vec::new())).unwrap_or_else(|message| {
            let fix = "a file in Codex's own format, {\"models\": [...]}";
            self.problem("models_file", message, fix);
            Vec::new()
        });
        self.slugs(&known);
        known
    }

    fn slugs(&mut self, known: &[Entry]) {
        let config = self.config;
        let mut seen = BTreeSet::new();
        for slug in config.models.iter().flatten() {
            if slug.is_empty() || slug.len() > NAME_MAX || slug.chars().any(char::is_control) {
                self.problem(
                    "models",
                    format!("{slug:?} is not a model's name"),
                    "write it as the provider does",
                );
            }
            if !seen.insert(slug) {
                self.problem("models", format!("{slug} is listed twice"), "remove one");
            }
        }
        if config.models.as_ref().is_some_and(Vec::is_empty) {
            let fix = "list at least one model, or remove the key to take any";
            self.problem("models", "the provider serves nothing", fix);
        }
        if config.models.is_none() {
            seen.extend(known.iter().map(|entry| &entry.slug));
        }
        let closed = config.models.is_some() || config.models_file.is_some();
        for (slug, facts) in &config.model_facts {
            let key = format!("model_facts.{slug}");
            if closed && !seen.contains(slug) {
                self.problem(
                    &key,
                    "not among the provider's models",
                    "add it to models, or remove the facts",
                );
            }
            let efforts = facts.reasoning_efforts.as_deref().unwrap_or_default();
            if let Some(default) = &facts.default_reasoning_effort
                && !efforts.iter().any(|known| known.effort == *default)
            {
                let key = format!("{key}.default_reasoning_effort");
                self.problem(&key, "not among reasoning_efforts", "name one of them");
            }
            if facts.context_window == Some(0) {
                self.problem(&format!("{key}.context_window"), "zero", "the number of tokens, or no key");
            }
        }
    }
}
