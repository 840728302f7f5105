//! The file of sessions: what is in it, and which opening of it this is.

use std::path::Path;

use rusqlite::Connection;

use super::mailbox;
use crate::store::sqlite_file::{self, Kind, OpenError};

/// The tables as version 0.1.0 makes them; [`add_columns`] adds the rest.
///
/// `sweep_ms` is a time before which the row does not expire. Only claims set it, and only the
/// sweep moves it, so that a save touches no index. `claim_seq` numbers the claims of all
/// processes, `node` tells the openings of this file apart; a row that a save has re-created knows
/// of no claim (`token` is null). `epoch_floor` is the highest epoch among deleted rows: no claim
/// is granted below it, so that a deleted row still fences; in a new file it is the time in µs, so
/// that epochs and incarnations are not those of a file that was there before. `probes` is only there to be written.
const SCHEMA: &str = "
    CREATE TABLE meta (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        claim_seq INTEGER NOT NULL,
        epoch_floor INTEGER NOT NULL,
        nodes INTEGER NOT NULL,
        probes INTEGER NOT NULL
    ) STRICT;
    INSERT INTO meta VALUES (1, 0, CAST(1e6 * unixepoch('now', 'subsec') AS INTEGER), 0, 0);
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

/// An expired row is there until the sweep comes to it, and a claim that finds it begins the session
/// anew. Version 0.1.0 sets its count to 0 then, and does not know of its incarnation and its state:
/// the trigger does that in its place. A claim of ours sets a new incarnation itself.
const TRIGGER: &str = "
    CREATE TRIGGER IF NOT EXISTS session_begun_anew AFTER UPDATE OF claimed_found ON session
    WHEN NOT NEW.claimed_found AND NEW.incarnation = OLD.incarnation
    BEGIN
        UPDATE session SET incarnation = 0, step = 0, state = x'' WHERE id = NEW.id;
    END;
";

/// Adds what version 0.1.0 does not know. It can go on with the file: it names the columns that it
/// writes, and leaves the others and the mailboxes alone.
fn add_columns(conn: &Connection) -> rusqlite::Result<()> {
    sqlite_file::add_snapshot_columns(conn, "session")?;
    conn.execute_batch(TRIGGER)?;
    mailbox::prepare(conn)
}

/// `SDWN`.
const KIND: Kind = Kind {
    application_id: 0x5344_574e,
    schema_version: 1,
    schema: SCHEMA,
};

/// A file that is open and ours.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) conn: Connection,
    /// Which opening of the file this is: different for every process that has it open.
    pub(super) node: i64,
    /// The number of the last claim before this opening.
    pub(super) claim_seq: i64,
    /// The same of the last push.
    pub(super) push_seq: i64,
}

/// Whether the file is whole and has this claim in it; otherwise what is wrong with it.
pub(super) fn check(conn: &Connection, claim_seq: i64) -> rusqlite::Result<Result<(), String>> {
    let tx = conn.unchecked_transaction()?;
    if let Err(damage) = sqlite_file::check(&tx, &KIND)? {
        return Ok(Err(damage));
    }
    let last: i64 = tx.query_row("SELECT max(claim_seq) FROM meta", [], |row| row.get(0))?;
    Ok(if last >= claim_seq {
        Ok(())
    } else {
        Err(format!(
            "its last claim is {last}, and {claim_seq} was made"
        ))
    })
}

/// Opens the file, or makes it, and takes a number for this opening.
pub(super) fn open(path: &Path) -> Result<Opened, OpenError> {
    let register = |conn: &Connection| {
        add_columns(conn)?;
        let sql = "UPDATE meta SET nodes = nodes + 1 RETURNING nodes, claim_seq";
        let (node, claim_seq) = conn.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok((node, claim_seq, mailbox::last_seq(conn)?))
    };
    let opened = sqlite_file::open(path, &KIND, register).or_else(|error| {
        if error.is_full && path.exists() {
            sqlite_file::empty_wal(path)?;
            return sqlite_file::open(path, &KIND, register);
        }
        Err(error)
    });
    let (conn, (node, claim_seq, push_seq)) = opened.map_err(|error| OpenError {
        text: format!("sqlite:{}: {}", path.display(), error.text),
        ..error
    })?;
    Ok(Opened {
        conn,
        node,
        claim_seq,
        push_seq,
    })
}
