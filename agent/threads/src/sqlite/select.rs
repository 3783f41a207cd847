//! The statements that select pages.
//!
//! Pages go by key and not by offset, so a page does not change when the log grows. The text is put together from fixed
//! parts; every value is bound.

use sqlx::{QueryBuilder, Sqlite};

use super::rows::{select_thread, signed};
use crate::{
    Direction, ListQuery, SortKey, TenantId, ThreadId, TurnId,
    page::{ThreadKey, Wanted},
    search,
};

/// A page of the places and ids of a thread's turns.
pub(super) fn turn_starts(tenant: &TenantId, id: ThreadId, wanted: &Wanted<u64>) -> QueryBuilder<Sqlite> {
    let mut select = of_thread("SELECT sequence, turn_id FROM entries", tenant, id);
    select.push(" AND kind = 'turn_started'");
    push_sequence_page(&mut select, wanted);
    select
}

/// The place of a turn's start.
pub(super) fn turn_start(tenant: &TenantId, id: ThreadId, turn: TurnId) -> QueryBuilder<Sqlite> {
    let mut select = of_thread("SELECT sequence FROM entries", tenant, id);
    push_turn(&mut select, turn);
    select.push(" AND kind = 'turn_started' ORDER BY sequence LIMIT 1");
    select
}

/// The place of the first start after a place.
pub(super) fn next_start(tenant: &TenantId, id: ThreadId, after: u64) -> QueryBuilder<Sqlite> {
    let mut select = of_thread("SELECT sequence FROM entries", tenant, id);
    select.push(" AND kind = 'turn_started' AND sequence > ").push_bind(signed(after));
    select.push(" ORDER BY sequence LIMIT 1");
    select
}

/// A turn's records except the model's items.
pub(super) fn turn_records(tenant: &TenantId, id: ThreadId, turn: TurnId) -> QueryBuilder<Sqlite> {
    let mut select = of_thread("SELECT sequence, at_ms, turn_id, payload FROM entries", tenant, id);
    push_turn(&mut select, turn);
    select.push(" ORDER BY sequence");
    select
}

