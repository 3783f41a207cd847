//! The statements that select pages.
//!
//! Pages go by key and not by offset, so a page does not change when the log grows.

use super::{
    rows::{select_thread, signed},
    statement::Select,
};
use crate::{
    Direction, ListQuery, SortKey, TenantId, ThreadId, TurnId,
    page::{ThreadKey, Wanted},
    search,
};

/// A page of the places and ids of a thread's turns.
pub(super) fn turn_starts(tenant: &TenantId, id: ThreadId, wanted: &Wanted<u64>) -> Select {
    let mut select = of_thread("SELECT sequence, turn_id FROM entries", tenant, id);
    select.push(" AND kind = 'turn_started'");
    push_sequence_page(&mut select, wanted);
    select
}

/// The place of a turn's start.
pub(super) fn turn_start(tenant: &TenantId, id: ThreadId, turn: TurnId) -> Select {
    let mut select = of_thread("SELECT sequence FROM entries", tenant, id);
    push_turn(&mut select, turn);
    select.push(" AND kind = 'turn_started' ORDER BY sequence LIMIT 1");
    select
}

/// The place of the first start after a place.
pub(super) fn next_start(tenant: &TenantId, id: ThreadId, after: u64) -> Select {
    let mut select = of_thread("SELECT sequence FROM entries", tenant, id);
    select.push(" AND kind = 'turn_started' AND sequence > ").bind(signed(after));
    select.push(" ORDER BY sequence LIMIT 1");
    select
}

/// A thread's records after a place.
pub(super) fn records(tenant: &TenantId, id: ThreadId, after: u64, limit: usize) -> Select {
    let mut select = of_thread("SELECT sequence, at_ms, turn_id, payload FROM entries", tenant, id);
    select.push(" AND sequence > ").bind(signed(after));
    select.push(" ORDER BY sequence LIMIT ").bind(sql_limit(limit));
    select
}

/// What happened in a thread after a place.
pub(super) fn traces(tenant: &TenantId, id: ThreadId, after: u64, limit: usize) -> Select {
    let mut select = of_thread("SELECT number, turn_id, at_ms, payload FROM traces", tenant, id);
    select.push(" AND number > ").bind(signed(after));
    select.push(" ORDER BY number LIMIT ").bind(sql_limit(limit));
    select
}

/// A turn's records except the model's items.
pub(super) fn turn_records(tenant: &TenantId, id: ThreadId, turn: TurnId) -> Select {
    let mut select = of_thread("SELECT sequence, at_ms, turn_id, payload FROM entries", tenant, id);
    push_turn(&mut select, turn);
    select.push(" ORDER BY sequence");
    select
}

/// A page of items, of one turn or of all.
pub(super) fn items(tenant: &TenantId, id: ThreadId, turn: Option<TurnId>, wanted: &Wanted<u64>) -> Select {
    let mut select = of_thread("SELECT sequence, at_ms, turn_id, payload FROM entries", tenant, id);
    select.push(" AND kind = 'item'");
    if let Some(turn) = turn {
        push_turn(&mut select, turn);
    }
    push_sequence_page(&mut select, wanted);
    select
}

/// A page of threads. Which ones is asked first, of an index where one has the answer, so that whatever is not on the page is
/// neither joined nor sorted with everything that it has.
pub(super) fn threads(tenant: &TenantId, query: &ListQuery, wanted: &Wanted<ThreadKey>) -> Select {
    let mut select = Select::varied(select_thread!("WHERE t.tenant = "));
    select.bind(tenant.as_str().to_owned());
    select
        .push(" AND t.id IN (SELECT t.id FROM threads t WHERE t.tenant = ")
        .bind(tenant.as_str().to_owned());
    // No index has the text: to walk the table itself is several times faster than to look each row up in it.
    let searches_all = query.search.is_some() && query.cwds.is_empty();
    select.push(if searches_all { " AND +t.archived = " } else { " AND t.archived = " });
    select.bind(query.archived);
    push_filter(&mut select, "t.source", &query.sources);
    push_filter(&mut select, "t.cwd", &query.cwds);
    push_filter(&mut select, "t.provider", &query.providers);
    push_exceptions(&mut select, &query.except);
    if let Some(text) = &query.search {
        select.push(" AND t.search_text LIKE ").bind(search::like_pattern(text)).push(r" ESCAPE '\'");
    }
    push_thread_page(&mut select, wanted, query.sort);
    select.push(")");
    push_thread_order(&mut select, wanted.direction, query.sort);
    select
}

fn of_thread(select: &'static str, tenant: &TenantId, id: ThreadId) -> Select {
    let mut query = Select::new(select);
    query.push(" WHERE tenant = ").bind(tenant.as_str().to_owned());
    query.push(" AND thread_id = ").bind(id.as_uuid());
    query
}

/// The first condition is what lets the index of turns be used.
fn push_turn(select: &mut Select, turn: TurnId) {
    select.push(" AND kind <> 'model_item' AND turn_id = ").bind(turn.as_uuid());
}

fn push_sequence_page(select: &mut Select, wanted: &Wanted<u64>) {
    if let Some(start) = &wanted.from {
        let past = comparison(wanted.direction, start.inclusive);
        select.push(" AND sequence").push(past).bind(signed(start.key));
    }
    select.push(" ORDER BY sequence").push(order(wanted.direction));
    select.push(" LIMIT ").bind(sql_limit(wanted.limit + 1));
}

