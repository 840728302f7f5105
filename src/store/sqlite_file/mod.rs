//! SQLite files of ours: how one is opened, which are refused, and what is done to all of them.
//!
//! It owns no table: what is in a file is the business of whoever opens it (`store::sqlite`,
//! `store::spill`). Opening happens before the loop runs and may wait for another process; what
//! comes after must not. It must never touch a file that is not of the kind that was asked for,
//! nor one that a newer version has written.

mod checkpointer;
mod location;
mod reserve;

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{
    CachedStatement, Connection, ErrorCode, OpenFlags, Row, ToSql, TransactionBehavior, ffi,
};

pub(super) use self::checkpointer::{Checkpointer, is_damage};
pub(super) use self::location::Identity;
#[cfg(feature = "redis")]
pub(super) use self::location::open_private;
use self::location::{MakingLock, explain};
pub(super) use self::reserve::Room;
use crate::engine::io::{Snapshot, State, StateTooBig};

/// What a file is for, as its header says.
#[derive(Debug)]
pub(super) struct Kind {
    /// Marks a file as ours in its header.
    pub(super) application_id: i32,
    /// What `schema` is; a file with a higher one was written by a newer version.
    pub(super) schema_version: i32,
    /// Makes the tables.
    pub(super) schema: &'static str,
}

/// A commit writes whole pages, and rows are scattered over them by their ids: a quarter of the
/// usual size makes the WAL grow a quarter as fast. Only a new file takes it.
pub(super) const PAGE_BYTES: u32 = 1_024;

/// How long another process may keep the file locked while we open it.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a file cannot be opened.
#[derive(Debug)]
pub(super) struct OpenError {
    /// For people.
    pub(super) text: String,
    /// The disk is full, which may pass.
    pub(super) is_full: bool,
}

impl From<String> for OpenError {
    fn from(text: String) -> Self {
        let is_full = false;
        Self { text, is_full }
    }
}

impl OpenError {
    fn of(path: &Path, error: &rusqlite::Error) -> Self {
        let is_full = is_full(error);
        let text = if is_full {
            "database or disk is full".to_owned()
        } else {
            explain(path, error)
        };
        Self { text, is_full }
    }

    fn of_io(path: &Path, error: &io::Error) -> Self {
        Self {
            text: location::why(path, &error.to_string()),
            is_full: error.kind() == io::ErrorKind::StorageFull,
        }
    }
}

/// Opens a file, or makes it. `first` is done in the transaction that
/// makes the tables. The connection never waits for a lock after that, and never checkpoints.
///
/// A file is made under a lock: of several processes that start with a new one, one makes it, and
/// the others wait.
pub(super) fn open<T>(
    path: &Path,
    kind: &Kind,
    first: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> Result<(Connection, T), OpenError> {
    let is_there = fs::metadata(path).is_ok_and(|metadata| metadata.len() > 0);
    if is_there && let Some(conn) = open_whole(path, kind)? {
        return prepare(conn, path, kind, first);
    }
    let _lock = MakingLock::wait(path)
        .and_then(|lock| location::create_private(path).map(|()| lock))
        .map_err(|error| OpenError::of_io(path, &error))?;
    prepare(connect(path)?, path, kind, first)
}

/// A connection to a file that is whole already; `None` if it is not, or cannot be told.
fn open_whole(path: &Path, kind: &Kind) -> Result<Option<Connection>, OpenError> {
    let conn = connect(path)?;
    let identified = conn
        .unchecked_transaction()
        .and_then(|tx| identify(&tx, kind));
    match identified {
        Ok(Ok(is_new)) => Ok((!is_new).then_some(conn)),
        Ok(Err(refused)) => Err(refused.into()),
        Err(error) if is_locked(&error) => Ok(None),
        Err(error) => Err(OpenError::of(path, &error)),
    }
}

fn connect(path: &Path) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(path, flags)
        .and_then(|conn| conn.busy_timeout(OPEN_TIMEOUT).map(|()| conn))
        .map_err(|error| OpenError::of(path, &error))
}