/// A page of items, of one turn or of all.
pub(super) fn items(
    tenant: &TenantId,
    id: ThreadId,
    turn: Option<TurnId>,
    wanted: &Wanted<u64>,
) -> QueryBuilder<Sqlite> {
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
pub(super) fn threads(
    tenant: &TenantId,
    query: &ListQuery,
    wanted: &Wanted<ThreadKey>,
) -> QueryBuilder<Sqlite> {
    let mut select = QueryBuilder::new(select_thread!("WHERE t.tenant = "));
    select.push_bind(tenant.as_str());
    select.push(" AND t.id IN (SELECT t.id FROM threads t WHERE t.tenant = ").push_bind(tenant.as_str());
    // No index has the text: to walk the table itself is several times faster than to look each row up in it.
    let searches_all = query.search.is_some() && query.cwds.is_empty();
    select.push(if searches_all { " AND +t.archived = " } else { " AND t.archived = " });
    select.push_bind(query.archived);
    push_filter(&mut select, "t.source", &query.sources);
    push_filter(&mut select, "t.cwd", &query.cwds);
    push_filter(&mut select, "t.provider", &query.providers);
    push_exceptions(&mut select, &query.except);
    if let Some(text) = &query.search {
        select.push(" AND t.search_text LIKE ").push_bind(search::like_pattern(text)).push(r" ESCAPE '\'");
    }
    let order = push_thread_page(&mut select, wanted, query.sort);
    select.push(")").push(order);
    select
}

fn of_thread(select: &str, tenant: &TenantId, id: ThreadId) -> QueryBuilder<Sqlite> {
    let mut query = QueryBuilder::new(select);
    query.push(" WHERE tenant = ").push_bind(tenant.as_str());
    query.push(" AND thread_id = ").push_bind(id.as_uuid());
    query
}

/// The first condition is what lets the index of turns be used.
fn push_turn(select: &mut QueryBuilder<Sqlite>, turn: TurnId) {
    select.push(" AND kind <> 'model_item' AND turn_id = ").push_bind(turn.as_uuid());
}

fn push_sequence_page(select: &mut QueryBuilder<Sqlite>, wanted: &Wanted<u64>) {
    if let Some(start) = &wanted.from {
        let past = comparison(wanted.direction, start.inclusive);
        select.push(" AND sequence").push(past).push_bind(signed(start.key));
    }
    select.push(" ORDER BY sequence").push(order(wanted.direction));
    select.push(" LIMIT ").push_bind(sql_limit(wanted.limit + 1));
}

/// Says how what it selects from is ordered, too.
fn push_thread_page(select: &mut QueryBuilder<Sqlite>, wanted: &Wanted<ThreadKey>, sort: SortKey) -> String {
    let time = match sort {
        SortKey::CreatedAt => "t.created_at_ms",
        SortKey::UpdatedAt => "t.updated_at_ms",
    };
    if let Some(start) = &wanted.from {
        let (at_ms, id) = start.key;
        select.push(" AND (").push(time).push(", t.id)").push(comparison(wanted.direction, start.inclusive));
        select.push("(").push_bind(at_ms).push(", ").push_bind(id).push(")");
    }
    let direction = order(wanted.direction);
    let order = format!(" ORDER BY {time}{direction}, t.id{direction}");
    select.push(&order).push(" LIMIT ").push_bind(sql_limit(wanted.limit + 1));
    order
}

fn push_filter(select: &mut QueryBuilder<Sqlite>, column: &'static str, values: &[String]) {
    if values.is_empty() {
        return;
    }
    select.push(" AND ").push(column).push(" IN (");
    let mut list = select.separated(", ");
    for value in values {
        list.push_bind(value.as_str());
    }
    select.push(")");
}

fn push_exceptions(select: &mut QueryBuilder<Sqlite>, threads: &[ThreadId]) {
    if threads.is_empty() {
        return;
    }
    select.push(" AND t.id NOT IN (");
    let mut list = select.separated(", ");
    for id in threads {
        list.push_bind(id.as_uuid());
    }
    select.push(")");
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
pub(super) fn sql_limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use sqlx::{AssertSqlSafe, Row, SqliteConnection};

    use super::*;
    use crate::{PageQuery, page, sqlite::open};

    /// A page must cost what is on it, however long the log and the list are.
    #[tokio::test]
    async fn every_page_is_found_by_an_index() {
        let directory = tempfile::tempdir().unwrap();
        let options = open::options(&directory.path().join("threads.db")).await.unwrap();
        drop(open::writer(&options).await.unwrap());
        let mut connection = open::writer(&options).await.unwrap();
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
            let plan = plan(&mut connection, select).await;
            assert!(plan.contains(index), "{plan}");
            assert!(!plan.contains("TEMP B-TREE") && !plan.contains("SCAN"), "{plan}");
        }
    }

    /// The page itself is sorted once more when its rows have been joined; what it is chosen from is sorted only where no index
    /// can have its order.
    #[tokio::test]
    async fn a_page_of_threads_is_found_by_an_index() {
        let directory = tempfile::tempdir().unwrap();
        let options = open::options(&directory.path().join("threads.db")).await.unwrap();
        drop(open::writer(&options).await.unwrap());
        let mut connection = open::writer(&options).await.unwrap();
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
                    let plan = plan(&mut connection, threads(&tenant, &query, &wanted)).await;
                    assert!(plan.contains(index), "{plan}");
                    assert_eq!(plan.matches("TEMP B-TREE").count(), *sorts, "{plan}");
                    assert!(!plan.contains("SCAN"), "{plan}");
                }
            }
        }
    }

    /// How SQLite would do it, after the statement itself.
    async fn plan(connection: &mut SqliteConnection, select: QueryBuilder<Sqlite>) -> String {
        let sql = select.into_string();
        let explain = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}")));
        let rows = explain.fetch_all(connection).await.unwrap();
        let steps: Vec<String> = rows.iter().map(|row| row.get::<String, _>("detail")).collect();
        format!("{sql}: {}", steps.join("; "))
    }
}
