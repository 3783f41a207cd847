//! What the readers' connections are asked.
//!
//! Pages go by key and not by offset, so a page does not change when the log grows.

use std::fmt::Display;

use sqlx::{QueryBuilder, Sqlite, SqlitePool, sqlite::SqliteRow};

use super::{
    failure::read_error,
    rows::{self, column, select_thread, signed, unsigned},
};
use crate::{
    Direction, Error, ItemRecord, ListQuery, Page, PageQuery, Record, SortKey, TenantId, Thread, ThreadId,
    TurnId, TurnRecords, limits,
    page::{self, ThreadKey, Wanted},
    search,
};

pub(super) async fn thread(pool: &SqlitePool, tenant: &TenantId, id: ThreadId) -> Result<Thread, Error> {
    let row = sqlx::query(select_thread!("WHERE t.tenant = $1 AND t.id = $2"))
        .bind(tenant.as_str())
        .bind(id.as_uuid())
        .fetch_optional(pool)
        .await
        .map_err(read_error)?;
    rows::thread(tenant, &row.ok_or(Error::NotFound(id))?)
}

pub(super) async fn records(
    pool: &SqlitePool,
    tenant: &TenantId,
    id: ThreadId,
    after: u64,
    limit: u32,
) -> Result<Vec<Record>, Error> {
    let found = sqlx::query(
        "SELECT sequence, at_ms, turn_id, payload FROM entries \
         WHERE tenant = $1 AND thread_id = $2 AND sequence > $3 ORDER BY sequence LIMIT $4",
    )
    .bind(tenant.as_str())
    .bind(id.as_uuid())
    .bind(signed(after))
    .bind(sql_limit(limits::records(limit)))
    .fetch_all(pool)
    .await
    .map_err(read_error)?;
    check_exists(pool, tenant, id, found.is_empty()).await?;
    found.iter().map(|row| rows::stored(row)?.record(id)).collect()
}

pub(super) async fn turns(
    pool: &SqlitePool,
    tenant: &TenantId,
    id: ThreadId,
    query: PageQuery,
) -> Result<Page<TurnRecords>, Error> {
    // One snapshot for the turns and their records.
    let mut snapshot = pool.begin().await.map_err(read_error)?;
    let exists = exists(&mut *snapshot, tenant, id).await?;
    let wanted: Wanted<u64> =
        if exists { Wanted::parse("turns", &query)? } else { return Err(Error::NotFound(id)) };
    let mut select = of_thread("SELECT sequence, turn_id FROM entries", tenant, id);
    select.push(" AND kind = 'turn_started'");
    push_sequence_page(&mut select, &wanted);
    let starts = select.build().fetch_all(&mut *snapshot).await.map_err(read_error)?;

    let (mut turns, mut records) = (Vec::new(), 0);
    for start in starts.iter().take(wanted.limit) {
        if records >= limits::RECORDS_MAX {
            break;
        }
        let turn_id = rows::turn_id(start)?;
        let mut select = of_thread("SELECT sequence, at_ms, turn_id, payload FROM entries", tenant, id);
        // The first condition is what lets the index of turns be used.
        select.push(" AND kind <> 'model_item' AND turn_id = ").push_bind(turn_id.as_uuid());
        select.push(" ORDER BY sequence");
        let found = select.build().fetch_all(&mut *snapshot).await.map_err(read_error)?;
        let found = found.iter().map(|row| rows::stored(row)?.record(id)).collect::<Result<Vec<_>, _>>()?;
        records += found.len();
        let sequence = unsigned(column(start, "sequence")?).map_err(read_error)?;
        turns.push((sequence, TurnRecords { turn_id, records: found }));
    }
    let more = turns.len() < starts.len();
    Ok(page::map(wanted.page(turns, more, |(sequence, _)| *sequence), |(_, turn)| turn))
}

pub(super) async fn items(
    pool: &SqlitePool,
    tenant: &TenantId,
    id: ThreadId,
    turn: Option<TurnId>,
    query: PageQuery,
) -> Result<Page<ItemRecord>, Error> {
    let wanted: Result<Wanted<u64>, Error> = Wanted::parse("items", &query);
    check_exists(pool, tenant, id, wanted.is_err()).await?;
    let wanted = wanted?;
    let mut select = of_thread("SELECT sequence, at_ms, turn_id, payload FROM entries", tenant, id);
    select.push(" AND kind = 'item'");
    if let Some(turn) = turn {
        select.push(" AND kind <> 'model_item' AND turn_id = ").push_bind(turn.as_uuid());
    }
    push_sequence_page(&mut select, &wanted);
    let found = select.build().fetch_all(pool).await.map_err(read_error)?;
    check_exists(pool, tenant, id, found.is_empty()).await?;
    let items = found.iter().map(|row| rows::stored(row)?.item(id)).collect::<Result<Vec<_>, _>>()?;
    Ok(wanted.page(items, false, |item| item.sequence))
}

