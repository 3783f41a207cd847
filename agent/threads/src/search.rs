//! What it means that a thread matches a search, the same for every store.
//!
//! Case is folded character by character here and not by the database: databases differ in what they fold.

/// What a search looks at in a thread.
pub(crate) fn text(name: Option<&str>, preview: &str) -> String {
    fold(&[name.unwrap_or_default(), "\n", preview].concat())
}

/// The text without differences of case.
pub(crate) fn fold(text: &str) -> String {
    text.chars().flat_map(char::to_lowercase).collect()
}

/// The pattern of a `LIKE … ESCAPE '\'` that finds `wanted` anywhere in a folded text.
pub(crate) fn like_pattern(wanted: &str) -> String {
    let mut pattern = String::from("%");
    for character in fold(wanted).chars() {
        if matches!(character, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern.push('%');
    pattern
}
