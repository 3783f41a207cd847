//! The steps of each write, inside the writer's transaction.
//!
//! Every step that can refuse comes before the first change, so a refused write leaves nothing behind and needs no
//! savepoint.

use rusqlite::{Connection, OptionalExtension, params};

use super::{
    failure::Failure,
    read,
    rows::{self, signed, unsigned},
    trace,
    writer::Source,
};
use crate::{
    Appended, Error, Lease, Mark, OwnerId, ReadState, TenantId, Thread, ThreadId, TurnId, Unread,
    encoded::{self, Encoded, EncodedUpdate, NewThread, Write},
    search,
};

pub(super) fn create(
    connection: &Connection,
    new: &NewThread,
    owner: &OwnerId,
    now_ms: i64,
) -> Result<(Lease, Appended), Failure> {
    let NewThread { thread, entries, .. } = new;
    check_new(connection, thread)?;
    if let Some(turn_id) = encoded::repeated_message(entries) {
        return Err(Error::DuplicateMessage { turn_id }.into());
    }
    let at_ms = now_ms.max(thread.updated_at_ms);
    let grown_at_ms = if entries.is_empty() { thread.updated_at_ms } else { at_ms };
    let last_sequence = u64::try_from(entries.len()).unwrap_or(u64::MAX);
    let lease = begin(connection, new, owner, Grown { at_ms: grown_at_ms, last_sequence })?;
    insert(connection, &lease, entries, 1, at_ms)?;
    Ok((lease, Appended { last_sequence, at_ms, read_state: thread.read_state }))
}

pub(super) fn fork(
    connection: &Connection,
    source: Source,
    new: &NewThread,
    owner: &OwnerId,
) -> Result<(Lease, Appended), Failure> {
    let thread = &new.thread;
    if epoch(connection, &thread.tenant, source.id)?.is_none() {
        return Err(Error::NotFound(source.id).into());
    }
    check_new(connection, thread)?;
    let last_sequence = connection
        .prepare_cached(
            "SELECT coalesce(max(sequence), 0) AS last FROM entries \
             WHERE tenant = ?1 AND thread_id = ?2 AND sequence <= ?3",
        )?
        .query_row(params![thread.tenant.as_str(), source.id.as_uuid(), signed(source.through)], |row| {
            unsigned(row, "last")
        })?;
    let grown = Grown { at_ms: thread.updated_at_ms, last_sequence };
    let lease = begin(connection, new, owner, grown)?;
    connection
        .prepare_cached(
            "INSERT INTO entries (tenant, thread_id, sequence, turn_id, kind, client_id, at_ms, payload) \
         SELECT tenant, ?3, sequence, turn_id, kind, client_id, at_ms, payload FROM entries \
         WHERE tenant = ?1 AND thread_id = ?2 AND sequence <= ?4",
        )?
        .execute(params![
            thread.tenant.as_str(),
            source.id.as_uuid(),
            thread.id.as_uuid(),
            signed(source.through),
        ])?;
    trace::fork(connection, source.id, thread)?;
    let Grown { at_ms, last_sequence } = grown;
    Ok((lease, Appended { last_sequence, at_ms, read_state: thread.read_state }))
}

/// How far a new thread's log reaches.
#[derive(Debug, Clone, Copy)]
struct Grown {
    at_ms: i64,
    last_sequence: u64,
}

fn check_new(connection: &Connection, thread: &Thread) -> Result<(), Failure> {
    match epoch(connection, &thread.tenant, thread.id)? {
        Some(_) => Err(Error::Exists(thread.id).into()),
        None => Ok(()),
    }
}

