//! The database connection: SQLite or PostgreSQL behind one interface; the only user of sqlx.

use std::borrow::Cow;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use sha2::{Digest, Sha256};
use sqlx::any::{Any, AnyArguments, AnyRow, install_default_drivers};
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::postgres::PgConnectOptions;
use sqlx::query::Query;
use sqlx::{AnyConnection, Connection, Executor, Row};

use driftsweep_common::address::{redacted, without_fields};
use driftsweep_common::atomic;
use driftsweep_common::error::{Error, Result};
use driftsweep_common::runtime::BlockingRuntime;

/// The schema migrations, which are never changed once released. Each is the same for both databases.
const MIGRATIONS: &[(&str, &str)] = &[
    ("triggers", include_str!("0001_triggers.sql")),
    ("retrain", include_str!("0002_retrain.sql")),
    ("nights", include_str!("0003_nights.sql")),
    ("trust", include_str!("0004_trust.sql")),
    ("registry", include_str!("0005_registry.sql")),
    ("rollout", include_str!("0006_rollout.sql")),
];

/// The timeout of a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// The timeout of a statement, which is longer than that of the server.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(330);

/// An open database.
pub struct Database {
    runtime: BlockingRuntime,
    connection: AnyConnection,
    /// Its name in messages: no user, no password.
    name: String,
    /// The file, for SQLite.
    file: Option<PathBuf>,
}

/// An exclusive lock with a number; other processes are refused until it is released, or the process ends.
pub struct Lock {
    key: i64,
    /// For SQLite; PostgreSQL holds it for the session.
    file: Option<File>,
}

/// The purpose of opening a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// To read and write it; it is created if it does not exist, and its schema is migrated.
    Create,
    /// To read and write an existing one.
    Existing,
    /// To read an existing one. Nothing is written, and its schema is not migrated.
    Read,
}

/// Why a store has no data, and the remedy.
pub const NO_TICK: &str = "no tick has run, its state was lost, or --store and --state name another place";

/// The message for a store whose schema is not up to date.
pub(super) const OLDER_SCHEMA: &str = "was written by an older version of driftsweep; the next tick migrates it";

