//! What no client sends: side by side with Codex's own server, which is asked the same and whose ways are ours.

use service_e2e::frames::{Client, Outcome, table};
use service_e2e::service::Service;
use service_e2e::{clients, home::Home, provision};

use super::Desk;

#[tokio::test]
async fn each_odd_frame_comes_to_what_it_comes_to_with_codex() -> anyhow::Result<()> {
    let name = "each_odd_frame_comes_to_what_it_comes_to_with_codex";
    let Some(codex) = provision::codex(name).await? else { return Ok(()) };
    let (desk, home) = (Desk::start().await?, Home::new()?);
    let mut command = clients::on(&home, &codex);
    command.args(["app-server", "--listen", "ws://127.0.0.1:0"]);
    let listening = |line: &str| line.split_once("listening on: ws://")?.1.trim().parse().ok();
    let (_server, theirs) = Service::start("codex app-server", command, listening).await?;
    let ours = desk.agent.at()?;
    let mut wrong = Vec::new();
    let mut kinds = [0; 4];
    for (name, expected, frame) in table() {
        // A connection of its own for each, so that nothing of one is left for the next.
        let theirs = Client::connect(theirs).await?.outcome(&frame, true).await;
        let ours = Client::connect(ours).await?.outcome(&frame, true).await;
        let (Ok(theirs), Ok(ours)) = (&theirs, &ours) else {
            wrong.push(format!("{name}: {ours:?}, and Codex {theirs:?}"));
            continue;
        };
        kinds[match ours {
            Outcome::Answer => 0,
            Outcome::Error => 1,
            Outcome::Silence => 2,
            Outcome::Closed => 3,
        }] += 1;
        match expected {
            None if ours == theirs => {}
            Some(expected) if *ours == expected => {}
            _ => wrong.push(format!("{name}: {ours:?}, and Codex {theirs:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(kinds.iter().all(|count| *count > 4), "{kinds:?}");
    Ok(())
}
