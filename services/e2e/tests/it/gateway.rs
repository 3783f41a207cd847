//! The gateway as a process, with the clients that people point at it.

mod aws_sources;
mod bad_input;
mod botocore;
mod codex_exec;
mod codex_models;
pub(crate) mod grpc;
mod openai_sdk;
mod process;
mod readme;
mod secrets;
