//! What people say to the agent is in its store and nowhere else.

use serde_json::json;
use service_e2e::home::Home;
use service_e2e::rpc::Rpc;
use service_e2e::stack::{self, Agent, Gateway, STOP_TIME_MAX};

use super::{start_thread, start_turn};

const SAID: &str = "canary-of-the-prompt-77ac";
const ANSWERED: &str = "canary-of-the-answer-21bd";

#[tokio::test]
async fn content_is_not_logged_however_much_is_logged() -> anyhow::Result<()> {
    let upstream = gateway_testkit::Upstream::start().await?;
    let gateway = Gateway::before(&upstream).await?;
    let home = Home::new()?;
    let mut agent = Agent::configured(&home, &gateway, "[log]\nlevel = \"trace\"\n").await?;
    let mut rpc = Rpc::connect(&agent.url).await?;
    rpc.initialize().await?;
    let thread = start_thread(&mut rpc).await?;
    upstream.push(stack::says("resp_said", &[ANSWERED, "."]));
    start_turn(&mut rpc, &thread, SAID).await?;
    rpc.notified("turn/completed").await?;
    let body = json!({"error": {"message": "no", "type": "t", "code": "c", "param": null}});
    upstream.push(gateway_testkit::Reply::json(400, &body));
    start_turn(&mut rpc, &thread, SAID).await?;
    rpc.notified("turn/completed").await?;
    rpc.refused("turn/start", json!({"threadId": SAID, "input": super::input(SAID)})).await?;
    rpc.send_text(format!("not JSON: {SAID}")).await?;
    rpc.call("model/list", json!({})).await?;
    let metrics = service_e2e::http::get(agent.at()?, "/metrics").await?;
    assert_eq!(metrics.status, 200);

    agent.service.signal(rustix::process::Signal::TERM)?;
    agent.service.ended(STOP_TIME_MAX).await?;
    let log = agent.service.output();
    assert!(log.lines().count() > 10, "{log}");
    for secret in [SAID, ANSWERED] {
        let line = log.lines().chain(metrics.text.lines()).find(|line| line.contains(secret));
        assert_eq!(line, None, "{secret} was told");
    }
    Ok(())
}
