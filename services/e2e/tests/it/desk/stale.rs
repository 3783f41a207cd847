//! What a killed desk leaves behind is not believed.

use std::net::TcpListener;

use gateway_testkit::Upstream;
use rustix::process::Signal;
use service_e2e::home::Home;
use service_e2e::stack::{self, STOP_TIME_MAX};

use super::{Up, tidegate};

/// Whoever has the port of a killed desk's agent by then is not called, and so is shown no key.
#[tokio::test]
async fn the_address_of_a_killed_desk_is_not_called() -> anyhow::Result<()> {
    let upstream = Upstream::start().await?;
    upstream.set_default(stack::says("resp_stale", &["It lets ", "water out."]));
    let home = Home::new()?;
    let mut up = Up::start(&home, Some(&upstream)).await?;
    up.service.signal(Signal::KILL)?;
    up.service.ended(STOP_TIME_MAX).await?;
    let address_file = home.path("tidegate/run/agent.address");
    assert_eq!(std::fs::read_to_string(&address_file)?, up.agent.to_string());

    let stranger = TcpListener::bind("127.0.0.1:0")?;
    stranger.set_nonblocking(true)?;
    std::fs::write(&address_file, stranger.local_addr()?.to_string())?;
    let run = async |arguments: [&str; 2]| {
        let mut command = tidegate(&home, Some(&upstream)).await?;
        command.env("TIDEGATE_KEY", "canary-of-the-user").args(arguments);
        stack::run(command).await
    };
    let traced = run(["trace", "01a1f863-0000-7f93-9710-f7d10b25b017"]).await;
    // Without a desk it starts one for this prompt.
    let asked = run(["ask", "What is a tide gate?"]).await;
    // A connection that its client has given up is still told.
    let calls = std::iter::from_fn(|| stranger.accept().ok()).count();
    assert_eq!(calls, 0, "{traced:?} {asked:?}");
    let traced = traced?;
    assert_eq!((traced.status.code(), traced.stdout.as_str()), (Some(1), ""), "{traced:?}");
    assert!(traced.stderr.contains("no desk is up in"), "{traced:?}");
    assert_eq!(asked?.success()?.stdout, "It lets water out.\n");
    Ok(())
}
