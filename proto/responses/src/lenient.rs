//! Reads fields of upstream JSON that may be missing, null or of another type, without refusing the rest.
//!
//! For `#[serde(deserialize_with)]` on small fields of JSON in memory: where a value ends is found before it is looked at.

use serde::de::{Deserialize, DeserializeOwned, Deserializer};
use serde_json::value::RawValue;

/// The value if it has the right type, else none.
pub(crate) fn option<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    let raw = <&RawValue>::deserialize(deserializer)?;
    Ok(serde_json::from_str(raw.get()).ok())
}

/// The value if it has the right type, else its default.
pub(crate) fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned + Default,
{
    Ok(option(deserializer)?.unwrap_or_default())
}

/// A string; a number is taken as its digits, because some servers send codes that way.
pub(crate) fn text<'de, D>(deserializer: D) -> Result<Option<String>, D::Error>
where
    D: Deserializer<'de>,
{
    Ok(text_of(<&RawValue>::deserialize(deserializer)?.get().as_bytes()))
}

/// The same for a value in checked text.
pub(crate) fn text_of(value: &[u8]) -> Option<String> {
    match value.first()? {
        b'"' => serde_json::from_slice(value).ok(),
        b'-' | b'0'..=b'9' => String::from_utf8(value.to_vec()).ok(),
        _ => None,
    }
}