pub(super) async fn list(
    pool: &SqlitePool,
    tenant: &TenantId,
    query: ListQuery,
) -> Result<Page<Thread>, Error> {
    limits::check_list(&query)?;
    let wanted = Wanted::parse(page::thread_list(query.sort), &query.page)?;
    let mut select = QueryBuilder::new(select_thread!("WHERE t.tenant = "));
    select.push_bind(tenant.as_str());
    select.push(" AND t.archived = ").push_bind(query.archived);
    push_filter(&mut select, "t.source", &query.sources);
    push_filter(&mut select, "t.cwd", &query.cwds);
    push_filter(&mut select, "t.provider", &query.providers);
    if let Some(text) = &query.search {
        select.push(" AND t.search_text LIKE ").push_bind(search::like_pattern(text)).push(r" ESCAPE '\'");
    }
    push_thread_page(&mut select, &wanted, query.sort);
    // The statement's text depends on the number of filters: not one to keep.
    let found = select.build().persistent(false).fetch_all(pool).await.map_err(read_error)?;
    let threads = found.iter().map(|row| rows::thread(tenant, row)).collect::<Result<Vec<_>, _>>()?;
    Ok(wanted.page(threads, false, |thread| page::thread_key(thread, query.sort)))
}

fn of_thread(select: &str, tenant: &TenantId, id: ThreadId) -> QueryBuilder<Sqlite> {
    let mut query = QueryBuilder::new(select);
    query.push(" WHERE tenant = ").push_bind(tenant.as_str());
    query.push(" AND thread_id = ").push_bind(id.as_uuid());
    query
}

fn push_sequence_page(select: &mut QueryBuilder<Sqlite>, wanted: &Wanted<u64>) {
    if let Some(start) = &wanted.from {
        let past = comparison(wanted.direction, start.inclusive);
        select.push(" AND sequence").push(past).push_bind(signed(start.key));
    }
    select.push(" ORDER BY sequence").push(order(wanted.direction));
    select.push(" LIMIT ").push_bind(sql_limit(wanted.limit + 1));
}

fn push_thread_page(select: &mut QueryBuilder<Sqlite>, wanted: &Wanted<ThreadKey>, sort: SortKey) {
    let time = match sort {
        SortKey::CreatedAt => "t.created_at_ms",
        SortKey::UpdatedAt => "t.updated_at_ms",
    };
    if let Some(start) = &wanted.from {
        let (at_ms, id) = start.key;
        select.push(" AND (").push(time).push(", t.id)").push(comparison(wanted.direction, start.inclusive));
        select.push("(").push_bind(at_ms).push(", ").push_bind(id).push(")");
    }
    let order = order(wanted.direction);
    select.push(" ORDER BY ").push(time).push(order).push(", t.id").push(order);
    select.push(" LIMIT ").push_bind(sql_limit(wanted.limit + 1));
}

fn push_filter(select: &mut QueryBuilder<Sqlite>, column: impl Display, values: &[String]) {
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

fn sql_limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// An empty answer is only right for a thread that is there.
async fn check_exists(
    pool: &SqlitePool,
    tenant: &TenantId,
    id: ThreadId,
    doubtful: bool,
) -> Result<(), Error> {
    if doubtful && !exists(pool, tenant, id).await? { Err(Error::NotFound(id)) } else { Ok(()) }
}

async fn exists<'c>(
    executor: impl sqlx::Executor<'c, Database = Sqlite>,
    tenant: &TenantId,
    id: ThreadId,
) -> Result<bool, Error> {
    let found: Option<SqliteRow> = sqlx::query("SELECT 1 FROM threads WHERE tenant = $1 AND id = $2")
        .bind(tenant.as_str())
        .bind(id.as_uuid())
        .fetch_optional(executor)
        .await
        .map_err(read_error)?;
    Ok(found.is_some())
}
