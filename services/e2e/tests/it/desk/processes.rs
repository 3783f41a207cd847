//! A desk's processes as the system sees them: what they know, and that none is left behind.
//!
//! Reads `/proc`, and so runs on Linux alone.

use std::path::Path;

use anyhow::Context as _;
use gateway_testkit::{Gate, Upstream};
use rustix::process::Signal;
use serde_json::json;
use service_e2e::home::Home;
use service_e2e::http;
use service_e2e::rpc::Rpc;
use service_e2e::service::Service;
use service_e2e::stack::{self, STOP_TIME_MAX, UPSTREAM_KEY};

use super::Up;

/// A desk's two services, as the system knows them: their ids and command lines.
fn children(up: &Up) -> anyhow::Result<Vec<(u32, String)>> {
    let parent = up.service.id().context("the desk runs")?;
    let mut children = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let path = entry?.path();
        let Some(id) = path.file_name().and_then(|name| name.to_str()?.parse().ok()) else { continue };
        if parent_of(&path) == Some(parent) {
            children.push((id, std::fs::read_to_string(path.join("cmdline"))?.replace('\0', " ")));
        }
    }
    Ok(children)
}

fn parent_of(process: &Path) -> Option<u32> {
    let status = std::fs::read_to_string(process.join("status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok())
}

fn is_alive(id: u32) -> bool {
    Path::new("/proc").join(id.to_string()).join("cmdline").exists()
}

async fn stops_with_both_services(signal: Signal) -> anyhow::Result<()> {
    let home = Home::new()?;
    let mut up = Up::start(&home, None).await?;
    let services = children(&up)?;
    assert_eq!(services.len(), 2, "{services:?}");
    up.service.signal(signal)?;
    let status = up.service.ended(STOP_TIME_MAX).await?;
    assert_eq!(status.code(), Some(0), "{}", up.service.output());
    for (id, command) in services {
        assert!(!is_alive(id), "{command} is still there");
    }
    for at in [up.gateway, up.agent] {
        assert!(http::get(at, "/readyz").await.is_err());
    }
    Ok(())
}

#[tokio::test]
async fn up_stops_both_services_when_interrupted() -> anyhow::Result<()> {
    stops_with_both_services(Signal::INT).await
}

#[tokio::test]
async fn up_stops_both_services_when_terminated() -> anyhow::Result<()> {
    stops_with_both_services(Signal::TERM).await
}

/// While a turn waits for its model, which does not answer, and nothing else ends for an hour.
async fn a_second_signal_stops_at_once(send: fn(&Service) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let upstream = Upstream::start().await?;
    let gate = Gate::closed();
    upstream.set_default(stack::says("resp_held", &["Too late."]).delay_headers(&gate));
    let home = Home::new()?;
    std::fs::create_dir_all(home.path("tidegate"))?;
    std::fs::write(home.path("tidegate/agent.toml"), "[drain]\ngrace_ms = 3600000\n")?;
    let mut up = Up::start(&home, Some(&upstream)).await?;
    let mut rpc = Rpc::connect(&format!("ws://{}", up.agent)).await?;
    rpc.initialize().await?;
    let started = rpc.call("thread/start", json!({})).await?;
    let input = json!([{"type": "text", "text": "Well?", "text_elements": []}]);
    rpc.call("turn/start", json!({"threadId": started["thread"]["id"], "input": input})).await?;
    upstream.wait_for_request(1).await?;
    send(&up.service)?;
    let told = |line: &str| line.contains("a second Ctrl-C stops at once").then_some(());
    up.service.wait_for_line("what is waited for", told).await?;
    send(&up.service)?;
    let status = up.service.ended(STOP_TIME_MAX).await?;
    assert_eq!(status.code(), Some(0), "{}", up.service.output());
    assert!(!up.service.output().contains("killed"), "{}", up.service.output());
    Ok(())
}

#[tokio::test]
async fn a_second_signal_to_up_alone_stops_at_once() -> anyhow::Result<()> {
    a_second_signal_stops_at_once(|up| up.signal(Signal::INT)).await
}

#[tokio::test]
async fn a_second_signal_from_the_terminal_stops_at_once() -> anyhow::Result<()> {
    a_second_signal_stops_at_once(|up| up.signal_group(Signal::INT)).await
}

/// However the desk goes, no service is left behind.
#[tokio::test]
async fn a_killed_desk_leaves_nothing_behind() -> anyhow::Result<()> {
    let home = Home::new()?;
    let mut up = Up::start(&home, None).await?;
    let services = children(&up)?;
    up.service.signal(Signal::KILL)?;
    up.service.ended(STOP_TIME_MAX).await?;
    let gone = async {
        while services.iter().any(|(id, _)| is_alive(*id)) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(STOP_TIME_MAX, gone).await.with_context(|| up.service.output())?;
    Ok(())
}

#[tokio::test]
async fn only_the_gateway_s_environment_has_the_key() -> anyhow::Result<()> {
    let upstream = Upstream::start().await?;
    let home = Home::new()?;
    let up = Up::start(&home, Some(&upstream)).await?;
    let services = children(&up)?;
    let environment = |service: &str| -> anyhow::Result<String> {
        let found = services.iter().find(|(_, command)| command.contains(service));
        let (id, _) = found.with_context(|| format!("{service} in {services:?}"))?;
        Ok(String::from_utf8_lossy(&std::fs::read(format!("/proc/{id}/environ"))?).into_owned())
    };
    assert!(environment("gatewayd")?.contains(UPSTREAM_KEY));
    let agent = environment("agentd")?;
    assert!(agent.contains("TIDEGATE_GATEWAY=") && !agent.contains(UPSTREAM_KEY), "{agent}");
    assert!(services.iter().all(|(_, command)| !command.contains(UPSTREAM_KEY)));
    Ok(())
}
