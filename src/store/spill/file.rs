//! The spill's file: one row for each session, with the epoch and the snapshot that the store lacks.
//!
//! It owns the connection and, from the first write on, the helper thread that fsyncs. Several
//! processes may have the file open and write to it; of two rows for one session the newer is kept.
//! It must never wait for a lock once it is open, until the loop is over.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use mio::Waker;
use rusqlite::{Connection, params};

use super::lease::Lease;
use super::mail;
use super::replay::NOBODY;
use super::table::{Reached, Table, mail_of};
use crate::clock;
use crate::engine::io::{Commit, Disk, SessionId};
use crate::store::sqlite_file::{
    self, Checkpointer, Identity, Kind, in_transaction, integer, unsigned,
};

/// The table as version 0.1.0 makes it; [`add_tables`] adds the rest.
const KIND: Kind = Kind {
    application_id: 0x5344_5753, // SDWS
    schema_version: 1,
    schema: "
        CREATE TABLE spilled (
            id TEXT PRIMARY KEY,
            epoch INTEGER NOT NULL,
            count INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID;
    ",
};

/// Adds what version 0.1.0 does not know. It neither reads nor writes these columns and the other
/// table. When its rows expire is unknown, so they do not.
fn add_tables(conn: &Connection) -> rusqlite::Result<()> {
    let expiry = "INTEGER NOT NULL DEFAULT 9223372036854775807";
    sqlite_file::add_column(conn, "spilled", "expires_ms", expiry)?;
    sqlite_file::add_column(conn, "spilled", "mail", "BLOB")?;
    sqlite_file::add_snapshot_columns(conn, "spilled")?;
    conn.execute_batch(
        "CREATE TABLE IF NOT EXISTS spilled_whole (
            id TEXT PRIMARY KEY,
            epoch INTEGER NOT NULL,
            count INTEGER NOT NULL,
            expires_ms INTEGER NOT NULL,
            incarnation INTEGER NOT NULL,
            step INTEGER NOT NULL,
            state BLOB NOT NULL,
            mail BLOB
        ) STRICT, WITHOUT ROWID;",
    )
}

/// A page ends with the row whose state or pushes make it longer than this.
const PAGE_BYTES_MAX: usize = 1024 * 1024;

/// What is in the file.
pub(super) struct SpillFile {
    /// Closed before the checkpointer ends, whose connection is then the last one: SQLite
    /// checkpoints at the last close, and that is the thread's work.
    conn: Connection,
    checkpointer: Option<Checkpointer>,
    /// As it was given.
    path: PathBuf,
    /// Where a link leads to: SQLite names the WAL after that, and the lock must be the same for
    /// all who have the file.
    real_path: PathBuf,
    identity: Identity,
    waker: Arc<Waker>,
}

/// Some rows of one table, in the order of their ids.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) rows: Vec<Commit>,
    /// Those that have rested for longer than the time to live.
    pub(super) expired: Vec<Commit>,
    /// The last one; `None` if there are no more rows.
    pub(super) last: Option<Reached>,
}

impl SpillFile {
    /// Opens the file, or makes it; this may block. The error is for people.
    pub(super) fn open(path: &Path, waker: Arc<Waker>) -> Result<Self, String> {
        let (conn, ()) = sqlite_file::open(path, &KIND, add_tables).map_err(|error| error.text)?;
        let real_path = path.canonicalize().map_err(|error| error.to_string())?;
        let identity = Identity::of(path).map_err(|error| error.to_string())?;
        Ok(Self {
            conn,
            identity,
            checkpointer: None,
            path: path.to_owned(),
            real_path,
            waker,
        })
    }

    /// What has become of the file, if it is not the one that is open any more.
    pub(super) fn changed(&self) -> Option<String> {
        self.identity.changed()
    }

    /// As it was given.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Wakes the loop.
    pub(super) fn waker(&self) -> Arc<Waker> {
        Arc::clone(&self.waker)
    }

    /// What it is, for people.
    pub(super) fn describe(&self) -> String {
        format!("sqlite:{}", self.path.display())
    }

