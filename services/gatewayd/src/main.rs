//! Runs the gateway. Everything is in the library.

use clap::Parser as _;

/// A request makes and drops a few dozen small values on whichever thread is free, and a body of a megabyte comes and goes:
/// glibc's allocator pays for both with locks and page faults.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> service_runtime::Exit {
    gatewayd::main_with(gatewayd::Args::parse())
}
