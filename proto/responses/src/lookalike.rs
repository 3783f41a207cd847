//! Tells a key that is a name from one that only some readers take for it.
//!
//! Some JSON libraries bind keys to fields without regard to case. A rule that reads `tools` must then not
//! overlook `Tools`: where a rule depends on a key, such a neighbor is a reason to refuse.

use crate::json::{self, Member};

/// How a key compares to a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Likeness {
    /// It is the name.
    Same,
    /// It is the name for readers that ignore case.
    Alike,
    /// It is something else for everybody.
    Other,
}

/// Compares a member's key, unescaped, with a name in lower-case ASCII.
pub(crate) fn compare(bytes: &[u8], member: &Member, name: &str) -> Likeness {
    let raw = member.key.of(bytes);
    let inner = raw.get(1..raw.len().saturating_sub(1)).unwrap_or_default();
    if inner == name.as_bytes() {
        return Likeness::Same;
    }
    // Escapes and letters outside ASCII only make a key longer.
    if inner.len() < name.len() {
        return Likeness::Other;
    }
    // Most keys differ in their first letter, whatever its case.
    if let (Some(letter), Some(first)) = (inner.first(), name.as_bytes().first())
        && letter.is_ascii()
        && *letter != b'\\'
        && !letter.eq_ignore_ascii_case(first)
    {
        return Likeness::Other;
    }
    // An escape that names no character is no letter of any name.
    match json::string(bytes, member.key) {
        Ok(key) if key == name => Likeness::Same,
        Ok(key) if key.chars().map(fold).eq(name.chars()) => Likeness::Alike,
        _ => Likeness::Other,
    }
}

/// Lower case, also of the two letters outside ASCII whose other case is in it.
fn fold(letter: char) -> char {
    match letter {
        'ſ' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    }
}
