//! `tidegate trace`: what a thread did and what it cost, as the agent of the desk that is up keeps it.

mod document;
mod tree;

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use tidegate_proto::{
    agent::v1::{GetThreadRequest, ReadTraceRequest, Thread, TraceRecord},
    failure_of,
};
use tonic::{Status, transport::Channel};

use crate::{
    address,
    connect::{AgentSessions, channel, sessions},
    home::Home,
    key, output,
};

/// More pages than a thread keeps rows for.
const PAGES_MAX: usize = 64;

/// What `tidegate trace` was asked for.
#[derive(Debug)]
pub(crate) struct Wish {
    pub(crate) data_dir: Option<PathBuf>,
    pub(crate) thread: String,
    pub(crate) json: bool,
}

/// Shows it.
pub(crate) async fn trace(wish: Wish) -> anyhow::Result<()> {
    let home = Home::find(wish.data_dir)?;
    let mut sessions = sessions(desk(&home).await?)?;
    let get = GetThreadRequest { thread_id: wish.thread.clone() };
    let found = sessions.get_thread(get).await.map_err(|status| told(&status, &wish.thread))?;
    let thread = found.into_inner().thread.context("the agent told of no thread")?;
    let records = read(&mut sessions, &thread).await?;
    let shown = if wish.json { document::of(&thread, &records)? } else { tree::of(&thread, &records) };
    Ok(output::write(&shown)?)
}

/// The agent of the desk that is up.
async fn desk(home: &Home) -> anyhow::Result<Channel> {
    // Why there is no address and nobody behind it says nothing more to a person.
    let found = async { channel(&address::find(&home.agent_address_file())?).await.ok() };
    found.await.with_context(|| {
        format!(
            "no desk is up in {}; start it with `tidegate up`, or name its directory with --data-dir",
            home.path().display()
        )
    })
}

async fn read(sessions: &mut AgentSessions, thread: &Thread) -> anyhow::Result<Vec<TraceRecord>> {
    let (mut records, mut page_token) = (Vec::new(), String::new());
    for _ in 0..PAGES_MAX {
        let request = ReadTraceRequest { thread_id: thread.id.clone(), page_size: 0, page_token };
        let page = sessions.read_trace(request).await.map_err(|status| told(&status, &thread.id))?;
        let page = page.into_inner();
        records.extend(page.records);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(records);
        }
    }
    bail!("the trace does not end")
}

fn told(status: &Status, thread: &str) -> anyhow::Error {
    let failure = failure_of(status);
    match failure.reason.as_str() {
        "thread_not_found" => anyhow::anyhow!("there is no thread {thread}"),
        "invalid_request" => anyhow::anyhow!("{thread:?} is no thread's id; `codex resume` shows them"),
        "thread_not_materialized" => anyhow::anyhow!("thread {thread} has done nothing yet"),
        "thread_is_ephemeral" => anyhow::anyhow!("thread {thread} is ephemeral: nothing of it is kept"),
        _ => key::told(&failure),
    }
}
