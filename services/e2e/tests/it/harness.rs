//! The harness itself, proven against a server that is known to be right: Codex's own.

use anyhow::Context as _;
use serde_json::json;
use service_e2e::{clients, home::Home, provision, rpc::Rpc, schema::Protocol, service::Service};

/// What Codex's own server says passes, and the same with a broken, a missing, or an unknown field does not.
#[tokio::test]
async fn the_schema_accepts_codex_and_refuses_what_is_broken() -> anyhow::Result<()> {
    let name = "the_schema_accepts_codex_and_refuses_what_is_broken";
    let Some(codex) = provision::codex(name).await? else { return Ok(()) };
    let protocol = Protocol::generate(&codex).await?;
    let home = Home::new()?;
    let mut command = clients::on(&home, &codex);
    command.args(["app-server", "--listen", "ws://127.0.0.1:0"]);
    let listening = |line: &str| Some(line.split_once("listening on: ")?.1.trim().to_owned());
    let (_server, address) = Service::start("codex app-server", command, listening).await?;

    let mut rpc = Rpc::connect(&address).await?;
    rpc.initialize().await?;
    for method in ["account/read", "model/list", "config/read", "skills/list", "thread/start", "thread/list"]
    {
        rpc.call(method, json!({})).await?;
    }
    rpc.refused("thread/read", json!({"threadId": "nobody"})).await?;
    assert!(rpc.received().len() > 8);
    for received in rpc.received() {
        protocol.check(&received.message, received.asked.as_deref())?;
    }

    let started = rpc.received().iter().find(|received| received.asked.as_deref() == Some("thread/start"));
    let started = started.context("thread/start was answered")?;
    let broken = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut message = started.message.clone();
        change(&mut message["result"]["thread"]);
        protocol.check(&message, started.asked.as_deref())
    };
    assert!(broken(&|_| ()).is_ok());
    assert!(broken(&|thread| thread["id"] = json!(7)).is_err());
    assert!(broken(&|thread| thread["misspelt"] = json!(7)).is_err());
    assert!(
        broken(&|thread| thread.as_object_mut().map(|thread| thread.remove("id")).map_or((), drop)).is_err()
    );
    assert!(protocol.check(&json!({"method": "turn/begun", "params": {}}), None).is_err());
    Ok(())
}
