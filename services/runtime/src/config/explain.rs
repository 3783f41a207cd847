//! Parses TOML into a type and words what goes wrong for the person who wrote the file.

use std::ops::Range;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use toml::de::DeTable;

use super::schema::{self, Unknown, Walk};
use super::tree::{self, Node};
use super::{Position, Problem};

/// More problems than a person reads at once.
const PROBLEMS_MAX: usize = 100;

/// What a text holds, as far as it can be used.
pub(super) struct Parsed<T> {
    /// Without what is wrong; none if too little is left.
    pub(super) value: Option<T>,
    /// All unknown keys and everything that serde refuses.
    pub(super) problems: Vec<Problem>,
    pub(super) gone: Gone,
}

/// Parses a text.
///
/// Serde stops at the first thing that it refuses, so that is taken out and the rest is read again.
pub(super) fn parse<T: DeserializeOwned + JsonSchema>(text: &str) -> Parsed<T> {
    let mut root = match DeTable::parse(text) {
        Ok(root) => root,
        Err(error) => {
            return Parsed { value: None, problems: vec![syntax(text, &error)], gone: Gone::default() };
        }
    };
    let schema = schemars::schema_for!(T);
    let walk = Walk::new(schema.as_value());
    let nodes = tree::nodes(text);
    let mut unknown = Vec::new();
    walk.unknown_keys(root.get_ref(), &mut unknown);
    for Unknown { offset, .. } in &unknown {
        tree::remove(root.get_mut(), *offset);
    }
    let unknown_paths = unknown.iter().map(|unknown| unknown.key.clone()).collect();
    let mut gone = Gone { unknown: unknown_paths, ..Gone::default() };
    let mut problems: Vec<_> = unknown.into_iter().map(|unknown| unknown_key(text, unknown)).collect();
    loop {
        let error = match T::deserialize(toml::Deserializer::from(root.clone())) {
            Ok(value) => return Parsed { value: Some(value), problems, gone },
            Err(error) => error,
        };
        let node = error.span().and_then(|span| tree::at(&nodes, &span));
        let path = node.map_or("", |node| node.path.as_str());
        if !gone.explains(path, error.message()) {
            problems.push(refused(text, &walk, node, &error));
        }
        // The root stands nowhere by a name.
        let node = node.filter(|node| !node.path.is_empty());
        let removed = node.is_some_and(|node| tree::remove(root.get_mut(), node.key.start));
        if !removed || problems.len() >= PROBLEMS_MAX {
            return Parsed { value: None, problems, gone };
        }
        gone.holed |= nodes.iter().any(|node| tree::is_within(&node.path, path));
        gone.refused.push(path.to_owned());
    }
}

/// The paths of what was taken out because it cannot be used.
#[derive(Default)]
pub(super) struct Gone {
    unknown: Vec<String>,
    refused: Vec<String>,
    /// Whether whole tables were, which the rest may speak of.
    holed: bool,
}

impl Gone {
    /// Whether the value at `path` may only be refused because of what was taken out of it. A key that is missing may be the
    /// unknown one beside it, misspelled.
    fn explains(&self, path: &str, message: &str) -> bool {
        match quoted_after(message, "missing field `") {
            Some(name) => {
                let key = tree::child(path, name);
                self.unknown.iter().any(|unknown| tree::parent(unknown) == path)
                    || self.refused.contains(&key)
            }
            None => self.all().any(|gone| tree::is_within(gone, path)),
        }
    }

    /// Whether what is wrong at `key` of the rest may only be wrong because of what was taken out: a value that is missing
    /// may be the unknown one beside it.
    pub(super) fn may_cause(&self, key: &str, nodes: &[Node]) -> bool {
        let stands = nodes.iter().any(|node| node.path == key);
        self.holed
            || self.all().any(|gone| match tree::parent(gone) {
                _ if key == gone || tree::is_within(gone, key) => true,
                "" => false,
                parent => !stands && tree::is_within(key, parent),
            })
    }

    fn all(&self) -> impl Iterator<Item = &String> {
        self.unknown.iter().chain(&self.refused)
    }
}

fn unknown_key(text: &str, unknown: schema::Unknown) -> Problem {
    let schema::Unknown { key, name, offset, known } = unknown;
    Problem {
        message: format!("unknown key `{key}`"),
        fix: suggestion(&name, &known),
        position: Some(Position::of(text, offset)),
        key,
    }
}

