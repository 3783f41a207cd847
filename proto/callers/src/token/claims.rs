//! What a token claims, and whether it may be believed now and here.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};

use crate::refusal::Refusal;

/// How far the clocks of issuer and service may be apart.
pub(crate) const LEEWAY: Duration = Duration::from_secs(60);

/// A token's payload.
#[derive(Debug)]
pub(crate) struct Claims(Map<String, Value>);

impl Claims {
    pub(crate) fn new(claims: Map<String, Value>) -> Self {
        Self(claims)
    }

    pub(crate) fn issuer(&self) -> Option<&str> {
        self.text("iss")
    }

    /// The claim of a name; one that starts with `/` is a JSON pointer.
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        let Some(rest) = name.strip_prefix('/') else { return self.0.get(name) };
        let mut steps = rest.split('/').map(|step| step.replace("~1", "/").replace("~0", "~"));
        let mut value = self.0.get(&steps.next()?)?;
        for step in steps {
            value = value.get(&step)?;
        }
        Some(value)
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(Value::as_str)
    }

    /// Whether the token is meant for one of `audiences` and valid at `now`; until when in seconds of the epoch.
    pub(crate) fn check(&self, audiences: &[Box<str>], now: SystemTime) -> Result<f64, Refusal> {
        if !self.is_meant_for(audiences)? {
            return Err(Refusal::WrongAudience);
        }
        let expires = self.instant("exp")?.ok_or(Refusal::Malformed("the token has no `exp`"))?;
        if !is_before(now, expires) {
            return Err(Refusal::Expired);
        }
        if self.instant("nbf")?.is_some_and(|start| seconds(now) + LEEWAY.as_secs_f64() < start) {
            return Err(Refusal::NotYetValid);
        }
        self.instant("iat")?;
        match self.text("sub") {
            Some(subject) if !subject.is_empty() => Ok(expires),
            _ => Err(Refusal::Malformed("the token has no `sub`")),
        }
    }

    fn is_meant_for(&self, audiences: &[Box<str>]) -> Result<bool, Refusal> {
        let ours = |audience: &str| audiences.iter().any(|known| **known == *audience);
        let malformed = Refusal::Malformed("the token's `aud` is neither a string nor a list of strings");
        match self.0.get("aud") {
            Some(Value::String(audience)) => Ok(ours(audience)),
            Some(Value::Array(list)) => {
                let texts: Option<Vec<&str>> = list.iter().map(Value::as_str).collect();
                Ok(texts.ok_or(malformed)?.into_iter().any(ours))
            }
            Some(_) => Err(malformed),
            None => Err(Refusal::Malformed("the token has no `aud`")),
        }
    }

    fn instant(&self, name: &str) -> Result<Option<f64>, Refusal> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Value::Number(number)) => Ok(number.as_f64()),
            Some(_) => Err(Refusal::Malformed("one of the token's `exp`, `nbf` and `iat` is not a number")),
        }
    }
}

/// Whether a token that ends at `expires` may still be taken.
pub(crate) fn is_before(now: SystemTime, expires: f64) -> bool {
    seconds(now) < expires + LEEWAY.as_secs_f64()
}

/// A clock before the epoch is taken for one at its end, which makes every token old.
fn seconds(now: SystemTime) -> f64 {
    now.duration_since(UNIX_EPOCH).map_or(f64::INFINITY, |since| since.as_secs_f64())
}
