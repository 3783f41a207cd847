//! What the rehearsal reads of a request. Lenient: fields that it does not know are nobody's mistake.

use serde::Deserialize;
use serde_json::Value;

/// A request, as far as the rehearsal reads it.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Ask {
    #[serde(default)]
    pub(super) model: String,
    #[serde(default)]
    input: Value,
    pub(super) max_output_tokens: Option<u64>,
    #[serde(default)]
    pub(super) text: Option<TextOptions>,
    #[serde(default)]
    pub(super) reasoning: Option<Value>,
    #[serde(default)]
    include: Option<Vec<String>>,
    /// The size of the whole body.
    #[serde(skip)]
    pub(super) bytes: usize,
}

/// How the text of the answer shall be.
#[derive(Debug, Deserialize)]
pub(super) struct TextOptions {
    #[serde(default)]
    pub(super) format: Option<Value>,
}

impl Ask {
    /// Reads a body; the error is for people.
    pub(super) fn read(body: &[u8]) -> Result<Ask, String> {
        let mut ask: Ask = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        ask.bytes = body.len();
        Ok(ask)
    }

    /// What the user wrote last.
    pub(super) fn prompt(&self) -> &str {
        match &self.input {
            Value::String(text) => text,
            Value::Array(items) => items.iter().rev().find_map(user_text).unwrap_or_default(),
            _ => "",
        }
    }

    /// How many items the input has.
    pub(super) fn items(&self) -> usize {
        self.input.as_array().map_or(1, Vec::len)
    }

    /// The JSON schema that the answer must follow, if there is one.
    pub(super) fn schema(&self) -> Option<&Value> {
        let format = self.text.as_ref()?.format.as_ref()?;
        if format.get("type")? == "json_schema" { format.get("schema") } else { None }
    }

    /// Whether the request wants no reasoning.
    pub(super) fn is_without_reasoning(&self) -> bool {
        self.reasoning.as_ref().and_then(|reasoning| reasoning.get("effort")).is_some_and(|it| it == "none")
    }

    /// Whether reasoning shall carry its encrypted form.
    pub(super) fn wants_encrypted_reasoning(&self) -> bool {
        self.include.iter().flatten().any(|field| field == "reasoning.encrypted_content")
    }
}

fn user_text(item: &Value) -> Option<&str> {
    if item.get("role")? != "user" {
        return None;
    }
    match item.get("content")? {
        Value::String(text) => Some(text),
        Value::Array(parts) => parts.iter().rev().find_map(|part| part.get("text")?.as_str()),
        _ => None,
    }
}