impl Database {
    /// Opens a database: a `postgres://` URL, or the path of an SQLite file.
    ///
    /// # Errors
    /// [`Error::Store`], also if there is none and `access` does not create one.
    pub fn open(place: &str, access: Access) -> Result<Self> {
        install_default_drivers();
        if is_foreign(place) {
            let reason = "is neither postgres://USER@HOST/DATABASE nor the path of a file".into();
            return Err(Error::Store { store: "address".into(), reason });
        }
        let name = masked(place);
        let failed = |reason: String| Error::Store { store: name.clone(), reason };
        let runtime = BlockingRuntime::current_thread().map_err(|e| failed(format!("no runtime: {e}")))?;
        let (url, file) = if is_postgres(place) {
            (place.to_owned(), None)
        } else {
            let path = PathBuf::from(place.strip_prefix("sqlite://").unwrap_or(place));
            atomic::no_address(&path).map_err(|e| failed(e.to_string()))?;
            // Opening a pipe would wait for its other end.
            if std::fs::metadata(&path).is_ok_and(|found| !found.is_file()) {
                return Err(failed("is not a regular file; name one".into()));
            }
            if access != Access::Create && !path.exists() {
                return Err(failed(format!("there is no store yet: {NO_TICK}")));
            }
            if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty())
                && access == Access::Create
            {
                atomic::private_folder(folder).map_err(|e| failed(e.to_string()))?;
            }
            if access == Access::Create {
                // SQLite would make it readable for all users; its other files get the same mode.
                atomic::private_options().append(true).create(true).open(&path).map_err(|e| failed(e.to_string()))?;
            }
            (sqlite_url(&path, access), Some(path))
        };
        if access == Access::Read
            && let Some(path) = &file
        {
            runtime.wait(roll_back(path));
        }
        let connecting = async { tokio::time::timeout(CONNECT_TIMEOUT, AnyConnection::connect(&url)).await };
        let connection = match runtime.wait(connecting) {
            Ok(connected) => connected.map_err(|e| failed(reason(&e)))?,
            Err(_) => return Err(failed(format!("the server does not answer within {CONNECT_TIMEOUT:?}"))),
        };
        let mut database = Self { runtime, connection, name, file };
        if database.file.is_some() {
            for setting in ["PRAGMA busy_timeout = 30000", "PRAGMA synchronous = FULL"] {
                database.run(sqlx::query(setting))?;
            }
        } else {
            for setting in ["SET lock_timeout = '60s'", "SET statement_timeout = '300s'"] {
                database.run(sqlx::query(setting))?;
            }
        }
        match (access, database.version()?) {
            (Access::Create, _) => database.migrate()?,
            (_, None) => return Err(database.failed(format!("there is no store yet: {NO_TICK}"))),
            (_, Some(version)) if version == MIGRATIONS.len() as i64 => {}
            (Access::Existing, Some(_)) => database.migrate()?,
            (Access::Read, Some(version)) if version < MIGRATIONS.len() as i64 => {
                return Err(database.failed(OLDER_SCHEMA.into()));
            }
            (Access::Read, Some(version)) => return Err(database.newer(version)),
        }
        Ok(database)
    }

    /// The version of its schema; `None` for a database that is not a store yet.
    fn version(&mut self) -> Result<Option<i64>> {
        const VERSION: &str = "SELECT CAST(MAX(version) AS BIGINT) FROM _sqlx_migrations WHERE success";
        let found = sqlx::query_scalar::<_, Option<i64>>(VERSION).fetch_one(&mut self.connection);
        match self.runtime.wait(found) {
            Ok(version) => Ok(version),
            // SQLite has no codes of its own for that; PostgreSQL has one.
            Err(sqlx::Error::Database(e))
                if e.code().as_deref() == Some("42P01") || e.message().contains("no such table") =>
            {
                Ok(None)
            }
            Err(e) => Err(self.failed(reason(&e))),
        }
    }

    fn migrate(&mut self) -> Result<()> {
        let known = MIGRATIONS.len() as i64;
        match self.version()? {
            Some(version) if version == known => return Ok(()),
            Some(version) if version > known => return Err(self.newer(version)),
            // A new store has no such table.
            _ => {}
        }
        // Two processes may find the same new file; PostgreSQL is locked by the library.
        let lock = self.file_lock("migration")?;
        if let Some(lock) = &lock {
            lock.lock().map_err(|e| self.failed(format!("cannot be locked: {e}")))?;
        }
        let steps = MIGRATIONS.iter().zip(1..).map(|((name, sql), version)| {
            Migration::new(version, Cow::Borrowed(name), MigrationType::Simple, sqlx::SqlStr::from_static(sql), false)
        });
        let migrator = Migrator::with_migrations(steps.collect());
        // `run` takes any source of connections, and its future cannot be sent to another thread.
        let migrated = self.runtime.wait(migrator.run_direct(None, &mut self.connection, false));
        migrated.map_err(|e| match e {
            // Another process with a newer version has migrated it in the meantime.
            MigrateError::VersionMissing(version) if version > known => self.newer(version),
            MigrateError::VersionMissing(version) | MigrateError::VersionMismatch(version) => self.failed(format!(
                "step {version} of its schema is not the one of driftsweep {}; it was changed by hand, or by a build \
                     between two versions",
                env!("CARGO_PKG_VERSION")
            )),
            MigrateError::Execute(e) | MigrateError::ExecuteMigration(e, _) => {
                self.failed(format!("its schema cannot be migrated: {}", reason(&e)))
            }
            other => self.failed(format!("its schema cannot be migrated: {other}")),
        })?;
        drop(lock);
        Ok(())
    }

    /// The error that this program is too old for the store.
    fn newer(&self, version: i64) -> Error {
        self.failed(format!(
            "was written by a newer version of driftsweep: its schema has version {version}, and driftsweep {} knows \
             versions up to {}; install the newer one",
            env!("CARGO_PKG_VERSION"),
            MIGRATIONS.len()
        ))
    }

    /// The time by the store's clock, which is the same for all processes that share a server.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn clock(&mut self) -> Result<Timestamp> {
        let sql = match self.file {
            Some(_) => "SELECT CAST(strftime('%s', 'now') AS BIGINT)",
            None => "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS BIGINT)",
        };
        let seconds = self.rows(sqlx::query(sql), |row| row.try_get::<i64, _>(0))?;
        let seconds = seconds.first().copied().unwrap_or_default();
        Timestamp::from_second(seconds).map_err(|e| self.failed(e.to_string()))
    }

    fn file_lock(&self, of: &str) -> Result<Option<File>> {
        let Some(file) = &self.file else { return Ok(None) };
        // A database has one lock, even if it is opened through a link.
        let mut path = std::fs::canonicalize(file).unwrap_or_else(|_| file.clone()).into_os_string();
        path.push(format!("-{of}.lock"));
        let path = PathBuf::from(path);
        atomic::lock_file(&path, false).map(Some).map_err(|source| Error::Write { path, source })
    }

    /// The lock with this number; `None` if another process holds it.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::Write`].
    pub fn try_lock(&mut self, key: i64) -> Result<Option<Lock>> {
        match self.file_lock(&format!("{key:016x}"))? {
            Some(file) => match file.try_lock() {
                Ok(()) => Ok(Some(Lock { key, file: Some(file) })),
                Err(TryLockError::WouldBlock) => Ok(None),
                Err(TryLockError::Error(e)) => Err(self.failed(format!("cannot be locked: {e}"))),
            },
            None => {
                // Held by the session: the server releases it when the process ends in any way.
                const LOCK: &str = "SELECT CASE WHEN pg_try_advisory_lock($1) THEN 1 ELSE 0 END";
                let locked =
                    self.runtime.wait(sqlx::query_scalar::<_, i32>(LOCK).bind(key).fetch_one(&mut self.connection));
                Ok((locked.map_err(|e| self.failed(reason(&e)))? == 1).then_some(Lock { key, file: None }))
            }
        }
    }

    /// Releases a lock.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn unlock(&mut self, lock: Lock) -> Result<()> {
        match lock.file {
            Some(_) => Ok(()),
            None => {
                const UNLOCK: &str = "SELECT CASE WHEN pg_advisory_unlock($1) THEN 1 ELSE 0 END";
                let held = self.rows(sqlx::query(UNLOCK).bind(lock.key), |row| row.try_get::<i32, _>(0))?;
                match held.first() {
                    Some(1) => Ok(()),
                    // Another process may have run at the same time.
                    _ => Err(self.failed(
                        "the server released the lock early; another process may have run at the same time".into(),
                    )),
                }
            }
        }
    }

    /// Begins a transaction; those with the same number are serialized.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn begin(&mut self, key: i64) -> Result<()> {
        if self.file.is_some() {
            // SQLite must take the write lock at the start: it is not available later if another process has written
            // since.
            return self.run(sqlx::query("BEGIN IMMEDIATE")).map(drop);
        }
        // Each statement sees what was committed before it, and no other process commits while the lock is held.
        self.run(sqlx::query("BEGIN ISOLATION LEVEL READ COMMITTED"))?;
        let locked = self.run(sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(key)).map(drop);
        if locked.is_err() {
            // The first error is the one to report.
            let _ = self.end(false);
        }
        locked
    }

    /// Begins a transaction that only reads, and sees the store as it is at its first statement.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn begin_reading(&mut self) -> Result<()> {
        let sql = if self.file.is_some() { "BEGIN" } else { "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY" };
        self.run(sqlx::query(sql)).map(drop)
    }

    /// Commits it, or rolls it back.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn end(&mut self, commit: bool) -> Result<()> {
        self.run(sqlx::query(if commit { "COMMIT" } else { "ROLLBACK" })).map(drop)
    }

    /// Runs a statement; returns the number of changed rows.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn run(&mut self, statement: Query<'_, Any, AnyArguments>) -> Result<u64> {
        let done = wait(&self.runtime, self.connection.execute(statement));
        done.map(|done| done.rows_affected()).map_err(|reason| self.failed(reason))
    }

    /// The rows of a query, each read by `of`.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn rows<T>(
        &mut self,
        query: Query<'_, Any, AnyArguments>,
        of: impl Fn(&AnyRow) -> std::result::Result<T, sqlx::Error>,
    ) -> Result<Vec<T>> {
        let rows = wait(&self.runtime, self.connection.fetch_all(query)).map_err(|reason| self.failed(reason))?;
        rows.iter().map(of).collect::<std::result::Result<_, _>>().map_err(|e| self.failed(reason(&e)))
    }

    /// What kind of store it is, and a hash of its location, which identifies it. It contains no secrets.
    pub fn identity(&self) -> (&'static str, String) {
        let (kind, place) = match &self.file {
            Some(file) => ("SQLite", std::fs::canonicalize(file).unwrap_or_else(|_| file.clone()).into_os_string()),
            None => ("PostgreSQL", self.name.clone().into()),
        };
        (kind, atomic::hex(&Sha256::digest(place.as_encoded_bytes())))
    }

    /// An error of the store.
    pub fn failed(&self, reason: String) -> Error {
        Error::Store { store: self.name.clone(), reason }
    }
}

