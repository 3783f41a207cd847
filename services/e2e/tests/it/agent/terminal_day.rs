//! A person's day in Codex's terminal interface: long answers, a message into a running turn, the status, another model, a
//! shorter context, and a service that was started anew in between.

use gateway_testkit::{Gate, Reply, Turn};
use serde_json::Value;
use service_e2e::home::Home;
use service_e2e::pty::Terminal;
use service_e2e::stack::{self, Agent, CATALOG_MODEL, MODEL};
use service_e2e::{clients, provision};

use super::Desk;
use super::terminal::{SCREEN_TIME_MAX, quit};

const LINES: usize = 60;

/// An answer of every kind of text, longer than the screen.
fn long() -> Reply {
    let mut pieces = vec!["# Tides\n\n".to_owned(), "They **come** and _go_; see `tide.rs`:\n\n".to_owned()];
    pieces.push("```rust\nfn tide() -> u8 { 2 }\n```\n\n".to_owned());
    pieces.extend((1..=LINES).map(|line| format!("{line}. high water number {line}\n")));
    pieces.push("\nThat is all of them.\n".to_owned());
    let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
    stack::says("resp_long", &pieces)
}

/// The bodies of the calls for answers: those for a title have a format.
fn answers(desk: &Desk) -> Vec<Value> {
    let calls = desk.upstream.requests().into_iter().map(|call| call.json());
    calls.filter(|body| body["text"]["format"].is_null()).collect()
}

fn last(desk: &Desk) -> Value {
    answers(desk).pop().unwrap()
}

async fn prompt(terminal: &mut Terminal, text: &str, answer: &str) -> anyhow::Result<()> {
    terminal.enter(text, SCREEN_TIME_MAX).await?;
    terminal.wait_for_text(answer, SCREEN_TIME_MAX).await
}

#[tokio::test]
async fn a_person_works_all_day_and_finds_everything_the_next() -> anyhow::Result<()> {
    let Some(codex) = provision::codex("a_person_works_all_day_and_finds_everything_the_next").await? else {
        return Ok(());
    };
    let mut desk = Desk::start().await?;
    let user = Home::new()?;
    let mut terminal = clients::codex_remote(&codex, &user, &desk.agent.url)?;
    terminal.wait_for_text(MODEL, SCREEN_TIME_MAX).await?;
    desk.upstream.set_default(long());
    prompt(&mut terminal, "List the tides.", "That is all of them.").await?;
    assert!(terminal.screen().contains(&format!("high water number {LINES}")), "{}", terminal.screen());

    steer(&desk, &mut terminal).await?;
    prompt(&mut terminal, "/status", "Token usage:").await?;
    assert!(terminal.screen().contains("Model provider:      scripted"), "{}", terminal.screen());

    desk.upstream.set_default(stack::says("resp_sum", &["There were many tides.\n"]));
    prompt(&mut terminal, "/compact", "Context compacted").await?;
    assert!(last(&desk).to_string().contains("has to be condensed"));
    desk.upstream.set_default(stack::says("resp_after", &["As was said.\n"]));
    prompt(&mut terminal, "What was it about?", "As was said.").await?;
    let body = last(&desk).to_string();
    assert!(body.contains("There were many tides.") && body.contains("List the tides."), "{body}");
    assert!(!body.contains("high water number"), "{body}");

    change_model(&desk, &mut terminal).await?;
    quit(terminal).await?;
    next_day(&codex, &user, &mut desk).await
}

/// A message while the model is speaking: what was said stays, and the answer knows both.
async fn steer(desk: &Desk, terminal: &mut Terminal) -> anyhow::Result<()> {
    let frames = Turn::new("resp_held").model(MODEL).text(&["Let me see.\n\n", "Never.\n"]);
    let frames = frames.completed(stack::usage());
    let said = frames.iter().take(5).map(bytes::Bytes::len).sum();
    let held = Gate::closed();
    desk.upstream.set_default(Reply::sse(frames).stall_after(said, &held));
    prompt(terminal, "And the currents?", "Let me see.").await?;
    desk.upstream.set_default(stack::says("resp_steered", &["The moon, too.\n"]));
    prompt(terminal, "Mind the moon.", "The moon, too.").await?;
    let body = last(desk).to_string();
    for text in ["And the currents?", "Let me see.", "Mind the moon."] {
        assert!(body.contains(text), "{text}: {body}");
    }
    // The client asks for a title beside it, which may be held as well.
    held.open();
    Ok(())
}

async fn change_model(desk: &Desk, terminal: &mut Terminal) -> anyhow::Result<()> {
    prompt(terminal, "/model", "Select Model").await?;
    assert_eq!(last(desk)["model"], MODEL);
    // The second of the list.
    terminal.send("2").await?;
    terminal
        .wait_for("the model or its efforts", SCREEN_TIME_MAX, |screen| {
            screen.contains("Model changed") || screen.contains("Select Reasoning")
        })
        .await?;
    if terminal.screen().contains("Select Reasoning") {
        terminal.send("\r").await?;
        terminal.wait_for_text("Model changed", SCREEN_TIME_MAX).await?;
    }
    desk.upstream.set_default(stack::says("resp_other", &["I am new here.\n"]));
    prompt(terminal, "Who are you?", "I am new here.").await?;
    let body = last(desk);
    assert_eq!(body["model"], CATALOG_MODEL);
    assert!(body.to_string().contains("<model_change>"), "{body}");
    Ok(())
}

/// The service was started anew over night.
async fn next_day(codex: &std::path::Path, user: &Home, desk: &mut Desk) -> anyhow::Result<()> {
    let again = Agent::start(&desk.home, &desk.gateway).await?;
    std::mem::replace(&mut desk.agent, again).service.stop(stack::STOP_TIME_MAX).await?;
    let mut terminal = clients::codex_resume_picker(codex, user, &desk.agent.url)?;
    terminal.wait_for_text("Resume a previous session", SCREEN_TIME_MAX).await?;
    terminal
        .wait_for("the thread", SCREEN_TIME_MAX, |screen| screen.contains("ago") || screen.contains("now"))
        .await?;
    terminal.send("\r").await?;
    for text in ["Who are you?", "I am new here."] {
        terminal.wait_for_text(text, SCREEN_TIME_MAX).await?;
    }
    desk.upstream.set_default(stack::says("resp_morning", &["Good morning.\n"]));
    prompt(&mut terminal, "Still there?", "Good morning.").await?;
    let body = last(desk);
    assert_eq!(body["model"], CATALOG_MODEL);
    assert!(body.to_string().contains("There were many tides."), "{body}");
    quit(terminal).await
}