/// Stores a new thread's facts.
fn begin(
    connection: &Connection,
    new: &NewThread,
    owner: &OwnerId,
    grown: Grown,
) -> Result<Lease, rusqlite::Error> {
    let NewThread { thread, settings, metadata, .. } = new;
    let lease = Lease { tenant: thread.tenant.clone(), thread_id: thread.id, epoch: 1 };
    connection.prepare_cached(
        "INSERT INTO threads (tenant, id, session_id, parent_id, forked_from_id, created_at_ms, updated_at_ms, name, \
         preview, search_text, archived, originator, client_version, source, thread_source, provider, cwd, owner, \
         epoch, last_sequence, first_unread, read_revision) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22)",
    )?
    .execute(params![
            thread.tenant.as_str(),
            thread.id.as_uuid(),
            thread.session_id.as_uuid(),
            thread.parent_id.map(ThreadId::as_uuid),
            thread.forked_from_id.map(ThreadId::as_uuid),
            thread.created_at_ms,
            grown.at_ms,
            thread.name.as_deref(),
            thread.preview.as_str(),
            search::text(thread.name.as_deref(), &thread.preview),
            thread.archived,
            thread.origin.originator.as_str(),
            thread.origin.client_version.as_str(),
            thread.origin.source.as_str(),
            thread.origin.thread_source.as_deref(),
            thread.origin.provider.as_str(),
            thread.settings.cwd.as_str(),
            owner.as_uuid(),
            signed(lease.epoch),
            signed(grown.last_sequence),
            thread.read_state.first_unread.map(Unread::as_uuid),
            signed(thread.read_state.revision),
        ])?;
    connection
        .prepare_cached(
            "INSERT INTO thread_settings (tenant, thread_id, settings, metadata) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![
            lease.tenant.as_str(),
            lease.thread_id.as_uuid(),
            settings.as_str(),
            metadata.as_str(),
        ])?;
    Ok(lease)
}

pub(super) fn acquire(
    connection: &Connection,
    tenant: &TenantId,
    id: ThreadId,
    owner: &OwnerId,
) -> Result<(Lease, Thread), Failure> {
    let thread = thread(connection, tenant, id)?;
    let epoch = connection
        .prepare_cached(
            "UPDATE threads SET epoch = CASE WHEN owner = ?3 THEN epoch ELSE epoch + 1 END, owner = ?3 \
             WHERE tenant = ?1 AND id = ?2 RETURNING epoch",
        )?
        .query_row(params![tenant.as_str(), id.as_uuid(), owner.as_uuid()], |row| unsigned(row, "epoch"))?;
    Ok((Lease { tenant: tenant.clone(), thread_id: id, epoch }, thread))
}

pub(super) fn append(
    connection: &Connection,
    lease: &Lease,
    write: &Write,
    now_ms: i64,
) -> Result<Appended, Failure> {
    let Write { entries, update, ended } = write;
    let mut head = head(connection, lease)?;
    if let Some(turn_id) = duplicate(connection, lease, entries)? {
        return Err(Error::DuplicateMessage { turn_id }.into());
    }
    let changed = match update.is_empty() {
        true => None,
        false => Some(changed(connection, &lease.tenant, lease.thread_id, update)?),
    };
    head.read_state = head.read_state.after(*ended);
    let appended = grow(connection, lease, head, entries, now_ms)?;
    if let Some(thread) = changed {
        store(connection, &thread, update)?;
    }
    Ok(appended)
}

pub(super) fn revert(
    connection: &Connection,
    lease: &Lease,
    keep: u64,
    entries: &[Encoded],
    now_ms: i64,
) -> Result<Appended, Failure> {
    let mut head = head(connection, lease)?;
    head.read_state = head.read_state.marked(Mark::Read);
    head.updated_at_ms = head.updated_at_ms.max(now_ms);
    connection
        .prepare_cached("DELETE FROM entries WHERE tenant = ?1 AND thread_id = ?2 AND sequence > ?3")?
        .execute(params![lease.tenant.as_str(), lease.thread_id.as_uuid(), signed(keep)])?;
    grow(connection, lease, head, entries, now_ms)
}

/// What a thread's row says of its log.
struct Head {
    last_sequence: u64,
    updated_at_ms: i64,
    read_state: ReadState,
}

