//! Changing a thread's history, what the model is told, and what is kept with a thread.

use agent_session::{Error, MetadataChange};
use agent_threads::Mark;

use super::thread::{ends, turn_id};
use crate::call::{Answer, Call, refusal, thread_id};
use crate::rpc::Refusal;
use crate::wire::Empty;
use crate::wire::edits::{
    GitPatch, InjectParams, InjectedItem, MetadataParams, RevertParams, RevertResponse,
};
use crate::wire::read_state::{
    Conflict, Operation, Params as ReadStateParams, Response as ReadStateResponse,
};
use crate::wire::thread::{OfThreadResponse, Thread};

/// How many items may be injected at once.
const INJECTED_ITEMS_MAX: usize = 1_000;
/// How long a Git fact may be.
const GIT_BYTES_MAX: usize = 2_048;

/// `thread/revert`.
pub(crate) async fn revert(call: &mut Call<'_>) -> Answer {
    let RevertParams { thread_id: id, before_turn_id } = call.params()?;
    let id = thread_id(&id)?;
    let sessions = &call.connection.shared.sessions;
    let before = match turn_id(&before_turn_id) {
        Ok(before) => before,
        Err(refused) => {
            // A thread of somebody else is not found before its turn is.
            sessions.read(call.tenant(), id).await.map_err(refusal)?;
            return Err(refused);
        }
    };
    call.before_events_of(id).await;
    call.before_tenant_events().await;
    let view = sessions.revert(call.tenant(), id, before).await.map_err(refusal)?;
    let ends = ends(call, id).await?;
    call.done(&RevertResponse {
        thread: Thread::new(&view),
        turns_backwards_cursor: ends.turns,
        items_backwards_cursor: ends.items,
    })
}

/// `thread/inject_items`.
pub(crate) async fn inject(call: &mut Call<'_>) -> Answer {
    let InjectParams { thread_id: id, items } = call.params()?;
    let id = thread_id(&id)?;
    if items.is_empty() {
        return Err(Refusal::invalid("items must not be empty"));
    }
    if items.len() > INJECTED_ITEMS_MAX {
        return Err(Refusal::invalid(format!("items must not be over {INJECTED_ITEMS_MAX}")));
    }
    for (index, item) in items.iter().enumerate() {
        // serde would take an array for the fields of a struct in their order.
        let object = item.get().starts_with('{');
        if !object || serde_json::from_str::<InjectedItem>(item.get()).is_err() {
            let text =
                format!("items[{index}] is not a valid response item: an object with a `type` is expected");
            return Err(Refusal::invalid(text));
        }
    }
    call.connection.shared.sessions.inject(call.tenant(), id, items).await.map_err(refusal)?;
    call.done(&Empty {})
}

/// `thread/metadata/update`. There are no projects, so a thread can only be in none.
pub(crate) async fn update_metadata(call: &Call<'_>) -> Answer {
    let MetadataParams { thread_id: id, git_info, daybreak_enabled, project_id } = call.params()?;
    let id = thread_id(&id)?;
    let sessions = &call.connection.shared.sessions;
    if git_info.is_none() && daybreak_enabled.is_none() && project_id.is_none() {
        return Err(Refusal::invalid("thread metadata update must include at least one field"));
    }
    if git_info.as_ref().is_some_and(|patch| *patch == GitPatch::default()) {
        return Err(Refusal::invalid("gitInfo must include at least one field"));
    }
    let GitPatch { sha, branch, origin_url } = git_info.unwrap_or_default();
    let facts = [("sha", &sha), ("branch", &branch), ("originUrl", &origin_url)];
    for (name, fact) in facts {
        let Some(Some(text)) = fact else { continue };
        if text.trim().is_empty() {
            return Err(Refusal::invalid(format!("gitInfo.{name} must not be empty")));
        }
        if text.len() > GIT_BYTES_MAX {
            return Err(Refusal::invalid(format!("gitInfo.{name} must not be over {GIT_BYTES_MAX} bytes")));
        }
    }
    if let Some(project) = project_id.filter(|project| !project.is_empty()) {
        sessions.read(call.tenant(), id).await.map_err(refusal)?;
        return Err(Refusal::invalid(format!("project not found: {project}")));
    }
    let change = MetadataChange { sha, branch, origin_url, daybreak_enabled };
    let view = sessions.update_metadata(call.tenant(), id, change).await.map_err(refusal)?;
    call.done(&OfThreadResponse { thread: Thread::new(&view) })
}

/// `thread/readState/update`.
pub(crate) async fn update_read_state(call: &mut Call<'_>) -> Answer {
    let ReadStateParams { thread_id: id, operation, expected_revision } = call.params()?;
    let id = thread_id(&id)?;
    let mark = match operation {
        Operation::Read => Mark::Read,
        Operation::Unread => Mark::Unread,
    };
    // A revision that is none of ours is none that anybody has seen: it is refused as such.
    let seen = expected_revision.parse().unwrap_or(u64::MAX);
    call.before_events_of(id).await;
    let marked = call.connection.shared.sessions.mark(call.tenant(), id, mark, seen).await;
    match marked {
        Ok(state) => call.done(&ReadStateResponse { read_state: state.into() }),
        Err(Error::ReadStateChanged(now)) => {
            let conflict = Conflict { reason: "readStateConflict", read_state: now.into() };
            let refused = Refusal::invalid("read state changed");
            Err(match serde_json::to_value(&conflict) {
                Ok(data) => refused.with(data),
                Err(_) => refused,
            })
        }
        Err(error) => Err(refusal(error)),
    }
}
