//! The contract between agent and gateway, generated from the `.proto` files beside it.
//!
//! All that the two services share. It holds no behavior beyond carrying a typed failure in a gRPC status.

mod debug;
mod status;

pub use status::{end_of, failure_of, status_at, status_with};

/// Every file of the contract as an encoded `FileDescriptorSet`, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Model calls for agents.
pub mod gateway {
    /// The first version of the gateway's contract.
    #[expect(
        missing_docs,
        clippy::allow_attributes,
        clippy::as_conversions,
        clippy::too_many_lines,
        reason = "generated code"
    )]
    pub mod v1 {
        tonic::include_proto!("tidegate.gateway.v1");
    }
}

/// Coding sessions for programs.
pub mod agent {
    /// The first version of the agent's contract.
    #[expect(
        missing_docs,
        clippy::allow_attributes,
        clippy::as_conversions,
        clippy::too_many_lines,
        reason = "generated code"
    )]
    pub mod v1 {
        tonic::include_proto!("tidegate.agent.v1");
    }
}