/// Waits for a statement. The server itself ends one that takes too long, unless the connection is dead.
fn wait<T: Send>(
    runtime: &BlockingRuntime,
    done: impl Future<Output = sqlx::Result<T>> + Send,
) -> std::result::Result<T, String> {
    match runtime.wait(async { tokio::time::timeout(STATEMENT_TIMEOUT, done).await }) {
        Ok(done) => done.map_err(|e| reason(&e)),
        Err(_) => Err(format!("no answer within {STATEMENT_TIMEOUT:?}")),
    }
}

/// Whether a place is a PostgreSQL database.
pub fn is_postgres(place: &str) -> bool {
    place.starts_with("postgres://") || place.starts_with("postgresql://")
}

/// Whether a location is an address of another kind, which may hold a password and is never shown.
fn is_foreign(place: &str) -> bool {
    let other = place.contains("://") && !is_postgres(place) && !place.starts_with("sqlite://");
    // With too few slashes, or as connection parameters: `host=… password=…`. It would become a file name.
    let begins = place.split('/').next().is_some_and(|first| first.contains(':'));
    let malformed = !is_postgres(place) && ((begins && redacted(place) != place) || without_fields(place) != place);
    other || malformed || place.starts_with(':') || (place.starts_with("sqlite:") && !place.starts_with("sqlite://"))
}

