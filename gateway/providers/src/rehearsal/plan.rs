//! Decides what a rehearsal says and how it ends.
//!
//! Pure: the same request gives the same plan. A prompt that begins with `rehearse:` asks for a fault.

use std::ops::Range;
use std::time::Duration;

use http::StatusCode;

use super::ask::Ask;
use super::models::{Length, style};
use super::sample;
use super::words;

/// What begins a prompt that asks for a fault.
const COMMAND: &str = "rehearse:";
/// The pace of a slow rehearsal, between two deltas.
const SLOW: Duration = Duration::from_millis(150);
/// The delay that a rate limit asks for, in seconds.
const RATE_LIMIT_DELAY: u64 = 2;
/// What can be rehearsed, for an answer to something else.
const COMMANDS: &str = "error rate_limit, error overloaded, error server, error bad_request, error context, fail, cut, \
                        stall, slow, incomplete";

/// An answer, before it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    /// The summary of the reasoning, if there is reasoning.
    pub(super) reasoning: Option<String>,
    pub(super) text: String,
    pub(super) pace: Duration,
    pub(super) ending: Ending,
}

/// How an answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// As it should.
    Completed,
    /// All that may be said has been said.
    Incomplete,
    /// With an error event.
    Failed { code: &'static str, message: &'static str },
    /// The connection breaks.
    Cut,
    /// Nothing more comes.
    Stall,
}

/// An answer that is an HTTP error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) kind: &'static str,
    pub(super) code: Option<&'static str>,
    pub(super) message: String,
    /// In seconds.
    pub(super) retry_after: Option<u64>,
}

impl Refusal {
    /// The request cannot be understood.
    pub(super) fn bad_request(message: &str) -> Refusal {
        Refusal::new(StatusCode::BAD_REQUEST, "invalid_request_error", None, message)
    }

    fn new(status: StatusCode, kind: &'static str, code: Option<&'static str>, message: &str) -> Refusal {
        Refusal { status, kind, code, message: message.to_owned(), retry_after: None }
    }
}

impl Plan {
    /// The answer to a request, or the error that it asks for.
    pub(super) fn of(ask: &Ask, seed: u64) -> Result<Plan, Refusal> {
        let Some(style) = style(&ask.model) else {
            let message = format!("there is no rehearsal model {:?}", ask.model);
            let (kind, code) = ("invalid_request_error", Some("model_not_found"));
            return Err(Refusal::new(StatusCode::NOT_FOUND, kind, code, &message));
        };
        let prompt = ask.prompt();
        let text = match (ask.schema(), style.length) {
            (Some(schema), _) => sample::of(schema, prompt).to_string(),
            (None, Length::Short) => words::sentence(prompt),
            (None, Length::Reply) => words::reply(prompt, seed),
            (None, Length::Essay) => words::essay(prompt, seed),
        };
        let reasoning = (!ask.is_without_reasoning()).then(|| words::reasoning(prompt, ask.items()));
        let mut plan = Plan { reasoning, text, pace: style.pace, ending: Ending::Completed };
        // A client's own calls for structured output (a title, for example) are not what the user rehearses.
        if let Some(command) = command(prompt).filter(|_| ask.schema().is_none()) {
            plan.rehearse(&command)?;
        }
        if let Some(most) = ask.max_output_tokens {
            plan.limit(most);
        }
        Ok(plan)
    }

    fn rehearse(&mut self, command: &str) -> Result<(), Refusal> {
        let refusal = |status, kind, code, message| Err(Refusal::new(status, kind, code, message));
        match command {
            "error rate_limit" => {
                let message = "Rate limit reached for the rehearsal. Please try again in 2s.";
                let code = Some("rate_limit_exceeded");
                let refusal = Refusal::new(StatusCode::TOO_MANY_REQUESTS, "requests", code, message);
                return Err(Refusal { retry_after: Some(RATE_LIMIT_DELAY), ..refusal });
            }
            "error overloaded" => {
                let message = "The rehearsal is overloaded. Please try again later.";
                let (kind, code) = ("service_unavailable_error", Some("server_is_overloaded"));
                return refusal(StatusCode::SERVICE_UNAVAILABLE, kind, code, message);
            }
            "error server" => {
                let message = "The rehearsal had an error while processing your request.";
                return refusal(StatusCode::INTERNAL_SERVER_ERROR, "server_error", None, message);
            }
            "error bad_request" => {
                return Err(Refusal::bad_request("The rehearsal does not take this request."));
            }
            "error context" => {
                self.reasoning = None;
                self.text.clear();
                self.ending = Ending::Failed {
                    code: "context_length_exceeded",
                    message: "Your input exceeds the context window of this rehearsal.",
                };
            }
            "fail" => {
                self.halve();
                self.ending = Ending::Failed {
                    code: "server_error",
                    message: "The rehearsal had an error while answering.",
                };
            }
            "cut" => {
                self.halve();
                self.ending = Ending::Cut;
            }
            "stall" => {
                self.halve();
                self.ending = Ending::Stall;
            }
            "incomplete" => {
                self.halve();
                self.ending = Ending::Incomplete;
            }
            "slow" => self.pace = SLOW,
            other => self.text = format!("There is no rehearsal of `{other}`. I know: {COMMANDS}."),
        }
        Ok(())
    }

    /// Leaves the first half of the text.
    fn halve(&mut self) {
        let pieces = words::pieces(&self.text);
        self.keep(pieces.get(..pieces.len().div_ceil(2)).unwrap_or_default().last().cloned());
    }

    /// Ends the answer where `most` tokens are used up, reasoning included.
    fn limit(&mut self, most: u64) {
        let mut used = self.reasoning.as_deref().map_or(0, words::tokens);
        let mut last = None;
        for piece in words::pieces(&self.text) {
            used += self.text.get(piece.clone()).map_or(0, words::tokens);
            if used > most {
                self.keep(last);
                self.ending = Ending::Incomplete;
                return;
            }
            last = Some(piece);
        }
    }

    fn keep(&mut self, last: Option<Range<usize>>) {
        self.text.truncate(last.map_or(0, |piece| piece.end));
    }
}

fn command(prompt: &str) -> Option<String> {
    let prompt = prompt.trim();
    let start = prompt.get(..COMMAND.len())?;
    let rest = prompt.get(COMMAND.len()..)?;
    let words = rest.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
    start.eq_ignore_ascii_case(COMMAND).then_some(words)
}