/// The head of the owner's thread.
fn head(connection: &Connection, lease: &Lease) -> Result<Head, Failure> {
    let head = connection
        .prepare_cached(
            "SELECT last_sequence, updated_at_ms, first_unread, read_revision FROM threads \
             WHERE tenant = ?1 AND id = ?2 AND epoch = ?3",
        )?
        .query_row(params![lease.tenant.as_str(), lease.thread_id.as_uuid(), signed(lease.epoch)], |row| {
            Ok(Head {
                last_sequence: unsigned(row, "last_sequence")?,
                updated_at_ms: row.get("updated_at_ms")?,
                read_state: rows::read_state(row)?,
            })
        })
        .optional()?;
    match head {
        Some(head) => Ok(head),
        None if epoch(connection, &lease.tenant, lease.thread_id)?.is_none() => {
            Err(Error::NotFound(lease.thread_id).into())
        }
        None => Err(Error::StaleOwner(lease.thread_id).into()),
    }
}

/// Inserts entries after the head's last one, and stores the head as it is then.
///
/// Two statements where one with `RETURNING` would do: SQLite keeps what that returns in a table of its own, made anew each
/// time, which was two fifths of an append.
fn grow(
    connection: &Connection,
    lease: &Lease,
    head: Head,
    entries: &[Encoded],
    now_ms: i64,
) -> Result<Appended, Failure> {
    let at_ms = now_ms.max(head.updated_at_ms);
    let updated_at_ms = if entries.is_empty() { head.updated_at_ms } else { at_ms };
    let last_sequence = head.last_sequence.saturating_add(u64::try_from(entries.len()).unwrap_or(u64::MAX));
    connection
        .prepare_cached(
            "UPDATE threads SET last_sequence = ?3, updated_at_ms = ?4, first_unread = ?5, read_revision = ?6 \
             WHERE tenant = ?1 AND id = ?2",
        )?
        .execute(params![
            lease.tenant.as_str(),
            lease.thread_id.as_uuid(),
            signed(last_sequence),
            updated_at_ms,
            head.read_state.first_unread.map(Unread::as_uuid),
            signed(head.read_state.revision),
        ])?;
    insert(connection, lease, entries, head.last_sequence.saturating_add(1), at_ms)?;
    Ok(Appended { last_sequence, at_ms, read_state: head.read_state })
}

pub(super) fn update(
    connection: &Connection,
    tenant: &TenantId,
    id: ThreadId,
    update: &EncodedUpdate,
) -> Result<Thread, Failure> {
    let thread = changed(connection, tenant, id, update)?;
    store(connection, &thread, update)?;
    Ok(thread)
}

pub(super) fn mark(
    connection: &Connection,
    tenant: &TenantId,
    id: ThreadId,
    mark: Mark,
    seen: u64,
) -> Result<ReadState, Failure> {
    let now = connection
        .prepare_cached("SELECT first_unread, read_revision FROM threads WHERE tenant = ?1 AND id = ?2")?
        .query_row(params![tenant.as_str(), id.as_uuid()], rows::read_state)
        .optional()?
        .ok_or(Error::NotFound(id))?;
    if now.revision != seen {
        return Err(Error::ReadStateChanged(now).into());
    }
    let marked = now.marked(mark);
    connection
        .prepare_cached(
            "UPDATE threads SET first_unread = ?3, read_revision = ?4 WHERE tenant = ?1 AND id = ?2",
        )?
        .execute(params![
            tenant.as_str(),
            id.as_uuid(),
            marked.first_unread.map(Unread::as_uuid),
            signed(marked.revision),
        ])?;
    Ok(marked)
}

pub(super) fn delete(connection: &Connection, tenant: &TenantId, id: ThreadId) -> Result<(), Failure> {
    let deleted = connection
        .prepare_cached("DELETE FROM threads WHERE tenant = ?1 AND id = ?2")?
        .execute(params![tenant.as_str(), id.as_uuid()])?;
    if deleted == 0 { Err(Error::NotFound(id).into()) } else { Ok(()) }
}

