//! `tidegate` on a desk: one prompt, and both services until they are told to stop.

use std::ffi::OsString;
use std::path::Path;

use anyhow::Context as _;
use gateway_testkit::Upstream;
use rustix::process::Signal;
use serde_json::json;
use service_e2e::rpc::Rpc;
use service_e2e::service::Service;
use service_e2e::stack::{self, CALLER_KEY, STOP_TIME_MAX, UPSTREAM_KEY};
use service_e2e::{binaries, clients, home::Home, http, provision};
use tokio::process::Command;

/// A desk whose gateway, if there is an upstream, needs a key that the user's environment has.
async fn tidegate(home: &Home, upstream: Option<&Upstream>) -> anyhow::Result<Command> {
    let mut command = clients::on(home, &binaries::program("tidegate").await?);
    let data = home.path("tidegate");
    std::fs::create_dir_all(&data)?;
    if let Some(upstream) = upstream {
        std::fs::write(data.join("gateway.toml"), stack::provider(upstream))?;
    }
    command.env("TIDEGATE_HOME", data).env("E2E_UPSTREAM_KEY", UPSTREAM_KEY);
    Ok(command)
}

#[tokio::test]
async fn ask_streams_one_answer_without_an_account() -> anyhow::Result<()> {
    let home = Home::new()?;
    let mut ask = tidegate(&home, None).await?;
    ask.args(["ask", "--model", "rehearsal-short", "What is a tide gate?"]);
    let output = stack::run(ask).await?.success()?;
    assert!(output.stdout.trim().len() > 10 && output.stdout.ends_with('\n'), "{output:?}");
    Ok(())
}

#[tokio::test]
async fn ask_goes_through_both_services_and_tells_failures() -> anyhow::Result<()> {
    let upstream = Upstream::start().await?;
    upstream.push(stack::says("resp_ask", &["It lets ", "water out."]));
    let home = Home::new()?;
    let mut ask = tidegate(&home, Some(&upstream)).await?;
    ask.args(["ask", "What is a tide gate?"]);
    let output = stack::run(ask).await?.success()?;
    assert_eq!(output.stdout, "It lets water out.\n");
    let seen = upstream.wait_for_request(1).await?;
    assert_eq!(seen.header("authorization"), Some(format!("Bearer {UPSTREAM_KEY}").as_str()));
    assert!(seen.header("thread-id").is_some());

    let mut ask = tidegate(&home, Some(&upstream)).await?;
    ask.args(["ask", "--model", "nobody-s", "What is a tide gate?"]);
    let output = stack::run(ask).await?;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(output.stdout, "");
    assert!(output.stderr.contains("nobody-s"), "{output:?}");
    assert!(!output.stderr.contains(UPSTREAM_KEY));
    Ok(())
}

/// A running desk on free ports.
struct Up {
    service: Service,
    gateway: std::net::SocketAddr,
    agent: std::net::SocketAddr,
}

impl Up {
    async fn start(home: &Home, upstream: Option<&Upstream>) -> anyhow::Result<Self> {
        let mut up = tidegate(home, upstream).await?;
        let [gateway, agent] = free_ports()?;
        up.args(["up", "--gateway", &gateway.to_string(), "--agent", &agent.to_string()]);
        let ready = |line: &str| line.contains("Ctrl-C stops both").then_some(());
        let (service, ()) = Service::start("tidegate up", up, ready).await?;
        Ok(Self { service, gateway, agent })
    }

