//! Rows of the tables as values of this crate.

use rusqlite::{
    Row,
    types::{FromSql, Type},
};
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
pub(super) fn thread(tenant: &TenantId, row: &Row<'_>) -> Result<Thread, Error> {
    let id = ThreadId::from_uuid(column(row, "id")?);
    let other = |name| column::<Option<Uuid>>(row, name).map(|id| id.map(ThreadId::from_uuid));
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
        settings: encoded::read_settings(&column::<String>(row, "settings")?, id)?,
        metadata: encoded::read_metadata(&column::<String>(row, "metadata")?, id)?,
        read_state: read_state(row).map_err(read_error)?,
    })
}

fn column<T: FromSql>(row: &Row<'_>, name: &str) -> Result<T, Error> {
    row.get(name).map_err(read_error)
}

/// Reads a row with `first_unread` and `read_revision`.
pub(super) fn read_state(row: &Row<'_>) -> rusqlite::Result<ReadState> {
    let first_unread: Option<Uuid> = row.get("first_unread")?;
    Ok(ReadState {
        first_unread: first_unread.map(Unread::from_uuid),
        revision: unsigned(row, "read_revision")?,
    })
}

/// Reads a row with `sequence`, `at_ms`, `turn_id` and `payload`.
pub(super) fn stored(row: &Row<'_>) -> rusqlite::Result<Stored> {
    Ok(Stored {
        sequence: unsigned(row, "sequence")?,
        at_ms: row.get("at_ms")?,
        turn_id: turn_id(row)?,
        payload: row.get("payload")?,
    })
}

/// Reads a row with `turn_id`.
pub(super) fn turn_id(row: &Row<'_>) -> rusqlite::Result<TurnId> {
    row.get("turn_id").map(TurnId::from_uuid)
}

/// Reads a number that was stored as one without a sign.
pub(super) fn unsigned(row: &Row<'_>, name: &str) -> rusqlite::Result<u64> {
    let number: i64 = row.get(name)?;
    let column = row.as_ref().column_index(name)?;
    u64::try_from(number)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, Type::Integer, Box::new(error)))
}

/// A number as it is stored. No log is long enough to reach the bound.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
