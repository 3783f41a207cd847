//! What the model is told of the place where it works.

use std::{fs, path::Path, sync::Arc};

use agent_session::{ContextOptions, NewThread, Options, Overrides, StartTurn};
use agent_threads::{ImageDetail, ThreadId, UserInput};
use serde_json::Value;

use crate::support::{Desk, over, turn};

const ALL: ContextOptions = ContextOptions {
    permissions: true,
    project_docs: true,
    environment: true,
    git: true,
    local_images: true,
};

fn texts(body: &str) -> Vec<String> {
    let body: Value = serde_json::from_str(body).unwrap();
    let text = |item: &Value| {
        item["content"].as_array().unwrap().last().unwrap()["text"].as_str().unwrap_or("image").to_owned()
    };
    body["input"].as_array().unwrap().iter().skip(1).map(text).collect()
}

#[tokio::test(start_paused = true)]
async fn a_model_is_told_where_it_works_once_and_again_when_that_changes() {
    let home = tempfile::tempdir().unwrap();
    let project = home.path().join("project");
    fs::create_dir_all(project.join(".git")).unwrap();
    fs::write(project.join(".git/HEAD"), "ref: refs/heads/main\n").unwrap();
    fs::write(project.join("AGENTS.md"), "Be brief.\n").unwrap();
    let desk = Desk::with(Options { context: ALL, ..Options::default() });
    let cwd = |path: &std::path::Path| Overrides {
        cwd: Some(path.to_str().unwrap().to_owned()),
        ..Overrides::default()
    };
    let new = NewThread { overrides: cwd(&project), ..NewThread::default() };
    let id = desk.sessions.start(&desk.tenant, new).await.unwrap().thread.id;
    let mut events = desk.sessions.subscribe(&desk.tenant, id, None).await.unwrap();
    desk.say(id, "one").await;
    over(&mut events).await;
    desk.say(id, "two").await;
    over(&mut events).await;
    let bodies = desk.gateway.bodies();
    let first = texts(&bodies[0]);
    for (text, beginning) in first.iter().zip([
        "<permissions>",
        "# AGENTS.md instructions for",
        "<environment_context>",
        "<git_context>",
        "one",
    ]) {
        assert!(text.starts_with(beginning), "{beginning}: {text}");
    }
    assert!(first[1].contains("Be brief."));
    assert_eq!(texts(&bodies[1]).len(), first.len() + 2, "nothing is told twice");
    let same = bodies[0].find("],\"tools\"").unwrap();
    assert_eq!(bodies[0][..same], bodies[1][..same], "each call begins with the bytes of the one before");
    let view = desk.sessions.read(&desk.tenant, id).await.unwrap();
    let file = project.join("AGENTS.md").to_str().unwrap().to_owned();
    assert_eq!(desk.sessions.instruction_sources(&view).await, [file]);
    assert_eq!(view.thread.metadata.git.unwrap().branch.as_deref(), Some("main"));

    fs::write(project.join("AGENTS.md"), "Be long.\n").unwrap();
    desk.say(id, "three").await;
    over(&mut events).await;
    let third = texts(&desk.gateway.bodies()[2]);
    assert!(third[third.len() - 2].contains("Be long."), "{third:?}");
    let turn = StartTurn { overrides: cwd(home.path()), ..turn("four", None) };
    desk.sessions.start_turn(&desk.tenant, id, turn).await.unwrap();
    over(&mut events).await;
    let fourth = texts(&desk.gateway.bodies()[3]);
    let news = &fourth[third.len() + 1..];
    assert_eq!(news.len(), 4, "no instructions, another place, no repository, the message: {news:?}");
}

