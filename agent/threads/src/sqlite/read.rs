//! What the readers' connections are asked.
//!
//! Pages go by key and not by offset, so a page does not change when the log grows.

use sqlx::{QueryBuilder, Sqlite, SqlitePool, sqlite::SqliteRow};

use super::{
    failure::read_error,
    rows::{self, column, select_thread, signed, unsigned},
    select,
};
use crate::{
    Error, ItemRecord, ListQuery, Page, PageQuery, Record, TenantId, Thread, ThreadId, TurnId, TurnPlace,
    TurnRecords, limits,
    page::{self, Wanted},
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
    .bind(select::sql_limit(limits::records(limit)))
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
    let starts = select::turn_starts(tenant, id, &wanted)
        .build()
        .fetch_all(&mut *snapshot)
        .await
        .map_err(read_error)?;

    let (mut turns, mut records) = (Vec::new(), 0);
    for start in starts.iter().take(wanted.limit) {
        if records >= limits::RECORDS_MAX {
            break;
        }
        let turn_id = rows::turn_id(start)?;
        let found = select::turn_records(tenant, id, turn_id)
            .build()
            .fetch_all(&mut *snapshot)
            .await
            .map_err(read_error)?;
        let found = found.iter().map(|row| rows::stored(row)?.record(id)).collect::<Result<Vec<_>, _>>()?;
        records += found.len();
        let sequence = unsigned(column(start, "sequence")?).map_err(read_error)?;
        turns.push((sequence, TurnRecords { turn_id, records: found }));
    }
    let more = turns.len() < starts.len();
    Ok(page::map(wanted.page(turns, more, |(sequence, _)| *sequence), |(_, turn)| turn))
}

pub(super) async fn turn_place(
    pool: &SqlitePool,
    tenant: &TenantId,
    id: ThreadId,
    turn: TurnId,
) -> Result<Option<TurnPlace>, Error> {
    let Some(start) = sequence(pool, select::turn_start(tenant, id, turn)).await? else {
        check_exists(pool, tenant, id, true).await?;
        return Ok(None);
    };
    let next = sequence(pool, select::next_start(tenant, id, start)).await?;
    Ok(Some(TurnPlace { start, next }))
}

async fn sequence(pool: &SqlitePool, mut select: QueryBuilder<Sqlite>) -> Result<Option<u64>, Error> {
    let row = select.build().fetch_optional(pool).await.map_err(read_error)?;
    row.map(|row| unsigned(column(&row, "sequence")?).map_err(read_error)).transpose()
}

pub(super) async fn items(
    pool: &SqlitePool,
    tenant: &TenantId,
    id: ThreadId,
    turn: Option<TurnId>,
    query: PageQuery,
) -> Result<Page<ItemRecord>, Error> {
    let wanted: Result<Wanted<u64>, Error> = Wanted::parse(page::ITEMS, &query);
    check_exists(pool, tenant, id, wanted.is_err()).await?;
    let wanted = wanted?;
    let found = select::items(tenant, id, turn, &wanted).build().fetch_all(pool).await.map_err(read_error)?;
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
    // The statement's text depends on the number of filters: not one to keep.
    let found = select::threads(tenant, &query, &wanted)
        .build()
        .persistent(false)
        .fetch_all(pool)
        .await
        .map_err(read_error)?;
    let threads = found.iter().map(|row| rows::thread(tenant, row)).collect::<Result<Vec<_>, _>>()?;
    Ok(wanted.page(threads, false, |thread| page::thread_key(thread, query.sort)))
}

/// An empty answer is only right for a thread that is there.
pub(super) async fn check_exists(
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
