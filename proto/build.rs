//! Generates the contract's Rust code. protox compiles the .proto files, so no protoc binary is needed.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

const FILES: [&str; 5] = [
    "tidegate/gateway/v1/envelope.proto",
    "tidegate/gateway/v1/failure.proto",
    "tidegate/gateway/v1/model_gateway.proto",
    "tidegate/agent/v1/trace.proto",
    "tidegate/agent/v1/session.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    for file in FILES {
        println!("cargo::rerun-if-changed={file}");
    }
    let descriptors = protox::compile(FILES, ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .bytes(".")
        // Keeps the message of every body chunk as small as the chunk's own fields.
        .boxed(".tidegate.gateway.v1.RespondRequest.message.start")
        // Holds a token; `debug.rs` prints the rest of it.
        .skip_debug([".tidegate.gateway.v1.AttestationAnswer"])
        .compile_fds(descriptors)?;
    Ok(())
}
