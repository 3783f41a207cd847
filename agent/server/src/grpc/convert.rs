//! Domain values as messages of the contract.

use agent_session::{Event, Published, Status, ThreadView, TurnStatus, TurnView};
use agent_threads::{Item as DomainItem, ItemId, ThreadId, TurnId, UserInput};
use prost_types::Timestamp;
use tidegate_proto::agent::v1::{
    AgentMessage, ContextCompaction, InputPart, Item, ItemCompleted, ItemStarted, ModelRetry, Reasoning,
    SubscribeResponse, TextDelta, Thread, ThreadReverted, ThreadStatus, TokenUsage, TurnEnded, TurnOutcome,
    TurnStarted, UserMessage, input_part, item, subscribe_response,
};

use super::failure::of_turn;

/// A thread.
pub(super) fn thread(view: &ThreadView) -> Thread {
    let thread = &view.thread;
    let status = match view.status {
        Status::NotLoaded => ThreadStatus::NotLoaded,
        Status::Idle => ThreadStatus::Idle,
        Status::Active => ThreadStatus::Active,
        Status::SystemError => ThreadStatus::SystemError,
    };
    let id = |id: Option<ThreadId>| id.map(|id| id.to_string()).unwrap_or_default();
    Thread {
        id: thread.id.to_string(),
        session_id: thread.session_id.to_string(),
        model: thread.settings.model.clone(),
        provider: thread.origin.provider.clone(),
        cwd: thread.settings.cwd.clone(),
        preview: thread.preview.clone(),
        name: thread.name.clone().unwrap_or_default(),
        created_at: Some(timestamp(thread.created_at_ms)),
        updated_at: Some(timestamp(thread.updated_at_ms)),
        status: status.into(),
        active_turn_id: view.active_turn.map(|turn| turn.to_string()).unwrap_or_default(),
        parent_thread_id: id(thread.parent_id),
        forked_from_thread_id: id(thread.forked_from_id),
        thread_source: thread.origin.thread_source.clone().unwrap_or_default(),
        source: thread.origin.source.clone(),
        originator: thread.origin.originator.clone(),
        archived: thread.archived,
        ephemeral: view.ephemeral,
        effort: thread.settings.effort.clone().unwrap_or_default(),
        service_tier: thread.settings.service_tier.name().unwrap_or_default().to_owned(),
    }
}

pub(super) fn timestamp(ms: i64) -> Timestamp {
    let nanos = i32::try_from(ms.rem_euclid(1_000)).unwrap_or(0) * 1_000_000;
    Timestamp { seconds: ms.div_euclid(1_000), nanos }
}

/// An event, if the contract has it.
pub(super) fn event(published: &Published) -> Option<SubscribeResponse> {
    use subscribe_response::Event as Told;
    let event = match &published.event {
        Event::TurnStarted { turn } => Told::TurnStarted(TurnStarted { turn_id: turn.id.to_string() }),
        Event::ItemStarted { turn_id, item, .. } => {
            Told::ItemStarted(ItemStarted { turn_id: turn_id.to_string(), item: Some(self::item(item)) })
        }
        Event::AgentMessageDelta { turn_id, item_id, delta } => {
            Told::TextDelta(text(turn_id, item_id, delta, false))
        }
        Event::ReasoningSummaryDelta { turn_id, item_id, delta, .. }
        | Event::ReasoningTextDelta { turn_id, item_id, delta, .. } => {
            Told::TextDelta(text(turn_id, item_id, delta, true))
        }
        Event::ItemCompleted { turn_id, item, .. } => {
            Told::ItemCompleted(ItemCompleted { turn_id: turn_id.to_string(), item: Some(self::item(item)) })
        }
        Event::TurnCompleted { turn } => Told::TurnEnded(ended(turn)),
        Event::TokenUsage { turn_id, tokens } => Told::TokenUsage(TokenUsage {
            turn_id: turn_id.to_string(),
            input_tokens: tokens.last.input_tokens,
            cached_input_tokens: tokens.last.cached_input_tokens,
            output_tokens: tokens.last.output_tokens,
            reasoning_output_tokens: tokens.last.reasoning_output_tokens,
        }),
        Event::Reverted { turn_id, keep } => {
            Told::ThreadReverted(ThreadReverted { turn_id: turn_id.to_string(), keep_sequence: *keep })
        }
        Event::Error { turn_id, error, details, will_retry: true } => Told::ModelRetry(ModelRetry {
            turn_id: turn_id.to_string(),
            message: error.message.clone(),
            details: details.clone().unwrap_or_default(),
        }),
        Event::StatusChanged(_)
        | Event::ReasoningSummaryPartAdded { .. }
        | Event::RateLimits(_)
        | Event::Error { .. }
        | Event::NameChanged { .. }
        | Event::SettingsChanged { .. }
        | Event::ReadStateChanged(_)
        | Event::Closed => return None,
    };
    let at = Some(timestamp(published.at_ms));
    Some(SubscribeResponse { sequence: published.sequence.unwrap_or(0), event: Some(event), at })
}

fn text(turn_id: &TurnId, item_id: &ItemId, delta: &str, reasoning: bool) -> TextDelta {
    TextDelta {
        turn_id: turn_id.to_string(),
        item_id: item_id.to_string(),
        text: delta.to_owned(),
        reasoning,
    }
}

fn ended(turn: &TurnView) -> TurnEnded {
    let outcome = match turn.status {
        TurnStatus::Completed => TurnOutcome::Completed,
        TurnStatus::Interrupted => TurnOutcome::Interrupted,
        TurnStatus::Failed => TurnOutcome::Failed,
        TurnStatus::InProgress => TurnOutcome::Unspecified,
    };
    TurnEnded {
        turn_id: turn.id.to_string(),
        outcome: outcome.into(),
        failure: turn.error.as_ref().map(of_turn),
    }
}

fn item(item: &DomainItem) -> Item {
    let kind = match item {
        DomainItem::UserMessage { content, client_id, .. } => item::Kind::UserMessage(UserMessage {
            text: texts(content),
            client_message_id: client_id.clone().unwrap_or_default(),
            parts: content.iter().filter_map(part).collect(),
        }),
        DomainItem::AgentMessage { text, .. } => {
            item::Kind::AgentMessage(AgentMessage { text: text.clone() })
        }
        DomainItem::Reasoning { summary, .. } => {
            item::Kind::Reasoning(Reasoning { summary: summary.clone() })
        }
        DomainItem::ContextCompaction { .. } => item::Kind::ContextCompaction(ContextCompaction {}),
    };
    Item { id: item.id().to_string(), kind: Some(kind) }
}

/// A part of a message. What only means something on the machine of the client is left out.
fn part(part: &UserInput) -> Option<InputPart> {
    let part = match part {
        UserInput::Text { text, .. } => input_part::Part::Text(text.clone()),
        UserInput::Image { url, .. } => input_part::Part::ImageUrl(url.clone()),
        UserInput::LocalImage { .. } | UserInput::Mention { .. } | UserInput::Skill { .. } => return None,
    };
    Some(InputPart { part: Some(part) })
}

/// The text parts of a message, one a paragraph.
fn texts(content: &[UserInput]) -> String {
    let texts = content.iter().filter_map(|part| match part {
        UserInput::Text { text, .. } => Some(text.as_str()),
        UserInput::Image { .. }
        | UserInput::LocalImage { .. }
        | UserInput::Mention { .. }
        | UserInput::Skill { .. } => None,
    });
    texts.collect::<Vec<_>>().join("\n\n")
}
