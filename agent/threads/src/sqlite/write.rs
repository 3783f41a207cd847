//! The steps of each write, inside the writer's transaction.
//!
//! Every step that can refuse comes before the first change, so a refused write leaves nothing behind and needs no
//! savepoint.

use sqlx::{QueryBuilder, Row, Sqlite, SqliteConnection, sqlite::SqliteRow};

use super::{
    failure::Failure,
    rows::{self, column, select_thread, signed, unsigned},
    trace,
    writer::Source,
};
use crate::{
    Appended, Error, Lease, Mark, OwnerId, ReadState, TenantId, Thread, ThreadId, TurnId, Unread,
    encoded::{self, Encoded, EncodedUpdate, NewThread, Write},
    search,
};

/// How many entries one statement inserts. Each number of rows is a statement of its own in the cache.
const ROWS_MAX: usize = 16;

pub(super) async fn create(
    connection: &mut SqliteConnection,
    new: &NewThread,
    owner: &OwnerId,
    now_ms: i64,
) -> Result<(Lease, Appended), Failure> {
    let NewThread { thread, entries, .. } = new;
    check_new(connection, thread).await?;
    if let Some(turn_id) = encoded::repeated_message(entries) {
        return Err(Error::DuplicateMessage { turn_id }.into());
    }
    let at_ms = now_ms.max(thread.updated_at_ms);
    let grown_at_ms = if entries.is_empty() { thread.updated_at_ms } else { at_ms };
    let last_sequence = u64::try_from(entries.len()).unwrap_or(u64::MAX);
    let lease = begin(connection, new, owner, Grown { at_ms: grown_at_ms, last_sequence }).await?;
    insert(connection, &lease, entries, 1, at_ms).await?;
    Ok((lease, Appended { last_sequence, at_ms, read_state: thread.read_state }))
}

pub(super) async fn fork(
    connection: &mut SqliteConnection,
    source: Source,
    new: &NewThread,
    owner: &OwnerId,
) -> Result<(Lease, Appended), Failure> {
    let thread = &new.thread;
    if head(connection, &thread.tenant, source.id).await?.is_none() {
        return Err(Error::NotFound(source.id).into());
    }
    check_new(connection, thread).await?;
    let last: Option<i64> = sqlx::query_scalar(
        "SELECT max(sequence) FROM entries WHERE tenant = $1 AND thread_id = $2 AND sequence <= $3",
    )
    .bind(thread.tenant.as_str())
    .bind(source.id.as_uuid())
    .bind(signed(source.through))
    .fetch_one(&mut *connection)
    .await?;
    let grown = Grown { at_ms: thread.updated_at_ms, last_sequence: unsigned(last.unwrap_or_default())? };
    let lease = begin(connection, new, owner, grown).await?;
    sqlx::query(
        "INSERT INTO entries (tenant, thread_id, sequence, turn_id, kind, client_id, at_ms, payload) \
         SELECT tenant, $3, sequence, turn_id, kind, client_id, at_ms, payload FROM entries \
         WHERE tenant = $1 AND thread_id = $2 AND sequence <= $4",
    )
    .bind(thread.tenant.as_str())
    .bind(source.id.as_uuid())
    .bind(thread.id.as_uuid())
    .bind(signed(source.through))
    .execute(&mut *connection)
    .await?;
    trace::fork(connection, source.id, thread).await?;
    let Grown { at_ms, last_sequence } = grown;
    Ok((lease, Appended { last_sequence, at_ms, read_state: thread.read_state }))
}

/// How far a new thread's log reaches.
#[derive(Debug, Clone, Copy)]
struct Grown {
    at_ms: i64,
    last_sequence: u64,
}

async fn check_new(connection: &mut SqliteConnection, thread: &Thread) -> Result<(), Failure> {
    match head(connection, &thread.tenant, thread.id).await? {
        Some(_) => Err(Error::Exists(thread.id).into()),
        None => Ok(()),
    }
}

