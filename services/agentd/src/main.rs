//! Runs the agent. Everything is in the library.

use clap::Parser as _;

fn main() -> service_runtime::Exit {
    agentd::main_with(agentd::Args::parse())
}
