//! What a token claims, and whether it may be believed now and here.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};

use crate::refusal::Refusal;

/// How far the clocks of issuer and service may be apart.
pub(crate) const LEEWAY: Duration = Duration::from_secs(60);

/// A token's payload.
#[derive(Debug, Default)]
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

    /// The same with this text for a claim that is not there.
    pub(crate) fn or_with(mut self, name: &str, text: &str) -> Self {
        self.0.entry(name).or_insert_with(|| text.into());
        self
    }

    /// A claim that must be a whole number if it is there; `None` if it is something else.
    pub(crate) fn whole(&self, name: &str) -> Option<Option<i64>> {
        match self.0.get(name) {
            None => Some(None),
            Some(value) => value.as_i64().map(Some),
        }
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
        if !self.0.contains_key("aud") {
            return Err(Refusal::Malformed("the token has no `aud`"));
        }
        let meant = self.audiences()?;
        Ok(audiences.iter().any(|known| meant.contains(&&**known)))
    }

    /// Whom the token is meant for; nobody in particular if it does not say.
    pub(crate) fn audiences(&self) -> Result<Vec<&str>, Refusal> {
        let malformed = Refusal::Malformed("the token's `aud` is neither a string nor a list of strings");
        match self.0.get("aud") {
            None => Ok(Vec::new()),
            Some(Value::String(audience)) => Ok(vec![audience]),
            Some(Value::Array(list)) => {
                list.iter().map(Value::as_str).collect::<Option<_>>().ok_or(malformed)
            }
            Some(_) => Err(malformed),
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

/// The same in whole seconds, past the end of all tokens if the clock is before the epoch.
pub(crate) fn since_epoch(now: SystemTime) -> i64 {
    let since = now.duration_since(UNIX_EPOCH).ok();
    since.and_then(|since| i64::try_from(since.as_secs()).ok()).unwrap_or(i64::MAX)
}