/// Stores a new thread's facts.
async fn begin(
    connection: &mut SqliteConnection,
    new: &NewThread,
    owner: &OwnerId,
    grown: Grown,
) -> Result<Lease, sqlx::Error> {
    let NewThread { thread, settings, metadata, .. } = new;
    let lease = Lease { tenant: thread.tenant.clone(), thread_id: thread.id, epoch: 1 };
    sqlx::query(
        "INSERT INTO threads (tenant, id, session_id, parent_id, forked_from_id, created_at_ms, updated_at_ms, name, \
         preview, search_text, archived, originator, client_version, source, thread_source, provider, cwd, owner, \
         epoch, last_sequence, first_unread, read_revision) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22)",
    )
    .bind(thread.tenant.as_str())
    .bind(thread.id.as_uuid())
    .bind(thread.session_id.as_uuid())
    .bind(thread.parent_id.map(ThreadId::as_uuid))
    .bind(thread.forked_from_id.map(ThreadId::as_uuid))
    .bind(thread.created_at_ms)
    .bind(grown.at_ms)
    .bind(thread.name.as_deref())
    .bind(thread.preview.as_str())
    .bind(search::text(thread.name.as_deref(), &thread.preview))
    .bind(thread.archived)
    .bind(thread.origin.originator.as_str())
    .bind(thread.origin.client_version.as_str())
    .bind(thread.origin.source.as_str())
    .bind(thread.origin.thread_source.as_deref())
    .bind(thread.origin.provider.as_str())
    .bind(thread.settings.cwd.as_str())
    .bind(owner.as_uuid())
    .bind(signed(lease.epoch))
    .bind(signed(grown.last_sequence))
    .bind(thread.read_state.first_unread.map(Unread::as_uuid))
    .bind(signed(thread.read_state.revision))
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "INSERT INTO thread_settings (tenant, thread_id, settings, metadata) VALUES ($1, $2, $3, $4)",
    )
    .bind(lease.tenant.as_str())
    .bind(lease.thread_id.as_uuid())
    .bind(settings.as_str())
    .bind(metadata.as_str())
    .execute(connection)
    .await?;
    Ok(lease)
}

pub(super) async fn acquire(
    connection: &mut SqliteConnection,
    tenant: &TenantId,
    id: ThreadId,
    owner: &OwnerId,
) -> Result<(Lease, Thread), Failure> {
    let thread = thread(connection, tenant, id).await?;
    let row = sqlx::query(
        "UPDATE threads SET epoch = CASE WHEN owner = $3 THEN epoch ELSE epoch + 1 END, owner = $3 \
         WHERE tenant = $1 AND id = $2 RETURNING epoch",
    )
    .bind(tenant.as_str())
    .bind(id.as_uuid())
    .bind(owner.as_uuid())
    .fetch_one(connection)
    .await?;
    Ok((Lease { tenant: tenant.clone(), thread_id: id, epoch: unsigned(row.try_get("epoch")?)? }, thread))
}

pub(super) async fn append(
    connection: &mut SqliteConnection,
    lease: &Lease,
    write: &Write,
    now_ms: i64,
) -> Result<Appended, Failure> {
    let Write { entries, update, ended } = write;
    if let Some(turn_id) = duplicate(connection, lease, entries).await? {
        check_owner(connection, lease).await?;
        return Err(Error::DuplicateMessage { turn_id }.into());
    }
    let changed = match update.is_empty() {
        true => None,
        false => Some(changed(connection, &lease.tenant, lease.thread_id, update).await?),
    };
    // Checks the owner, gives out the sequence numbers and the time in one statement; without a row nothing is changed.
    let head = sqlx::query(
        "UPDATE threads SET last_sequence = last_sequence + $4, \
         updated_at_ms = CASE WHEN $4 > 0 AND $5 > updated_at_ms THEN $5 ELSE updated_at_ms END, \
         first_unread = coalesce(first_unread, $6), read_revision = read_revision + ($6 IS NOT NULL) \
         WHERE tenant = $1 AND id = $2 AND epoch = $3 \
         RETURNING last_sequence, updated_at_ms, first_unread, read_revision",
    )
    .bind(lease.tenant.as_str())
    .bind(lease.thread_id.as_uuid())
    .bind(signed(lease.epoch))
    .bind(i64::try_from(entries.len()).unwrap_or(i64::MAX))
    .bind(now_ms)
    .bind(ended.map(TurnId::as_uuid))
    .fetch_optional(&mut *connection)
    .await?;
    let appended = grow(connection, lease, head, entries, now_ms).await?;
    if let Some(thread) = changed {
        store(connection, &thread, update).await?;
    }
    Ok(appended)
}