/// The nearest known name, or all of them when none is near and they are few.
fn suggestion(name: &str, known: &[String]) -> Option<String> {
    const NEAR_ENOUGH: f64 = 0.7;
    const LISTED_MAX: usize = 12;
    let nearest = known
        .iter()
        .map(|known| (strsim::normalized_damerau_levenshtein(name, known), known))
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match nearest {
        Some((score, known)) if score >= NEAR_ENOUGH => Some(format!("did you mean `{known}`?")),
        Some(_) if known.len() <= LISTED_MAX => Some(format!("known keys here: {}", listed(known))),
        _ => None,
    }
}

fn listed(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn syntax(text: &str, error: &toml::de::Error) -> Problem {
    let message = error.message().lines().collect::<Vec<_>>().join(", ");
    Problem {
        key: String::new(),
        message: format!("not valid TOML: {message}"),
        fix: None,
        position: error.span().map(|span| Position::of(text, span.start)),
    }
}

fn refused(text: &str, walk: &Walk<'_>, node: Option<&Node>, error: &toml::de::Error) -> Problem {
    let span = error.span();
    let path = node.map_or("", |node| node.path.as_str());
    let message = error.message();
    if let Some(name) = quoted_after(message, "missing field `") {
        let key = tree::child(path, name);
        let expected = walk.describe(&key).map(|what| format!("; expected {what}")).unwrap_or_default();
        return Problem {
            message: format!("missing key `{key}`{expected}"),
            key,
            fix: None,
            position: node.map(|node| Position::of(text, node.key.start)),
        };
    }
    if let Some(name) = quoted_after(message, "unknown field `") {
        // Only for types whose schema says less than their deserializer.
        let fix = suggestion(name, &alternatives_in(message));
        let position = span.map(|span: Range<usize>| Position::of(text, span.start));
        return Problem { key: path.to_owned(), message: format!("unknown key `{path}`"), fix, position };
    }
    let offset = node.map(|node| node.value.start).or(span.map(|span: Range<usize>| span.start));
    let (message, fix) = reword(message);
    let mut problem = Problem::new(path, message);
    problem.fix = fix;
    problem.position = offset.map(|at| Position::of(text, at));
    problem
}

/// Serde's words without the value that was found, which may be a secret in the wrong place.
fn reword(message: &str) -> (String, Option<String>) {
    for kind in ["invalid type: ", "invalid value: "] {
        if let Some((found, expected)) =
            message.strip_prefix(kind).and_then(|rest| rest.rsplit_once(", expected "))
        {
            return (format!("must be {}, not {}", with_article(expected), found_kind(found)), None);
        }
    }
    if let Some(name) = quoted_after(message, "unknown variant `") {
        let known = alternatives_in(message);
        let fix = suggestion(name, &known).filter(|fix| fix.starts_with("did you mean"));
        return (format!("must be one of {}, not `{name}`", listed(&known)), fix);
    }
    (format!("is refused: {message}"), None)
}

/// The names that serde lists after "expected".
fn alternatives_in(message: &str) -> Vec<String> {
    let list = message.split_once("expected ").map_or("", |(_, list)| list);
    list.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn quoted_after<'a>(message: &'a str, start: &str) -> Option<&'a str> {
    message.strip_prefix(start)?.split('`').next()
}

fn found_kind(found: &str) -> &'static str {
    const KINDS: [(&str, &str); 8] = [
        ("string", "a string"),
        ("integer", "this integer"),
        ("floating point", "a fraction"),
        ("boolean", "a boolean"),
        ("map", "a table"),
        ("sequence", "an array"),
        ("character", "a character"),
        ("unit", "nothing"),
    ];
    KINDS.iter().find(|(start, _)| found.starts_with(start)).map_or("this", |(_, kind)| kind)
}

fn with_article(expected: &str) -> String {
    match expected {
        "u8" => format!("a whole number from 0 to {}", u8::MAX),
        "u16" => format!("a whole number from 0 to {}", u16::MAX),
        "u32" => format!("a whole number from 0 to {}", u32::MAX),
        "u64" | "u128" | "usize" => "a whole number from 0".to_owned(),
        "i8" | "i16" | "i32" | "i64" | "i128" | "isize" => "a whole number".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        name if name.starts_with("struct ") || name == "a map" => "a table".to_owned(),
        "a sequence" => "an array".to_owned(),
        name if name.starts_with("a ") || name.starts_with("an ") => name.to_owned(),
        name => format!("a {name}"),
    }
}
