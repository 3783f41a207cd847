//! How keys stand in their file: TOML, one `[[keys]]` table each, hashes only.
//!
//! Reading is strict: a file with a wrong entry is refused as a whole, so that a typing error cannot let a revoked key in.

use std::path::Path;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use time::OffsetDateTime;

use super::form::{Hash, is_id};
use crate::names::{SCOPE_RULE, SUBJECT_RULE, TENANT_RULE, is_subject, is_tenant};

/// The largest keys file: some twenty thousand keys.
pub(crate) const FILE_BYTES_MAX: u64 = 8 << 20;

/// What is known of a key. Not the key: nobody knows that but its holder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyEntry {
    /// The public part of the key; the key starts with `tg_` and this.
    pub id: String,
    /// SHA-256 of the whole key.
    #[serde(serialize_with = "to_hex", deserialize_with = "from_hex")]
    pub(crate) sha256: Hash,
    /// Whose it is.
    pub tenant: String,
    /// Who uses it.
    pub subject: String,
    /// What it was given for.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// From when on it is refused.
    #[serde(with = "time::serde::rfc3339::option", default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<OffsetDateTime>,
    /// When it was taken back.
    #[serde(with = "time::serde::rfc3339::option", default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<OffsetDateTime>,
    /// What the operator wants to remember.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// The whole file.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stored {
    #[serde(default)]
    pub(crate) keys: Vec<KeyEntry>,
}

impl Stored {
    /// Reads and checks the file's text. The message says what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let stored: Self = toml::from_str(text).map_err(|error| placed(text, &error))?;
        let mut ids = std::collections::HashSet::new();
        for entry in &stored.keys {
            check(entry)?;
            if !ids.insert(entry.id.as_str()) {
                return Err(format!("the id `{}` is there twice", entry.id));
            }
        }
        Ok(stored)
    }

    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let length = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
        if length > FILE_BYTES_MAX {
            return Err(format!("it is over {FILE_BYTES_MAX} bytes"));
        }
        Self::parse(&std::fs::read_to_string(path).map_err(|error| error.to_string())?)
    }
}

/// What is wrong, and where. Nothing of the line is quoted.
fn placed(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start));
    match before {
        Some(before) => {
            let column = before.chars().rev().take_while(|letter| *letter != '\n').count() + 1;
            format!("line {}, column {column}: {}", before.matches('\n').count() + 1, error.message())
        }
        None => error.message().to_owned(),
    }
}

/// Whether tenant, subject and scopes can be names.
pub(crate) fn check(entry: &KeyEntry) -> Result<(), String> {
    if !is_id(&entry.id) {
        return Err(format!("`{}` is no key id", entry.id.escape_debug()));
    }
    if !is_tenant(&entry.tenant) {
        return Err(format!("the tenant of `{}` is not {TENANT_RULE}", entry.id));
    }
    if !is_subject(&entry.subject) {
        return Err(format!("the subject of `{}` is not {SUBJECT_RULE}", entry.id));
    }
    if !entry.scopes.iter().all(|scope| is_subject(scope)) {
        return Err(format!("a scope of `{}` is not {SCOPE_RULE}", entry.id));
    }
    Ok(())
}

fn to_hex<S: Serializer>(hash: &Hash, serializer: S) -> Result<S::Ok, S::Error> {
    use std::fmt::Write as _;
    let mut hex = String::with_capacity(64);
    for byte in hash {
        let _ = write!(hex, "{byte:02x}");
    }
    serializer.serialize_str(&hex)
}

fn from_hex<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Hash, D::Error> {
    let hex = String::deserialize(deserializer)?;
    let mut hash = Hash::default();
    let pairs = hex.as_bytes().chunks(2);
    let right = hex.len() == 2 * hash.len() && hex.bytes().all(|digit| digit.is_ascii_hexdigit());
    if !right {
        return Err(D::Error::custom("`sha256` is not 64 hexadecimal digits"));
    }
    for (byte, pair) in hash.iter_mut().zip(pairs) {
        let digits = std::str::from_utf8(pair).map_err(D::Error::custom)?;
        *byte = u8::from_str_radix(digits, 16).map_err(D::Error::custom)?;
    }
    Ok(hash)
}
