//! The form of a key: `tg_<id>_<secret>`.
//!
//! The id is public: it is shown in lists and logs. Both parts are random, so a key is hashed with plain SHA-256: with
//! 200 bits to guess a slow hash would add nothing but a way to keep the service busy.

use sha2::{Digest as _, Sha256};

pub(crate) const PREFIX: &str = "tg_";
pub(crate) const ID_CHARS: usize = 12;
pub(crate) const SECRET_CHARS: usize = 40;

/// 32 characters that are not mistaken for each other: five bits each.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// The hash that a key is kept as.
pub(crate) type Hash = [u8; 32];

/// A key that was taken apart. Its form is right, and nothing else is known of it.
#[derive(Clone, Copy)]
pub(crate) struct Parts<'a> {
    pub(crate) id: &'a str,
    whole: &'a str,
}

impl<'a> Parts<'a> {
    /// `None` if `text` cannot be a key.
    pub(crate) fn of(text: &'a str) -> Option<Self> {
        let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
        (is_id(id) && secret.len() == SECRET_CHARS && is_drawn(secret)).then_some(Self { id, whole: text })
    }

    pub(crate) fn hash(&self) -> Hash {
        hash(self.whole)
    }
}

/// Whether `text` claims to be a key, rightly or not.
pub(crate) fn looks_like_key(text: &str) -> bool {
    text.starts_with(PREFIX)
}

pub(crate) fn is_id(id: &str) -> bool {
    id.len() == ID_CHARS && is_drawn(id)
}

pub(crate) fn hash(key: &str) -> Hash {
    Sha256::digest(key.as_bytes()).into()
}

/// A new key and its id.
pub(crate) fn draw() -> (String, String) {
    let id = characters(rand::random::<[u8; ID_CHARS]>());
    let key = format!("{PREFIX}{id}_{}", characters(rand::random::<[u8; SECRET_CHARS]>()));
    (key, id)
}

fn characters<const N: usize>(bytes: [u8; N]) -> String {
    bytes.iter().filter_map(|byte| ALPHABET.get(usize::from(byte % 32))).copied().map(char::from).collect()
}

fn is_drawn(text: &str) -> bool {
    let letters = |byte| matches!(byte, b'a'..=b'h' | b'j' | b'k' | b'm' | b'n' | b'p'..=b't' | b'v'..=b'z');
    text.bytes().all(|byte| byte.is_ascii_digit() || letters(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drawn_key_has_the_form() {
        for _ in 0..100 {
            let (key, id) = draw();
            assert_eq!(Parts::of(&key).map(|parts| parts.id), Some(id.as_str()));
            assert_eq!(key.len(), PREFIX.len() + ID_CHARS + 1 + SECRET_CHARS);
        }
        assert_ne!(draw(), draw());
    }

    #[test]
    fn what_is_drawn_is_of_the_alphabet_and_nothing_else() {
        for byte in 0..=127_u8 {
            assert_eq!(is_drawn(&char::from(byte).to_string()), ALPHABET.contains(&byte), "{byte}");
        }
    }

    #[test]
    fn anything_else_is_no_key() {
        let (key, _) = draw();
        let longer = format!("{key}0");
        let shorter = &key[..key.len() - 1];
        let upper = key.to_uppercase();
        for bad in
            ["", "tg_", "tg__", "tg_a_b", "sk-abc", &longer, shorter, &upper, &key.replace("tg_", "tg-")]
        {
            assert!(Parts::of(bad).is_none(), "{bad}");
        }
    }
}
