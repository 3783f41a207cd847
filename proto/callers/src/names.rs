//! What a tenant or a subject may be called.
//!
//! Names end up in logs, metrics, store keys and policy files, so they have no spaces, controls, quotes or globs.

/// The longest name in bytes.
pub(crate) const NAME_MAX: usize = 128;

/// What a name may be, for messages.
pub(crate) const TENANT_RULE: &str =
    "1 to 128 letters, digits and `.`, `_`, `-`, `:`, `@`, with a letter or digit first";
pub(crate) const SUBJECT_RULE: &str =
    "1 to 128 letters, digits and `.`, `_`, `-`, `:`, `@`, `/`, `|`, `+`, `=`, with a letter or digit first";
pub(crate) const SCOPE_RULE: &str = SUBJECT_RULE;

pub(crate) fn is_tenant(name: &str) -> bool {
    is_name(name, b"._-:@")
}

pub(crate) fn is_subject(name: &str) -> bool {
    is_name(name, b"._-:@/|+=")
}

fn is_name(name: &str, marks: &[u8]) -> bool {
    name.len() <= NAME_MAX
        && name.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || marks.contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_conservative() {
        for good in ["a", "acme", "Acme-2", "a.b_c:d@e", &"x".repeat(NAME_MAX)] {
            assert!(is_tenant(good) && is_subject(good), "{good}");
        }
        for bad in
            ["", "-a", ".a", "a b", "a\n", "a\"", "a*", "ä", "a\0", "../a", "a,b", &"x".repeat(NAME_MAX + 1)]
        {
            assert!(!is_tenant(bad) && !is_subject(bad), "{bad}");
        }
        for subject in ["ns/agents/sa/x", "auth0|12", "system:serviceaccount:ns:name", "a+b@example.org"] {
            assert!(is_subject(subject), "{subject}");
        }
        assert!(!is_tenant("a/b"));
    }
}
