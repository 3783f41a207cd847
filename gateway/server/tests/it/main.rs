//! The gateway's surfaces against a scripted upstream.

mod bad_input;
mod counted;
mod door;
mod goldens;
mod grpc;
mod harness;
mod held;
mod http;
mod outbound;
mod refused;
mod stream;
mod talker;
mod telemetry;
mod tokens;
mod websocket;
mod websocket_ends;
