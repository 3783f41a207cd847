//! Checks `[[callers]]`.

use std::sync::Arc;

use serde_json::Value;

use crate::{
    certificate::is_pattern,
    config::{CallerConfig, Problem},
    keys::{Override, is_id},
    names::{SCOPE_RULE, SUBJECT_RULE, TENANT_RULE, is_subject, is_tenant},
    rows::{Name, Rows, SpiffeRow, TokenRow},
};

/// The claim that names the subject if nothing else does.
const SUBJECT_CLAIM: &str = "sub";

/// Checks the rows; `issuers` are the names that they may use, in order.
pub(super) fn check(callers: &[CallerConfig], issuers: &[&str], problems: &mut Vec<Problem>) -> Rows {
    let mut rows = Rows::default();
    for (index, config) in callers.iter().enumerate() {
        let mut row = Row { config, key: format!("callers[{index}]"), problems };
        row.add_to(&mut rows, issuers);
    }
    rows
}

/// One row while it is checked.
struct Row<'a> {
    config: &'a CallerConfig,
    key: String,
    problems: &'a mut Vec<Problem>,
}

impl Row<'_> {
    fn add_to(&mut self, rows: &mut Rows, issuers: &[&str]) {
        let config = self.config;
        let scopes = self.scopes();
        match (&config.key, &config.spiffe, &config.issuer) {
            (Some(id), None, None) => {
                self.only_for_tokens();
                if !is_id(id) {
                    self.wrong("key", "is not the id of a key", "take an id that `tidegate keys list` shows");
                }
                let tenant = self.fixed_tenant();
                let row = Override { tenant, subject: self.fixed_subject(), scopes };
                rows.keys.entry(id.as_str().into()).or_insert(row);
            }
            (None, Some(pattern), None) => {
                self.only_for_tokens();
                if !is_pattern(pattern) {
                    self.wrong(
                        "spiffe",
                        "is not a SPIFFE id",
                        "write one such as spiffe://example.org/agent; `/*` at the end stands for every id below",
                    );
                }
                let (tenant, subject) = (self.fixed_tenant(), self.fixed_subject());
                rows.spiffe.push(SpiffeRow { pattern: pattern.as_str().into(), tenant, subject, scopes });
            }
            (None, None, Some(name)) => {
                let issuer = issuers.iter().position(|issuer| issuer == name);
                if issuer.is_none() {
                    self.wrong(
                        "issuer",
                        format!("names `{name}`, which is no issuer"),
                        "name an entry of [[authentication.issuers]]",
                    );
                }
                let claims = self.claims();
                let (tenant, subject) = (self.tenant(), self.subject());
                let issuer = issuer.unwrap_or_default();
                rows.tokens.push(TokenRow { issuer, claims, tenant, subject, scopes });
            }
            _ => self.problems.push(Problem::new(
                self.key.clone(),
                "does not say which credential it is about, or says it more than once",
                "set exactly one of `key`, `spiffe` and `issuer`; use a row for each",
            )),
        }
    }

    fn wrong(&mut self, name: &str, message: impl Into<String>, fix: impl Into<String>) {
        self.problems.push(Problem::new(format!("{}.{name}", self.key), message, fix));
    }

    /// Keys and certificates have no claims.
    fn only_for_tokens(&mut self) {
        let config = self.config;
        let set = [
            (!config.claims.is_empty(), "claims"),
            (config.service_account.is_some(), "service_account"),
            (config.tenant_claim.is_some(), "tenant_claim"),
            (config.subject_claim.is_some(), "subject_claim"),
        ];
        for (_, name) in set.iter().filter(|(set, _)| *set) {
            self.wrong(name, "is about tokens, and this row is not", "use it in a row with `issuer`");
        }
    }

    fn fixed_tenant(&mut self) -> Arc<str> {
        match &self.config.tenant {
            Some(tenant) if is_tenant(tenant) => {}
            Some(_) => self.wrong("tenant", "cannot be a tenant's name", format!("use {TENANT_RULE}")),
            None => self.problems.push(Problem::new(
                self.key.clone(),
                "does not say whose the caller is",
                "set `tenant`",
            )),
        }
        self.config.tenant.as_deref().unwrap_or_default().into()
    }

    fn fixed_subject(&mut self) -> Option<Arc<str>> {
        let subject = self.config.subject.as_deref()?;
        if !is_subject(subject) {
            self.wrong("subject", "cannot be a subject's name", format!("use {SUBJECT_RULE}"));
        }
        Some(subject.into())
    }

    fn tenant(&mut self) -> Name {
        match (&self.config.tenant, &self.config.tenant_claim) {
            (None, Some(claim)) => Name::Claim(claim.as_str().into()),
            (Some(_), None) => Name::Fixed(self.fixed_tenant()),
            (given, _) => {
                let message = match given {
                    Some(_) => "says twice whose the caller is",
                    None => "does not say whose the caller is",
                };
                let fix = "set either `tenant` or `tenant_claim`";
                self.problems.push(Problem::new(self.key.clone(), message, fix));
                Name::Fixed("".into())
            }
        }
    }

    fn subject(&mut self) -> Name {
        let fixed = self.fixed_subject();
        match (fixed, &self.config.subject_claim) {
            (Some(_), Some(_)) => {
                let fix = "set either `subject` or `subject_claim`";
                self.problems.push(Problem::new(self.key.clone(), "says twice who the caller is", fix));
                Name::Fixed("".into())
            }
            (Some(subject), None) => Name::Fixed(subject),
            (None, claim) => Name::Claim(claim.as_deref().unwrap_or(SUBJECT_CLAIM).into()),
        }
    }

    fn claims(&mut self) -> Vec<(Box<str>, Value)> {
        let config = self.config;
        let mut claims = Vec::new();
        for (name, value) in &config.claims {
            match value {
                Value::String(_) | Value::Bool(_) | Value::Number(_) => {
                    claims.push((name.as_str().into(), value.clone()));
                }
                Value::Null | Value::Array(_) | Value::Object(_) => self.wrong(
                    &format!("claims.{name}"),
                    "is not a string, a boolean or a number",
                    "write one value; a claim that is a list matches if the value is in it",
                ),
            }
        }
        if let Some(account) = &config.service_account {
            match account.split_once('/') {
                Some((space, name)) if is_kubernetes(space) && is_kubernetes(name) => {
                    let subject = format!("system:serviceaccount:{space}:{name}");
                    claims.push((SUBJECT_CLAIM.into(), subject.into()));
                }
                _ => self.wrong(
                    "service_account",
                    "is not the name of a service account",
                    "write `namespace/name`",
                ),
            }
        }
        claims
    }

    fn scopes(&mut self) -> Arc<[Box<str>]> {
        if !self.config.scopes.iter().all(|scope| is_subject(scope)) {
            self.wrong("scopes", "has one that cannot be a scope", format!("use {SCOPE_RULE}"));
        }
        self.config.scopes.iter().map(|scope| scope.as_str().into()).collect()
    }
}

fn is_kubernetes(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b))
}
