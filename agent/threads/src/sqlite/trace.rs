//! What happened in threads: keeping it, bounded for each thread, and reading it back.

use std::collections::BTreeMap;

use sqlx::{QueryBuilder, Sqlite, SqliteConnection, SqlitePool, sqlite::SqliteRow};
use uuid::Uuid;

use super::{
    failure::{Failure, read_error},
    read,
    rows::{column, signed, unsigned},
    select,
};
use crate::{Error, TenantId, Thread, ThreadId, TraceEvent, TraceRecord, TraceRow, TurnId, encoded, limits};

/// How many rows one statement inserts. Each number of rows is a statement of its own in the cache.
const ROWS_MAX: usize = 16;

/// Keeps the rows of threads that are there; tells how many that are.
pub(super) async fn keep(connection: &mut SqliteConnection, rows: &[TraceRow]) -> Result<usize, Failure> {
    let mut threads: BTreeMap<(&TenantId, ThreadId), Vec<&TraceEvent>> = BTreeMap::new();
    for row in rows {
        threads.entry((&row.tenant, row.thread_id)).or_default().push(&row.event);
    }
    let mut kept = 0;
    for ((tenant, id), events) in threads {
        let Some(mut number) = last_number(connection, tenant, id).await? else { continue };
        for chunk in events.chunks(ROWS_MAX) {
            number = insert(connection, tenant, id, number, chunk).await?;
        }
        trim(connection, tenant, id, number).await?;
        kept += events.len();
    }
    Ok(kept)
}

/// The number of the last row of a thread, 0 before the first; `None` if there is no such thread.
async fn last_number(
    connection: &mut SqliteConnection,
    tenant: &TenantId,
    id: ThreadId,
) -> Result<Option<i64>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT coalesce((SELECT max(number) FROM traces WHERE tenant = $1 AND thread_id = $2), 0) \
         FROM threads WHERE tenant = $1 AND id = $2",
    )
    .bind(tenant.as_str())
    .bind(id.as_uuid())
    .fetch_optional(connection)
    .await
}

/// Inserts rows after the last one; tells the number of the last one then.
async fn insert(
    connection: &mut SqliteConnection,
    tenant: &TenantId,
    id: ThreadId,
    last: i64,
    events: &[&TraceEvent],
) -> Result<i64, Failure> {
    let payloads = events.iter().map(|event| encoded::trace(&event.kind)).collect::<Result<Vec<_>, _>>()?;
    let mut number = last;
    let mut statement = QueryBuilder::<Sqlite>::new(
        "INSERT INTO traces (tenant, thread_id, number, turn_id, at_ms, payload) ",
    );
    statement.push_values(events.iter().zip(payloads), |mut row, (event, payload)| {
        number += 1;
        row.push_bind(tenant.as_str())
            .push_bind(id.as_uuid())
            .push_bind(number)
            .push_bind(event.turn_id.map(TurnId::as_uuid))
            .push_bind(event.at_ms)
            .push_bind(payload);
    });
    statement.build().execute(connection).await?;
    Ok(number)
}

/// Gives up the oldest rows of a thread that has too many.
async fn trim(
    connection: &mut SqliteConnection,
    tenant: &TenantId,
    id: ThreadId,
    last: i64,
) -> Result<(), sqlx::Error> {
    let surplus = last - i64::try_from(limits::TRACE_ROWS_MAX).unwrap_or(i64::MAX);
    if surplus > 0 {
        sqlx::query("DELETE FROM traces WHERE tenant = $1 AND thread_id = $2 AND number <= $3")
            .bind(tenant.as_str())
            .bind(id.as_uuid())
            .bind(surplus)
            .execute(connection)
            .await?;
    }
    Ok(())
}

/// Copies what happened in the turns that a fork has copied.
pub(super) async fn fork(
    connection: &mut SqliteConnection,
    source: ThreadId,
    thread: &Thread,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO traces (tenant, thread_id, number, turn_id, at_ms, payload) \
         SELECT tenant, $3, number, turn_id, at_ms, payload FROM traces \
         WHERE tenant = $1 AND thread_id = $2 AND turn_id IN \
         (SELECT turn_id FROM entries WHERE tenant = $1 AND thread_id = $3 AND kind = 'turn_started')",
    )
    .bind(thread.tenant.as_str())
    .bind(source.as_uuid())
    .bind(thread.id.as_uuid())
    .execute(connection)
    .await?;
    Ok(())
}

/// A page is as long as was asked for unless the thread has no more, also where a newer version has written something
/// between that this one does not know.
pub(super) async fn read(
    pool: &SqlitePool,
    tenant: &TenantId,
    id: ThreadId,
    after: u64,
    limit: u32,
) -> Result<Vec<TraceRecord>, Error> {
    let wanted = limits::records(limit);
    let (mut after, mut records) = (signed(after), Vec::new());
    while records.len() < wanted {
        let rows = rows_after(pool, tenant, id, after, wanted).await?;
        let Some(last) = rows.last() else { break };
        after = column(last, "number")?;
        for row in &rows {
            records.extend(record(row)?);
        }
        if rows.len() < wanted {
            break;
        }
    }
    records.truncate(wanted);
    read::check_exists(pool, tenant, id, records.is_empty()).await?;
    Ok(records)
}

async fn rows_after(
    pool: &SqlitePool,
    tenant: &TenantId,
    id: ThreadId,
    after: i64,
    limit: usize,
) -> Result<Vec<SqliteRow>, Error> {
    let found = sqlx::query(
        "SELECT number, turn_id, at_ms, payload FROM traces \
         WHERE tenant = $1 AND thread_id = $2 AND number > $3 ORDER BY number LIMIT $4",
    )
    .bind(tenant.as_str())
    .bind(id.as_uuid())
    .bind(after)
    .bind(select::sql_limit(limit))
    .fetch_all(pool)
    .await;
    found.map_err(read_error)
}

/// The record of a row; `None` if this version does not know what it tells.
fn record(row: &SqliteRow) -> Result<Option<TraceRecord>, Error> {
    let Some(kind) = encoded::read_trace(column(row, "payload")?) else { return Ok(None) };
    let turn_id: Option<Uuid> = column(row, "turn_id")?;
    let number = unsigned(column(row, "number")?).map_err(read_error)?;
    let event = TraceEvent { at_ms: column(row, "at_ms")?, turn_id: turn_id.map(TurnId::from_uuid), kind };
    Ok(Some(TraceRecord { number, event }))
}
