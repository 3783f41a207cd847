//! A fake Bedrock that checks every signature as AWS describes it.

mod refusal;
mod rules;
mod server;
mod sigv4;

pub use refusal::Refusal;
pub use server::Bedrock;
