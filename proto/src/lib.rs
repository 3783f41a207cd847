//! The contract between agent and gateway, generated from the .proto files beside it.
