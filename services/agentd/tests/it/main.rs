//! The agent as a process: its listeners, its pipes, its end.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests: what must not happen fails them")]

mod process;
mod serving;
