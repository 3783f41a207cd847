//! agentd over a store that fails at a named moment. Only tests run it.

use clap::Parser as _;

fn main() -> service_runtime::Exit {
    agentd::main_over(agentd::Args::parse(), service_e2e::frail::wrapped)
}
