//! A desk's processes as the system sees them: what they know, and that none is left behind.
//!
//! Reads `/proc`, and so runs on Linux alone.

use std::path::Path;

use anyhow::Context as _;
use gateway_testkit::Upstream;
use rustix::process::Signal;
use service_e2e::home::Home;
use service_e2e::http;
use service_e2e::stack::{STOP_TIME_MAX, UPSTREAM_KEY};

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
