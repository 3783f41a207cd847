//! The gateway as a process, with the clients that people point at it.

mod aws_sources;
mod bad_input;
mod botocore;
mod check;
mod codex_exec;
mod codex_models;
mod doctor;
pub(crate) mod grpc;
mod openai_sdk;
mod process;
mod readme;
mod secrets;
