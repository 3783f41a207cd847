//! Asks a client to attest for the model calls of a thread that it has opened.
//!
//! The token goes straight to whoever asked for it. It is not stored, logged or understood here.

use std::sync::Arc;
use std::time::Duration;

use agent_session::{Attestation, AttestationProblem, Attester};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::value::RawValue;

use crate::connection::{Connection, Voice};
use crate::questions::{Question, Unanswered};
use crate::server::Shared;
use crate::wire::attestation::{METHOD, Params, Response};

/// How long a token may be: it travels in a header.
const TOKEN_BYTES_MAX: usize = 16 << 10;

/// A connected client that can attest.
struct Client {
    shared: Arc<Shared>,
    voice: Arc<Voice>,
}

/// The client of this connection, if it can attest.
pub(crate) fn attester(connection: &Connection) -> Option<Arc<dyn Attester>> {
    connection.client().filter(|client| client.attests)?;
    Some(Arc::new(Client { shared: Arc::clone(&connection.shared), voice: Arc::clone(&connection.voice) }))
}

impl Attester for Client {
    fn attest(&self, limit: Duration) -> BoxFuture<'static, Attestation> {
        let question = Question { id: self.shared.question_ids.next(), method: METHOD, params: &Params {} };
        self.voice.ask(question, limit).map(|answer| attestation(answer.as_deref())).boxed()
    }
}

fn attestation(answer: Result<&RawValue, &Unanswered>) -> Attestation {
    let problem = match answer.map(token) {
        Ok(Some(token)) => return Attestation::Token(token.into()),
        Ok(None) => AttestationProblem::Malformed,
        Err(Unanswered::Late) => AttestationProblem::Timeout,
        Err(Unanswered::Refused | Unanswered::TooMany) => AttestationProblem::RequestFailed,
        Err(Unanswered::Gone) => AttestationProblem::Cancelled,
    };
    Attestation::Problem(problem)
}

/// The token of an answer, if it has one that fits a header.
fn token(answer: &RawValue) -> Option<String> {
    // serde would take an array for the fields of a struct in their order.
    if !answer.get().starts_with('{') {
        return None;
    }
    let Response { token } = serde_json::from_str(answer.get()).ok()?;
    let fits = (1..=TOKEN_BYTES_MAX).contains(&token.len()) && !token.chars().any(char::is_control);
    fits.then_some(token)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use serde_json::value::to_raw_value;

    use super::{TOKEN_BYTES_MAX, token};

    #[test]
    fn only_a_token_is_taken_for_one() {
        let longest = "x".repeat(TOKEN_BYTES_MAX);
        for (answer, expected) in [
            (json!({"token": "v1.opaque+/="}), Some("v1.opaque+/=")),
            (json!({"token": "a", "new": true}), Some("a")),
            (json!({"token": longest}), Some(longest.as_str())),
            (json!({"token": format!("{longest}x")}), None),
            (json!({"token": ""}), None),
            (json!({"token": "a\r\nb"}), None),
            (json!({"token": "a\u{7f}"}), None),
            (json!({"token": "a\u{85}b"}), None),
            (json!({"token": 7}), None),
            (json!({"token": null}), None),
            (json!({}), None),
            (json!(["a"]), None),
            (json!("a"), None),
            (json!(null), None),
        ] {
            assert_eq!(token(&to_raw_value(&answer).unwrap()).as_deref(), expected, "{answer}");
        }
    }
}
