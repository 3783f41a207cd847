//! Reading threads: their facts, lists of them, their turns and items.

use agent_session::Error;
use agent_threads::{ListQuery, SortKey as DomainSortKey};

use super::thread::history;
use crate::call::{Answer, Call, refusal, thread_id};
use crate::rpc::Refusal;
use crate::wire::item::Entry;
use crate::wire::page::{Forward, Page, query};
use crate::wire::read_state::{self, ReadState};
use crate::wire::thread::{
    GoalResponse, ItemsParams, ListParams, ListResponse, OfThread, OneOrMany, ReadParams, ReadResponse,
    SortKey, Thread, TurnsParams,
};
use crate::wire::turn::{ItemsView, Turn};

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
    call.done(&ReadResponse { thread: Thread::new(&view).with(turns), read_state: () })
}

/// `thread/list`.
pub(crate) async fn list(call: &Call<'_>) -> Answer {
    let params: ListParams = call.params()?;
    let nothing = params.is_about_nothing();
    let ListParams { cursor, limit, sort_key, sort_direction, .. } = params;
    let listed = ListQuery {
        page: query(cursor.clone(), limit, sort_direction),
        sort: match sort_key {
            None | Some(SortKey::CreatedAt) => DomainSortKey::CreatedAt,
            Some(SortKey::UpdatedAt | SortKey::RecencyAt | SortKey::SectionPosition) => {
                DomainSortKey::UpdatedAt
            }
        },
        archived: params.archived.unwrap_or(false),
        sources: params.source_kinds.unwrap_or_default(),
        cwds: params.cwd.map(OneOrMany::into_vec).unwrap_or_default(),
        providers: params.model_providers.unwrap_or_default(),
        search: params.search_term,
    };
    if nothing {
        let empty = ListResponse {
            data: Vec::new(),
            read_states: serde_json::Map::new(),
            next_cursor: None,
            backwards_cursor: None,
        };
        return call.done(&empty);
    }
    let sessions = &call.connection.shared.sessions;
    let page =
        sessions.list(call.tenant(), listed).await.map_err(|error| of_list(error, cursor.as_deref()))?;
    call.done(&ListResponse {
        data: page.elements.iter().map(Thread::new).collect(),
        read_states: serde_json::Map::new(),
        next_cursor: page.next,
        backwards_cursor: page.backwards,
    })
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

/// `thread/items/list`.
pub(crate) async fn items(call: &Call<'_>) -> Answer {
    let ItemsParams { thread_id: id, turn_id, cursor, limit, sort_direction } = call.params()?;
    let id = thread_id(&id)?;
    let turn = turn_id
        .map(|turn| turn.parse().map_err(|error| Refusal::invalid(format!("invalid turn id: {error}"))));
    let asked = query(cursor.clone(), limit, sort_direction);
    let sessions = &call.connection.shared.sessions;
    let page = sessions.items(call.tenant(), id, turn.transpose()?, asked).await;
    let page = page.map_err(|error| of_history(error, "thread/items/list", cursor.as_deref()))?;
    call.done(&Page {
        data: page.elements.iter().map(Entry::from).collect(),
        next_cursor: page.next,
        backwards_cursor: page.backwards,
    })
}

/// `thread/readState/update`. What was read is not kept: every thread counts as read.
pub(crate) async fn update_read_state(call: &Call<'_>) -> Answer {
    let read_state::Params { thread_id: id, operation, expected_revision } = call.params()?;
    there_is(call, &id).await?;
    match operation {
        read_state::Operation::Read => {
            let read_state = ReadState { first_unread: (), revision: expected_revision };
            call.done(&read_state::Response { read_state })
        }
        read_state::Operation::Unread => Err(Refusal::invalid("threads cannot be marked as unread")),
    }
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
