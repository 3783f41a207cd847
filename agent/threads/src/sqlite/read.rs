//! What the readers' connections are asked.
//!
//! Pages go by key and not by offset, so a page does not change when the log grows.

use rusqlite::{Connection, OptionalExtension, params};

use super::{
    failure::read_error,
    rows::{self, select_thread},
    select,
    statement::Select,
};
use crate::{
    Error, ItemRecord, ListQuery, Page, PageQuery, Record, TenantId, Thread, ThreadId, TurnId, TurnPlace,
    TurnRecords, limits,
    page::{self, Wanted},
};

pub(super) fn thread(connection: &Connection, tenant: &TenantId, id: ThreadId) -> Result<Thread, Error> {
    find(connection, tenant, id).map_err(read_error)?.ok_or(Error::NotFound(id))?
}

/// The thread, if it is there; readable or not.
pub(super) fn find(
    connection: &Connection,
    tenant: &TenantId,
    id: ThreadId,
) -> rusqlite::Result<Option<Result<Thread, Error>>> {
    let mut select = connection.prepare_cached(select_thread!("WHERE t.tenant = ?1 AND t.id = ?2"))?;
    select.query_row(params![tenant.as_str(), id.as_uuid()], |row| Ok(rows::thread(tenant, row))).optional()
}

pub(super) fn records(
    connection: &Connection,
    tenant: &TenantId,
    id: ThreadId,
    after: u64,
    limit: u32,
) -> Result<Vec<Record>, Error> {
    let found = select::records(tenant, id, after, limits::records(limit));
    let found = found.all(connection, rows::stored).map_err(read_error)?;
    check_exists(connection, tenant, id, found.is_empty())?;
    found.iter().map(|stored| stored.record(id)).collect()
}

pub(super) fn turns(
    connection: &mut Connection,
    tenant: &TenantId,
    id: ThreadId,
    query: &PageQuery,
) -> Result<Page<TurnRecords>, Error> {
    // One snapshot for the turns and their records.
    let snapshot = connection.transaction().map_err(read_error)?;
    check_exists(&snapshot, tenant, id, true)?;
    let wanted: Wanted<u64> = Wanted::parse("turns", query)?;
    let starts = select::turn_starts(tenant, id, &wanted)
        .all(&snapshot, |row| Ok((rows::unsigned(row, "sequence")?, rows::turn_id(row)?)))
        .map_err(read_error)?;

    let (mut turns, mut records) = (Vec::new(), 0);
    for &(sequence, turn_id) in starts.iter().take(wanted.limit) {
        if records >= limits::RECORDS_MAX {
            break;
        }
        let found =
            select::turn_records(tenant, id, turn_id).all(&snapshot, rows::stored).map_err(read_error)?;
        let found = found.iter().map(|stored| stored.record(id)).collect::<Result<Vec<_>, _>>()?;
        records += found.len();
        turns.push((sequence, TurnRecords { turn_id, records: found }));
    }
    let more = turns.len() < starts.len();
    Ok(page::map(wanted.page(turns, more, |(sequence, _)| *sequence), |(_, turn)| turn))
}

pub(super) fn turn_place(
    connection: &Connection,
    tenant: &TenantId,
    id: ThreadId,
    turn: TurnId,
) -> Result<Option<TurnPlace>, Error> {
    let Some(start) = sequence(connection, select::turn_start(tenant, id, turn))? else {
        check_exists(connection, tenant, id, true)?;
        return Ok(None);
    };
    let next = sequence(connection, select::next_start(tenant, id, start))?;
    Ok(Some(TurnPlace { start, next }))
}

fn sequence(connection: &Connection, select: Select) -> Result<Option<u64>, Error> {
    let found = select.all(connection, |row| rows::unsigned(row, "sequence")).map_err(read_error)?;
    Ok(found.first().copied())
}

pub(super) fn items(
    connection: &Connection,
    tenant: &TenantId,
    id: ThreadId,
    turn: Option<TurnId>,
    query: &PageQuery,
) -> Result<Page<ItemRecord>, Error> {
    let wanted: Result<Wanted<u64>, Error> = Wanted::parse(page::ITEMS, query);
    check_exists(connection, tenant, id, wanted.is_err())?;
    let wanted = wanted?;
    let found = select::items(tenant, id, turn, &wanted).all(connection, rows::stored).map_err(read_error)?;
    check_exists(connection, tenant, id, found.is_empty())?;
    let items = found.iter().map(|stored| stored.item(id)).collect::<Result<Vec<_>, _>>()?;
    Ok(wanted.page(items, false, |item| item.sequence))
}

pub(super) fn list(
    connection: &Connection,
    tenant: &TenantId,
    query: &ListQuery,
) -> Result<Page<Thread>, Error> {
    limits::check_list(query)?;
    let wanted = Wanted::parse(page::thread_list(query.sort), &query.page)?;
    let found = select::threads(tenant, query, &wanted)
        .all(connection, |row| Ok(rows::thread(tenant, row)))
        .map_err(read_error)?;
    let threads = found.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(wanted.page(threads, false, |thread| page::thread_key(thread, query.sort)))
}

/// An empty answer is only right for a thread that is there.
pub(super) fn check_exists(
    connection: &Connection,
    tenant: &TenantId,
    id: ThreadId,
    doubtful: bool,
) -> Result<(), Error> {
    if doubtful && !exists(connection, tenant, id).map_err(read_error)? {
        Err(Error::NotFound(id))
    } else {
        Ok(())
    }
}

fn exists(connection: &Connection, tenant: &TenantId, id: ThreadId) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT 1 FROM threads WHERE tenant = ?1 AND id = ?2")?
        .exists(params![tenant.as_str(), id.as_uuid()])
}
