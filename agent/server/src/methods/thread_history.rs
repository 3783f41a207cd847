//! Reading threads: their facts, lists of them, their turns and items.

use agent_session::Error;
use agent_threads::{ListQuery, SortKey as DomainSortKey, ThreadId, TurnId};

use super::thread::history;
use crate::call::{Answer, Call, refusal, thread_id};
use crate::rpc::Refusal;
use crate::wire::item::Entry;
use crate::wire::page::{Forward, Page, SortDirection, query};
use crate::wire::thread::{GoalResponse, OfThread, ReadParams, ReadResponse, Thread, TurnsParams};
use crate::wire::thread_list::{
    Anchor, ItemsCursor, ItemsParams, ListParams, ListResponse, OneOrMany, SortKey,
};
use crate::wire::turn::{ItemsView, Turn};

/// The sources whose threads a list shows when its client names none: those in which a person sits.
const INTERACTIVE: [&str; 2] = ["cli", "vscode"];
/// How many threads a list can leave out.
const EXCLUDED_MAX: usize = 100;
const NO_SUCH_ITEM: &str = "cursor.itemId does not identify an item in the requested history scope";

/// `thread/read`.
pub(crate) async fn read(call: &Call<'_>) -> Answer {
    let ReadParams { thread_id: id, include_turns } = call.params()?;
    let id = thread_id(&id)?;
    let view = call.connection.shared.sessions.read(call.tenant(), id).await.map_err(refusal)?;
    let turns = match include_turns {
        true if view.ephemeral => {
            return Err(Refusal::invalid("ephemeral threads do not support includeTurns"));
        }
        true if view.materialized => history(call, id).await?,
        true | false => Vec::new(),
    };
    let turns = turns.iter().map(|turn| Turn::new(turn, ItemsView::Full)).collect();
    // Nobody keeps what was read of a thread that has no history, or is not kept itself.
    let kept = view.materialized && !view.ephemeral;
    let read_state = kept.then(|| view.thread.read_state.into());
    call.done(&ReadResponse { thread: Thread::new(&view).with(turns), read_state })
}

/// `thread/list`.
pub(crate) async fn list(call: &Call<'_>) -> Answer {
    let params: ListParams = call.params()?;
    let cursor = params.cursor.clone();
    let Some(listed) = listed(params)? else {
        return call.done(&ListResponse::default());
    };
    let sessions = &call.connection.shared.sessions;
    let page =
        sessions.list(call.tenant(), listed).await.map_err(|error| of_list(error, cursor.as_deref()))?;
    let read_states =
        page.elements.iter().map(|view| (view.thread.id, view.thread.read_state.into())).collect();
    call.done(&ListResponse {
        data: page.elements.iter().map(Thread::new).collect(),
        read_states,
        next_cursor: page.next,
        backwards_cursor: page.backwards,
    })
}

/// Which threads a client asks for; `None` if those are threads of which there are none.
fn listed(params: ListParams) -> Result<Option<ListQuery>, Refusal> {
    let sort = match params.sort_key {
        None | Some(SortKey::CreatedAt) => DomainSortKey::CreatedAt,
        Some(SortKey::UpdatedAt | SortKey::RecencyAt) => DomainSortKey::UpdatedAt,
        Some(SortKey::SectionPosition) if params.section_id.is_none() => {
            return Err(Refusal::invalid("section-position sorting requires a section filter"));
        }
        Some(SortKey::SectionPosition) => DomainSortKey::UpdatedAt,
    };
    let excluded = params.excluded_thread_ids.as_deref().unwrap_or_default();
    if excluded.len() > EXCLUDED_MAX {
        return Err(Refusal::invalid(format!("at most {EXCLUDED_MAX} threads can be excluded")));
    }
    let except = excluded.iter().map(|id| {
        id.parse().map_err(|error| Refusal::invalid(format!("invalid excluded thread id: {error}")))
    });
    let except = except.collect::<Result<Vec<ThreadId>, Refusal>>()?;
    if params.originators.as_ref().is_some_and(|originators| !originators.is_empty()) {
        return Err(Refusal::invalid("originator filtering is not supported"));
    }
    if params.parent_thread_id.is_some() && params.ancestor_thread_id.is_some() {
        return Err(Refusal::invalid("parentThreadId and ancestorThreadId are mutually exclusive"));
    }
    if params.is_about_nothing() {
        return Ok(None);
    }
    let kinds = params.source_kinds.filter(|kinds| !kinds.is_empty());
    Ok(Some(ListQuery {
        page: query(params.cursor, params.limit, params.sort_direction),
        sort,
        archived: params.archived.unwrap_or(false),
        sources: kinds.unwrap_or_else(|| INTERACTIVE.map(str::to_owned).to_vec()),
        cwds: params.cwd.map(OneOrMany::into_vec).unwrap_or_default(),
        providers: params.model_providers.unwrap_or_default(),
        except,
        search: params.search_term,
    }))
}

