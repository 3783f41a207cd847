//! What an error of the database means to a store's caller.

use rusqlite::ErrorCode;

use crate::{Error, encoded::corrupt};

/// Why a write ended early.
#[derive(Debug)]
pub(super) enum Failure {
    /// It was refused, which is only right before it changed anything; its neighbours are not concerned.
    Refused(Error),
    /// The database failed; so does the transaction.
    Database(rusqlite::Error),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

/// The error for a caller whose read failed.
pub(super) fn read_error(error: rusqlite::Error) -> Error {
    if means_damage(&error) { corrupt("the database file".to_owned(), error) } else { unavailable(error) }
}

/// The error for a failure that may pass.
pub(super) fn unavailable(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Unavailable(source.into())
}

/// Whether what is stored is at fault, so that a repeat cannot help.
pub(super) fn means_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::Error as E;
    matches!(
        error,
        E::FromSqlConversionFailure(..) | E::IntegralValueOutOfRange(..) | E::InvalidColumnType(..)
    ) || matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// Whether another process has the database.
pub(super) fn means_busy(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
}