pub(super) async fn revert(
    connection: &mut SqliteConnection,
    lease: &Lease,
    keep: u64,
    entries: &[Encoded],
    now_ms: i64,
) -> Result<Appended, Failure> {
    let head = sqlx::query(
        "UPDATE threads SET last_sequence = last_sequence + $4, \
         updated_at_ms = CASE WHEN $5 > updated_at_ms THEN $5 ELSE updated_at_ms END, \
         first_unread = NULL, read_revision = read_revision + 1 \
         WHERE tenant = $1 AND id = $2 AND epoch = $3 \
         RETURNING last_sequence, updated_at_ms, first_unread, read_revision",
    )
    .bind(lease.tenant.as_str())
    .bind(lease.thread_id.as_uuid())
    .bind(signed(lease.epoch))
    .bind(i64::try_from(entries.len()).unwrap_or(i64::MAX))
    .bind(now_ms)
    .fetch_optional(&mut *connection)
    .await?;
    if head.is_some() {
        sqlx::query("DELETE FROM entries WHERE tenant = $1 AND thread_id = $2 AND sequence > $3")
            .bind(lease.tenant.as_str())
            .bind(lease.thread_id.as_uuid())
            .bind(signed(keep))
            .execute(&mut *connection)
            .await?;
    }
    grow(connection, lease, head, entries, now_ms).await
}

/// Inserts entries whose places the thread's row has given out, or says why it has not.
async fn grow(
    connection: &mut SqliteConnection,
    lease: &Lease,
    head: Option<SqliteRow>,
    entries: &[Encoded],
    now_ms: i64,
) -> Result<Appended, Failure> {
    let Some(head) = head else {
        check_owner(connection, lease).await?;
        return Err(Error::StaleOwner(lease.thread_id).into());
    };
    let last_sequence: i64 = head.try_get("last_sequence")?;
    let at_ms = now_ms.max(head.try_get("updated_at_ms")?);
    let count = i64::try_from(entries.len()).unwrap_or(i64::MAX);
    insert(connection, lease, entries, last_sequence - count + 1, at_ms).await?;
    Ok(Appended { last_sequence: unsigned(last_sequence)?, at_ms, read_state: rows::read_state(&head)? })
}

pub(super) async fn update(
    connection: &mut SqliteConnection,
    tenant: &TenantId,
    id: ThreadId,
    update: &EncodedUpdate,
) -> Result<Thread, Failure> {
    let thread = changed(connection, tenant, id, update).await?;
    store(connection, &thread, update).await?;
    Ok(thread)
}

pub(super) async fn mark(
    connection: &mut SqliteConnection,
    tenant: &TenantId,
    id: ThreadId,
    mark: Mark,
    seen: u64,
) -> Result<ReadState, Failure> {
    let row = sqlx::query("SELECT first_unread, read_revision FROM threads WHERE tenant = $1 AND id = $2")
        .bind(tenant.as_str())
        .bind(id.as_uuid())
        .fetch_optional(&mut *connection)
        .await?;
    let now = rows::read_state(&row.ok_or(Error::NotFound(id))?)?;
    if now.revision != seen {
        return Err(Error::ReadStateChanged(now).into());
    }
    let marked = now.marked(mark);
    sqlx::query("UPDATE threads SET first_unread = $3, read_revision = $4 WHERE tenant = $1 AND id = $2")
        .bind(tenant.as_str())
        .bind(id.as_uuid())
        .bind(marked.first_unread.map(Unread::as_uuid))
        .bind(signed(marked.revision))
        .execute(connection)
        .await?;
    Ok(marked)
}

pub(super) async fn delete(
    connection: &mut SqliteConnection,
    tenant: &TenantId,
    id: ThreadId,
) -> Result<(), Failure> {
    let done = sqlx::query("DELETE FROM threads WHERE tenant = $1 AND id = $2")
        .bind(tenant.as_str())
        .bind(id.as_uuid())
        .execute(connection)
        .await?;
    if done.rows_affected() == 0 { Err(Error::NotFound(id).into()) } else { Ok(()) }
}

/// The thread as it is after the update, not yet stored.
async fn changed(
    connection: &mut SqliteConnection,
    tenant: &TenantId,
    id: ThreadId,
    update: &EncodedUpdate,
) -> Result<Thread, Failure> {
    let mut thread = thread(connection, tenant, id).await?;
    update.apply(&mut thread);
    Ok(thread)
}

