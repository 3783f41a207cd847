//! One table of the policy file, checked: each value with the name of the rule that it is.
//!
//! Values are shared, so that the rules of many subjects cost little more than what is their own.

use std::sync::Arc;

use tidegate_responses::service_tier::Tier;

use crate::config::{NamesConfig, Problem, RulesConfig};
use crate::pattern::{Pattern, ToolPattern, Wrong};

/// A value and the rule that says it, such as `tenants.acme.models.deny`.
#[derive(Debug)]
pub(crate) struct Said<T> {
    pub(crate) rule: String,
    pub(crate) value: T,
}

/// What a table says of one key, if anything.
pub(crate) type Saying<T> = Option<Arc<Said<T>>>;

/// What a table says of names.
#[derive(Debug)]
pub(crate) struct Names<P> {
    pub(crate) allow: Saying<Vec<P>>,
    pub(crate) deny: Saying<Vec<P>>,
}

/// A checked table.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) providers: Names<Pattern>,
    pub(crate) models: Names<Pattern>,
    pub(crate) tiers: Names<Pattern>,
    pub(crate) tools: Names<ToolPattern>,
    pub(crate) max_output_tokens: Saying<u64>,
    pub(crate) insert_max_output_tokens: Saying<bool>,
    pub(crate) max_body_bytes: Saying<u64>,
    pub(crate) max_concurrent_calls: Saying<usize>,
    pub(crate) redact_workspaces: Saying<bool>,
    pub(crate) log_content: Saying<bool>,
    pub(crate) scopes_required: Saying<Vec<String>>,
    /// As it was written, for explanations.
    pub(crate) config: RulesConfig,
}

/// Whether a table may be replaced by more specific ones, or holds whatever they say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Layer,
    Requirement,
}

impl Table {
    /// Checks the table of a dotted name, such as `tenants.acme`, and adds everything that is wrong with it to `problems`.
    pub(crate) fn check(name: &str, config: &RulesConfig, role: Role, problems: &mut Vec<Problem>) -> Table {
        let mut check = Check { name, problems };
        check.numbers(config);
        if role == Role::Requirement {
            check.idle_requirements(config);
        }
        let tiers = NamesConfig { allow: config.tiers.allow.clone(), deny: None };
        Table {
            providers: check.names("providers", &config.providers, Pattern::parse),
            models: check.names("models", &config.models, Pattern::parse),
            tiers: check.names("tiers", &tiers, |text| Pattern::parse(Tier::from_name(text).name())),
            tools: check.names("tools", &config.tools, ToolPattern::parse),
            max_output_tokens: check.said("max_output_tokens", config.max_output_tokens),
            insert_max_output_tokens: check.said("insert_max_output_tokens", config.insert_max_output_tokens),
            max_body_bytes: check.said("max_body_bytes", config.max_body_bytes),
            max_concurrent_calls: check.said("max_concurrent_calls", config.max_concurrent_calls),
            redact_workspaces: check.said("redact_workspaces", config.redact_workspaces),
            log_content: check.said("log_content", config.log_content),
            scopes_required: check.said("scopes_required", config.scopes_required.clone()),
            config: config.clone(),
        }
    }
}

struct Check<'a> {
    name: &'a str,
    problems: &'a mut Vec<Problem>,
}

impl Check<'_> {
    fn said<T>(&self, key: &str, value: Option<T>) -> Saying<T> {
        value.map(|value| Arc::new(Said { rule: format!("{}.{key}", self.name), value }))
    }

    fn names<P>(
        &mut self,
        key: &str,
        config: &NamesConfig,
        parse: impl Fn(&str) -> Result<P, Wrong>,
    ) -> Names<P> {
        Names {
            allow: self.list(&format!("{key}.allow"), config.allow.as_deref(), &parse),
            deny: self.list(&format!("{key}.deny"), config.deny.as_deref(), &parse),
        }
    }

    fn list<P>(
        &mut self,
        key: &str,
        texts: Option<&[String]>,
        parse: impl Fn(&str) -> Result<P, Wrong>,
    ) -> Saying<Vec<P>> {
        let mut patterns = Vec::new();
        for (index, text) in texts?.iter().enumerate() {
            match parse(text) {
                Ok(pattern) => patterns.push(pattern),
                Err(Wrong::Empty) => {
                    self.problem(&format!("{key}[{index}]"), "names nothing", "write a name, or `*` for all")
                }
                Err(Wrong::StarInside) => {
                    let fix = "put `*` at the beginning or at the end of a name";
                    self.problem(&format!("{key}[{index}]"), "has a `*` that is not at an end", fix);
                }
            }
        }
        self.said(key, Some(patterns))
    }

    fn numbers(&mut self, config: &RulesConfig) {
        let zero = [
            ("max_output_tokens", config.max_output_tokens == Some(0)),
            ("max_body_bytes", config.max_body_bytes == Some(0)),
            ("max_concurrent_calls", config.max_concurrent_calls == Some(0)),
        ];
        for (key, _) in zero.into_iter().filter(|(_, zero)| *zero) {
            let fix = "write at least 1, or `providers.allow = []` to allow nothing";
            self.problem(key, "is 0, which no call can keep to", fix);
        }
        for (index, scope) in config.scopes_required.iter().flatten().enumerate() {
            if scope.is_empty() {
                self.problem(
                    &format!("scopes_required[{index}]"),
                    "names no scope",
                    "write the scope's name",
                );
            }
        }
    }

    /// A requirement can only take away; one that gives would be accepted and do nothing.
    fn idle_requirements(&mut self, config: &RulesConfig) {
        let idle = [
            ("log_content", config.log_content == Some(true)),
            ("redact_workspaces", config.redact_workspaces == Some(false)),
            ("insert_max_output_tokens", config.insert_max_output_tokens == Some(false)),
        ];
        for (key, _) in idle.into_iter().filter(|(_, idle)| *idle) {
            let fix = "leave it out, or write it into a table that is no requirement";
            self.problem(key, "requires nothing", fix);
        }
    }

    fn problem(&mut self, key: &str, message: &str, fix: &str) {
        let key = format!("{}.{key}", self.name);
        self.problems.push(Problem { key, message: message.to_owned(), fix: fix.to_owned() });
    }
}

/// A dotted name; a part that is no bare TOML key is quoted.
pub(crate) fn dotted(parts: &[&str]) -> String {
    let bare = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == '-';
    let quoted = |part: &&str| match !part.is_empty() && part.chars().all(bare) {
        true => (*part).to_owned(),
        false => format!("{part:?}"),
    };
    parts.iter().map(quoted).collect::<Vec<_>>().join(".")
}
