//! What happened in threads: keeping it, bounded for each thread, and reading it back.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Row, params};
use uuid::Uuid;

use super::{
    failure::{Failure, read_error},
    read,
    rows::unsigned,
    select,
};
use crate::{Error, TenantId, Thread, ThreadId, TraceEvent, TraceRecord, TraceRow, TurnId, encoded, limits};

/// Keeps the rows of threads that are there; tells how many that are.
pub(super) fn keep(connection: &Connection, rows: &[TraceRow]) -> Result<usize, Failure> {
    let mut threads: BTreeMap<(&TenantId, ThreadId), Vec<&TraceEvent>> = BTreeMap::new();
    for row in rows {
        threads.entry((&row.tenant, row.thread_id)).or_default().push(&row.event);
    }
    let mut kept = 0;
    for ((tenant, id), events) in threads {
        let Some(last) = last_number(connection, tenant, id)? else { continue };
        let last = insert(connection, tenant, id, last, &events)?;
        trim(connection, tenant, id, last)?;
        kept += events.len();
    }
    Ok(kept)
}

/// The number of the last row of a thread, 0 before the first; `None` if there is no such thread.
fn last_number(connection: &Connection, tenant: &TenantId, id: ThreadId) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached(
            "SELECT coalesce((SELECT max(number) FROM traces WHERE tenant = ?1 AND thread_id = ?2), 0) \
             FROM threads WHERE tenant = ?1 AND id = ?2",
        )?
        .query_row(params![tenant.as_str(), id.as_uuid()], |row| row.get(0))
        .optional()
}

/// Inserts rows after the last one; tells the number of the last one then.
fn insert(
    connection: &Connection,
    tenant: &TenantId,
    id: ThreadId,
    last: i64,
    events: &[&TraceEvent],
) -> Result<i64, Failure> {
    let payloads = events.iter().map(|event| encoded::trace(&event.kind)).collect::<Result<Vec<_>, _>>()?;
    let mut insert = connection.prepare_cached(
        "INSERT INTO traces (tenant, thread_id, number, turn_id, at_ms, payload) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    let mut number = last;
    for (event, payload) in events.iter().zip(payloads) {
        number += 1;
        insert.execute(params![
            tenant.as_str(),
            id.as_uuid(),
            number,
            event.turn_id.map(TurnId::as_uuid),
            event.at_ms,
            payload,
        ])?;
    }
    Ok(number)
}

/// Gives up the oldest rows of a thread that has too many.
fn trim(connection: &Connection, tenant: &TenantId, id: ThreadId, last: i64) -> rusqlite::Result<()> {
    let surplus = last - i64::try_from(limits::TRACE_ROWS_MAX).unwrap_or(i64::MAX);
    if surplus > 0 {
        connection
            .prepare_cached("DELETE FROM traces WHERE tenant = ?1 AND thread_id = ?2 AND number <= ?3")?
            .execute(params![tenant.as_str(), id.as_uuid(), surplus])?;
    }
    Ok(())
}

/// Copies what happened in the turns that a fork has copied.
pub(super) fn fork(connection: &Connection, source: ThreadId, thread: &Thread) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO traces (tenant, thread_id, number, turn_id, at_ms, payload) \
             SELECT tenant, ?3, number, turn_id, at_ms, payload FROM traces \
             WHERE tenant = ?1 AND thread_id = ?2 AND turn_id IN \
             (SELECT turn_id FROM entries WHERE tenant = ?1 AND thread_id = ?3 AND kind = 'turn_started')",
        )?
        .execute(params![thread.tenant.as_str(), source.as_uuid(), thread.id.as_uuid()])?;
    Ok(())
}

/// A page is as long as was asked for unless the thread has no more, also where a newer version has written something
/// between that this one does not know.
pub(super) fn read(
    connection: &Connection,
    tenant: &TenantId,
    id: ThreadId,
    after: u64,
    limit: u32,
) -> Result<Vec<TraceRecord>, Error> {
    let wanted = limits::records(limit);
    let (mut after, mut records) = (after, Vec::new());
    while records.len() < wanted {
        let rows = select::traces(tenant, id, after, wanted).all(connection, record).map_err(read_error)?;
        let Some((last, _)) = rows.last() else { break };
        after = *last;
        let full = rows.len() == wanted;
        records.extend(rows.into_iter().filter_map(|(_, record)| record));
        if !full {
            break;
        }
    }
    records.truncate(wanted);
    read::check_exists(connection, tenant, id, records.is_empty())?;
    Ok(records)
}

/// The number of a row and its record; `None` if this version does not know what it tells.
fn record(row: &Row<'_>) -> rusqlite::Result<(u64, Option<TraceRecord>)> {
    let number = unsigned(row, "number")?;
    let Some(kind) = encoded::read_trace(&row.get::<_, String>("payload")?) else {
        return Ok((number, None));
    };
    let turn_id: Option<Uuid> = row.get("turn_id")?;
    let event = TraceEvent { at_ms: row.get("at_ms")?, turn_id: turn_id.map(TurnId::from_uuid), kind };
    Ok((number, Some(TraceRecord { number, event })))
}
