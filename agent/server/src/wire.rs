//! The protocol's shapes, one file a resource. Domain values become these here, once, and never travel back inward.
//!
//! Fields that Codex's own server always sends are sent, with null where this service has nothing to say.

pub(crate) mod account;
pub(crate) mod attestation;
pub(crate) mod config;
pub(crate) mod edits;
pub(crate) mod initialize;
pub(crate) mod item;
pub(crate) mod model;
pub(crate) mod page;
pub(crate) mod read_state;
pub(crate) mod settings;
pub(crate) mod thread;
pub(crate) mod thread_list;
pub(crate) mod turn;

use serde::Serialize;

/// `{}`: the answer that says no more than yes.
#[derive(Debug, Serialize)]
pub(crate) struct Empty {}

/// Unix milliseconds as the seconds that most fields carry.
pub(crate) fn seconds(ms: i64) -> i64 {
    ms.div_euclid(1_000)
}
