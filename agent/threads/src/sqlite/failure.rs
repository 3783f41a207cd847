//! What an error of the database means to a store's caller.

use sqlx::error::DatabaseError;

use crate::{Error, encoded::corrupt};

/// The primary result codes that are told apart, as SQLite documents them.
const SQLITE_BUSY: i32 = 5;
const SQLITE_CORRUPT: i32 = 11;
const SQLITE_NOTADB: i32 = 26;

/// Why a write ended early.
#[derive(Debug)]
pub(super) enum Failure {
    /// It was refused, which is only right before it changed anything; its neighbours are not concerned.
    Refused(Error),
    /// The database failed; so does the transaction.
    Database(sqlx::Error),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

/// The error for a caller whose read failed.
pub(super) fn read_error(error: sqlx::Error) -> Error {
    if means_damage(&error) { corrupt("the database file".to_owned(), error) } else { unavailable(error) }
}

/// The error for a failure that may pass.
pub(super) fn unavailable(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Unavailable(source.into())
}

/// Whether what is stored is at fault, so that a repeat cannot help.
pub(super) fn means_damage(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_))
        || matches!(primary_code(error), Some(SQLITE_CORRUPT | SQLITE_NOTADB))
}

/// Whether another process has the database.
pub(super) fn means_busy(error: &sqlx::Error) -> bool {
    primary_code(error) == Some(SQLITE_BUSY)
}

/// The lower byte of the result code; the rest of the code only refines it.
fn primary_code(error: &sqlx::Error) -> Option<i32> {
    let code: i32 = error.as_database_error().and_then(DatabaseError::code)?.parse().ok()?;
    Some(code & 0xff)
}
