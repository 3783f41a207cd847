//! The gateway as a process, with the clients that people point at it.

mod bad_input;
mod codex_exec;
mod codex_models;
pub(crate) mod grpc;
mod openai_sdk;
mod process;
mod readme;
mod secrets;
