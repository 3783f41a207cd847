//! The choice of a service tier, in which "nobody chose" and "none was chosen" are two things.
//!
//! In JSON a named tier is a text, none is null, and no choice is no member: fields of this type carry
//! `#[serde(default, skip_serializing_if = "ServiceTier::is_unset")]`. Knows no tier's name.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The choice of a service tier.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ServiceTier {
    /// Nobody chose: whoever serves the call may apply a default.
    #[default]
    Unset,
    /// None was chosen: no default applies.
    Cleared,
    /// This one was chosen.
    Named(String),
}

impl ServiceTier {
    /// Whether nobody chose.
    #[must_use]
    pub fn is_unset(&self) -> bool {
        *self == Self::Unset
    }

    /// The tier's name, if one was chosen.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Named(name) => Some(name),
            Self::Unset | Self::Cleared => None,
        }
    }

    /// This choice, or `fallback` where nobody chose.
    #[must_use]
    pub fn or_else(self, fallback: impl FnOnce() -> Self) -> Self {
        if self.is_unset() { fallback() } else { self }
    }

    /// The choice of this name; nobody chose if there is none.
    #[must_use]
    pub fn maybe(name: Option<String>) -> Self {
        name.map_or(Self::Unset, Self::chosen)
    }

    /// An empty name takes the tier away.
    fn chosen(name: String) -> Self {
        if name.is_empty() { Self::Cleared } else { Self::Named(name) }
    }
}

impl Serialize for ServiceTier {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.name().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for ServiceTier {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::deserialize(deserializer)?.map_or(Self::Cleared, Self::chosen))
    }
}

#[cfg(test)]
mod tests {
    use crate::{ServiceTier, Settings};

    #[test]
    fn a_choice_survives_and_no_choice_leaves_no_trace() {
        for (json, tier) in [
            (r#"{"model":"m","cwd":"/"}"#, ServiceTier::Unset),
            (r#"{"model":"m","cwd":"/","service_tier":null}"#, ServiceTier::Cleared),
            (r#"{"model":"m","cwd":"/","service_tier":"flex"}"#, ServiceTier::Named("flex".to_owned())),
        ] {
            let settings: Settings = serde_json::from_str(json).unwrap();
            assert_eq!(settings.service_tier, tier, "{json}");
            assert_eq!(serde_json::to_string(&settings).unwrap(), json);
        }
        assert_eq!(serde_json::from_str::<ServiceTier>(r#""""#).unwrap(), ServiceTier::Cleared);
        assert!(serde_json::from_str::<ServiceTier>("7").is_err());
    }
}