/// `thread/turns/list`.
pub(crate) async fn turns(call: &Call<'_>) -> Answer {
    let TurnsParams { thread_id: id, cursor, limit, sort_direction, items_view } = call.params()?;
    let id = thread_id(&id)?;
    let asked = query(cursor.clone(), limit, sort_direction);
    let sessions = &call.connection.shared.sessions;
    let page = sessions.turns(call.tenant(), id, asked).await;
    let page = page.map_err(|error| of_history(error, "thread/turns/list", cursor.as_deref()))?;
    let items = items_view.unwrap_or(ItemsView::Summary);
    call.done(&Page {
        data: page.elements.iter().map(|turn| Turn::new(turn, items)).collect(),
        next_cursor: page.next,
        backwards_cursor: page.backwards,
    })
}

/// `thread/items/list`. Unlike the other lists it begins with the oldest.
pub(crate) async fn items(call: &Call<'_>) -> Answer {
    let ItemsParams { thread_id: id, turn_id, cursor, limit, sort_direction } = call.params()?;
    let id = thread_id(&id)?;
    let sessions = &call.connection.shared.sessions;
    let of_items = |error, cursor| of_history(error, "thread/items/list", cursor);
    let turn = turn_id.filter(|turn| !turn.is_empty());
    let turn: Option<TurnId> = match turn.map(|turn| turn.parse()) {
        None => None,
        Some(Ok(turn)) => Some(turn),
        // A text that is no id is the id of a turn without items.
        Some(Err(_)) => {
            sessions.read(call.tenant(), id).await.map_err(refusal)?;
            return call.done(&Page::<Entry<'_>> {
                data: Vec::new(),
                next_cursor: None,
                backwards_cursor: None,
            });
        }
    };
    let cursor = match cursor {
        None => None,
        Some(ItemsCursor::Opaque(cursor)) => Some(cursor),
        Some(ItemsCursor::Anchor(Anchor::Item { item_id })) => {
            let turn = turn.ok_or_else(|| Refusal::invalid("an item cursor requires a turnId"))?;
            let found = sessions.item_cursor(call.tenant(), id, turn, &item_id).await;
            let found = found.map_err(|error| of_items(error, None))?;
            Some(found.ok_or_else(|| Refusal::invalid(NO_SUCH_ITEM))?)
        }
    };
    let asked = query(cursor.clone(), limit, sort_direction.or(Some(SortDirection::Asc)));
    let page = sessions.items(call.tenant(), id, turn, asked).await;
    let page = page.map_err(|error| of_items(error, cursor.as_deref()))?;
    call.done(&Page {
        data: page.elements.iter().map(Entry::from).collect(),
        next_cursor: page.next,
        backwards_cursor: page.backwards,
    })
}

/// `thread/goal/get`. Threads have no goals.
pub(crate) async fn goal(call: &Call<'_>) -> Answer {
    let OfThread { thread_id: id } = call.params()?;
    there_is(call, &id).await?;
    call.done(&GoalResponse { goal: () })
}

/// `thread/backgroundTerminals/list`. No commands run.
pub(crate) async fn background_terminals(call: &Call<'_>) -> Answer {
    let OfThread { thread_id: id } = call.params()?;
    there_is(call, &id).await?;
    call.done(&Forward::<()> { data: Vec::new(), next_cursor: None })
}

/// Refuses what is asked about a thread that the caller cannot see.
async fn there_is(call: &Call<'_>, id: &str) -> Result<(), Refusal> {
    let id = thread_id(id)?;
    call.connection.shared.sessions.read(call.tenant(), id).await.map(drop).map_err(refusal)
}

impl ListParams {
    /// Whether it asks for threads of a section, a project or another thread, of which there are none.
    fn is_about_nothing(&self) -> bool {
        let about = [
            &self.section_id,
            &self.project_id,
            &self.parent_thread_id,
            &self.ancestor_thread_id,
            &self.attached_to_thread_id,
        ];
        about.iter().any(|about| about.is_some())
    }
}

fn of_list(error: Error, cursor: Option<&str>) -> Refusal {
    match (error, cursor) {
        (Error::BadCursor, Some(cursor)) => Refusal::invalid(format!("invalid cursor: {cursor}")),
        (error, _) => refusal(error),
    }
}

fn of_history(error: Error, method: &str, cursor: Option<&str>) -> Refusal {
    match error {
        Error::NotMaterialized(_) => {
            Refusal::invalid(format!("{error}; {method} is unavailable before first user message"))
        }
        Error::Ephemeral(_) => Refusal::invalid(format!("ephemeral threads do not support {method}")),
        error => of_list(error, cursor),
    }
}