fn push_thread_page(select: &mut Select, wanted: &Wanted<ThreadKey>, sort: SortKey) {
    if let Some(start) = &wanted.from {
        let (at_ms, id) = start.key;
        select.push(" AND (").push(time(sort)).push(", t.id)");
        select.push(comparison(wanted.direction, start.inclusive));
        select.push("(").bind(at_ms).push(", ").bind(id).push(")");
    }
    push_thread_order(select, wanted.direction, sort);
    select.push(" LIMIT ").bind(sql_limit(wanted.limit + 1));
}

fn push_thread_order(select: &mut Select, direction: Direction, sort: SortKey) {
    select.push(" ORDER BY ").push(time(sort)).push(order(direction)).push(", t.id").push(order(direction));
}

fn push_filter(select: &mut Select, column: &'static str, values: &[String]) {
    if !values.is_empty() {
        select.push(" AND ").push(column).push(" IN ").bind_list(values.iter().cloned());
    }
}

fn push_exceptions(select: &mut Select, threads: &[ThreadId]) {
    if !threads.is_empty() {
        select.push(" AND t.id NOT IN ").bind_list(threads.iter().map(|id| id.as_uuid()));
    }
}

fn time(sort: SortKey) -> &'static str {
    match sort {
        SortKey::CreatedAt => "t.created_at_ms",
        SortKey::UpdatedAt => "t.updated_at_ms",
    }
}

fn comparison(direction: Direction, inclusive: bool) -> &'static str {
    match (direction, inclusive) {
        (Direction::Ascending, true) => " >= ",
        (Direction::Ascending, false) => " > ",
        (Direction::Descending, true) => " <= ",
        (Direction::Descending, false) => " < ",
    }
}

fn order(direction: Direction) -> &'static str {
    match direction {
        Direction::Ascending => " ASC",
        Direction::Descending => " DESC",
    }
}

/// A number of rows as it is bound.
fn sql_limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{PageQuery, page, sqlite::open};

    /// A page must cost what is on it, however long the log and the list are.
    #[test]
    fn every_page_is_found_by_an_index() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("threads.db");
        drop(open::first(&path).unwrap());
        let connection = open::writer(&path).unwrap();
        let (tenant, id, turn) = (TenantId::new("acme"), ThreadId::generate(), TurnId::generate());
        let page = |cursor: &str, direction| PageQuery {
            cursor: (!cursor.is_empty()).then(|| cursor.to_owned()),
            limit: 5,
            direction,
        };
        let by_turn = "entries_by_turn (tenant=? AND thread_id=? AND turn_id=?";
        let mut cases = vec![
            (turn_records(&tenant, id, turn), by_turn),
            (turn_start(&tenant, id, turn), by_turn),
            (next_start(&tenant, id, 5), "entries_turn_starts (tenant=? AND thread_id=? AND sequence>?"),
        ];
        for direction in [Direction::Ascending, Direction::Descending] {
            for cursor in ["", "x.i.5"] {
                let wanted = Wanted::parse("x", &page(cursor, direction)).unwrap();
                cases.push((
                    turn_starts(&tenant, id, &wanted),
                    "entries_turn_starts (tenant=? AND thread_id=?",
                ));
                cases.push((items(&tenant, id, Some(turn), &wanted), by_turn));
                cases.push((items(&tenant, id, None, &wanted), "PRIMARY KEY (tenant=? AND thread_id=?"));
            }
        }
        for (select, index) in cases {
            let plan = select.plan(&connection);
            assert!(plan.contains(index), "{plan}");
            assert!(!plan.contains("TEMP B-TREE") && !plan.contains("SCAN"), "{plan}");
        }
    }

    /// The page itself is sorted once more when its rows have been joined; what it is chosen from is sorted only where no index
    /// can have its order.
    #[test]
    fn a_page_of_threads_is_found_by_an_index() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("threads.db");
        drop(open::first(&path).unwrap());
        let connection = open::writer(&path).unwrap();
        let (tenant, id) = (TenantId::new("acme"), ThreadId::generate());
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        for (sort, time) in [(SortKey::CreatedAt, "start"), (SortKey::UpdatedAt, "growth")] {
            let list = page::thread_list(sort);
            let cursor = format!("{list}.i.5.{}", id.as_uuid().simple());
            let cases = [
                (&[][..], None, format!("threads_by_{time} (tenant=? AND archived=?"), 1),
                (
                    &["/a"][..],
                    None,
                    format!("threads_by_place_and_{time} (tenant=? AND archived=? AND cwd=?"),
                    1,
                ),
                (
                    &["/a"][..],
                    Some("x"),
                    format!("threads_by_place_and_{time} (tenant=? AND archived=? AND cwd=?"),
                    1,
                ),
                (&["/a", "/b"][..], None, "threads_by_place_and_".to_owned(), 2),
                (&[][..], Some("x"), "SEARCH t USING PRIMARY KEY (tenant=?)".to_owned(), 2),
            ];
            for direction in [Direction::Ascending, Direction::Descending] {
                for ((cwds, search, index, sorts), cursor) in
                    cases.iter().flat_map(|case| [(case, None), (case, Some(&cursor))])
                {
                    let page = PageQuery { cursor: cursor.cloned(), limit: 5, direction };
                    let wanted = Wanted::parse(list, &page).unwrap();
                    let query = ListQuery {
                        sort,
                        cwds: words(cwds),
                        except: vec![id],
                        search: search.map(str::to_owned),
                        ..ListQuery::default()
                    };
                    let plan = threads(&tenant, &query, &wanted).plan(&connection);
                    assert!(plan.contains(index), "{plan}");
                    assert_eq!(plan.matches("TEMP B-TREE").count(), *sorts, "{plan}");
                    assert!(!plan.contains("SCAN"), "{plan}");
                }
            }
        }
    }
}
