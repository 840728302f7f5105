//! The SQLite file: how it is opened, what is in it, and which files are refused.
//!
//! Opening happens before the loop runs and may wait for another process. It must never touch a
//! file that is not ours, nor one that a newer version has written.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use crate::error::Error;

/// `SDWN`: marks a file as ours in its header.
const APPLICATION_ID: i32 = 0x5344_574e;

/// What [`SCHEMA`] is; a file with a higher one was written by a newer version.
const SCHEMA_VERSION: i32 = 1;

/// A commit writes whole pages, and rows are scattered over them by their ids: a quarter of the
/// usual size makes the WAL grow a quarter as fast. Only a new file takes it.
const PAGE_BYTES: i64 = 1_024;

/// How long another process may keep the file locked while we open it.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// `sweep_ms` is a time before which the row does not expire. Only claims set it, and only the
/// sweep moves it, so that a save touches no index. `claim_seq` numbers the claims of all
/// processes, `node` tells the openings of this file apart; a row that a save has re-created knows
/// of no claim (`token` is null). `epoch_floor` is the highest epoch among deleted rows: no claim
/// is granted below it, so that a deleted row still fences. `probes` is only there to be written.
const SCHEMA: &str = "
    CREATE TABLE meta (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        claim_seq INTEGER NOT NULL,
        epoch_floor INTEGER NOT NULL,
        nodes INTEGER NOT NULL,
        probes INTEGER NOT NULL
    ) STRICT;
    INSERT INTO meta VALUES (1, 0, 0, 0, 0);
    CREATE TABLE session (
        id TEXT PRIMARY KEY,
        epoch INTEGER NOT NULL,
        count INTEGER NOT NULL,
        expires_ms INTEGER NOT NULL,
        sweep_ms INTEGER NOT NULL,
        token INTEGER,
        claimed_count INTEGER NOT NULL,
        claimed_found INTEGER NOT NULL,
        claim_seq INTEGER NOT NULL,
        node INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX session_by_claim ON session (claim_seq);
    CREATE INDEX session_by_sweep ON session (sweep_ms);
";

/// A file that is open and ours.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) conn: Connection,
    /// Which opening of the file this is: different for every process that has it open.
    pub(super) node: i64,
    /// The number of the last claim before this opening.
    pub(super) claim_seq: i64,
}

/// Opens the file, or makes it. The connection never waits for a lock and never checkpoints.
pub(super) fn open(path: &Path) -> Result<Opened, Error> {
    let refuse = |text: String| Error::Store(format!("sqlite:{}: {text}", path.display()));
    let failed = |error: rusqlite::Error| refuse(error.to_string());
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut conn = Connection::open_with_flags(path, flags).map_err(failed)?;
    conn.busy_timeout(OPEN_TIMEOUT).map_err(failed)?;
    // Before anything is written.
    identify(&conn).map_err(failed)?.map_err(refuse)?;
    conn.pragma_update(None, "page_size", PAGE_BYTES)
        .map_err(failed)?;
    let mode = "journal_mode";
    let mode = conn.pragma_update_and_check(None, mode, "WAL", |row| row.get::<_, String>(0));
    if mode.map_err(failed)? != "wal" {
        return Err(refuse("this file system cannot keep a WAL".to_owned()));
    }
    conn.pragma_update(None, "synchronous", "NORMAL")
        .and_then(|()| conn.pragma_update(None, "wal_autocheckpoint", 0))
        .map_err(failed)?;
    let (node, claim_seq) = register(&mut conn).map_err(failed)?.map_err(refuse)?;
    // Neither a busy writer nor the last close may hold up the loop.
    conn.busy_timeout(Duration::ZERO)
        .and_then(|()| conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true))
        .map_err(failed)?;
    Ok(Opened {
        conn,
        node,
        claim_seq,
    })
}

/// Whether the file is new (`true`) or ours (`false`); otherwise why it is refused.
fn identify(conn: &Connection) -> rusqlite::Result<Result<bool, String>> {
    let pragma = |name| conn.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let (application_id, version) = (pragma("application_id")?, pragma("user_version")?);
    let tables = conn.query_row("SELECT count(*) FROM sqlite_schema", [], |row| {
        row.get::<_, i64>(0)
    })?;
    Ok(match (application_id, version) {
        (0, 0) if tables == 0 => Ok(true),
        (APPLICATION_ID, SCHEMA_VERSION) => Ok(false),
        (APPLICATION_ID, newer) if newer > SCHEMA_VERSION => Err(format!(
            "written by a newer sundown (schema {newer}, this one knows {SCHEMA_VERSION})"
        )),
        (APPLICATION_ID, other) => Err(format!("schema {other} is unknown")),
        _ => Err("an SQLite database, but not one of sundown's".to_owned()),
    })
}

/// Makes the tables if there are none, and takes a number for this opening.
fn register(conn: &mut Connection) -> rusqlite::Result<Result<(i64, i64), String>> {
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Again, now that nobody else can be making them.
    match identify(&tx)? {
        Ok(true) => {
            tx.execute_batch(SCHEMA)?;
            tx.pragma_update(None, "application_id", APPLICATION_ID)?;
            tx.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        }
        Ok(false) => {}
        Err(refused) => return Ok(Err(refused)),
    }
    let sql = "UPDATE meta SET nodes = nodes + 1 RETURNING nodes, claim_seq";
    let numbers = tx.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    tx.commit()?;
    Ok(Ok(numbers))
}
