//! The gateway's command line.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use clap::{Parser, Subcommand};
use service_runtime::{Exit, block_on, cli::report, config::schema, listen::Address};

use crate::{
    GatewaydConfig,
    doctor::{self, Doctor},
    load::{Loaded, Origin},
    run,
};

/// The model gateway: takes model calls over gRPC and the OpenAI Responses API, and alone holds provider credentials.
#[derive(Debug, Parser)]
#[command(name = "gatewayd", version)]
pub struct Args {
    /// The configuration file; without one every key has its default.
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where to listen, instead of what the file says: IP:PORT or unix:PATH. Repeatable.
    #[arg(long, value_name = "ADDRESS")]
    listen: Vec<Address>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check a configuration file as a whole and say everything that is wrong with it.
    Check {
        /// The configuration file.
        file: PathBuf,
    },
    /// Try each provider's credential and address with requests that are refused before they cost anything.
    Doctor(Doctor),
    /// Print the JSON schema of the configuration file.
    Schema,
}

impl Args {
    /// The arguments of a gateway that listens on these addresses.
    #[must_use]
    pub fn new(config: Option<PathBuf>, listen: Vec<Address>) -> Self {
        Self { config, listen, command: None }
    }
}

/// Does what the arguments ask for.
#[must_use]
pub fn main_with(args: Args) -> Exit {
    match args.command {
        None => {
            let origin = Origin { file: args.config, listen: args.listen };
            let Loaded { checked, files } = origin.load(None);
            match checked {
                Ok(checked) => block_on(run::run(origin, files, checked)),
                Err(error) => report(&error.into()),
            }
        }
        Some(Command::Check { file }) => match check(&file) {
            Ok(()) => Exit::Ok,
            Err(error) => report(&error),
        },
        Some(Command::Doctor(doctor)) => doctor::main_with(doctor, args.config.as_deref()),
        Some(Command::Schema) => match print(&schema::<GatewaydConfig>()) {
            Ok(()) => Exit::Ok,
            Err(error) => report(&error),
        },
    }
}

fn check(file: &Path) -> anyhow::Result<()> {
    let origin = Origin { file: Some(file.to_owned()), listen: Vec::new() };
    for warning in origin.load(None).checked?.calls.providers.warnings() {
        print(&format!("{}: warning: {warning}\n", file.display()))?;
    }
    print(&format!("{}: the configuration is good\n", file.display()))
}

fn print(text: &str) -> anyhow::Result<()> {
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}