#[tokio::test(start_paused = true)]
async fn images_of_files_are_sent_as_they_were_and_only_where_that_is_allowed() {
    let home = tempfile::tempdir().unwrap();
    let png = home.path().join("a.png");
    fs::write(&png, b"\x89PNG\r\n\x1a\nrest").unwrap();
    let message = |path: &std::path::Path| StartTurn {
        input: vec![
            UserInput::Text { text: "look at @app".to_owned(), text_elements: Vec::new() },
            UserInput::LocalImage {
                path: path.to_str().unwrap().to_owned(),
                detail: Some(ImageDetail::High),
            },
            UserInput::Mention { name: "app".to_owned(), path: "app://one".to_owned() },
        ],
        ..StartTurn::default()
    };
    let desk = Desk::new();
    let id = desk.thread().await;
    let error = desk.sessions.start_turn(&desk.tenant, id, message(&png)).await.unwrap_err();
    assert!(error.to_string().contains("reads no files"), "{error}");

    let desk = Desk::with(Options {
        context: ContextOptions { local_images: true, ..ContextOptions::default() },
        ..Options::default()
    });
    let (id, mut events) = desk.watched().await;
    for (path, why) in [("none.png", "no such file"), (".", "no file")] {
        let error =
            desk.sessions.start_turn(&desk.tenant, id, message(&home.path().join(path))).await.unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
    fs::write(home.path().join("secret"), "not an image").unwrap();
    let error =
        desk.sessions.start_turn(&desk.tenant, id, message(&home.path().join("secret"))).await.unwrap_err();
    assert!(error.to_string().contains("no PNG"), "{error}");
    desk.sessions.start_turn(&desk.tenant, id, message(&png)).await.unwrap();
    over(&mut events).await;
    fs::remove_file(&png).unwrap();
    desk.say(id, "again").await;
    over(&mut events).await;
    for body in desk.gateway.bodies() {
        let body: Value = serde_json::from_str(&body).unwrap();
        let content = body["input"][1]["content"].as_array().unwrap();
        assert_eq!(content.len(), 2, "a mention is in the text alone");
        assert_eq!(content[1]["detail"], "high");
        assert_eq!(content[1]["image_url"], "data:image/png;base64,iVBORw0KGgpyZXN0");
    }
    let page = desk.sessions.turns(&desk.tenant, id, Default::default()).await.unwrap();
    let agent_threads::Item::UserMessage { content, .. } = &page.elements[0].items[0].item else { panic!() };
    assert_eq!(content.len(), 3, "a person sees what was sent");
}

/// A project with instructions, in a repository whose branch has this name.
fn project(at: &Path, branch: &str) {
    fs::create_dir_all(at.join(".git")).unwrap();
    fs::write(at.join(".git/HEAD"), format!("ref: refs/heads/{branch}\n")).unwrap();
    fs::write(at.join("AGENTS.md"), "Be brief.\n").unwrap();
}

/// A thread that works there, and what its model is told of it before a message.
async fn told(desk: &Desk, cwd: &str) -> (ThreadId, Vec<String>) {
    let overrides = Overrides { cwd: Some(cwd.to_owned()), ..Overrides::default() };
    let new = NewThread { overrides, ..NewThread::default() };
    let id = desk.sessions.start(&desk.tenant, new).await.unwrap().thread.id;
    let mut events = desk.sessions.subscribe(&desk.tenant, id, None).await.unwrap();
    desk.say(id, "one").await;
    over(&mut events).await;
    let mut told = texts(desk.gateway.bodies().last().unwrap());
    assert_eq!(told.pop().unwrap(), "one", "the message comes last");
    (id, told)
}

#[tokio::test(start_paused = true)]
async fn each_part_is_told_only_where_it_is_switched_on() {
    let home = tempfile::tempdir().unwrap();
    project(home.path(), "side");
    let none = ContextOptions::default();
    for (context, beginnings) in [
        (none, &[][..]),
        (ContextOptions { permissions: true, ..none }, &["<permissions>"]),
        (ContextOptions { project_docs: true, ..none }, &["# AGENTS.md instructions for"]),
        (ContextOptions { environment: true, ..none }, &["<environment_context>"]),
        (ContextOptions { git: true, ..none }, &["<git_context>"]),
    ] {
        let desk = Desk::with(Options { context, ..Options::default() });
        let (id, told) = told(&desk, home.path().to_str().unwrap()).await;
        assert_eq!(told.len(), beginnings.len(), "{context:?}: {told:?}");
        for (text, beginning) in told.iter().zip(beginnings) {
            assert!(text.starts_with(beginning), "{context:?}: {told:?}");
        }
        let view = desk.sessions.read(&desk.tenant, id).await.unwrap();
        assert_eq!(view.thread.metadata.git.is_some(), context.git, "{context:?}");
        let sources = desk.sessions.instruction_sources(&view).await;
        assert_eq!(sources.is_empty(), !context.project_docs, "{context:?}: {sources:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn only_where_the_thread_works_is_looked_at() {
    let home = tempfile::tempdir().unwrap();
    project(home.path(), "of-the-thread");
    let context = ContextOptions { project_docs: true, git: true, ..ContextOptions::default() };
    let desk = Desk::with(Options { context, ..Options::default() });
    let (_, there) = told(&desk, home.path().to_str().unwrap()).await;
    assert!(there[1].contains("<branch>of-the-thread</branch>"), "{there:?}");
    // The same place by a name that depends on where this process runs.
    let here = std::env::current_dir().unwrap();
    let relative =
        format!("{}{}", "../".repeat(here.components().count() - 1), &home.path().to_str().unwrap()[1..]);
    assert!(Path::new(&relative).join("AGENTS.md").is_file(), "{relative}");
    let (id, told) = told(&desk, &relative).await;
    assert_eq!(told, [""; 0]);
    let view = desk.sessions.read(&desk.tenant, id).await.unwrap();
    assert_eq!(desk.sessions.instruction_sources(&view).await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_nothing_is_told_twice() {
    let home = tempfile::tempdir().unwrap();
    project(home.path(), "side");
    for item_ids in [false, true] {
        let options = || Options { context: ALL, item_ids, ..Options::default() };
        let desk = Desk::with(options());
        let (id, _) = told(&desk, home.path().to_str().unwrap()).await;
        let before = desk.gateway.bodies().pop().unwrap();
        let restarted = Desk::over(Arc::clone(&desk.store), options());
        let mut events = restarted.sessions.subscribe(&desk.tenant, id, None).await.unwrap();
        restarted.say(id, "two").await;
        over(&mut events).await;
        let after = restarted.gateway.bodies().pop().unwrap();
        let same = before.find("],\"tools\"").unwrap();
        assert_eq!(after[..same], before[..same]);
        assert_eq!(texts(&after)[texts(&before).len()..], ["ok", "two"]);
    }
}
