//! The scenarios of the soak program at a small count: each sees nothing wrong with the gateway, and each sees the fault that
//! it is shown on purpose.

use std::time::Duration;

use service_e2e::soak::row::Row;
use service_e2e::soak::scale::Scale;
use service_e2e::soak::{
    attacks, cancel, cut, drain, frames, kill, overload, relay, reload, report, rolling, slow, socket, tokens,
};
use tokio::time::timeout;

/// No scenario takes longer at a small count.
const TIME_MAX: Duration = Duration::from_secs(150);
const SEED: u64 = 4;

async fn row(run: impl Future<Output = anyhow::Result<Row>>) -> anyhow::Result<Row> {
    timeout(TIME_MAX, run).await?
}

/// So many thousandths of a scenario, right and spoiled.
fn scales(right: u64, spoiled: u64) -> [Scale; 2] {
    [Scale::thousandths(right, SEED), Scale::thousandths(spoiled, SEED).spoiled()]
}

/// Both kinds of runs came to something, and only the spoiled one to violations.
fn judge(right: &Row, spoiled: &Row) {
    for row in [right, spoiled] {
        assert!(row.attempted > 0 && row.fired > 0, "{}", report::line(row));
    }
    assert_eq!(right.violations, 0, "{}", report::line(right));
    assert!(spoiled.violations > 0, "{}", report::line(spoiled));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changed_configurations_neither_mix_nor_drop_calls() -> anyhow::Result<()> {
    let [right, spoiled] = scales(10, 3);
    judge(&row(Box::pin(reload::run(right))).await?, &row(Box::pin(reload::run(spoiled))).await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_stops_ends_each_stream_in_order() -> anyhow::Result<()> {
    let [right, spoiled] = scales(2, 1);
    judge(&row(Box::pin(drain::run(right))).await?, &row(Box::pin(drain::run(spoiled))).await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_restart_in_turn_refuse_nobody() -> anyhow::Result<()> {
    let [right, spoiled] = scales(15, 15);
    judge(&row(Box::pin(rolling::run(right))).await?, &row(Box::pin(rolling::run(spoiled))).await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_readers_hold_their_provider_back() -> anyhow::Result<()> {
    let [right, spoiled] = scales(10, 2);
    judge(&row(Box::pin(slow::run(right))).await?, &row(Box::pin(slow::run(spoiled))).await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_that_hang_up_leave_nothing_behind() -> anyhow::Result<()> {
    let [right, spoiled] = scales(30, 2);
    judge(&row(Box::pin(cancel::run(right))).await?, &row(Box::pin(cancel::run(spoiled))).await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_breaks_is_told_as_broken() -> anyhow::Result<()> {
    let [right, spoiled] = scales(30, 3);
    judge(&row(Box::pin(cut::run(right))).await?, &row(Box::pin(cut::run(spoiled))).await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_pass_unchanged_wherever_they_are_cut() -> anyhow::Result<()> {
    let [right, spoiled] = scales(250, 3);
    judge(&row(Box::pin(relay::run(right))).await?, &row(Box::pin(relay::run(spoiled))).await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_that_misbehave_leave_nothing_and_show_nothing() -> anyhow::Result<()> {
    let [right, spoiled] = scales(20, 1);
    judge(&row(Box::pin(tokens::run(right))).await?, &row(Box::pin(tokens::run(spoiled))).await?);
    Ok(())
}

#[tokio::test]
async fn an_agent_that_is_killed_loses_and_doubles_nothing() -> anyhow::Result<()> {
    let [right, spoiled] = scales(50, 5);
    judge(&row(Box::pin(kill::run(right))).await?, &row(Box::pin(kill::run(spoiled))).await?);
    Ok(())
}

#[tokio::test]
async fn nonsense_leaves_an_agent_well() -> anyhow::Result<()> {
    let [right, spoiled] = scales(50, 3);
    judge(&row(Box::pin(frames::run(right))).await?, &row(Box::pin(frames::run(spoiled))).await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_too_much_is_told_at_once() -> anyhow::Result<()> {
    let right = row(Box::pin(overload::run(Scale::thousandths(20, SEED)))).await?;
    let spoiled = row(Box::pin(overload::run(Scale::thousandths(2, SEED).spoiled()))).await?;
    assert!(right.attempted > 0 && right.fired > 0 && right.violations == 0, "{}", report::line(&right));
    // Nobody is refused by a gateway without limits, so that no fault fires there.
    assert!(spoiled.violations > 0, "{}", report::line(&spoiled));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attacks_change_nothing() -> anyhow::Result<()> {
    let [right, spoiled] = scales(50, 20);
    judge(&row(Box::pin(attacks::run(right))).await?, &row(Box::pin(attacks::run(spoiled))).await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_pass_sockets_unchanged_in_frames_of_every_form() -> anyhow::Result<()> {
    let [right, spoiled] = scales(100, 3);
    judge(
        &row(Box::pin(socket::relay::run(right))).await?,
        &row(Box::pin(socket::relay::run(spoiled))).await?,
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_breaks_is_told_as_broken_on_a_socket() -> anyhow::Result<()> {
    let [right, spoiled] = scales(30, 3);
    judge(&row(Box::pin(socket::cut::run(right))).await?, &row(Box::pin(socket::cut::run(spoiled))).await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_that_leave_their_sockets_leave_nothing_behind() -> anyhow::Result<()> {
    let [right, spoiled] = scales(60, 4);
    judge(
        &row(Box::pin(socket::cancel::run(right))).await?,
        &row(Box::pin(socket::cancel::run(spoiled))).await?,
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_stops_closes_each_socket_in_order() -> anyhow::Result<()> {
    let [right, spoiled] = scales(4, 2);
    judge(
        &row(Box::pin(socket::drain::run(right))).await?,
        &row(Box::pin(socket::drain::run(spoiled))).await?,
    );
    Ok(())
}