/// Sets up what a connection needs, and makes the tables if there are none.
fn prepare<T>(
    mut conn: Connection,
    path: &Path,
    kind: &Kind,
    first: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> Result<(Connection, T), OpenError> {
    let failed = |error: rusqlite::Error| OpenError::of(path, &error);
    // Before anything is written.
    let tx = conn.unchecked_transaction().map_err(failed)?;
    identify(&tx, kind).map_err(failed)??;
    drop(tx);
    location::make_private(path);
    conn.pragma_update(None, "page_size", PAGE_BYTES)
        .map_err(failed)?;
    let mode = "journal_mode";
    let mode = conn.pragma_update_and_check(None, mode, "WAL", |row| row.get::<_, String>(0));
    if mode.map_err(failed)? != "wal" {
        return Err("this file system cannot keep a WAL".to_owned().into());
    }
    conn.pragma_update(None, "synchronous", "NORMAL")
        .and_then(|()| conn.pragma_update(None, "wal_autocheckpoint", 0))
        .map_err(failed)?;
    let done = make_tables(&mut conn, kind, first).map_err(failed)??;
    // Neither a busy writer nor the last close may hold up the loop.
    conn.busy_timeout(Duration::ZERO)
        .and_then(|()| conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true))
        .map_err(failed)?;
    Ok((conn, done))
}

/// Empties the WAL of a file, which takes no room if the file need not grow, so that it can be
/// opened on a full disk.
pub(super) fn empty_wal(path: &Path) -> Result<(), OpenError> {
    checkpointer::connect(path)
        .and_then(|conn| checkpointer::checkpoint(&conn, "RESTART"))
        .map(|_| ())
        .map_err(|error| OpenError::of(path, &error))
}

/// Does `work` in one transaction, which takes the write lock first: all of it, or nothing.
pub(super) fn in_transaction<T>(
    conn: &Connection,
    work: impl FnOnce() -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    if !conn.is_autocommit() {
        // The last one failed so badly that even its rollback did.
        run(conn, "ROLLBACK")?;
    }
    run(conn, "BEGIN IMMEDIATE")?;
    let result = work().and_then(|done| run(conn, "COMMIT").map(|()| done));
    if result.is_err()
        && !conn.is_autocommit()
        && let Err(error) = run(conn, "ROLLBACK")
    {
        log::debug!("sqlite: rollback: {error}");
    }
    result
}

/// Whether the same will do later: somebody else has the file, and that passes.
pub(super) fn is_locked(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::FileLockingProtocolFailed
        )
    )
}

/// Whether there is no room on the disk, or none in the file while it must not grow.
pub(super) fn is_full(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error().map(|error| error.extended_code);
    // The second: the file that connections share memory through has no room.
    matches!(code, Some(ffi::SQLITE_FULL | ffi::SQLITE_IOERR_SHMSIZE))
}

/// Adds a column that version 0.1.0 does not know and leaves alone, unless it is there.
pub(super) fn add_column(
    conn: &Connection,
    table: &str,
    column: &str,
    definition: &str,
) -> rusqlite::Result<()> {
    let is_there = conn
        .prepare("SELECT 1 FROM pragma_table_info(?1) WHERE name = ?2")?
        .exists([table, column])?;
    if is_there {
        return Ok(());
    }
    conn.execute_batch(&format!(
        "ALTER TABLE {table} ADD COLUMN {column} {definition}"
    ))
}

/// Adds what a snapshot has besides the count. In a row of version 0.1.0 all of that is 0 and empty.
pub(super) fn add_snapshot_columns(conn: &Connection, table: &str) -> rusqlite::Result<()> {
    add_column(conn, table, "incarnation", "INTEGER NOT NULL DEFAULT 0")?;
    add_column(conn, table, "step", "INTEGER NOT NULL DEFAULT 0")?;
    add_column(conn, table, "state", "BLOB NOT NULL DEFAULT x''")
}

