//! What the session layer tells, in the words of the protocol.
//!
//! One text an event, printed straight from the event's own memory. Names and ends of threads are told to the whole
//! tenant, so the thread's own feed leaves them out.

use agent_session::{Event, Lifecycle, Published, RateLimit, Status as DomainStatus};
use agent_threads::{ThreadId, TurnId};
use serde::Serialize;

use crate::connection::Voice;
use crate::rpc::now_ms;
use crate::wire::account::{Snapshot, Updated};
use crate::wire::item::{self, Item, Times};
use crate::wire::read_state;
use crate::wire::settings::{self, ThreadSettings};
use crate::wire::thread::{Delta, NameNotice, OfThreadResponse, Status, StatusNotice, Thread, Which};
use crate::wire::turn::{ErrorNotice, ItemsView, Notice, Turn, TurnError, UsageNotice};

/// A usage limit, as clients are told of it.
pub(crate) fn rate_limit(voice: &Voice, limit: &RateLimit, at_ms: i64) -> Option<String> {
    let params = Updated { rate_limits: Snapshot::from(limit) };
    voice.notification("account/rateLimits/updated", &params, at_ms)
}

/// What happened in a thread, as its subscribers are told of it.
pub(crate) fn of_thread(
    voice: &Voice,
    thread_id: ThreadId,
    provider: &str,
    published: &Published,
) -> Option<String> {
    let say = Say { voice, thread_id, at_ms: published.at_ms };
    match &published.event {
        Event::StatusChanged(DomainStatus::NotLoaded) => None,
        Event::StatusChanged(status) => {
            let params = StatusNotice { thread_id, status: Status::from(*status) };
            say.it("thread/status/changed", &params)
        }
        Event::TurnStarted { turn } => {
            let turn = Turn::new(turn, ItemsView::NotLoaded);
            say.it("turn/started", &Notice { thread_id, turn })
        }
        Event::TurnCompleted { turn } => {
            say.it("turn/completed", &Notice { thread_id, turn: Turn::ended(turn) })
        }
        Event::Error { turn_id, error, details, will_retry } => {
            let error = TurnError::new(error, details.as_deref());
            say.it("error", &ErrorNotice { error, will_retry: *will_retry, thread_id, turn_id: *turn_id })
        }
        Event::TokenUsage { turn_id, tokens } => {
            let params = UsageNotice { thread_id, turn_id: *turn_id, token_usage: (*tokens).into() };
            say.it("thread/tokenUsage/updated", &params)
        }
        Event::SettingsChanged { settings } => {
            let thread_settings = ThreadSettings::new(settings, provider);
            say.it("thread/settings/updated", &settings::Updated { thread_id, thread_settings })
        }
        Event::ReadStateChanged(state) => {
            let params = read_state::Changed { thread_id, read_state: (*state).into() };
            say.it("thread/readState/changed", &params)
        }
        event @ (Event::ItemStarted { .. } | Event::ItemCompleted { .. }) => say.item(event),
        event @ (Event::AgentMessageDelta { .. }
        | Event::ReasoningSummaryPartAdded { .. }
        | Event::ReasoningSummaryDelta { .. }
        | Event::ReasoningTextDelta { .. }) => say.delta(event),
        Event::RateLimits(_) | Event::NameChanged { .. } | Event::Reverted { .. } | Event::Closed => None,
    }
}

struct Say<'a> {
    voice: &'a Voice,
    thread_id: ThreadId,
    at_ms: i64,
}

impl Say<'_> {
    fn it<P: Serialize>(&self, method: &'static str, params: &P) -> Option<String> {
        self.voice.notification(method, params, self.at_ms)
    }

    fn item(&self, event: &Event) -> Option<String> {
        let thread_id = self.thread_id;
        match event {
            Event::ItemStarted { turn_id, item, at_ms } => {
                let item = Item::new(item, Times { started_at_ms: *at_ms, completed_at_ms: None });
                let params = item::Started { item, thread_id, turn_id: *turn_id, started_at_ms: *at_ms };
                self.it("item/started", &params)
            }
            Event::ItemCompleted { turn_id, item, started_at_ms, at_ms } => {
                let times = Times { started_at_ms: *started_at_ms, completed_at_ms: Some(*at_ms) };
                let params = item::Completed {
                    item: Item::new(item, times),
                    thread_id,
                    turn_id: *turn_id,
                    content_token_count: (),
                    completed_at_ms: *at_ms,
                };
                self.it("item/completed", &params)
            }
            _ => None,
        }
    }

    fn delta(&self, event: &Event) -> Option<String> {
        let plain = |turn_id: &TurnId, item_id| Delta {
            thread_id: self.thread_id,
            turn_id: *turn_id,
            item_id,
            summary_index: None,
            content_index: None,
            delta: None,
        };
        match event {
            Event::AgentMessageDelta { turn_id, item_id, delta } => {
                let params = Delta { delta: Some(delta), ..plain(turn_id, item_id.as_str()) };
                self.it("item/agentMessage/delta", &params)
            }
            Event::ReasoningSummaryPartAdded { turn_id, item_id, summary_index } => {
                let params =
                    Delta { summary_index: Some(*summary_index), ..plain(turn_id, item_id.as_str()) };
                self.it("item/reasoning/summaryPartAdded", &params)
            }
            Event::ReasoningSummaryDelta { turn_id, item_id, summary_index, delta } => {
                let plain = plain(turn_id, item_id.as_str());
                let params = Delta { summary_index: Some(*summary_index), delta: Some(delta), ..plain };
                self.it("item/reasoning/summaryTextDelta", &params)
            }
            Event::ReasoningTextDelta { turn_id, item_id, content_index, delta } => {
                let plain = plain(turn_id, item_id.as_str());
                let params = Delta { content_index: Some(*content_index), delta: Some(delta), ..plain };
                self.it("item/reasoning/textDelta", &params)
            }
            _ => None,
        }
    }
}

/// What happened to a tenant's threads, as all its connections are told of it.
pub(crate) fn of_tenant(voice: &Voice, event: &Lifecycle) -> Vec<String> {
    let at_ms = now_ms();
    let which = |method, id: &ThreadId| voice.notification(method, &Which { thread_id: *id }, at_ms);
    let changed = |id: &ThreadId, status| {
        let params = StatusNotice { thread_id: *id, status };
        voice.notification("thread/status/changed", &params, at_ms)
    };
    let texts = match event {
        Lifecycle::Started(view) => {
            let params = OfThreadResponse { thread: Thread::new(view) };
            [voice.notification("thread/started", &params, at_ms), None]
        }
        Lifecycle::StatusChanged { id, status } => [changed(id, Status::from(*status)), None],
        Lifecycle::Reverted(id) => [which("thread/reverted", id), None],
        Lifecycle::Archived(id) => [changed(id, Status::NotLoaded), which("thread/archived", id)],
        Lifecycle::Unarchived(id) => [which("thread/unarchived", id), None],
        Lifecycle::Deleted(id) => [which("thread/deleted", id), None],
        Lifecycle::NameChanged { id, name } => {
            let params = NameNotice { thread_id: *id, thread_name: name.as_deref() };
            [voice.notification("thread/name/updated", &params, at_ms), None]
        }
        Lifecycle::Closed(id) => [changed(id, Status::NotLoaded), which("thread/closed", id)],
        Lifecycle::RateLimits(limits) => {
            return limits.iter().filter_map(|limit| rate_limit(voice, limit, at_ms)).collect();
        }
    };
    texts.into_iter().flatten().collect()
}
