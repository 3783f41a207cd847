//! What a provider says about a refusal, as one short line that holds no secret.
//!
//! Some servers quote the credential that they refuse, whole or its beginning, so that everything that a request
//! carried in secret is looked for and taken out.

use std::error::Error;

use http::Uri;
use http::header::AUTHORIZATION;
use percent_encoding::percent_decode_str;
use tidegate_responses::ErrorBody;

use crate::credential::Proof;
use crate::send::Line;

/// The longest text that is shown.
const SHOWN_CHARS_MAX: usize = 200;
/// A secret is recognized by so many of its first characters.
const BEGINNING_CHARS: usize = 8;
/// What is shorter is no secret, and may be part of any word.
const SECRET_CHARS_MIN: usize = 4;
/// What stands for a secret.
const HIDDEN: &str = "[hidden]";

/// The message of an error's body; the text itself if it is plain, and nothing of a web page.
pub(super) fn message(body: &[u8]) -> Option<String> {
    if let Some(error) = ErrorBody::parse(body) {
        let code = error.code.or(error.kind).unwrap_or_default();
        return Some(if error.message.is_empty() { code } else { error.message });
    }
    let text = std::str::from_utf8(body).ok()?.trim();
    (!text.is_empty() && !text.starts_with(['<', '{', '['])).then(|| text.to_owned())
}

/// The causes of an error on one line, or itself if it has none. What a finding says already is left out, and so is what
/// the HTTP client says of its own doings.
pub(super) fn causes(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    let mut next = Some(error.source().unwrap_or(error));
    while let Some(error) = next {
        let line = error.to_string();
        if !text.contains(&line) && !line.starts_with("client error") {
            let separator = if text.is_empty() { "" } else { ": " };
            text = format!("{text}{separator}{line}");
        }
        next = error.source();
    }
    one_line(&text)
}

/// Everything that a request carries and that nobody else may see.
pub(super) struct Secrets(Vec<String>);

impl Secrets {
    /// Those of the requests of a line to an address.
    pub(super) async fn of(line: &Line, uri: &Uri) -> Secrets {
        let mut texts: Vec<String> = Vec::new();
        let proof = line.credential.current().await.map(|credential| credential.proof);
        match proof {
            Ok(Proof::Bearer(value)) => texts.extend(value.to_str().map(str::to_owned)),
            Ok(Proof::Aws(keys)) => {
                texts.push(keys.secret_access_key().to_owned());
                texts.extend(keys.session_token().map(str::to_owned));
            }
            Ok(Proof::None | Proof::Caller) | Err(_) => {}
        }
        let headers = line.headers.iter().filter(|(name, _)| *name != AUTHORIZATION);
        texts.extend(headers.filter_map(|(_, value)| value.to_str().ok()).map(str::to_owned));
        let pairs = uri.query().unwrap_or_default().split('&');
        for value in pairs.filter_map(|pair| pair.split_once('=')).map(|(_, value)| value) {
            texts.push(value.to_owned());
            texts.push(percent_decode_str(&value.replace('+', " ")).decode_utf8_lossy().into_owned());
        }
        // A scheme before a token, such as `Bearer`, is a word of its own and no secret.
        let words = texts.iter().flat_map(|text| text.split_whitespace());
        let secret = words.filter(|word| word.chars().count() >= SECRET_CHARS_MIN && *word != "Bearer");
        Secrets(secret.map(str::to_owned).collect())
    }

    /// The text on one line, short, without the secrets.
    pub(super) fn hide(&self, text: &str) -> String {
        let hidden = self.0.iter().fold(text.to_owned(), |text, secret| without(&text, secret));
        one_line(&hidden)
    }
}

/// The text without the words, or the rests of words, that begin as the secret does.
fn without(text: &str, secret: &str) -> String {
    let beginning: String = secret.chars().take(BEGINNING_CHARS).collect();
    let mut parts = text.split(&beginning);
    let mut kept = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|it: char| it.is_whitespace() || matches!(it, '"' | '\'' | '`' | ','));
        kept.push_str(HIDDEN);
        kept.push_str(end.and_then(|end| part.get(end..)).unwrap_or_default());
    }
    kept
}

fn one_line(text: &str) -> String {
    let printable = text.chars().map(|it| if it.is_control() { ' ' } else { it }).collect::<String>();
    let words = printable.split_whitespace().collect::<Vec<_>>().join(" ");
    match words.char_indices().nth(SHOWN_CHARS_MAX) {
        Some(_) => words.chars().take(SHOWN_CHARS_MAX - 1).chain(['…']).collect(),
        None => words,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_whole_and_in_part() {
        let secrets = Secrets(vec!["sk-canary-3f9a".to_owned(), "blue".to_owned()]);
        for (text, shown) in [
            ("key sk-canary-3f9a is bad", "key [hidden] is bad"),
            ("key 'sk-canary****' is bad, blue", "key '[hidden]' is bad, [hidden]"),
            ("sk-canary-3f9a sk-canary-3f9a", "[hidden] [hidden]"),
            ("nothing here\r\n\u{1b}[31m", "nothing here [31m"),
        ] {
            assert_eq!(secrets.hide(text), shown);
        }
    }

    #[test]
    fn long_texts_are_cut_at_a_character() {
        let shown = one_line(&"ü".repeat(500));
        assert_eq!((shown.chars().count(), shown.ends_with('…')), (SHOWN_CHARS_MAX, true));
        assert_eq!(one_line(&"ü".repeat(200)).chars().count(), 200);
    }

    #[test]
    fn messages_of_each_form() {
        for (body, expected) in [
            (r#"{"error":{"message":"no","code":"c"}}"#, Some("no")),
            (r#"{"error":{"code":"c"}}"#, Some("c")),
            (r#"{"detail":"no"}"#, Some("no")),
            ("upstream connect error", Some("upstream connect error")),
            ("<html>", None),
            ("[1]", None),
            ("", None),
        ] {
            assert_eq!(message(body.as_bytes()).as_deref(), expected, "{body}");
        }
    }
}