/// The thread as it is after the update, not yet stored.
fn changed(
    connection: &Connection,
    tenant: &TenantId,
    id: ThreadId,
    update: &EncodedUpdate,
) -> Result<Thread, Failure> {
    let mut thread = thread(connection, tenant, id)?;
    update.apply(&mut thread);
    Ok(thread)
}

/// Stores what an update can change in a thread.
fn store(connection: &Connection, thread: &Thread, update: &EncodedUpdate) -> Result<(), rusqlite::Error> {
    connection
        .prepare_cached(
            "UPDATE threads SET name = ?3, search_text = ?4, archived = ?5, cwd = ?6, preview = ?7 \
         WHERE tenant = ?1 AND id = ?2",
        )?
        .execute(params![
            thread.tenant.as_str(),
            thread.id.as_uuid(),
            thread.name.as_deref(),
            search::text(thread.name.as_deref(), &thread.preview),
            thread.archived,
            thread.settings.cwd.as_str(),
            thread.preview.as_str(),
        ])?;
    let (settings, metadata) = (&update.settings, &update.metadata);
    if settings.is_some() || metadata.is_some() {
        connection.prepare_cached(
        "UPDATE thread_settings SET settings = coalesce(?3, settings), metadata = coalesce(?4, metadata) \
             WHERE tenant = ?1 AND thread_id = ?2",
    )?
    .execute(params![
            thread.tenant.as_str(),
            thread.id.as_uuid(),
            settings.as_ref().map(|new| new.json.as_str()),
            metadata.as_ref().map(|new| new.json.as_str()),
        ])?;
    }
    Ok(())
}

fn insert(
    connection: &Connection,
    lease: &Lease,
    entries: &[Encoded],
    first_sequence: u64,
    at_ms: i64,
) -> Result<(), rusqlite::Error> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO entries (tenant, thread_id, sequence, turn_id, kind, client_id, at_ms, payload) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?;
    for (sequence, entry) in (first_sequence..).zip(entries) {
        insert.execute(params![
            lease.tenant.as_str(),
            lease.thread_id.as_uuid(),
            signed(sequence),
            entry.turn_id.as_uuid(),
            entry.kind,
            entry.client_id.as_deref(),
            at_ms,
            entry.payload.as_str(),
        ])?;
    }
    Ok(())
}

/// The turn of a message that is in the thread already, or twice in what is to be appended.
fn duplicate(connection: &Connection, lease: &Lease, entries: &[Encoded]) -> Result<Option<TurnId>, Failure> {
    for client_id in entries.iter().filter_map(|entry| entry.client_id.as_deref()) {
        let turn_id = connection
            .prepare_cached(
                "SELECT turn_id FROM entries WHERE tenant = ?1 AND thread_id = ?2 AND client_id = ?3",
            )?
            .query_row(params![lease.tenant.as_str(), lease.thread_id.as_uuid(), client_id], rows::turn_id)
            .optional()?;
        if turn_id.is_some() {
            return Ok(turn_id);
        }
    }
    Ok(encoded::repeated_message(entries))
}

/// The epoch of the thread's owner, if the thread is there.
fn epoch(connection: &Connection, tenant: &TenantId, id: ThreadId) -> rusqlite::Result<Option<u64>> {
    connection
        .prepare_cached("SELECT epoch FROM threads WHERE tenant = ?1 AND id = ?2")?
        .query_row(params![tenant.as_str(), id.as_uuid()], |row| unsigned(row, "epoch"))
        .optional()
}

fn thread(connection: &Connection, tenant: &TenantId, id: ThreadId) -> Result<Thread, Failure> {
    Ok(read::find(connection, tenant, id)?.ok_or(Error::NotFound(id))??)
}
