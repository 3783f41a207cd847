//! `tidegate ask`: one prompt through both services, its answer streamed to standard output.
//!
//! Uses the desk that is up, or starts one for this prompt on sockets of its own.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use service_runtime::listen::Address;
use tidegate_proto::{
    agent::v1::{
        CreateThreadRequest, StartTurnRequest, SubscribeRequest, TurnEnded, TurnOutcome, item::Kind,
        subscribe_response::Event,
    },
    failure_of,
};
use tokio_util::sync::CancellationToken;
use tonic::{Status, transport::Channel};

use crate::{
    address,
    child::Log,
    connect::{channel, sessions},
    desk::{Desk, Plan},
    home::Home,
    key, output,
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
    if let Some(address) = address::find(&home.agent_address_file())
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

async fn prompt(agent: Channel, wish: &Wish) -> anyhow::Result<()> {
    let mut sessions = sessions(agent)?;
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
    let mut answer = Answer { turn, streamed: String::new() };
    while let Some(event) = events.message().await.map_err(told)? {
        let Some(event) = event.event else { continue };
        let Said { text, note, ended } = answer.take(event);
        output::write(&text)?;
        if let Some(note) = note {
            output::note(&note);
        }
        if let Some(ended) = ended {
            return outcome(&ended);
        }
    }
    anyhow::bail!("the agent ended the stream before the turn was over")
}

/// The answer of a turn, as it comes.
struct Answer {
    turn: String,
    /// What there is of the message that is not complete yet.
    streamed: String,
}

/// What is to be said because of an event.
#[derive(Debug, Default, PartialEq)]
struct Said {
    text: String,
    note: Option<String>,
    ended: Option<TurnEnded>,
}

impl Answer {
    fn take(&mut self, event: Event) -> Said {
        match event {
            Event::TextDelta(delta) if delta.turn_id == self.turn && !delta.reasoning => {
                self.streamed.push_str(&delta.text);
                Said { text: delta.text, ..Said::default() }
            }
            Event::ModelRetry(retry) if retry.turn_id == self.turn => {
                // What there was of the answer is void, and it begins again.
                Said { text: self.end_line(), note: Some(retry.message), ended: None }
            }
            Event::ItemCompleted(completed) if completed.turn_id == self.turn => {
                let Some(Kind::AgentMessage(message)) = completed.item.and_then(|item| item.kind) else {
                    return Said::default();
                };
                // What was not streamed to us, because the message was complete before we listened.
                let rest = message.text.strip_prefix(self.streamed.as_str()).unwrap_or(&message.text);
                let text = format!("{rest}\n");
                self.streamed.clear();
                Said { text, ..Said::default() }
            }
            Event::TurnEnded(ended) if ended.turn_id == self.turn => {
                Said { text: self.end_line(), note: None, ended: Some(ended) }
            }
            _ => Said::default(),
        }
    }

    /// Ends the line of a message that came in part.
    fn end_line(&mut self) -> String {
        let line = std::mem::take(&mut self.streamed);
        if line.is_empty() { String::new() } else { "\n".to_owned() }
    }
}

fn outcome(ended: &TurnEnded) -> anyhow::Result<()> {
    match ended.outcome() {
        TurnOutcome::Completed => Ok(()),
        TurnOutcome::Interrupted => Err(anyhow::anyhow!("the turn was interrupted")),
        TurnOutcome::Failed | TurnOutcome::Unspecified => {
            let failure = ended.failure.as_ref().map(|failure| failure.message.as_str()).unwrap_or_default();
            Err(anyhow::anyhow!("the turn failed: {failure}"))
        }
    }
}

fn told(status: Status) -> anyhow::Error {
    key::told(&failure_of(&status))
}

#[cfg(test)]
mod tests {
    use tidegate_proto::agent::v1::{AgentMessage, Item, ItemCompleted, ModelRetry, TextDelta};

    use super::*;

    #[test]
    fn an_answer_that_is_asked_for_again_begins_on_a_new_line() {
        let mut answer = Answer { turn: "t".to_owned(), streamed: String::new() };
        let turn_id = || "t".to_owned();
        let delta = |text: &str| {
            Event::TextDelta(TextDelta { turn_id: turn_id(), text: text.to_owned(), ..TextDelta::default() })
        };
        let retry = |number: u32| {
            let message = format!("Reconnecting... {number}/5");
            Event::ModelRetry(ModelRetry { turn_id: turn_id(), message, details: String::new() })
        };
        let message = Kind::AgentMessage(AgentMessage { text: "It lets water out.".to_owned() });
        let item = Some(Item { id: String::new(), kind: Some(message) });
        let (mut text, mut notes) = (String::new(), Vec::new());
        for event in [
            retry(1),
            delta("It lets "),
            retry(2),
            delta("It "),
            delta("lets "),
            Event::ItemCompleted(ItemCompleted { turn_id: turn_id(), item }),
            delta("And"),
            Event::TurnEnded(TurnEnded { turn_id: turn_id(), ..TurnEnded::default() }),
        ] {
            let said = answer.take(event);
            text.push_str(&said.text);
            notes.extend(said.note);
        }
        assert_eq!(text, "It lets \nIt lets water out.\nAnd\n");
        assert_eq!(notes, ["Reconnecting... 1/5", "Reconnecting... 2/5"]);
    }
}