    /// The desk's two services, as the system knows them: their ids and command lines.
    fn children(&self) -> anyhow::Result<Vec<(u32, String)>> {
        let parent = self.service.id().context("the desk runs")?;
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
}

/// Two ports that were free a moment ago; `tidegate up` prints what it was told, so it must be told a number.
fn free_ports() -> anyhow::Result<[std::net::SocketAddr; 2]> {
    let one = std::net::TcpListener::bind("127.0.0.1:0")?;
    let other = std::net::TcpListener::bind("127.0.0.1:0")?;
    Ok([one.local_addr()?, other.local_addr()?])
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
    let children = up.children()?;
    assert_eq!(children.len(), 2, "{children:?}");
    up.service.signal(signal)?;
    let status = up.service.ended(STOP_TIME_MAX).await?;
    assert_eq!(status.code(), Some(0), "{}", up.service.output());
    for (id, command) in children {
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
    let children = up.children()?;
    up.service.signal(Signal::KILL)?;
    up.service.ended(STOP_TIME_MAX).await?;
    let gone = async {
        while children.iter().any(|(id, _)| is_alive(*id)) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(STOP_TIME_MAX, gone).await.with_context(|| up.service.output())?;
    Ok(())
}

/// Only the gateway's environment has the key; everything that the banner says to paste works.
#[tokio::test]
async fn up_serves_everybody_and_keeps_the_key_in_the_gateway() -> anyhow::Result<()> {
    let Some(codex) = provision::codex("up_serves_everybody_and_keeps_the_key_in_the_gateway").await? else {
        return Ok(());
    };
    let upstream = Upstream::start().await?;
    upstream.set_default(stack::says("resp_up", &["It lets ", "water out."]));
    let home = Home::new()?;
    let up = Up::start(&home, Some(&upstream)).await?;
    let banner = up.service.output();
    for expected in [
        format!("codex --remote ws://{}", up.agent),
        format!("base_url = \"http://{}/v1\"", up.gateway),
        "tidegate ask".to_owned(),
    ] {
        assert!(banner.contains(&expected), "{expected} in {banner}");
    }

    let environment = |service: &str| -> anyhow::Result<String> {
        let children = up.children()?;
        let found = children.iter().find(|(_, command)| command.contains(service));
        let (id, _) = found.with_context(|| format!("{service} in {children:?}"))?;
        Ok(String::from_utf8_lossy(&std::fs::read(format!("/proc/{id}/environ"))?).into_owned())
    };
    assert!(environment("gatewayd")?.contains(UPSTREAM_KEY));
    assert!(!environment("agentd")?.contains(UPSTREAM_KEY));

    let mut ask = tidegate(&home, Some(&upstream)).await?;
    ask.env_remove("E2E_UPSTREAM_KEY").args(["ask", "Through the desk that is up?"]);
    assert_eq!(stack::run(ask).await?.success()?.stdout, "It lets water out.\n");
    let user = Home::new()?;
    clients::use_gateway(&user, &format!("http://{}", up.gateway), stack::MODEL)?;
    let output = clients::codex_exec(&codex, &user, CALLER_KEY, "And this?").await?.success()?;
    assert!(output.stdout.contains("It lets water out."), "{output:?}");
    let mut rpc = Rpc::connect(&format!("ws://{}", up.agent)).await?;
    rpc.initialize().await?;
    let listed = rpc.call("thread/list", json!({})).await?;
    assert_eq!(listed["data"].as_array().unwrap().len(), 1, "{listed}");

    // Nothing that the desk has written holds the key.
    let mut open = vec![home.path("tidegate")];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory)? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else if path.is_file() {
                let bytes = std::fs::read(&path)?;
                let held = bytes.windows(UPSTREAM_KEY.len()).any(|window| window == UPSTREAM_KEY.as_bytes());
                assert!(!held, "{}", path.display());
            }
        }
    }
    assert!(!up.service.output().contains(UPSTREAM_KEY));
    Ok(())
}

#[tokio::test]
async fn check_and_schema_say_what_a_configuration_may_hold() -> anyhow::Result<()> {
    let home = Home::new()?;
    let run = |arguments: Vec<OsString>| {
        let home = &home;
        async move {
            let mut command = tidegate(home, None).await?;
            command.args(arguments);
            stack::run(command).await
        }
    };
    for (name, text, code, word) in [
        ("good.toml", "[limits]\nbody_bytes_max = 1000\n", 0, "good"),
        ("bad.toml", "[limits]\nbody_byte_max = 1000\n", 78, "body_bytes_max"),
        (
            "agent.toml",
            "gateway = \"127.0.0.1:1\"\n[limits]\nrunning_turn_max = 1\n",
            78,
            "running_turns_max",
        ),
    ] {
        std::fs::write(home.path(name), text)?;
        let output = run(vec!["check".into(), home.path(name).into()]).await?;
        assert_eq!(output.status.code(), Some(code), "{name}: {output:?}");
        assert!(format!("{}{}", output.stdout, output.stderr).contains(word), "{name}: {output:?}");
    }
    for service in ["gateway", "agent"] {
        let schema = run(vec!["schema".into(), service.into()]).await?.success()?.stdout;
        let committed =
            service_e2e::places::repository()?.join(format!("deploy/config/{service}d.schema.json"));
        assert_eq!(schema, std::fs::read_to_string(committed)?);
    }
    Ok(())
}
