//! The example that people copy, against both services: its connection is lost in the middle of a turn, and nothing is lost
//! with it.

use gateway_testkit::{Gate, Upstream};
use service_e2e::stack::{self, Agent, Gateway};
use service_e2e::{clients, home::Home, places, provision};

#[tokio::test]
async fn the_python_example_comes_back_to_its_turn() -> anyhow::Result<()> {
    let name = "the_python_example_comes_back_to_its_turn";
    let Some(python) = provision::grpcio(name).await? else { return Ok(()) };
    let upstream = Upstream::start().await?;
    // The answer is not whole before the connection is lost and another one is there.
    let gate = Gate::closed();
    let reply = stack::says("resp_tide", &["It ", "lets ", "water ", "out ", "and ", "nothing ", "in."]);
    let half = reply.body().len() / 2;
    upstream.push(reply.stall_after(half, &gate));
    let gateway = Gateway::before(&upstream).await?;
    let home = Home::new()?;
    let agent = Agent::start(&home, &gateway).await?;

    let repository = places::repository()?;
    let mut example = clients::on(&home, &python);
    example.env("PYTHONUNBUFFERED", "1").arg("-B").arg(repository.join("deploy/examples/session.py"));
    example.arg(agent.at()?.to_string()).arg(repository.join("proto")).arg("What is a tide gate?");
    let opened = async {
        upstream.wait_for_request(1).await?;
        gate.open();
        anyhow::Ok(())
    };
    let (output, opened) = tokio::join!(clients::run(example), opened);
    opened?;
    let output = output?.success()?;
    let told = &output.stdout;
    assert!(told.contains("-- the connection is lost; going on after "), "{told}");
    assert_eq!(told.matches("the answer: It lets water out and nothing in.").count(), 1, "{told}");
    assert_eq!(told.matches("TURN_OUTCOME_COMPLETED").count(), 1, "{told}");
    assert_eq!(upstream.requests().len(), 1, "one turn, one call");
    Ok(())
}
