//! The JSON schema of a configuration type: printed, compared with a committed file, and walked to find
//! keys that it does not know.

use std::collections::BTreeSet;
use std::path::Path;

use schemars::JsonSchema;
use serde_json::{Map, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::tree;

/// Setting this environment variable to `1` makes [`check_committed`] rewrite the file instead.
const UPDATE: &str = "UPDATE_SCHEMAS";
/// How many `$ref`s are followed in a row before a schema counts as circular.
const REFERENCES_MAX: usize = 16;

/// The JSON schema of `T`, indented, with a final newline: the text that is committed.
pub fn schema<T: JsonSchema>() -> String {
    format!("{:#}\n", schemars::schema_for!(T).as_value())
}

/// The keys that a file of `T` may have at its top.
pub fn keys<T: JsonSchema>() -> BTreeSet<String> {
    schemars::schema_for!(T).as_object().into_iter().flat_map(names).cloned().collect()
}

/// Why a committed schema was refused.
#[derive(Debug, thiserror::Error)]
pub enum Drift {
    /// The file does not hold the schema of the type any more.
    #[error("{file} is not the schema of the code; run the tests with {UPDATE}=1 and commit the file")]
    Differs {
        /// The committed file.
        file: String,
    },
    /// The file cannot be read or written.
    #[error("{file}: cannot read or write the schema")]
    File {
        /// The committed file.
        file: String,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Compares the schema of `T` with a committed file, for a drift test; `UPDATE_SCHEMAS=1` rewrites the file.
pub fn check_committed<T: JsonSchema>(path: &Path) -> Result<(), Drift> {
    let file = path.display().to_string();
    let current = schema::<T>();
    if std::env::var(UPDATE).is_ok_and(|value| value == "1") {
        return std::fs::write(path, current).map_err(|source| Drift::File { file, source });
    }
    match std::fs::read_to_string(path) {
        Ok(committed) if committed == current => Ok(()),
        Ok(_) => Err(Drift::Differs { file }),
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => Err(Drift::Differs { file }),
        Err(source) => Err(Drift::File { file, source }),
    }
}

/// A key in the text that the schema does not have.
pub(super) struct Unknown {
    /// The dotted path.
    pub(super) key: String,
    /// The last segment alone.
    pub(super) name: String,
    /// Where the key stands in the text.
    pub(super) offset: usize,
    /// The keys that the schema has there.
    pub(super) known: Vec<String>,
}

/// Follows a TOML tree through a schema.
pub(super) struct Walk<'s> {
    root: &'s Value,
}

impl<'s> Walk<'s> {
    pub(super) fn new(root: &'s Value) -> Self {
        Self { root }
    }

    /// Collects every key that no alternative of the schema knows.
    pub(super) fn unknown_keys(&self, table: &DeTable<'_>, unknown: &mut Vec<Unknown>) {
        self.table("", table, &self.alternatives(self.root, Some(table)), unknown);
    }

    fn table(
        &self,
        path: &str,
        table: &DeTable<'_>,
        shapes: &[&'s Map<String, Value>],
        unknown: &mut Vec<Unknown>,
    ) {
        for (name, item) in table.iter() {
            let key = tree::child(path, name.get_ref());
            let children: Vec<&Value> =
                shapes.iter().filter_map(|shape| property(shape, name.get_ref())).collect();
            if !children.is_empty() {
                self.value(&key, item, &children, unknown);
            } else if !shapes.is_empty() && shapes.iter().all(|shape| closed(shape)) {
                let known = shapes.iter().flat_map(|shape| names(shape)).collect::<BTreeSet<_>>();
                unknown.push(Unknown {
                    key,
                    name: name.get_ref().to_string(),
                    offset: name.span().start,
                    known: known.into_iter().cloned().collect(),
                });
            }
        }
    }

    fn value(
        &self,
        path: &str,
        item: &Spanned<DeValue<'_>>,
        schemas: &[&'s Value],
        unknown: &mut Vec<Unknown>,
    ) {
        match item.get_ref() {
            DeValue::Table(inner) => {
                let shapes: Vec<_> =
                    schemas.iter().flat_map(|schema| self.alternatives(schema, Some(inner))).collect();
                self.table(path, inner, &shapes, unknown);
            }
            DeValue::Array(items) => {
                let shapes: Vec<_> =
                    schemas.iter().flat_map(|schema| self.alternatives(schema, None)).collect();
                let schemas: Vec<_> = shapes.iter().filter_map(|shape| shape.get("items")).collect();
                for (index, item) in items.iter().enumerate() {
                    self.value(&tree::element(path, index), item, &schemas, unknown);
                }
            }
            _ => {}
        }
    }

    /// The object shapes that a value may have: references followed, unions opened, and of tagged variants
    /// only those whose tag the table carries.
    fn alternatives(&self, schema: &'s Value, table: Option<&DeTable<'_>>) -> Vec<&'s Map<String, Value>> {
        let Some(shape) = self.resolve(schema) else { return Vec::new() };
        let mut found = Vec::new();
        for union in ["oneOf", "anyOf", "allOf"] {
            for variant in shape.get(union).and_then(Value::as_array).into_iter().flatten() {
                found.extend(self.alternatives(variant, table));
            }
        }
        let tagged: Vec<_> = found
            .iter()
            .copied()
            .filter(|shape| table.is_some_and(|table| tag_matches(shape, table)))
            .collect();
        if !tagged.is_empty() {
            found = tagged;
        }
        if shape.contains_key("properties") || shape.contains_key("additionalProperties") || found.is_empty()
        {
            found.push(shape);
        }
        if table.is_some() {
            found.retain(|shape| may_be_table(shape));
        }
        found
    }

    fn resolve(&self, mut schema: &'s Value) -> Option<&'s Map<String, Value>> {
        for _ in 0..REFERENCES_MAX {
            let Some(reference) = schema.get("$ref").and_then(Value::as_str) else {
                return schema.as_object();
            };
            schema = self.root.pointer(reference.strip_prefix('#')?)?;
        }
        None
    }

    /// What the schema expects at a dotted key without array elements, in words.
    pub(super) fn describe(&self, key: &str) -> Option<&'static str> {
        let mut shapes = self.alternatives(self.root, None);
        let mut schema = None;
        for name in key.split(['.', '[']).filter(|part| !part.ends_with(']')) {
            let next = shapes.iter().find_map(|shape| property(shape, name))?;
            shapes = self.alternatives(next, None);
            let items: Vec<_> = shapes.iter().filter_map(|shape| shape.get("items")).collect();
            shapes.extend(items.into_iter().flat_map(|items| self.alternatives(items, None)));
            schema = Some(next);
        }
        let shape = self.resolve(schema?)?;
        match shape.get("type").and_then(Value::as_str)? {
            "string" => Some("a string"),
            "integer" => Some("a whole number"),
            "number" => Some("a number"),
            "boolean" => Some("true or false"),
            "array" => Some("an array"),
            "object" => Some("a table"),
            _ => None,
        }
    }
}

fn property<'s>(shape: &'s Map<String, Value>, name: &str) -> Option<&'s Value> {
    let named = shape.get("properties").and_then(|properties| properties.get(name));
    named.or_else(|| shape.get("additionalProperties").filter(|schema| **schema != Value::Bool(false)))
}

/// Whether a table fits a shape at all: the `null` of an optional value, for one, says nothing about keys.
fn may_be_table(shape: &Map<String, Value>) -> bool {
    match shape.get("type") {
        Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == "object"),
        kind => kind.is_none_or(|kind| kind == "object"),
    }
}

/// Whether a shape is an object that lists its keys; a shape without a list says nothing about them.
fn closed(shape: &Map<String, Value>) -> bool {
    shape.contains_key("properties") || shape.get("additionalProperties") == Some(&Value::Bool(false))
}

fn names(shape: &Map<String, Value>) -> impl Iterator<Item = &String> {
    shape.get("properties").and_then(Value::as_object).into_iter().flat_map(Map::keys)
}

fn tag_matches(shape: &Map<String, Value>, table: &DeTable<'_>) -> bool {
    let properties = shape.get("properties").and_then(Value::as_object);
    properties.into_iter().flatten().any(|(name, schema)| {
        let tag = schema.get("const").and_then(Value::as_str);
        tag.is_some() && table.get(name.as_str()).and_then(|value| value.get_ref().as_str()) == tag
    })
}