    /// Puts rows in: all of them, or none. They expire at this time, as the store's records do.
    /// Those without a state and mail go into the table `counts`.
    ///
    /// Of two rows for a session the later has the pushes of both: a commit has all that the store has
    /// not confirmed. Those of an earlier epoch are fenced, pushes and all.
    pub(super) fn put(
        &self,
        rows: &[Commit],
        expires_ms: u64,
        counts: Table,
    ) -> rusqlite::Result<()> {
        in_transaction(&self.conn, || {
            for row in rows {
                self.put_one(row, expires_ms, counts.of(row))?;
            }
            Ok(())
        })
    }

    fn put_one(&self, row: &Commit, expires_ms: u64, table: Table) -> rusqlite::Result<()> {
        let snapshot = &row.snapshot;
        let (id, epoch, step) = (
            row.session.as_str(),
            integer(row.epoch),
            integer(snapshot.step),
        );
        let sql = format!(
            "INSERT INTO {name} (id, epoch, count, expires_ms, incarnation, step, state, mail)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
             ON CONFLICT (id) DO UPDATE SET
                 epoch = excluded.epoch, count = excluded.count,
                 expires_ms = excluded.expires_ms, incarnation = excluded.incarnation,
                 step = excluded.step, state = excluded.state, mail = excluded.mail
             WHERE (excluded.epoch, excluded.step) >= ({name}.epoch, {name}.step)",
            name = table.name()
        );
        sqlite_file::cached(&self.conn, &sql)?.execute(params![
            id,
            epoch,
            integer(snapshot.count),
            integer(expires_ms),
            integer(snapshot.incarnation),
            step,
            snapshot.state.as_bytes(),
            mail_of(row).map(mail::encode),
        ])?;
        let other = table.other().name();
        let sql = format!("DELETE FROM {other} WHERE id = ?1 AND (epoch, step) <= (?2, ?3)");
        sqlite_file::execute(&self.conn, &sql, &[&id, &epoch, &step]).map(drop)
    }

    /// From here on, waits so long for other processes that write.
    pub(super) fn wait_for_locks(&self, until: Option<Instant>) {
        let Some(until) = until else { return };
        if let Err(error) = self.conn.busy_timeout(clock::left_until(until)) {
            log::warn!("{}: {error}", self.describe());
        }
    }

