//! Runs the desk's command line. Everything is in the library.

fn main() -> service_runtime::Exit {
    tidegate::main_with(std::env::args_os().collect())
}