/// Rolls back what a process has left in the journal of an SQLite file that was killed: only who may write can do that. What
/// keeps it from that is told by the connection that follows.
async fn roll_back(path: &Path) {
    let mut journal = path.as_os_str().to_owned();
    journal.push("-journal");
    if std::fs::metadata(&journal).is_ok_and(|found| found.len() > 0)
        && let Ok(mut connection) = AnyConnection::connect(&sqlite_url(path, Access::Existing)).await
    {
        let _ = sqlx::query("SELECT COUNT(*) FROM sqlite_master").execute(&mut connection).await;
        let _ = connection.close().await;
    }
}

fn sqlite_url(path: &Path, access: Access) -> String {
    let path = path.to_string_lossy().replace('%', "%25").replace('?', "%3F").replace('#', "%23");
    let mode = match access {
        Access::Create => "rwc",
        Access::Existing => "rw",
        Access::Read => "ro",
    };
    format!("sqlite://{path}?mode={mode}")
}

/// A location without secrets.
fn masked(place: &str) -> String {
    if !is_postgres(place) {
        return redacted(place);
    }
    // Only the host and the database as the driver reads them: in a malformed address any part may be secret.
    match PgConnectOptions::from_str(place) {
        Ok(options) => {
            let database = options.get_database().map(|name| format!("/{name}")).unwrap_or_default();
            format!("postgres://{}:{}{database}", options.get_host(), options.get_port())
        }
        Err(_) => "postgres://…".into(),
    }
}

/// What went wrong. Messages of the server do not contain the password; those about a malformed URL might.
fn reason(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Configuration(_) => "the address is not understood; write postgres://USER@HOST/DATABASE".into(),
        sqlx::Error::Database(error) => error.message().to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_is_ever_named() {
        for (place, wanted) in [
            ("postgres://me:secret@db.host:5433/fleet?sslmode=require", "postgres://db.host:5433/fleet"),
            ("postgres://me@db.host/fleet?password=secret@b", "postgres://db.host:5432/fleet"),
            ("postgresql://db/fleet", "postgres://db:5432/fleet"),
            ("state/a?b.sqlite", "state/a?b.sqlite"),
        ] {
            assert_eq!(masked(place), wanted);
        }
        for place in ["postgres://me:se?cret@db/f", "postgres://me:se/cret@db/f", "postgres://me:secret@db:port/f"] {
            assert!(!masked(place).contains("cret"), "{}", masked(place));
        }
        for place in ["mysql://me:secret@db/f", "POSTGRES://me:secret@db/f"] {
            let error = Database::open(place, Access::Create).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(!error.is_empty() && !error.contains("secret"), "{error}");
        }
    }
}
