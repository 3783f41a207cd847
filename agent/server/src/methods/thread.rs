//! Opening, following and setting up threads.

use std::str::FromStr as _;

use agent_session::{ForkPoint, ForkThread, NewThread, Resumed as Taken, ThreadView};
use agent_threads::{ThreadId, TurnId};

use super::overrides;
use crate::call::{Answer, Call, refusal, thread_id};
use crate::rpc::Refusal;
use crate::wire::Empty;
use crate::wire::page::{Forward, Page, query};
use crate::wire::thread::{
    Ends, ForkParams, Leaving, OfThread, Opened, ResumeParams, Resumed, SettingsParams, StartParams,
    TurnsPageParams, UnsubscribeResponse, Warning,
};
use crate::wire::thread_list::LoadedParams;
use crate::wire::turn::{ItemsView, Turn, UsageNotice};

/// What Codex's own server calls the threads that it starts for clients; they filter their lists by it.
const SOURCE: &str = "vscode";
/// How many turns an answer that brings the whole history has at most.
pub(super) const FULL_HISTORY_TURNS_MAX: u32 = 100;

/// `thread/start`.
pub(crate) async fn start(call: &mut Call<'_>) -> Answer {
    let params: StartParams = call.params()?;
    let connection = call.connection;
    let shared = &connection.shared;
    let client = connection.client().ok_or_else(|| Refusal::invalid("Not initialized"))?;
    let defaults = shared.effective(&connection.principal);
    let overrides = overrides::with_defaults(overrides::of_thread(params.settings, call)?, &defaults);
    let new = NewThread {
        originator: client.name.clone(),
        client_version: client.version.clone(),
        source: SOURCE.to_owned(),
        thread_source: params.thread_source,
        provider: params.model_provider.or_else(|| defaults.text("model_provider")),
        parent_id: None,
        ephemeral: params.ephemeral.unwrap_or(false),
        overrides,
    };
    call.before_tenant_events().await;
    let view = shared.sessions.start(call.tenant(), new).await.map_err(refusal)?;
    follow(call, &view).await?;
    let sources = shared.sessions.instruction_sources(&view).await;
    call.done(&Opened::new(&view, &sources, Vec::new()))
}

/// `thread/resume`.
pub(crate) async fn resume(call: &mut Call<'_>) -> Answer {
    let params: ResumeParams = call.params()?;
    if params.history.is_some_and(|history| !history.is_empty()) {
        return Err(Refusal::invalid("resuming with a history is not supported"));
    }
    let id = thread_id(&params.thread_id)?;
    let connection = call.connection;
    let sessions = &connection.shared.sessions;
    let overrides = overrides::of_thread(params.settings, call)?;
    let provider = params.model_provider.as_deref();
    let resumed = sessions.resume(call.tenant(), id, provider, overrides).await.map_err(refusal)?;
    let Taken { view, model_before } = resumed;
    follow(call, &view).await?;
    warn_of_model(call, &view, model_before.as_deref());
    let sources = sessions.instruction_sources(&view).await;
    if !view.materialized || view.ephemeral {
        return call.done(&Resumed::new(&view, &sources, Vec::new(), None, Ends::default()));
    }
    let ends = ends(call, id).await?;
    let full = if params.exclude_turns { Vec::new() } else { history(call, id).await? };
    let turns = full.iter().map(|turn| Turn::new(turn, ItemsView::Full)).collect();
    let Some(TurnsPageParams { limit, sort_direction, items_view }) = params.initial_turns_page else {
        told_tokens(call, &view);
        return call.done(&Resumed::new(&view, &sources, turns, None, ends));
    };
    let first = query(None, limit, sort_direction);
    let page = sessions.turns(call.tenant(), id, first).await.map_err(refusal)?;
    let items = items_view.unwrap_or(ItemsView::Summary);
    let page = Page {
        data: page.elements.iter().map(|turn| Turn::new(turn, items)).collect(),
        next_cursor: page.next.clone(),
        backwards_cursor: page.backwards.clone(),
    };
    told_tokens(call, &view);
    call.done(&Resumed::new(&view, &sources, turns, Some(page), ends))
}

/// A conversation is not always as good with another model.
fn warn_of_model(call: &mut Call<'_>, view: &ThreadView, before: Option<&str>) {
    let Some(before) = before else { return };
    let now = &view.thread.settings.model;
    let message = format!(
        "This thread was held with the model `{before}` and goes on with `{now}`. Answers may get worse; `{before}` can \
         be chosen again."
    );
    call.then("warning", &Warning { thread_id: view.thread.id, message: &message });
}

/// `thread/fork`.
pub(crate) async fn fork(call: &mut Call<'_>) -> Answer {
    let params: ForkParams = call.params()?;
    if params.attach_to_source || params.experimental_prediction_mode {
        return Err(Refusal::invalid("attached and predicting forks are not supported"));
    }
    let id = thread_id(&params.thread_id)?;
    let until = match (&params.last_turn_id, &params.before_turn_id) {
        (Some(_), Some(_)) => {
            return Err(Refusal::invalid("`beforeTurnId` cannot be combined with `lastTurnId`"));
        }
        (Some(turn), None) => ForkPoint::Through(turn_id(turn)?),
        (None, Some(turn)) => ForkPoint::Before(turn_id(turn)?),
        (None, None) => ForkPoint::Whole,
    };
    let connection = call.connection;
    let client = connection.client().ok_or_else(|| Refusal::invalid("Not initialized"))?;
    let fork = ForkThread {
        until,
        originator: client.name.clone(),
        client_version: client.version.clone(),
        source: SOURCE.to_owned(),
        thread_source: params.thread_source,
        provider: params.model_provider,
        ephemeral: params.ephemeral,
        overrides: overrides::of_thread(params.settings, call)?,
    };
    call.before_tenant_events().await;
    let view = connection.shared.sessions.fork(call.tenant(), id, fork).await.map_err(refusal)?;
    follow(call, &view).await?;
    let stored = view.materialized && !view.ephemeral;
    let turns = match stored && !params.exclude_turns {
        true => history(call, view.thread.id).await?,
        false => Vec::new(),
    };
    let turns = turns.iter().map(|turn| Turn::new(turn, ItemsView::Full)).collect();
    let sources = connection.shared.sessions.instruction_sources(&view).await;
    call.done(&Opened::new(&view, &sources, turns))
}

