//! Rows of the tables as values of this crate.

use sqlx::{Row, sqlite::SqliteRow};
use uuid::Uuid;

use super::failure::read_error;
use crate::{
    Error, Origin, ReadState, TenantId, Thread, ThreadId, TurnId, Unread,
    encoded::{self, Stored},
};

/// Starts a statement whose rows `thread` reads; the table's name in it is `t`.
macro_rules! select_thread {
    ($rest:literal) => {
        concat!(
            "SELECT t.id, t.session_id, t.parent_id, t.forked_from_id, t.created_at_ms, t.updated_at_ms, t.name, \
             t.preview, t.archived, t.originator, t.client_version, t.source, t.thread_source, t.provider, \
             t.first_unread, t.read_revision, s.settings, s.metadata \
             FROM threads t JOIN thread_settings s ON s.tenant = t.tenant AND s.thread_id = t.id ",
            $rest
        )
    };
}
pub(super) use select_thread;

/// Reads a row of `select_thread`.
pub(super) fn thread(tenant: &TenantId, row: &SqliteRow) -> Result<Thread, Error> {
    let id = ThreadId::from_uuid(column(row, "id")?);
    let other = |name| -> Result<Option<ThreadId>, Error> {
        Ok(column::<Option<Uuid>>(row, name)?.map(ThreadId::from_uuid))
    };
    Ok(Thread {
        tenant: tenant.clone(),
        id,
        session_id: ThreadId::from_uuid(column(row, "session_id")?),
        parent_id: other("parent_id")?,
        forked_from_id: other("forked_from_id")?,
        created_at_ms: column(row, "created_at_ms")?,
        updated_at_ms: column(row, "updated_at_ms")?,
        name: column(row, "name")?,
        preview: column(row, "preview")?,
        archived: column(row, "archived")?,
        origin: Origin {
            originator: column(row, "originator")?,
            client_version: column(row, "client_version")?,
            source: column(row, "source")?,
            thread_source: column(row, "thread_source")?,
            provider: column(row, "provider")?,
        },
        settings: encoded::read_settings(column(row, "settings")?, id)?,
        metadata: encoded::read_metadata(column(row, "metadata")?, id)?,
        read_state: read_state(row)?,
    })
}

/// Reads a row with `first_unread` and `read_revision`.
pub(super) fn read_state(row: &SqliteRow) -> Result<ReadState, Error> {
    let first_unread: Option<Uuid> = column(row, "first_unread")?;
    let revision = unsigned(column(row, "read_revision")?).map_err(read_error)?;
    Ok(ReadState { first_unread: first_unread.map(Unread::from_uuid), revision })
}

/// Reads a row with `sequence`, `at_ms`, `turn_id` and `payload`.
pub(super) fn stored(row: &SqliteRow) -> Result<Stored, Error> {
    Ok(Stored {
        sequence: unsigned(column(row, "sequence")?).map_err(read_error)?,
        at_ms: column(row, "at_ms")?,
        turn_id: turn_id(row)?,
        payload: column(row, "payload")?,
    })
}

/// Reads a row with `turn_id`.
pub(super) fn turn_id(row: &SqliteRow) -> Result<TurnId, Error> {
    Ok(TurnId::from_uuid(column(row, "turn_id")?))
}

/// Reads a column.
pub(super) fn column<'r, T>(row: &'r SqliteRow, name: &str) -> Result<T, Error>
where
    T: sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
{
    row.try_get(name).map_err(read_error)
}

/// A number that was stored as one without a sign.
pub(super) fn unsigned(number: i64) -> Result<u64, sqlx::Error> {
    u64::try_from(number).map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

/// A number as it is stored. No log is long enough to reach the bound.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
