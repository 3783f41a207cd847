//! Decides which service tier a request asks for.
//!
//! An explicit choice wins over the managed default, also the choice to have none. The caller does not use
//! this for compaction, whose schema has no such field. Whether a tier is allowed is policy, decided elsewhere.

use crate::json;
use crate::request::{Error, Request};
use crate::splice::Splices;

#[cfg(test)]
mod tests;

const FIELD: &str = "service_tier";
const PRIORITY: &str = "priority";
const FLEX: &str = "flex";
const DEFAULT: &str = "default";

/// A tier as people and clients name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tier {
    /// Faster and dearer: `priority`, which Codex also calls `fast`.
    Priority,
    /// Slower and cheaper: `flex`.
    Flex,
    /// No tier is asked for, whatever the managed default: `default`, also called `standard`.
    Standard,
    /// A name that has no meaning here and passes as it is.
    Other(String),
}

impl Tier {
    /// The tier of a name.
    pub fn from_name(name: &str) -> Tier {
        match name {
            PRIORITY | "fast" => Tier::Priority,
            FLEX => Tier::Flex,
            DEFAULT | "standard" => Tier::Standard,
            other => Tier::Other(other.to_owned()),
        }
    }

    /// The name that a provider knows.
    pub fn name(&self) -> &str {
        match self {
            Tier::Priority => PRIORITY,
            Tier::Flex => FLEX,
            Tier::Standard => DEFAULT,
            Tier::Other(name) => name,
        }
    }
}

/// Makes the request ask for the tier that it chose, or else for the managed default.
///
/// `null` clears: nothing is asked for and the default does not apply. Returns the effective tier under the
/// provider's name for it, `default` for an opt-out, none where nothing is asked for.
pub fn decide(
    request: &Request,
    managed_default: Option<&str>,
    splices: &mut Splices,
) -> Result<Option<String>, Error> {
    let chosen = request.service_tier()?;
    let tier = match &chosen {
        Some(name) => Tier::from_name(name),
        None if request.entry(FIELD).is_some() => {
            splices.remove_member(request, FIELD);
            return Ok(None);
        }
        None => match managed_default {
            Some(name) => Tier::from_name(name),
            None => return Ok(None),
        },
    };
    if tier == Tier::Standard {
        splices.remove_member(request, FIELD);
    } else if chosen.as_deref() != Some(tier.name()) {
        splices.set_member(request, FIELD, json::quoted(tier.name()));
    }
    Ok(Some(tier.name().to_owned()))
}