    /// Deletes rows, unless someone has put in a newer one since.
    pub(super) fn remove(&self, rows: &[Commit]) -> rusqlite::Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        in_transaction(&self.conn, || {
            for table in Table::ALL {
                let sql = format!(
                    "DELETE FROM {} WHERE id = ?1 AND epoch = ?2 AND (step, count) <= (?3, ?4)",
                    table.name()
                );
                let mut statement = sqlite_file::cached(&self.conn, &sql)?;
                for row in rows {
                    let (step, count) = (integer(row.snapshot.step), integer(row.snapshot.count));
                    let id = row.session.as_str();
                    statement.execute(params![id, integer(row.epoch), step, count])?;
                }
            }
            Ok(())
        })
    }

    /// Whether there is nothing to replay.
    pub(super) fn is_empty(&self) -> rusqlite::Result<bool> {
        let sql = "SELECT 1 FROM spilled UNION ALL SELECT 1 FROM spilled_whole LIMIT 1";
        sqlite_file::numbers::<1>(&self.conn, sql, &[]).map(|row| row.is_none())
    }

    /// The next rows after this one, at most `max`. One whose id is none, whose state is too big or
    /// whose pushes make no sense stays where it is: someone else has written it.
    pub(super) fn rows_after(
        &self,
        reached: &Reached,
        max: usize,
        now_ms: u64,
    ) -> rusqlite::Result<Page> {
        let page = self.page(reached.table, &reached.id, max, now_ms)?;
        if page.last.is_none() && reached.table == Table::Counts {
            return self.page(Table::Whole, "", max, now_ms);
        }
        Ok(page)
    }

    fn page(&self, table: Table, id: &str, max: usize, now_ms: u64) -> rusqlite::Result<Page> {
        let sql = format!(
            "SELECT id, epoch, expires_ms, incarnation, step, count, state, mail FROM {}
             WHERE id > ?1 ORDER BY id LIMIT ?2",
            table.name()
        );
        let mut statement = sqlite_file::cached(&self.conn, &sql)?;
        let max = integer(max as u64);
        let mut found = statement.query(params![id, max])?;
        let (mut rows, mut expired, mut last) = (Vec::new(), Vec::new(), None);
        let mut bytes = 0;
        while bytes < PAGE_BYTES_MAX
            && let Some(row) = found.next()?
        {
            let id: String = row.get(0)?;
            let mail_bytes = row.get_ref(7)?.as_blob_or_null()?;
            let mail = mail_bytes.map(mail::decode);
            if let (Ok(session), Ok(snapshot)) =
                (SessionId::parse(&id), sqlite_file::snapshot(row, 3)?)
                && mail != Some(None)
            {
                bytes += snapshot.state.len() + mail_bytes.map_or(0, <[u8]>::len);
                let rows = if unsigned(row, 2)? > now_ms {
                    &mut rows
                } else {
                    &mut expired
                };
                rows.push(Commit {
                    key: NOBODY,
                    session,
                    epoch: unsigned(row, 1)?,
                    snapshot,
                    mail: mail.flatten().map(Box::new),
                });
            }
            last = Some(Reached { table, id });
        }
        // A batch has mail in all of its commits or in none.
        if rows.iter().any(|row| row.mail.is_some()) {
            for row in &mut rows {
                row.mail.get_or_insert_default();
            }
        }
        Ok(Page {
            rows,
            expired,
            last,
        })
    }

    /// The right to replay it; `None` while another process has it.
    pub(super) fn lease(&self) -> std::io::Result<Option<Lease>> {
        let mut path = self.real_path.as_os_str().to_owned();
        path.push("-lock");
        Lease::take(Path::new(&path))
    }

    /// Begins to put what was written on the disk. It is in the kernel already: no goodbye waits.
    pub(super) fn sync(&mut self) {
        if self.checkpointer.is_none() {
            match Checkpointer::start(&self.real_path, None, Arc::clone(&self.waker)) {
                Ok(checkpointer) => self.checkpointer = Some(checkpointer),
                Err(error) => return log::warn!("the spill is not synced: {error}"),
            }
        }
        if let Some(checkpointer) = &mut self.checkpointer {
            checkpointer.note_unsynced();
            checkpointer.sync(0);
        }
    }

    /// Waits for that, but not for long: the loop is over.
    pub(super) fn finish(&mut self, until: Instant) {
        if let Some(checkpointer) = &mut self.checkpointer {
            checkpointer.finish(until);
            checkpointer.handle_end(until);
        }
    }

    /// Whether what was written is on the disk; `None` if nothing was.
    pub(super) fn disk(&self) -> Option<Disk> {
        self.checkpointer.as_ref().map(Checkpointer::disk)
    }

    /// How many rows there are.
    pub(super) fn rows(&self) -> rusqlite::Result<u64> {
        let sql = "SELECT (SELECT count(*) FROM spilled) + (SELECT count(*) FROM spilled_whole)";
        self.conn.query_row(sql, [], |row| unsigned(row, 0))
    }

    /// Lets the helper thread go on.
    pub(super) fn collect(&mut self, now: Instant) {
        if let Some(checkpointer) = &mut self.checkpointer
            && checkpointer.collect(now).is_some()
        {
            log::debug!("{}: synced", self.describe());
        }
    }

    /// Makes the disk full, for the tests.
    #[cfg(test)]
    pub(super) fn limit_pages(&self, pages: i64) {
        let set = self
            .conn
            .pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()));
        assert!(set.is_ok());
    }
}

/// Whether sessions may be in a file that cannot be opened: not if it is not there, or empty.
pub(super) fn may_hold_rows(path: &Path) -> bool {
    match fs::metadata(path) {
        Ok(metadata) => metadata.len() > 0,
        Err(error) => error.kind() != ErrorKind::NotFound,
    }
}
