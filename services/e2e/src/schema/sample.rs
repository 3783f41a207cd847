//! Makes values that a JSON schema accepts: the least that it asks for, and what a test wants to see in it.

use serde_json::{Map, Value, json};

/// How deep a value is made; what recurs is cut off there.
const DEPTH_MAX: usize = 12;

/// What a test puts where the schema leaves a choice.
pub struct Fillings<'a> {
    /// The text for a field of this name.
    pub text: &'a dyn Fn(&str) -> String,
    /// Whether a field of this name is filled although it need not be.
    pub optional: &'a dyn Fn(&str) -> bool,
}

impl Fillings<'_> {
    /// A value for a schema of `document`; `name` is the field that it stands in.
    pub(super) fn value(&self, document: &Value, schema: &Value, name: &str) -> Value {
        self.at(document, schema, name, DEPTH_MAX)
    }

    fn at(&self, document: &Value, schema: &Value, name: &str, depth: usize) -> Value {
        if depth == 0 {
            return Value::Null;
        }
        let below = |schema: &Value, name: &str| self.at(document, schema, name, depth - 1);
        if let Some(path) = schema.get("$ref").and_then(Value::as_str) {
            let target = document.pointer(path.trim_start_matches('#'));
            return target.map_or(Value::Null, |target| below(target, name));
        }
        if let Some(only) = schema.get("const").or_else(|| schema.pointer("/enum/0")) {
            return only.clone();
        }
        for union in ["oneOf", "anyOf", "allOf"] {
            if let Some(variants) = schema.get(union).and_then(Value::as_array) {
                let some = variants.iter().find(|variant| variant.get("type") != Some(&json!("null")));
                return some.map_or(Value::Null, |variant| below(variant, name));
            }
        }
        match kind(schema) {
            "object" => self.object(document, schema, depth),
            "array" => match schema.get("items") {
                Some(items) => json!([below(items, name)]),
                None => json!([]),
            },
            "string" => json!((self.text)(name)),
            "integer" | "number" => {
                schema.get("minimum").cloned().filter(|least| *least != 0.0).unwrap_or(json!(1))
            }
            "boolean" => json!(false),
            "null" => Value::Null,
            _ => json!({}),
        }
    }

    fn object(&self, document: &Value, schema: &Value, depth: usize) -> Value {
        let required = schema.get("required").and_then(Value::as_array);
        let required = |name: &str| required.is_some_and(|names| names.iter().any(|known| known == name));
        let properties = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
        let chosen = properties.filter(|(name, _)| required(name) || (self.optional)(name));
        let filled = chosen.map(|(name, field)| (name.clone(), self.at(document, field, name, depth - 1)));
        Value::Object(filled.collect::<Map<_, _>>())
    }
}

/// The type of a schema that is not null; nothing if it does not say.
fn kind(schema: &Value) -> &str {
    match schema.get("type") {
        Some(Value::String(kind)) => kind,
        Some(Value::Array(kinds)) => {
            let mut kinds = kinds.iter().filter_map(Value::as_str);
            kinds.find(|kind| *kind != "null").unwrap_or("null")
        }
        _ if schema.get("properties").is_some() => "object",
        _ => "",
    }
}
