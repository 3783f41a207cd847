//! The gateway's command line.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use clap::{Parser, Subcommand, ValueEnum};
use gateway_policy::PolicyConfig;
use service_runtime::{Exit, block_on, cli::report, config::schema, listen::Address};

use crate::{
    GatewaydConfig,
    doctor::{self, Doctor},
    load::{Loaded, Origin, policy},
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
    /// Check a configuration file as a whole, with the policy that it names, and say everything that is wrong with it.
    Check {
        /// The configuration file.
        file: PathBuf,
        /// What the file is.
        #[arg(long = "as", value_name = "KIND", default_value = "gateway")]
        kind: Kind,
    },
    /// Try each provider's credential and address with requests that are refused before they cost anything.
    Doctor(Doctor),
    /// Print the JSON schema of the configuration file, or of the policy file.
    Schema {
        /// Which file.
        #[arg(value_name = "KIND", default_value = "gateway")]
        kind: Kind,
    },
}

/// The files that a gateway reads.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    Gateway,
    Policy,
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
        Some(Command::Check { file, kind }) => match check(&file, kind) {
            Ok(()) => Exit::Ok,
            Err(error) => report(&error),
        },
        Some(Command::Doctor(doctor)) => doctor::main_with(doctor, args.config.as_deref()),
        Some(Command::Schema { kind }) => {
            let schema = match kind {
                Kind::Gateway => schema::<GatewaydConfig>(),
                Kind::Policy => schema::<PolicyConfig>(),
            };
            match print(&schema) {
                Ok(()) => Exit::Ok,
                Err(error) => report(&error),
            }
        }
    }
}

fn check(file: &Path, kind: Kind) -> anyhow::Result<()> {
    match kind {
        Kind::Gateway => {
            let origin = Origin { file: Some(file.to_owned()), listen: Vec::new() };
            for warning in origin.load(None).checked?.warnings {
                print(&format!("{}: warning: {warning}\n", file.display()))?;
            }
            print(&format!("{}: the configuration is good\n", file.display()))
        }
        Kind::Policy => {
            policy(file)?;
            let names = "whether there is what it names shows where a gateway's configuration is checked";
            print(&format!("{}: the policy is good; {names}\n", file.display()))
        }
    }
}

fn print(text: &str) -> anyhow::Result<()> {
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}
