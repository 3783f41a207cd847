//! Makes a value that a JSON schema accepts, for requests that ask for structured output.
//!
//! Knows the keywords that structured outputs may use; numbers and lengths are kept at their least.

use serde_json::{Map, Value, json};

use super::words;

/// How deep a schema is followed; a recursive one ends there with null.
const DEPTH_MAX: u32 = 24;
/// How many elements an array gets at most, whatever it asks for.
const ITEMS_MAX: u64 = 16;

/// A value for the schema. Strings say what the prompt is about.
pub(super) fn of(schema: &Value, prompt: &str) -> Value {
    Sampler { root: schema, prompt }.value(schema, 0)
}

struct Sampler<'a> {
    root: &'a Value,
    prompt: &'a str,
}

impl Sampler<'_> {
    fn value(&self, schema: &Value, depth: u32) -> Value {
        if depth > DEPTH_MAX {
            return Value::Null;
        }
        if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
            let found = target.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer));
            return found.map_or(Value::Null, |found| self.value(found, depth + 1));
        }
        if let Some(fixed) = schema.get("const") {
            return fixed.clone();
        }
        for choice in ["enum", "anyOf", "oneOf"] {
            let first = schema.get(choice).and_then(|choices| choices.get(0));
            if let Some(first) = first {
                return if choice == "enum" { first.clone() } else { self.value(first, depth + 1) };
            }
        }
        let kind = match schema.get("type") {
            Some(Value::String(kind)) => kind.as_str(),
            Some(Value::Array(kinds)) => kinds.first().and_then(Value::as_str).unwrap_or("null"),
            _ if schema.get("properties").is_some() => "object",
            _ => "string",
        };
        match kind {
            "object" => self.object(schema, depth),
            "array" => self.array(schema, depth),
            "string" => Value::String(self.string(schema)),
            "integer" | "number" => schema.get("minimum").cloned().unwrap_or(json!(1)),
            "boolean" => Value::Bool(true),
            _ => Value::Null,
        }
    }

    fn object(&self, schema: &Value, depth: u32) -> Value {
        let properties = schema.get("properties").and_then(Value::as_object);
        let sampled = properties.into_iter().flatten();
        let sampled = sampled.map(|(name, schema)| (name.clone(), self.value(schema, depth + 1)));
        Value::Object(sampled.collect::<Map<_, _>>())
    }

    fn array(&self, schema: &Value, depth: u32) -> Value {
        let count = schema.get("minItems").and_then(Value::as_u64).unwrap_or(1).min(ITEMS_MAX);
        let element = schema.get("items").map_or(Value::Null, |items| self.value(items, depth + 1));
        Value::Array((0..count).map(|_| element.clone()).collect())
    }

    fn string(&self, schema: &Value) -> String {
        let mut text = words::title(self.prompt);
        let length = |key| schema.get(key).and_then(Value::as_u64).and_then(|it| usize::try_from(it).ok());
        if let Some(most) = length("maxLength") {
            text = text.chars().take(most).collect();
        }
        text
    }
}
