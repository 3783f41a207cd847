//! Whose turn it is on this machine's processors, where one machine has to stand for several.
//!
//! What an attacker computes, it computes on another machine, and must not be taken for what the attacked process makes others
//! wait. So its thread computes only while nobody else wants to. That alone is not enough: the kernel lets such a thread have
//! whole ticks (4 ms) beside ordinary ones, and puts two threads that it has woken in line behind each other while it computes
//! on the other processor. So whoever is on the attacked side is put into the class for real time, where the kernel permits it:
//! the attacked process, its good client and its provider, which then share the processors as if the attacker had none.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

use anyhow::Context as _;
use tokio::sync::oneshot;

/// Where something would compute, if there were more than one machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Machine {
    /// On the attacked side, and before the attacker if that is possible here.
    Ours { first: bool },
    /// On the attacker's.
    Theirs,
}

/// Runs something on a thread of its own.
pub(super) fn apart<T: Send + 'static, F: Future<Output = T>>(
    machine: Machine,
    work: impl FnOnce() -> F + Send + 'static,
) -> oneshot::Receiver<anyhow::Result<T>> {
    let (tell, told) = oneshot::channel();
    std::thread::spawn(move || {
        let run = || {
            match machine {
                Machine::Ours { first: false } => {}
                Machine::Ours { first: true } => of_this_thread(&FIRST)?,
                Machine::Theirs => of_this_thread(&LAST)?,
            }
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            anyhow::Ok(runtime.block_on(work()))
        };
        // Whoever has left does not want to know.
        let _ = tell.send(run());
    });
    told
}

/// Lets a process compute before everybody who is in no such class; processes and threads that it starts are in none. Whether the
/// kernel permits it.
pub fn go_first(process: u32) -> anyhow::Result<bool> {
    set(&["--all-tasks", "--rr", "--reset-on-fork", "--pid", "1"], process.to_string().as_ref())
}

const FIRST: [&str; 4] = ["--rr", "--reset-on-fork", "--pid", "1"];
const LAST: [&str; 3] = ["--idle", "--pid", "0"];

fn of_this_thread(class: &[&str]) -> anyhow::Result<()> {
    let thread = std::fs::read_link("/proc/thread-self").context("find out which thread this is")?;
    let is_set = set(class, thread.file_name().context("a thread has a number")?)?;
    anyhow::ensure!(is_set, "chrt has not done it");
    Ok(())
}

fn set(class: &[&str], whom: &OsStr) -> anyhow::Result<bool> {
    let set = Command::new("chrt").args(class).arg(whom).stderr(Stdio::null()).status();
    Ok(set.context("start chrt, of util-linux")?.success())
}
