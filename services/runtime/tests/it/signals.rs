//! Real signals to this very process.

use std::process::Command;
use std::time::Duration;

use service_runtime::Drain;
use service_runtime::signals::Signals;
use service_runtime::tasks::Tasks;

use crate::support::{DEADLINE, within};

fn terminate_self() {
    let killed = Command::new("kill").args(["-TERM", &std::process::id().to_string()]).status();
    assert!(killed.unwrap().success());
}

#[tokio::test]
async fn the_first_signal_drains_and_the_second_aborts() {
    let drain = Drain::new(Duration::ZERO, DEADLINE * 2);
    let signals = Signals::install().unwrap();
    let mut tasks = Tasks::new(drain.clone());
    let part = drain.clone();
    tasks.spawn("server", async move {
        terminate_self();
        part.draining().await;
        part.closing().await;
        assert!(!part.cut_token().is_cancelled(), "one signal leaves the grace period");
        terminate_self();
        part.aborted().await;
        anyhow::Ok(())
    });
    within(tasks.run(signals)).await.unwrap();
}
