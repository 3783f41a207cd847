//! Opening the file: what may be opened, with which settings, and bringing its schema up to date.
//!
//! Nothing that could be somebody's threads is ever replaced by an empty store: what is not understood is refused. All of
//! it waits for the disk and for other processes, on a thread that may.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use tokio::time::Instant;

use super::failure::{means_busy, means_damage, unavailable};
use crate::{Error, encoded::corrupt};

/// Stands in the header of every thread store; the first migration writes it.
const APPLICATION_ID: i32 = 1_413_955_924;
/// How long a statement waits for another process's transaction.
const BUSY_WAIT: Duration = Duration::from_secs(5);
/// The pause between two attempts to open a busy file.
const BUSY_PAUSE: Duration = Duration::from_millis(20);
/// How many statements a connection keeps prepared: all that there are, and lists of a few shapes.
const STATEMENTS_MAX: usize = 64;
/// The last is what the write-ahead log may keep on the disk after it was moved into the main file.
const SETTINGS: &str =
    "PRAGMA foreign_keys = ON; PRAGMA synchronous = FULL; PRAGMA journal_size_limit = 67108864;";
/// What made each version of the schema out of the one before. The file's header has the number of the last.
const MIGRATIONS: [&str; 5] = [
    include_str!("../../migrations/sqlite/0001_threads.sql"),
    include_str!("../../migrations/sqlite/0002_forks_and_reads.sql"),
    include_str!("../../migrations/sqlite/0003_traces.sql"),
    include_str!("../../migrations/sqlite/0004_threads_by_place.sql"),
    include_str!("../../migrations/sqlite/0005_version_in_header.sql"),
];

/// The first connection, which may write; the file is made if it is missing.
pub(super) fn first(path: &Path) -> Result<Connection, Error> {
    prepare(path)?;
    writer(path)
}

/// A connection that may write, to a file with the current schema. One that has gone missing is not made anew.
pub(super) fn writer(path: &Path) -> Result<Connection, Error> {
    // Switching a new file to WAL does not wait for another process by itself.
    let deadline = Instant::now() + BUSY_WAIT;
    loop {
        match connect_to_write(path) {
            Err(Failed::Database(error)) if means_busy(&error) && Instant::now() < deadline => {
                thread::sleep(BUSY_PAUSE);
            }
            result => return result.map_err(|failed| failed.at(path)),
        }
    }
}

/// A connection that reads.
pub(super) fn reader(path: &Path) -> rusqlite::Result<Connection> {
    let connection = connect(path)?;
    connection.execute_batch("PRAGMA query_only = ON")?;
    Ok(connection)
}

/// Looks at the file, and makes it if it is missing.
fn prepare(path: &Path) -> Result<(), Error> {
    let named =
        |error: io::Error| unavailable(io::Error::new(error.kind(), format!("{}: {error}", path.display())));
    let unfit = |why: &'static str| corrupt(path.display().to_string(), why);
    match fs::metadata(path) {
        Ok(found) if !found.is_file() => return Err(unfit("not a file")),
        Ok(found) if found.len() > 0 => return Ok(()),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(named(error)),
    }
    // SQLite would throw the log away; it may hold all that was written.
    if fs::metadata(log_of(path)).is_ok_and(|log| log.len() > 0) {
        return Err(unfit("the file is lost, its write-ahead log is not"));
    }
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(named)?;
    }
    // SQLite gives its other files the permissions of this one.
    let mut file = OpenOptions::new();
    file.write(true).create(true).truncate(false).mode(0o600).open(path).map(drop).map_err(named)
}

fn log_of(path: &Path) -> PathBuf {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    log.into()
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_WAIT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    connection.execute_batch(SETTINGS)?;
    Ok(connection)
}

fn connect_to_write(path: &Path) -> Result<Connection, Failed> {
    let mut connection = connect(path)?;
    connection.execute_batch("PRAGMA journal_mode = WAL")?;
    migrate(&mut connection)?;
    Ok(connection)
}

/// One transaction for all migrations: of several processes that start at once one migrates, the others find it done.
fn migrate(connection: &mut Connection) -> Result<(), Failed> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let id: i32 = number(&transaction, "PRAGMA application_id")?;
    let tables: u32 = number(&transaction, "SELECT count(*) FROM sqlite_schema")?;
    if id != APPLICATION_ID && (id != 0 || tables > 0) {
        return Err(Failed::Foreign);
    }
    let mut version: u32 = number(&transaction, "PRAGMA user_version")?;
    if version == 0 && tables > 0 {
        // Before the fifth, a table had the versions.
        version = number(&transaction, "SELECT coalesce(max(version), 0) FROM _sqlx_migrations")?;
    }
    let done = usize::try_from(version).unwrap_or(usize::MAX);
    let missing = MIGRATIONS.get(done..).ok_or(Failed::Newer(version))?;
    for migration in missing {
        transaction.execute_batch(migration)?;
    }
    if !missing.is_empty() {
        transaction.pragma_update(
            None,
            "user_version",
            i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX),
        )?;
    }
    Ok(transaction.commit()?)
}

fn number<T: rusqlite::types::FromSql>(connection: &Connection, sql: &str) -> rusqlite::Result<T> {
    connection.query_row(sql, (), |row| row.get(0))
}

/// Why a connection is not to be had.
enum Failed {
    Database(rusqlite::Error),
    /// The schema has a version that is not known here.
    Newer(u32),
    Foreign,
}

impl From<rusqlite::Error> for Failed {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

impl Failed {
    fn at(self, path: &Path) -> Error {
        let path = path.display();
        match self {
            Self::Database(error) if means_damage(&error) => corrupt(path.to_string(), error),
            Self::Database(error) => unavailable(error),
            Self::Newer(version) => {
                let place = format!("schema version {version} of {path}");
                corrupt(place, "a newer version of this program wrote it")
            }
            Self::Foreign => corrupt(path.to_string(), "a database, but not a thread store"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_has_gone_missing_is_not_made_anew() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("threads.db");
        drop(first(&path).unwrap());
        fs::remove_file(&path).unwrap();
        assert!(matches!(writer(&path), Err(Error::Unavailable(_))));
        assert!(reader(&path).is_err());
        assert!(!fs::exists(&path).unwrap());
    }
}
