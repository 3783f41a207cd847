//! Exit codes, and the one place where a failure is written to standard error.

use std::error::Error;
use std::fmt::Write as _;
use std::num::NonZero;
use std::process::{ExitCode, Termination};
use std::time::Duration;

use crate::{config, listen, telemetry};

/// How long blocking work may hold up the end of the process.
const RUNTIME_SHUTDOWN_MAX: Duration = Duration::from_secs(1);

/// The variable in which tokio finds how many threads run tasks.
const WORKERS: &str = "TOKIO_WORKER_THREADS";

/// How a process ends. The numbers follow `sysexits.h` where it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Everything was done.
    Ok,
    /// Something failed while running.
    Failure,
    /// The command line was wrong (clap uses this number itself).
    Usage,
    /// Something needed is not available, such as a port that another process has.
    Unavailable,
    /// The configuration cannot be used.
    Config,
}

impl Exit {
    /// The process's exit code.
    pub const fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::Unavailable => 69,
            Self::Config => 78,
        }
    }

    /// What a process of ours ended with.
    pub fn of_code(code: i32) -> Self {
        let known = [Self::Ok, Self::Usage, Self::Unavailable, Self::Config];
        known.into_iter().find(|exit| i32::from(exit.code()) == code).unwrap_or(Self::Failure)
    }

    /// The exit that an error stands for: the first cause in its chain that says so decides.
    pub fn of(error: &anyhow::Error) -> Self {
        error.chain().find_map(Self::of_cause).unwrap_or(Self::Failure)
    }

    fn of_cause(cause: &(dyn Error + 'static)) -> Option<Self> {
        if cause.is::<config::Error>() || cause.is::<config::Invalid>() {
            return Some(Self::Config);
        }
        if let Some(fault) = cause.downcast_ref::<Fault>() {
            return Some(fault.exit);
        }
        if let Some(error) = cause.downcast_ref::<telemetry::Error>() {
            return Some(error.exit());
        }
        cause.downcast_ref::<listen::Error>().map(listen::Error::exit)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

impl Termination for Exit {
    fn report(self) -> ExitCode {
        self.into()
    }
}

/// An error that says by itself how the process ends.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// How the process ends.
    pub exit: Exit,
    /// What went wrong.
    pub message: String,
}

/// An error and its causes on one line; a cause that its parent already quotes is not repeated.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let line = error.to_string();
        if !text.ends_with(&line) {
            // Writing to a String cannot fail.
            let _ = write!(text, ": {line}");
        }
        cause = error.source();
    }
    text
}

/// Writes an error with its causes to standard error and says how the process should end.
#[expect(clippy::print_stderr, reason = "the one place that tells a person why the process ends")]
pub fn report(error: &anyhow::Error) -> Exit {
    eprintln!("error: {}", chain(error.as_ref()));
    Exit::of(error)
}

/// Runs a service's main future on a multi-threaded runtime, a thread for each processor, and reports how it ended.
pub fn block_on<F>(main: F) -> Exit
where
    F: Future<Output = anyhow::Result<()>>,
{
    run(&mut tokio::runtime::Builder::new_multi_thread(), main)
}

/// The same with a thread for every second processor, for a service whose tasks hand on to each other more than they
/// compute: each handing on wakes another thread, which then fights for the work. `TOKIO_WORKER_THREADS` says otherwise.
pub fn block_on_half<F>(main: F) -> Exit
where
    F: Future<Output = anyhow::Result<()>>,
{
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if std::env::var_os(WORKERS).is_none() {
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        builder.worker_threads(processors.div_ceil(2));
    }
    run(&mut builder, main)
}

fn run<F>(builder: &mut tokio::runtime::Builder, main: F) -> Exit
where
    F: Future<Output = anyhow::Result<()>>,
{
    let runtime = match builder.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report(&anyhow::Error::new(error).context("cannot start the async runtime")),
    };
    let exit = match runtime.block_on(main) {
        Ok(()) => Exit::Ok,
        Err(error) => report(&error),
    };
    runtime.shutdown_timeout(RUNTIME_SHUTDOWN_MAX);
    exit
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::{Exit, Fault, chain};
    use crate::{config, listen};

    #[test]
    fn the_chain_is_one_line_without_repetition() {
        let inner = std::io::Error::other("disk on fire");
        let error = anyhow::Error::new(inner).context("cannot read a.toml").context("start");
        assert_eq!(chain(error.as_ref()), "start: cannot read a.toml: disk on fire");
        let quoting = anyhow::anyhow!("disk on fire").context("failed: disk on fire");
        assert_eq!(chain(quoting.as_ref()), "failed: disk on fire");
    }

    #[test]
    fn the_cause_decides_the_exit_code() {
        let config = config::load::<crate::log::LogConfig>("/nonexistent/x.toml".as_ref());
        let error = config.context("start").unwrap_err();
        assert_eq!(Exit::of(&error).code(), 78);
        let used = listen::Error::InUse { address: "127.0.0.1:1".parse().unwrap() };
        assert_eq!(Exit::of(&anyhow::Error::new(used)).code(), 69);
        assert_eq!(Exit::of(&anyhow::anyhow!("other")).code(), 1);
        let fault = Fault { exit: Exit::of_code(69), message: "taken".to_owned() };
        assert_eq!(Exit::of(&anyhow::Error::new(fault).context("start")).code(), 69);
        assert_eq!([0, 1, 2, 78, 137].map(|code| Exit::of_code(code).code()), [0, 1, 2, 78, 1]);
    }
}
