//! Prints the messages that hold a secret, without it.

use std::fmt;

use crate::gateway::v1::{AttestationAnswer, attestation_answer::Answer};

impl fmt::Debug for AttestationAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AttestationAnswer").field("id", &self.id).field("answer", &self.answer).finish()
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(_) => f.write_str("Token(..)"),
            Self::Problem(problem) => f.debug_tuple("Problem").field(problem).finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Answer, AttestationAnswer};
    use crate::gateway::v1::{RespondRequest, respond_request::Message};

    #[test]
    fn a_token_is_not_printed() {
        let answer = AttestationAnswer { id: 7, answer: Some(Answer::Token("opaque-token".to_owned())) };
        let request = RespondRequest { message: Some(Message::AttestationAnswer(answer)) };
        let printed = format!("{request:?}");
        assert!(printed.contains("id: 7") && !printed.contains("opaque"), "{printed}");
    }
}