/// Incarnation, step, count and state, from this column on. A state that is too big has not been
/// written by us.
pub(super) fn snapshot(
    row: &Row<'_>,
    column: usize,
) -> rusqlite::Result<Result<Snapshot, StateTooBig>> {
    let (incarnation, step) = (unsigned(row, column)?, unsigned(row, column + 1)?);
    let count = unsigned(row, column + 2)?;
    let state = State::new(row.get_ref(column + 3)?.as_blob()?);
    Ok(state.map(|state| Snapshot {
        incarnation,
        step,
        count,
        state,
    }))
}

/// SQLite's integers are signed: what does not fit (nothing that we count) is the highest.
pub(super) fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// What someone else has made negative is zero.
pub(super) fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get(column).map(natural)
}

/// What someone else has made negative is zero.
pub(super) fn natural(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// Whether the file is new (`true`) or ours (`false`); otherwise why it is refused.
fn identify(conn: &Connection, kind: &Kind) -> rusqlite::Result<Result<bool, String>> {
    let pragma = |name| conn.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let (application_id, version) = (pragma("application_id")?, pragma("user_version")?);
    let tables = conn.query_row("SELECT count(*) FROM sqlite_schema", [], |row| {
        row.get::<_, i64>(0)
    })?;
    let ours = kind.schema_version;
    if (application_id, version, tables) == (0, 0, 0) {
        return Ok(Ok(true));
    }
    if application_id != kind.application_id {
        return Ok(Err(
            "an SQLite database, but not one of sundown's".to_owned()
        ));
    }
    Ok(match version {
        version if version == ours => Ok(false),
        newer if newer > ours => Err(format!(
            "written by a newer sundown (schema {newer}, this one knows {ours})"
        )),
        other => Err(format!("schema {other} is unknown")),
    })
}

/// Whether the file is whole and of this kind; otherwise what is wrong with it. Reads all of it.
pub(super) fn check(conn: &Connection, kind: &Kind) -> rusqlite::Result<Result<(), String>> {
    match identify(conn, kind)? {
        Ok(false) => {}
        Ok(true) => return Ok(Err("empty".to_owned())),
        Err(refused) => return Ok(Err(refused)),
    }
    let found: String = conn.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    Ok(if found == "ok" { Ok(()) } else { Err(found) })
}

/// Makes the tables if there are none, and does `first`.
fn make_tables<T>(
    conn: &mut Connection,
    kind: &Kind,
    first: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<Result<T, String>> {
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Again, now that nobody else can be making them.
    match identify(&tx, kind)? {
        Ok(true) => {
            tx.execute_batch(kind.schema)?;
            tx.pragma_update(None, "application_id", kind.application_id)?;
            tx.pragma_update(None, "user_version", kind.schema_version)?;
        }
        Ok(false) => {}
        Err(refused) => return Ok(Err(refused)),
    }
    let done = first(&tx)?;
    tx.commit()?;
    Ok(Ok(done))
}

/// A statement that stays prepared. In one place, since the binary would have all of it at each.
#[inline(never)]
pub(super) fn cached<'a>(conn: &'a Connection, sql: &str) -> rusqlite::Result<CachedStatement<'a>> {
    conn.prepare_cached(sql)
}

/// Carries a statement out, which gives no rows. Returns how many rows it has changed.
#[inline(never)]
pub(super) fn execute(
    conn: &Connection,
    sql: &str,
    params: &[&dyn ToSql],
) -> rusqlite::Result<usize> {
    cached(conn, sql)?.execute(params)
}

/// The numbers in the first row; `None` if there is no row.
#[inline(never)]
pub(super) fn numbers<const N: usize>(
    conn: &Connection,
    sql: &str,
    params: &[&dyn ToSql],
) -> rusqlite::Result<Option<[i64; N]>> {
    let mut statement = cached(conn, sql)?;
    let mut rows = statement.query(params)?;
    let Some(row) = rows.next()? else {
        return Ok(None);
    };
    let mut numbers = [0; N];
    for (column, number) in numbers.iter_mut().enumerate() {
        *number = row.get(column)?;
    }
    Ok(Some(numbers))
}

fn run(conn: &Connection, sql: &str) -> rusqlite::Result<()> {
    execute(conn, sql, &[]).map(|_| ())
}
