//! The policy as its users see it: requirements hold, problems are told, the file's keys are what they are.
#![expect(clippy::unwrap_used, reason = "tests")]

mod caps;
mod problems;
