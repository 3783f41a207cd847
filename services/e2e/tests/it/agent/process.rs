//! How agentd explains itself, refuses to start, and stops.

use gateway_testkit::Gate;
use serde_json::json;
use service_e2e::home::Home;
use service_e2e::stack::{self, STOP_TIME_MAX};
use service_e2e::{http, provision};

use super::{Desk, start_thread, start_turn};
use crate::gateway::grpc;

#[tokio::test]
async fn grpc_explains_itself_and_refuses_the_unknown() -> anyhow::Result<()> {
    let Some(buf) = provision::buf("grpc_explains_itself_and_refuses_the_unknown").await? else {
        return Ok(());
    };
    let desk = Desk::start().await?;
    let at = desk.agent.at()?;
    grpc::explains_itself(&buf, &format!("http://{at}"), "tidegate.agent.v1.SessionService").await?;
    let empty = b"\0\0\0\0\0";
    for path in ["/tidegate.agent.v1.SessionService/Nothing", "/nobody.v1.Service/Call"] {
        assert_eq!(grpc::status_of(at, path, &[], empty).await?.0, grpc::UNIMPLEMENTED, "{path}");
    }
    let list = "/tidegate.agent.v1.SessionService/ListThreads";
    let foreign = [("origin", "https://evil.example")];
    assert_eq!(grpc::status_of(at, list, &foreign, empty).await?.0, grpc::PERMISSION_DENIED);
    assert_eq!(grpc::status_of(at, list, &[], empty).await?.0, grpc::OK);
    let (status, message) = grpc::status_of(at, list, &[], b"\0\0\0\0\x04\xff\xff\xff\xff").await?;
    assert!(status != grpc::OK && !message.is_empty(), "{status} {message}");
    Ok(())
}

#[tokio::test]
async fn a_running_turn_finishes_before_the_agent_stops() -> anyhow::Result<()> {
    let mut desk = Desk::start().await?;
    let mut rpc = desk.client().await?;
    let thread = start_thread(&mut rpc).await?;
    let held = Gate::closed();
    let reply = stack::says("resp_last", &["Before ", "after."]);
    let half = reply.body().len() / 2;
    desk.upstream.push(reply.stall_after(half, &held));
    start_turn(&mut rpc, &thread, "Say it.").await?;
    rpc.notified("item/agentMessage/delta").await?;
    desk.agent.service.signal(rustix::process::Signal::TERM)?;
    desk.agent.service.wait_for_line("its drain", |line| line.contains("drain").then_some(())).await?;
    held.open();
    let ended = rpc.notified("turn/completed").await?;
    assert_eq!(ended["turn"]["status"], "completed", "{ended}");
    let status = desk.agent.service.ended(STOP_TIME_MAX).await?;
    assert_eq!(status.code(), Some(0), "{}", desk.agent.service.output());
    Ok(())
}

#[tokio::test]
async fn an_idle_agent_stops_at_once_though_clients_are_connected() -> anyhow::Result<()> {
    let desk = Desk::start().await?;
    let mut rpc = desk.client().await?;
    rpc.call("model/list", json!({})).await?;
    assert_eq!(desk.agent.service.stop(STOP_TIME_MAX).await?.code(), Some(0));
    Ok(())
}

#[tokio::test]
async fn what_cannot_work_is_told_at_the_start() -> anyhow::Result<()> {
    let home = Home::new()?;
    let file = home.path("agent.toml");
    std::fs::write(&file, "[limits]\nrunning_turn_max = 1\n")?;
    let socket = home.path("no.sock");
    let config = format!("--service-config={}", file.display());
    for (arguments, code, words) in [
        (
            vec!["app-server", "--listen", "ws://127.0.0.1:0", &config],
            78,
            vec!["agent.toml:2:", "running_turns_max"],
        ),
        (
            vec!["app-server", "--listen", "ws://0.0.0.0:0"],
            78,
            vec!["refusing to start non-loopback", "--ws-auth", "[[callers]]"],
        ),
        (vec!["app-server", "--listen", "tcp://x"], 2, vec!["unsupported --listen URL"]),
        (
            vec!["app-server", "--ws-auth", "capability-token"],
            2,
            vec!["`--ws-token-file` or `--ws-token-sha256` is required"],
        ),
    ] {
        let mut command = stack::agentd(&home, &socket).await?;
        command.args(&arguments);
        let output = stack::run(command).await?;
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
        for word in words {
            assert!(output.stderr.contains(word), "{word} in {output:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_taken_address_is_told_as_such() -> anyhow::Result<()> {
    let desk = Desk::start().await?;
    let home = Home::new()?;
    let mut second = stack::agentd(&home, &desk.gateway.socket).await?;
    second.args(["app-server", "--listen", &desk.agent.url]);
    let output = stack::run(second).await?;
    assert_eq!(output.status.code(), Some(69), "{output:?}");
    assert_eq!(http::get(desk.agent.at()?, "/readyz").await?.status, 200);
    Ok(())
}
