//! The code behind each method, one file a resource.

pub(crate) mod account;
pub(crate) mod catalog;
pub(crate) mod config;
pub(crate) mod initialize;
pub(crate) mod model;
pub(crate) mod overrides;
pub(crate) mod thread;
pub(crate) mod thread_edits;
pub(crate) mod thread_history;
pub(crate) mod thread_lifecycle;
pub(crate) mod turn;
