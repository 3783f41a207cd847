//! `tidegate ask`: one prompt through both services, its answer streamed to standard output.
//!
//! Uses the desk that is up, or starts one for this prompt on sockets of its own.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use service_runtime::listen::Address;
use tidegate_proto::{
    agent::v1::{
        CreateThreadRequest, StartTurnRequest, SubscribeRequest, TurnOutcome, item::Kind,
        session_service_client::SessionServiceClient, subscribe_response::Event,
    },
    failure_of,
};
use tokio_util::sync::CancellationToken;
use tonic::{Status, transport::Channel};

use crate::{
    child::Log,
    connect::channel,
    desk::{Desk, Plan},
    home::Home,
    output,
};

/// How many lines of a service's log are shown when something went wrong.
const LOG_LINES_SHOWN: usize = 20;

/// What `tidegate ask` was asked for.
#[derive(Debug)]
pub(crate) struct Wish {
    pub(crate) data_dir: Option<PathBuf>,
    pub(crate) model: Option<String>,
    pub(crate) prompt: String,
}

/// Asks.
pub(crate) async fn ask(wish: Wish) -> anyhow::Result<()> {
    let home = Home::find(wish.data_dir.clone())?;
    if let Some(address) = running(&home).await
        && let Ok(agent) = channel(&address).await
    {
        return prompt(agent, &wish).await;
    }
    let sockets = tempfile::Builder::new().prefix("tidegate-").tempdir()?;
    let plan = Plan {
        gateway_socket: sockets.path().join("gateway.sock"),
        gateway_listen: None,
        gateway_config: home.gateway_config(),
        agent_listen: Address::Unix(sockets.path().join("agent.sock")),
        agent_config: home.agent_config(),
        home: home.path().to_owned(),
    };
    on_own_desk(&plan, sockets.path(), &wish).await
}

async fn on_own_desk(plan: &Plan, logs: &Path, wish: &Wish) -> anyhow::Result<()> {
    let mut desk = Desk::start(plan, Log::Kept(logs)).await.inspect_err(|_| show_logs(logs))?;
    let agent = channel(&plan.agent_listen).await?;
    let at_once = CancellationToken::new();
    let answered = tokio::select! {
        error = desk.broken() => {
            show_logs(logs);
            Err(error)
        }
        answered = prompt(agent, wish) => answered,
        _ = tokio::signal::ctrl_c() => {
            // Nobody else is on this desk.
            at_once.cancel();
            Err(anyhow::anyhow!("interrupted"))
        }
    };
    let stopped = desk.stop(&at_once).await;
    answered.and(stopped)
}

/// The services' last words, which are of interest only if it is a service that went wrong.
fn show_logs(directory: &Path) {
    for service in ["gatewayd", "agentd"] {
        let log = std::fs::read_to_string(directory.join(service).with_extension("log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        for line in lines.iter().skip(lines.len().saturating_sub(LOG_LINES_SHOWN)) {
            output::note(&format!("{service}: {line}"));
        }
    }
}

/// The address of the agent of a desk that is up.
async fn running(home: &Home) -> Option<Address> {
    tokio::fs::read_to_string(home.agent_address_file()).await.ok()?.trim().parse().ok()
}

async fn prompt(agent: Channel, wish: &Wish) -> anyhow::Result<()> {
    let mut sessions = SessionServiceClient::new(agent);
    let create = CreateThreadRequest {
        model: wish.model.clone().unwrap_or_default(),
        cwd: std::env::current_dir()?.to_string_lossy().into_owned(),
        ..CreateThreadRequest::default()
    };
    let thread =
        sessions.create_thread(create).await.map_err(told)?.into_inner().thread.context("no thread")?;
    // The thread has to be there before it can be followed, and it is there with its first message.
    let start = StartTurnRequest {
        thread_id: thread.id.clone(),
        text: wish.prompt.clone(),
        ..StartTurnRequest::default()
    };
    let turn = sessions.start_turn(start).await.map_err(told)?.into_inner().turn_id;
    let subscribe = SubscribeRequest { thread_id: thread.id, after_sequence: 0 };
    let mut events = sessions.subscribe(subscribe).await.map_err(told)?.into_inner();
    let mut streamed = String::new();
    while let Some(event) = events.message().await.map_err(told)? {
        match event.event {
            Some(Event::TextDelta(delta)) if delta.turn_id == turn && !delta.reasoning => {
                output::write(&delta.text)?;
                streamed.push_str(&delta.text);
            }
            Some(Event::ItemCompleted(completed)) if completed.turn_id == turn => {
                if let Some(Kind::AgentMessage(message)) = completed.item.and_then(|item| item.kind) {
                    // What was not streamed to us, because the message was complete before we listened.
                    let rest = message.text.strip_prefix(streamed.as_str()).unwrap_or(&message.text);
                    output::write(rest)?;
                    output::write("\n")?;
                    streamed.clear();
                }
            }
            Some(Event::TurnEnded(ended)) if ended.turn_id == turn => {
                let failure =
                    ended.failure.as_ref().map(|failure| failure.message.clone()).unwrap_or_default();
                return match ended.outcome() {
                    TurnOutcome::Completed => Ok(()),
                    TurnOutcome::Interrupted => Err(anyhow::anyhow!("the turn was interrupted")),
                    TurnOutcome::Failed | TurnOutcome::Unspecified => {
                        Err(anyhow::anyhow!("the turn failed: {failure}"))
                    }
                };
            }
            _ => {}
        }
    }
    anyhow::bail!("the agent ended the stream before the turn was over")
}

fn told(status: Status) -> anyhow::Error {
    let failure = failure_of(&status);
    anyhow::anyhow!("{} ({})", failure.message, failure.reason)
}
