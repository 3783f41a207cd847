//! Opening the file: what may be opened, with which settings, and bringing its schema up to date.
//!
//! Nothing that could be somebody's threads is ever replaced by an empty store: what is not understood is refused.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use sqlx::{
    ConnectOptions, Connection, SqlSafeStr, SqliteConnection, SqlitePool,
    migrate::{MigrateError, Migration, MigrationType, Migrator},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::time::{Instant, sleep};

use super::{
    BUSY_WAIT,
    failure::{means_busy, means_damage, unavailable},
};
use crate::{Error, encoded::corrupt};

/// Stands in the header of every thread store; the first migration writes it.
const APPLICATION_ID: i32 = 1_413_955_924;
/// How many reads run at once.
const READERS_MAX: u32 = 4;
/// How long a read waits for a connection.
const READER_WAIT: Duration = Duration::from_secs(10);
/// The pause between two attempts to open a busy file.
const BUSY_PAUSE: Duration = Duration::from_millis(20);
/// What the write-ahead log may keep on the disk after it was moved into the main file.
const LOG_BYTES_KEPT: &str = "67108864";

/// Looks at the file, makes it if it is missing, and says how to connect to it.
pub(super) async fn options(path: &Path) -> Result<SqliteConnectOptions, Error> {
    let owned = path.to_owned();
    tokio::task::spawn_blocking(move || prepare(&owned)).await.map_err(unavailable)??;
    Ok(SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(BUSY_WAIT)
        .foreign_keys(true)
        .synchronous(SqliteSynchronous::Full)
        .pragma("journal_size_limit", LOG_BYTES_KEPT)
        .disable_statement_logging())
}

/// A connection that may write, to a file with the current schema.
pub(super) async fn writer(options: &SqliteConnectOptions) -> Result<SqliteConnection, Error> {
    // Switching a new file to WAL does not wait for another process by itself.
    let options = options.clone().journal_mode(SqliteJournalMode::Wal);
    let deadline = Instant::now() + BUSY_WAIT;
    loop {
        match connect(&options).await {
            Err(Failed::Database(error)) if means_busy(&error) && Instant::now() < deadline => {
                sleep(BUSY_PAUSE).await;
            }
            result => return result.map_err(|failed| failed.at(options.get_filename())),
        }
    }
}

/// Connections that read.
pub(super) fn readers(options: SqliteConnectOptions) -> SqlitePool {
    SqlitePoolOptions::new()
        .max_connections(READERS_MAX)
        .acquire_timeout(READER_WAIT)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .connect_lazy_with(options.pragma("query_only", "ON"))
}

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

async fn connect(options: &SqliteConnectOptions) -> Result<SqliteConnection, Failed> {
    let mut connection = options.connect().await?;
    // One transaction for all migrations: of several processes that start at once one migrates, the others find it done.
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let id: i32 = sqlx::query_scalar("PRAGMA application_id").fetch_one(&mut *transaction).await?;
    let tables: i64 =
        sqlx::query_scalar("SELECT count(*) FROM sqlite_schema").fetch_one(&mut *transaction).await?;
    if id != APPLICATION_ID && (id != 0 || tables > 0) {
        return Err(Failed::Foreign);
    }
    migrator().run_direct(None, &mut *transaction, false).await?;
    transaction.commit().await?;
    Ok(connection)
}

fn migrator() -> Migrator {
    let migration = |version, name: &'static str, sql: &'static str| {
        Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
    };
    Migrator::with_migrations(vec![
        migration(1, "threads", include_str!("../../migrations/sqlite/0001_threads.sql")),
        migration(2, "forks and reads", include_str!("../../migrations/sqlite/0002_forks_and_reads.sql")),
        migration(3, "traces", include_str!("../../migrations/sqlite/0003_traces.sql")),
        migration(4, "threads by place", include_str!("../../migrations/sqlite/0004_threads_by_place.sql")),
    ])
}

/// Why a connection is not to be had.
enum Failed {
    Database(sqlx::Error),
    Schema(MigrateError),
    Foreign,
}

impl From<sqlx::Error> for Failed {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

impl From<MigrateError> for Failed {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => Self::Database(error),
            error => Self::Schema(error),
        }
    }
}

impl Failed {
    fn at(self, path: &Path) -> Error {
        let path = path.display();
        match self {
            Self::Database(error) if means_damage(&error) => corrupt(path.to_string(), error),
            Self::Database(error) => unavailable(error),
            Self::Schema(MigrateError::VersionMissing(version)) => {
                let place = format!("schema version {version} of {path}");
                corrupt(place, "a newer version of this program wrote it")
            }
            Self::Schema(error) => corrupt(format!("the schema of {path}"), error),
            Self::Foreign => corrupt(path.to_string(), "a database, but not a thread store"),
        }
    }
}
