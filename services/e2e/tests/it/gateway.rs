//! The gateway as a process, with the clients that people point at it.

mod alias;
mod aws_sources;
mod bad_input;
mod botocore;
mod canaries;
mod check;
mod codex_door;
mod codex_exec;
mod codex_models;
mod codex_websocket;
mod collectors;
mod corpora;
mod doctor;
mod doors;
mod failures;
pub(crate) mod grpc;
mod grpcio;
mod login;
mod openai_sdk;
mod process;
pub(crate) mod readme;
mod renewal;
mod sdk_door;
mod secrets;
mod smuggling;
mod stale;
mod tls;
