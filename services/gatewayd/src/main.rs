//! Runs the gateway. Everything is in the library.

use clap::Parser as _;

fn main() -> service_runtime::Exit {
    gatewayd::main_with(gatewayd::Args::parse())
}
