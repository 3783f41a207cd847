//! Writes the rehearsal's texts, and cuts and counts them.
//!
//! A token is four bytes of a word here, rounded up: close enough for usage that looks like a provider's.

use std::ops::Range;

/// How many words of a prompt are quoted.
const QUOTED_WORDS: usize = 12;
/// How many bytes of a word are quoted.
const QUOTED_BYTES: usize = 48;
/// How many paragraphs an essay has.
const PARAGRAPHS: u64 = 8;

const REMARKS: [&str; 6] = [
    "Everything you see was written on this machine: no provider was asked and nothing left it.",
    "The words are made up from your request, so the same request gets the same answer.",
    "A real model would now read files and propose a change; the rehearsal only talks.",
    "The stream has the shape of a real one: reasoning first, then the message, then the usage.",
    "To talk to a real model, set a provider's key for the gateway and start it again.",
    "Ask for `rehearse: cut` or `rehearse: error rate_limit` to see how your client takes a fault.",
];
const STEPS: [&str; 8] = [
    "First I would look at what is there, because a change that ignores its surroundings is rarely the right one.",
    "Then I would write down what must not change, so that a test can say when it did.",
    "The smallest step that can be shown to work comes next, and only then the one after it.",
    "Names deserve a moment here: a good one saves a comment, and a comment saves a meeting.",
    "Errors are part of the answer too, so each of them should say whose turn it is.",
    "What is bounded can be reasoned about; what is not will be found at night.",
    "A second reader would ask what happens if this is interrupted half way, and so do I.",
    "Last, I would remove whatever the change made unnecessary, and read it once more from the top.",
];

/// One sentence on the prompt.
pub(super) fn sentence(prompt: &str) -> String {
    match quote(prompt) {
        Some(quote) => format!("This is a rehearsal, and you said: “{quote}”."),
        None => "This is a rehearsal, and you said nothing.".to_owned(),
    }
}

/// A few sentences on the prompt.
pub(super) fn reply(prompt: &str, seed: u64) -> String {
    let count = prompt.split_whitespace().count();
    let counted = match count {
        1 => "That is one word.".to_owned(),
        _ => format!("That is {count} words."),
    };
    format!(
        "{} {counted} {} {}",
        sentence(prompt),
        pick(&REMARKS, seed),
        pick(&REMARKS, seed.wrapping_add(1))
    )
}

/// Some paragraphs on the prompt.
pub(super) fn essay(prompt: &str, seed: u64) -> String {
    let mut text = sentence(prompt);
    for paragraph in 0..PARAGRAPHS {
        let at = seed.wrapping_add(paragraph.wrapping_mul(3));
        text.push_str(&format!("\n\n{}. ", paragraph + 1));
        for step in 0..3 {
            text.push_str(pick(&STEPS, at.wrapping_add(step)));
            text.push(' ');
        }
        text.push_str(pick(&REMARKS, at));
    }
    text
}

/// The summary of the reasoning on the prompt.
pub(super) fn reasoning(prompt: &str, items: usize) -> String {
    let about = quote(prompt).unwrap_or_else(|| "nothing".to_owned());
    format!(
        "**Reading the request**\n\nThe input has {items} items and ends with “{about}”. There is a script for this, so \
         I follow it and say plainly that I am not a model."
    )
}

/// A few words that name what the prompt is about. Whoever asks for a title puts the instructions first and what is to be
/// named last.
pub(super) fn title(prompt: &str) -> String {
    let last = prompt.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let words = last.split_whitespace().take(6).map(shortened).collect::<Vec<_>>().join(" ");
    if words.is_empty() { "Rehearsal".to_owned() } else { words }
}

/// Cuts a text into words, each with the space before it; together they are the text.
pub(super) fn pieces(text: &str) -> Vec<Range<usize>> {
    let mut pieces = Vec::new();
    let (mut start, mut in_word) = (0, false);
    for (at, char) in text.char_indices() {
        if char.is_whitespace() {
            if in_word {
                pieces.push(start..at);
                start = at;
            }
            in_word = false;
        } else {
            in_word = true;
        }
    }
    if start < text.len() {
        pieces.push(start..text.len());
    }
    pieces
}

/// How many tokens a text has.
pub(super) fn tokens(text: &str) -> u64 {
    let of = |piece: Range<usize>| u64::try_from(piece.len().div_ceil(4)).unwrap_or(u64::MAX);
    pieces(text).into_iter().map(of).sum()
}

fn pick<'a>(from: &[&'a str], seed: u64) -> &'a str {
    let length = u64::try_from(from.len()).unwrap_or(u64::MAX).max(1);
    let index = usize::try_from(seed % length).unwrap_or_default();
    from.get(index).copied().unwrap_or_default()
}

fn quote(prompt: &str) -> Option<String> {
    let mut words = prompt.split_whitespace();
    let mut quote = words.by_ref().take(QUOTED_WORDS).map(shortened).collect::<Vec<_>>().join(" ");
    if words.next().is_some() {
        quote.push_str(" …");
    }
    if quote.is_empty() { None } else { Some(quote) }
}

fn shortened(word: &str) -> &str {
    word.get(..word.floor_char_boundary(QUOTED_BYTES)).unwrap_or(word)
}