/// Stores what an update can change in a thread.
async fn store(
    connection: &mut SqliteConnection,
    thread: &Thread,
    update: &EncodedUpdate,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE threads SET name = $3, search_text = $4, archived = $5, cwd = $6, preview = $7 \
         WHERE tenant = $1 AND id = $2",
    )
    .bind(thread.tenant.as_str())
    .bind(thread.id.as_uuid())
    .bind(thread.name.as_deref())
    .bind(search::text(thread.name.as_deref(), &thread.preview))
    .bind(thread.archived)
    .bind(thread.settings.cwd.as_str())
    .bind(thread.preview.as_str())
    .execute(&mut *connection)
    .await?;
    let (settings, metadata) = (&update.settings, &update.metadata);
    if settings.is_some() || metadata.is_some() {
        sqlx::query(
            "UPDATE thread_settings SET settings = coalesce($3, settings), metadata = coalesce($4, metadata) \
             WHERE tenant = $1 AND thread_id = $2",
        )
        .bind(thread.tenant.as_str())
        .bind(thread.id.as_uuid())
        .bind(settings.as_ref().map(|new| new.json.as_str()))
        .bind(metadata.as_ref().map(|new| new.json.as_str()))
        .execute(connection)
        .await?;
    }
    Ok(())
}

async fn insert(
    connection: &mut SqliteConnection,
    lease: &Lease,
    entries: &[Encoded],
    first_sequence: i64,
    at_ms: i64,
) -> Result<(), sqlx::Error> {
    let mut numbered = (first_sequence..).zip(entries);
    for chunk in entries.chunks(ROWS_MAX) {
        let mut statement = QueryBuilder::<Sqlite>::new(
            "INSERT INTO entries (tenant, thread_id, sequence, turn_id, kind, client_id, at_ms, payload) ",
        );
        statement.push_values(numbered.by_ref().take(chunk.len()), |mut row, (sequence, entry)| {
            row.push_bind(lease.tenant.as_str())
                .push_bind(lease.thread_id.as_uuid())
                .push_bind(sequence)
                .push_bind(entry.turn_id.as_uuid())
                .push_bind(entry.kind)
                .push_bind(entry.client_id.as_deref())
                .push_bind(at_ms)
                .push_bind(entry.payload.as_str());
        });
        statement.build().execute(&mut *connection).await?;
    }
    Ok(())
}

/// The turn of a message that is in the thread already, or twice in what is to be appended.
async fn duplicate(
    connection: &mut SqliteConnection,
    lease: &Lease,
    entries: &[Encoded],
) -> Result<Option<TurnId>, Failure> {
    for client_id in entries.iter().filter_map(|entry| entry.client_id.as_deref()) {
        let row = sqlx::query(
            "SELECT turn_id FROM entries WHERE tenant = $1 AND thread_id = $2 AND client_id = $3",
        )
        .bind(lease.tenant.as_str())
        .bind(lease.thread_id.as_uuid())
        .bind(client_id)
        .fetch_optional(&mut *connection)
        .await?;
        if let Some(row) = row {
            return Ok(Some(rows::turn_id(&row)?));
        }
    }
    Ok(encoded::repeated_message(entries))
}

async fn check_owner(connection: &mut SqliteConnection, lease: &Lease) -> Result<(), Failure> {
    let head = head(connection, &lease.tenant, lease.thread_id).await?;
    let head = head.ok_or(Error::NotFound(lease.thread_id))?;
    let epoch: i64 = column(&head, "epoch")?;
    if epoch == signed(lease.epoch) { Ok(()) } else { Err(Error::StaleOwner(lease.thread_id).into()) }
}

async fn head(
    connection: &mut SqliteConnection,
    tenant: &TenantId,
    id: ThreadId,
) -> Result<Option<SqliteRow>, Failure> {
    let select = sqlx::query("SELECT epoch FROM threads WHERE tenant = $1 AND id = $2");
    Ok(select.bind(tenant.as_str()).bind(id.as_uuid()).fetch_optional(connection).await?)
}

async fn thread(
    connection: &mut SqliteConnection,
    tenant: &TenantId,
    id: ThreadId,
) -> Result<Thread, Failure> {
    let row = sqlx::query(select_thread!("WHERE t.tenant = $1 AND t.id = $2"))
        .bind(tenant.as_str())
        .bind(id.as_uuid())
        .fetch_optional(connection)
        .await?;
    Ok(rows::thread(tenant, &row.ok_or(Error::NotFound(id))?)?)
}
