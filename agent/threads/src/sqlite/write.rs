//! The steps of each write, inside the writer's transaction.
//!
//! Every step that can refuse comes before the first change, so a refused write leaves nothing behind and needs no
//! savepoint.

use sqlx::{QueryBuilder, Row, Sqlite, SqliteConnection, sqlite::SqliteRow};

use super::{
    failure::Failure,
    rows::{self, column, select_thread, signed, unsigned},
};
use crate::{
    Appended, Error, Lease, OwnerId, TenantId, Thread, ThreadId, TurnId,
    encoded::{self, Encoded, EncodedUpdate, NewThread},
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
    let NewThread { thread, settings, entries } = new;
    let lease = Lease { tenant: thread.tenant.clone(), thread_id: thread.id, epoch: 1 };
    if head(connection, &lease.tenant, lease.thread_id).await?.is_some() {
        return Err(Error::Exists(lease.thread_id).into());
    }
    if let Some(turn_id) = encoded::repeated_message(entries) {
        return Err(Error::DuplicateMessage { turn_id }.into());
    }
    let at_ms = now_ms.max(thread.updated_at_ms);
    let grown_at_ms = if entries.is_empty() { thread.updated_at_ms } else { at_ms };
    let last_sequence = u64::try_from(entries.len()).unwrap_or(u64::MAX);
    sqlx::query(
        "INSERT INTO threads (tenant, id, session_id, parent_id, forked_from_id, created_at_ms, updated_at_ms, name, \
         preview, search_text, archived, originator, client_version, source, thread_source, provider, cwd, owner, \
         epoch, last_sequence) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)",
    )
    .bind(thread.tenant.as_str())
    .bind(thread.id.as_uuid())
    .bind(thread.session_id.as_uuid())
    .bind(thread.parent_id.map(ThreadId::as_uuid))
    .bind(thread.forked_from_id.map(ThreadId::as_uuid))
    .bind(thread.created_at_ms)
    .bind(grown_at_ms)
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
    .bind(signed(last_sequence))
    .execute(&mut *connection)
    .await?;
    sqlx::query("INSERT INTO thread_settings (tenant, thread_id, settings) VALUES ($1, $2, $3)")
        .bind(lease.tenant.as_str())
        .bind(lease.thread_id.as_uuid())
        .bind(settings.as_str())
        .execute(&mut *connection)
        .await?;
    insert(connection, &lease, entries, 1, at_ms).await?;
    Ok((lease, Appended { last_sequence, at_ms }))
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
    entries: &[Encoded],
    update: &EncodedUpdate,
    now_ms: i64,
) -> Result<Appended, Failure> {
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
         updated_at_ms = CASE WHEN $4 > 0 AND $5 > updated_at_ms THEN $5 ELSE updated_at_ms END \
         WHERE tenant = $1 AND id = $2 AND epoch = $3 RETURNING last_sequence, updated_at_ms",
    )
    .bind(lease.tenant.as_str())
    .bind(lease.thread_id.as_uuid())
    .bind(signed(lease.epoch))
    .bind(i64::try_from(entries.len()).unwrap_or(i64::MAX))
    .bind(now_ms)
    .fetch_optional(&mut *connection)
    .await?;
    let Some(head) = head else {
        check_owner(connection, lease).await?;
        return Err(Error::StaleOwner(lease.thread_id).into());
    };
    let last_sequence: i64 = head.try_get("last_sequence")?;
    let at_ms = now_ms.max(head.try_get("updated_at_ms")?);
    let count = i64::try_from(entries.len()).unwrap_or(i64::MAX);
    insert(connection, lease, entries, last_sequence - count + 1, at_ms).await?;
    if let Some(thread) = changed {
        store(connection, &thread, update).await?;
    }
    Ok(Appended { last_sequence: unsigned(last_sequence)?, at_ms })
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
        "UPDATE threads SET name = $3, search_text = $4, archived = $5, cwd = $6 WHERE tenant = $1 AND id = $2",
    )
    .bind(thread.tenant.as_str())
    .bind(thread.id.as_uuid())
    .bind(thread.name.as_deref())
    .bind(search::text(thread.name.as_deref(), &thread.preview))
    .bind(thread.archived)
    .bind(thread.settings.cwd.as_str())
    .execute(&mut *connection)
    .await?;
    if let Some(encoded) = &update.settings {
        sqlx::query("UPDATE thread_settings SET settings = $3 WHERE tenant = $1 AND thread_id = $2")
            .bind(thread.tenant.as_str())
            .bind(thread.id.as_uuid())
            .bind(encoded.json.as_str())
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
