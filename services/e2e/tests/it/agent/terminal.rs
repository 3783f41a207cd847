//! Codex's terminal interface on agentd: what a person sees.

use std::time::Duration;

use gateway_testkit::{Gate, Reply, Turn};
use serde_json::json;
use service_e2e::pty::Terminal;
use service_e2e::stack::{self, MODEL};
use service_e2e::{clients, provision};

use super::Desk;

/// A slow machine paints within this time.
pub(crate) const SCREEN_TIME_MAX: Duration = Duration::from_secs(30);

/// Says the first piece and holds the rest until the gate is open.
fn half_said(response_id: &str, pieces: &[&str], gate: &Gate) -> Reply {
    let frames = Turn::new(response_id).model(MODEL).text(pieces).completed(stack::usage());
    // Two frames begin the response, two the message, and one is the first piece.
    let said = frames.iter().take(5).map(bytes::Bytes::len).sum();
    Reply::sse(frames).stall_after(said, gate)
}

/// Leaves as a person does.
pub(crate) async fn quit(mut terminal: Terminal) -> anyhow::Result<()> {
    terminal.enter("/quit", SCREEN_TIME_MAX).await?;
    let status = terminal.wait_exit(SCREEN_TIME_MAX).await?;
    assert!(status.success(), "{status}: {}", terminal.screen());
    Ok(())
}

#[tokio::test]
async fn a_person_prompts_interrupts_quits_and_resumes() -> anyhow::Result<()> {
    let name = "a_person_prompts_interrupts_quits_and_resumes";
    let Some(codex) = provision::codex(name).await? else { return Ok(()) };
    let desk = Desk::start().await?;
    let user = service_e2e::home::Home::new()?;
    let mut terminal = clients::codex_remote(&codex, &user, &desk.agent.url)?;
    terminal.wait_for_text(MODEL, SCREEN_TIME_MAX).await?;

    // The answer appears while it is still being said. The client asks for a title beside it, and gets the same.
    let held = Gate::closed();
    let lines = ["The tide turns at noon.\n\n", "Until then it ebbs.\n"];
    desk.upstream.set_default(half_said("resp_tide", &lines, &held));
    terminal.enter("When does the tide turn?", SCREEN_TIME_MAX).await?;
    terminal.wait_for_text("The tide turns at noon.", SCREEN_TIME_MAX).await?;
    assert!(!terminal.screen().contains("Until then"), "{}", terminal.screen());
    held.open();
    terminal.wait_for_text("Until then it ebbs.", SCREEN_TIME_MAX).await?;

    // Esc ends a turn that hangs, and the call upstream with it.
    let never = Gate::closed();
    desk.upstream.set_default(half_said("resp_hangs", &["Let me think.\n\n", "Never.\n"], &never));
    terminal.enter("And after that?", SCREEN_TIME_MAX).await?;
    terminal.wait_for_text("Let me think.", SCREEN_TIME_MAX).await?;
    terminal.send("\x1b").await?;
    terminal.wait_for("the interruption", SCREEN_TIME_MAX, |screen| screen.contains("interrupted")).await?;
    desk.upstream.wait_cancelled(1).await?;
    desk.upstream.set_default(stack::says("resp_rest", &["Rest."]));
    never.open();
    quit(terminal).await?;

    let mut rpc = desk.client().await?;
    let listed = rpc.call("thread/list", json!({})).await?;
    let threads = listed["data"].as_array().unwrap();
    assert_eq!(threads.len(), 1, "{listed}");
    let thread = threads[0]["id"].as_str().unwrap();

    let mut terminal = clients::codex_resume(&codex, &user, &desk.agent.url, thread)?;
    for text in
        ["When does the tide turn?", "The tide turns at noon.", "Until then it ebbs.", "And after that?"]
    {
        terminal.wait_for_text(text, SCREEN_TIME_MAX).await?;
    }
    desk.upstream.set_default(stack::says("resp_later", &["It floods again.\n"]));
    terminal.enter("And in the evening?", SCREEN_TIME_MAX).await?;
    terminal.wait_for_text("It floods again.", SCREEN_TIME_MAX).await?;
    quit(terminal).await?;

    let mut terminal = clients::codex_resume(&codex, &user, &desk.agent.url, "--last")?;
    terminal.wait_for_text("It floods again.", SCREEN_TIME_MAX).await?;
    quit(terminal).await
}
