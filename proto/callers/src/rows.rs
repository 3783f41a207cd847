//! The callers table: what a credential proves, row by row, and whom it then stands for.
//!
//! Pure. The first row that fits decides; a credential that no row names stands for nobody.

use std::{collections::HashMap, sync::Arc};

use serde_json::Value;

use crate::{
    certificate::{Spiffe, fits},
    keys::Override,
    names::{is_subject, is_tenant},
    principal::{Principal, Proof},
    refusal::Refusal,
    token::Claims,
};

/// The rows by what they are about, each kind in the order of the file.
#[derive(Default)]
pub(crate) struct Rows {
    pub(crate) keys: HashMap<Box<str>, Override>,
    pub(crate) spiffe: Vec<SpiffeRow>,
    pub(crate) tokens: Vec<TokenRow>,
}

/// A row about client certificates.
pub(crate) struct SpiffeRow {
    pub(crate) pattern: Box<str>,
    pub(crate) tenant: Arc<str>,
    pub(crate) subject: Option<Arc<str>>,
    pub(crate) scopes: Arc<[Box<str>]>,
}

/// A row about tokens.
pub(crate) struct TokenRow {
    /// The issuer's index.
    pub(crate) issuer: usize,
    pub(crate) claims: Vec<(Box<str>, Value)>,
    pub(crate) tenant: Name,
    pub(crate) subject: Name,
    pub(crate) scopes: Arc<[Box<str>]>,
}

/// Where a name comes from.
pub(crate) enum Name {
    Fixed(Arc<str>),
    /// The value of a claim.
    Claim(Box<str>),
}

impl Rows {
    /// Whom a token stands for, whose issuer has vouched for `claims`.
    pub(crate) fn of_token(
        &self,
        issuer: usize,
        name: &Arc<str>,
        claims: &Claims,
    ) -> Result<Principal, Refusal> {
        let row = self.tokens.iter().find(|row| row.issuer == issuer && row.is_about(claims));
        let row = row.ok_or(Refusal::UnknownCaller)?;
        Ok(Principal {
            tenant: row.tenant.of(claims, is_tenant)?,
            subject: row.subject.of(claims, is_subject)?,
            scopes: row.scopes.clone(),
            proof: Proof::Token(name.clone()),
        })
    }

    /// Whom a client certificate stands for.
    pub(crate) fn of_certificate(&self, spiffe: Spiffe<'_>) -> Result<Principal, Refusal> {
        let row = self.spiffe.iter().find(|row| fits(&row.pattern, spiffe.id));
        let row = row.ok_or(Refusal::UnknownCaller)?;
        let subject = match &row.subject {
            Some(subject) => subject.clone(),
            None if is_subject(spiffe.path) => spiffe.path.into(),
            None => return Err(Refusal::UnusableName),
        };
        let proof = Proof::Certificate(spiffe.id.into());
        Ok(Principal { tenant: row.tenant.clone(), subject, scopes: row.scopes.clone(), proof })
    }
}

impl TokenRow {
    fn is_about(&self, claims: &Claims) -> bool {
        self.claims.iter().all(|(name, wanted)| claims.get(name).is_some_and(|found| has(found, wanted)))
    }
}

impl Name {
    fn of(&self, claims: &Claims, is_name: fn(&str) -> bool) -> Result<Arc<str>, Refusal> {
        match self {
            Self::Fixed(name) => Ok(name.clone()),
            Self::Claim(claim) => {
                let name = claims.text(claim).filter(|name| is_name(name));
                name.map(Arc::from).ok_or(Refusal::UnusableName)
            }
        }
    }
}

/// Whether a claim is the wanted value, or a list that has it.
fn has(found: &Value, wanted: &Value) -> bool {
    match found {
        Value::Array(list) => list.iter().any(|one| is(one, wanted)),
        one => is(one, wanted),
    }
}

/// Numbers are compared by value: 1 is 1.0.
fn is(found: &Value, wanted: &Value) -> bool {
    match (found.as_f64(), wanted.as_f64()) {
        (Some(found), Some(wanted)) => found == wanted,
        _ => found == wanted,
    }
}
