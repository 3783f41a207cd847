//! Proof of a genuine client: its header, and what becomes of an answer that is none.
//!
//! A token is passed on and nothing else: it is never kept, logged, or given to a provider that did not ask.

use std::time::Duration;

use http::HeaderValue;
use tidegate_proto::gateway::v1::{AttestationAnswer, AttestationProblem, attestation_answer::Answer};
use tidegate_responses::{envelope::header_text, json};

/// How long a caller may take to answer.
pub(crate) const WAIT_MAX: Duration = Duration::from_millis(250);
/// The longest token that is passed on.
const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// What the wire says instead of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Problem {
    Timeout = 1,
    RequestFailed = 2,
    Cancelled = 3,
    Malformed = 4,
}

/// The header for what a caller answered.
pub(crate) fn of_answer(answer: AttestationAnswer) -> HeaderValue {
    match answer.answer {
        Some(Answer::Token(token)) => of_token(&token),
        Some(Answer::Problem(problem)) => of_problem(match AttestationProblem::try_from(problem) {
            Ok(AttestationProblem::Timeout) => Problem::Timeout,
            Ok(AttestationProblem::Cancelled) => Problem::Cancelled,
            Ok(AttestationProblem::Malformed) => Problem::Malformed,
            Ok(AttestationProblem::RequestFailed | AttestationProblem::Unspecified) | Err(_) => {
                Problem::RequestFailed
            }
        }),
        None => of_problem(Problem::Malformed),
    }
}

fn of_token(token: &str) -> HeaderValue {
    if token.is_empty() || token.len() > TOKEN_BYTES_MAX {
        return of_problem(Problem::Malformed);
    }
    let text = format!(r#"{{"v":1,"s":0,"t":{}}}"#, json::quoted(token));
    match HeaderValue::try_from(header_text(&text)) {
        Ok(mut value) => {
            value.set_sensitive(true);
            value
        }
        Err(_) => of_problem(Problem::Malformed),
    }
}

/// The header that says why there is no token.
pub(crate) fn of_problem(problem: Problem) -> HeaderValue {
    HeaderValue::from_static(match problem {
        Problem::Timeout => r#"{"v":1,"s":1}"#,
        Problem::RequestFailed => r#"{"v":1,"s":2}"#,
        Problem::Cancelled => r#"{"v":1,"s":3}"#,
        Problem::Malformed => r#"{"v":1,"s":4}"#,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(answer: Option<Answer>) -> String {
        let value = of_answer(AttestationAnswer { id: 1, answer });
        value.to_str().unwrap().to_owned()
    }

    #[test]
    fn a_token_travels_byte_for_byte() {
        assert_eq!(
            answer(Some(Answer::Token("v1.a\"b/ü".to_owned()))),
            r#"{"v":1,"s":0,"t":"v1.a\"b/\u00fc"}"#
        );
        assert!(of_token("t").is_sensitive());
    }

    #[test]
    fn whatever_else_comes_has_its_status() {
        let problem = |problem: AttestationProblem| answer(Some(Answer::Problem(problem.into())));
        assert_eq!(problem(AttestationProblem::Timeout), r#"{"v":1,"s":1}"#);
        assert_eq!(problem(AttestationProblem::RequestFailed), r#"{"v":1,"s":2}"#);
        assert_eq!(problem(AttestationProblem::Cancelled), r#"{"v":1,"s":3}"#);
        assert_eq!(problem(AttestationProblem::Malformed), r#"{"v":1,"s":4}"#);
        assert_eq!(answer(None), r#"{"v":1,"s":4}"#);
        assert_eq!(answer(Some(Answer::Token(String::new()))), r#"{"v":1,"s":4}"#);
        assert_eq!(answer(Some(Answer::Token("t".repeat(TOKEN_BYTES_MAX + 1)))), r#"{"v":1,"s":4}"#);
        assert_eq!(answer(Some(Answer::Problem(99))), r#"{"v":1,"s":2}"#);
    }
}