/// The turn that a client names. A text that is no id names none.
pub(super) fn turn_id(text: &str) -> Result<TurnId, Refusal> {
    text.parse().map_err(|_| Refusal::invalid(format!("turn not found: {text}")))
}

/// Follows a thread from before the answer on, and lets the answer out first.
async fn follow(call: &mut Call<'_>, view: &ThreadView) -> Result<(), Refusal> {
    let (connection, id) = (call.connection, view.thread.id);
    if connection.subscriptions.follows(id) {
        call.before_events_of(id).await;
        return Ok(());
    }
    let events = connection.shared.sessions.subscribe(call.tenant(), id, None).await.map_err(refusal)?;
    let provider = view.thread.origin.provider.clone();
    let held = connection.subscriptions.follow(connection, id, provider, events).await;
    call.hold(held);
    Ok(())
}

/// Lets the answer out before the events of the turn that it starts. A thread that comes back into memory for that is followed:
/// when it left, because it was archived or nobody had called for long, its events ended for everybody, and whoever starts a
/// turn waits for its end.
pub(super) async fn before_a_turn(call: &mut Call<'_>, id: ThreadId) -> Result<(), Refusal> {
    let sessions = &call.connection.shared.sessions;
    if !call.connection.subscriptions.follows(id)
        && !sessions.is_loaded(call.tenant(), id)
        // One that cannot be read is refused with the turn.
        && let Ok(view) = sessions.read(call.tenant(), id).await
        && !view.thread.archived
    {
        return follow(call, &view).await;
    }
    call.before_events_of(id).await;
    Ok(())
}

/// A client that has just come to a thread is told what that has used, right after the answer.
fn told_tokens(call: &mut Call<'_>, view: &ThreadView) {
    if let Some((turn_id, tokens)) = view.tokens {
        let params = UsageNotice { thread_id: view.thread.id, turn_id, token_usage: tokens.into() };
        call.then("thread/tokenUsage/updated", &params);
    }
}

/// Cursors at the newest turn and item, to page from towards the oldest.
pub(super) async fn ends(call: &Call<'_>, id: ThreadId) -> Result<Ends, Refusal> {
    let sessions = &call.connection.shared.sessions;
    let newest = || query(None, Some(1), None);
    let turns = sessions.turns(call.tenant(), id, newest()).await.map_err(refusal)?;
    let items = sessions.items(call.tenant(), id, None, newest()).await.map_err(refusal)?;
    Ok(Ends { turns: turns.backwards, items: items.backwards })
}

/// The newest turns of a thread, oldest first.
pub(super) async fn history(call: &Call<'_>, id: ThreadId) -> Result<Vec<agent_session::TurnView>, Refusal> {
    let newest = query(None, Some(FULL_HISTORY_TURNS_MAX), None);
    let page = call.connection.shared.sessions.turns(call.tenant(), id, newest).await.map_err(refusal)?;
    let mut turns = page.elements;
    turns.reverse();
    Ok(turns)
}

/// `thread/unsubscribe`.
pub(crate) async fn unsubscribe(call: &Call<'_>) -> Answer {
    let OfThread { thread_id: id } = call.params()?;
    let id = thread_id(&id)?;
    let connection = call.connection;
    let status = if connection.subscriptions.leave(id) {
        Leaving::Unsubscribed
    } else if connection.shared.sessions.is_loaded(call.tenant(), id) {
        Leaving::NotSubscribed
    } else {
        Leaving::NotLoaded
    };
    call.done(&UnsubscribeResponse { status })
}

/// `thread/loaded/list`. Without a limit all of them are on one page.
pub(crate) fn loaded(call: &Call<'_>) -> Answer {
    let LoadedParams { cursor, limit } = call.params()?;
    let mut data = call.connection.shared.sessions.loaded(call.tenant());
    if let Some(cursor) = cursor {
        let after = ThreadId::from_str(&cursor);
        let after = after.map_err(|_| Refusal::invalid(format!("invalid cursor: {cursor}")))?;
        data.retain(|id| *id > after);
    }
    let limit = limit.map_or(data.len(), |limit| usize::try_from(limit.max(1)).unwrap_or(usize::MAX));
    let more = data.len() > limit;
    data.truncate(limit);
    let next_cursor = data.last().filter(|_| more).map(ToString::to_string);
    call.done(&Forward { data, next_cursor })
}

/// `thread/settings/update`.
pub(crate) async fn update_settings(call: &mut Call<'_>) -> Answer {
    let SettingsParams { thread_id: id, settings } = call.params()?;
    let id = thread_id(&id)?;
    let shared = &call.connection.shared;
    let overrides = overrides::of_turn(settings, call)?;
    call.before_events_of(id).await;
    shared.sessions.update_settings(call.tenant(), id, overrides).await.map_err(refusal)?;
    call.done(&Empty {})
}
