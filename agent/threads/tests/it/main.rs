//! Tests of the stores: one suite for all of them, then what only a file can do.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod edits;
mod file;
mod fixture;
mod kill;
mod paging;
mod same;
mod suite;
mod traces;
