//! Logs what was asked and answered, for callers whose policy says so, and for nobody else.
//!
//! Apart from the access log, under a target of its own, so that an operator can send it somewhere else or nowhere.

use bytes::Bytes;
use serde_json::Value;
use uuid::Uuid;

/// How much of a request, and how much of an answer's text, is logged.
pub(crate) const BYTES_MAX: usize = 64 * 1024;

/// What one call has said so far.
#[derive(Debug)]
pub(crate) struct Content {
    /// A copy, so that a long call does not keep a large body.
    request: Box<[u8]>,
    output: String,
}

impl Content {
    /// Begins with the body as the provider sees it.
    pub(crate) fn new(body: &Bytes) -> Self {
        let request = body.get(..body.len().min(BYTES_MAX)).unwrap_or_default();
        Self { request: request.into(), output: String::new() }
    }

    /// Reads the text of the event, or of the document, that ended the response.
    pub(crate) fn ended(&mut self, json: &[u8]) {
        let Ok(root) = serde_json::from_slice::<Value>(json) else { return };
        let response = root.get("response").unwrap_or(&root);
        let items = response.get("output").and_then(Value::as_array);
        let parts = items
            .into_iter()
            .flatten()
            .filter_map(|item| item.get("content")?.as_array())
            .flatten()
            .filter(|part| part.get("type").is_some_and(|kind| kind == "output_text"))
            .filter_map(|part| part.get("text")?.as_str());
        for text in parts {
            let room = BYTES_MAX - self.output.len();
            self.output.push_str(text.get(..text.floor_char_boundary(room)).unwrap_or_default());
        }
    }

    pub(crate) fn log(&self, call: Uuid, tenant: &str, subject: &str) {
        tracing::info!(
            target: "tidegate::content",
            %call,
            tenant,
            subject,
            request = %String::from_utf8_lossy(&self.request),
            output = self.output,
            "content of a call"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(json: &str) -> String {
        let mut content = Content::new(&Bytes::new());
        content.ended(json.as_bytes());
        content.output
    }

    #[test]
    fn text_is_read_from_events_and_documents() {
        let response = r#"{"output":[{"type":"reasoning","content":null},{"type":"message","content":[
            {"type":"output_text","text":"a"},{"type":"refusal","refusal":"no"},{"type":"output_text","text":"b"}]},7]}"#;
        assert_eq!(output(response), "ab");
        assert_eq!(output(&format!(r#"{{"type":"response.completed","response":{response}}}"#)), "ab");
        for odd in ["", "{", "[]", "7", r#"{"output":{}}"#, r#"{"response":null}"#] {
            assert_eq!(output(odd), "", "{odd}");
        }
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let content = Content::new(&Bytes::from(vec![b'x'; BYTES_MAX + 1]));
        assert_eq!(content.request.len(), BYTES_MAX);
        let part = serde_json::json!({"type": "output_text", "text": "é".repeat(BYTES_MAX / 3)});
        let text = output(&serde_json::json!({"output": [{"content": [part, part, part]}]}).to_string());
        assert_eq!(text.len(), BYTES_MAX);
    }
}
