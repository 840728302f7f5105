//! Mailboxes in the file, as SQL. It owns nothing; every function works on the connection that it is
//! given, in its transaction.
//!
//! How full a mailbox is stands in the session's row, so that a push reads no other. It must never
//! give a number twice.

use rusqlite::{Connection, params};

use crate::engine::io::{Body, Commit, Mailbox, Push, PushRefused, Pushed, SessionId};
use crate::store::expiry::Times;
use crate::store::sqlite_file::{add_column, cached, execute, integer, natural, numbers, unsigned};

/// The pushes that are kept, in the order of all pushes; `node` is the opening of the file that has
/// pushed. A number is never used again (`AUTOINCREMENT`), so that others can look for what is new.
///
/// The triggers do what version 0.1.0 does not know: a session that is deleted takes its mailbox
/// along, and so does one that has expired and begins anew.
const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS mailbox (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        node INTEGER NOT NULL,
        id TEXT NOT NULL,
        number INTEGER NOT NULL,
        is_binary INTEGER NOT NULL,
        body BLOB NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX IF NOT EXISTS mailbox_by_number ON mailbox (id, number);
    CREATE TRIGGER IF NOT EXISTS mailbox_deleted AFTER DELETE ON session
    WHEN OLD.sent > 0
    BEGIN
        DELETE FROM mailbox WHERE id = OLD.id;
    END;
    CREATE TRIGGER IF NOT EXISTS mailbox_begun_anew AFTER UPDATE OF claimed_found ON session
    WHEN NOT NEW.claimed_found AND OLD.sent > 0
    BEGIN
        DELETE FROM mailbox WHERE id = NEW.id;
        UPDATE session SET sent = 0, confirmed = 0, mail_bytes = 0 WHERE id = NEW.id;
    END;
";

/// Makes the table, and the columns that say how full each mailbox is, where they are missing.
pub(super) fn prepare(conn: &Connection) -> rusqlite::Result<()> {
    for column in ["sent", "confirmed", "mail_bytes"] {
        add_column(conn, "session", column, "INTEGER NOT NULL DEFAULT 0")?;
    }
    conn.execute_batch(SCHEMA)
}

/// The number of the latest push of all.
pub(super) fn last_seq(conn: &Connection) -> rusqlite::Result<i64> {
    let sql = "SELECT seq FROM sqlite_sequence WHERE name = 'mailbox'";
    Ok(numbers(conn, sql, &[])?.map_or(0, |[seq]| seq))
}

/// What a commit, which is not fenced and has been carried out otherwise, does to mailboxes. Before
/// that, the session was at this epoch and step, if it was there.
pub(super) fn carry_out(
    conn: &Connection,
    commit: &Commit,
    held: Option<(u64, u64)>,
    node: i64,
    times: Times,
    pushed: &mut Vec<Pushed>,
) -> rusqlite::Result<()> {
    let Some(mail) = &commit.mail else {
        return Ok(());
    };
    if mail.confirmed > 0 {
        confirm(conn, &commit.session, mail.confirmed)?;
    }
    for one in &mail.pushes {
        let is_done = held.is_some_and(|(epoch, step)| epoch == commit.epoch && one.step <= step);
        pushed.push(if is_done {
            Pushed::Before
        } else {
            push(conn, one, node, times)?
        });
    }
    Ok(())
}

/// The epoch and the step that are held of a session.
pub(super) fn held(conn: &Connection, session: &SessionId) -> rusqlite::Result<Option<(u64, u64)>> {
    let sql = "SELECT epoch, step FROM session WHERE id = ?1";
    let held = numbers(conn, sql, params![session.as_str()])?;
    Ok(held.map(|[epoch, step]| (natural(epoch), natural(step))))
}

fn confirm(conn: &Connection, session: &SessionId, number: u64) -> rusqlite::Result<()> {
    let id = session.as_str();
    let mut bytes = 0;
    let mut statement = cached(
        conn,
        "DELETE FROM mailbox WHERE id = ?1 AND number <= ?2 RETURNING length(body)",
    )?;
    let mut dropped = statement.query(params![id, integer(number)])?;
    let mut is_changed = false;
    while let Some(row) = dropped.next()? {
        is_changed = true;
        bytes += row.get::<_, i64>(0)?;
    }
    if is_changed {
        let sql = "UPDATE session SET confirmed = min(?2, sent), mail_bytes = mail_bytes - ?3
                   WHERE id = ?1";
        execute(conn, sql, params![id, integer(number), bytes])?;
    }
    Ok(())
}

fn push(conn: &Connection, push: &Push, node: i64, times: Times) -> rusqlite::Result<Pushed> {
    let (id, body) = (push.to.as_str(), push.body.as_bytes());
    let judged_ms = integer(times.judged_ms);
    let sql = "UPDATE session
               SET sent = sent + 1, mail_bytes = mail_bytes + ?2, expires_ms = ?3
               WHERE id = ?1 AND expires_ms > ?4 AND sent - confirmed < ?5
                   AND mail_bytes + ?2 <= ?6
               RETURNING sent";
    let number = numbers(
        conn,
        sql,
        params![
            id,
            integer(body.len() as u64),
            integer(times.expires_ms),
            judged_ms,
            integer(Mailbox::LEN_MAX as u64),
            integer(Mailbox::BYTES_MAX as u64),
        ],
    )?;
    let Some([number]) = number else {
        let sql = "SELECT 1 FROM session WHERE id = ?1 AND expires_ms > ?2";
        let known = numbers::<1>(conn, sql, params![id, judged_ms])?;
        return Ok(Pushed::Refused(match known {
            Some(_) => PushRefused::Full,
            None => PushRefused::Unknown,
        }));
    };
    let sql = "INSERT INTO mailbox (node, id, number, is_binary, body)
               VALUES (?1, ?2, ?3, ?4, ?5)";
    let is_binary = push.body.is_binary();
    execute(conn, sql, params![node, id, number, is_binary, body])?;
    Ok(Pushed::Accepted(natural(number)))
}

/// What the mailbox holds of a session that does not expire at this time or earlier. The inner error:
/// someone else has written it. It is one statement, since a read has no transaction.
pub(super) fn read(
    conn: &Connection,
    session: &SessionId,
    judged_ms: u64,
) -> rusqlite::Result<Result<Mailbox, String>> {
    let mut statement = cached(
        conn,
        "SELECT sent, is_binary, body FROM session LEFT JOIN mailbox USING (id)
         WHERE id = ?1 AND expires_ms > ?2 ORDER BY number",
    )?;
    let mut rows = statement.query(params![session.as_str(), integer(judged_ms)])?;
    let (mut sent, mut kept) = (0, Vec::new());
    while let Some(row) = rows.next()? {
        sent = unsigned(row, 0)?;
        let Some(is_binary) = row.get(1)? else {
            break;
        };
        match Body::of(row.get_ref(2)?.as_blob()?, is_binary) {
            Some(body) if (kept.len() as u64) < sent => kept.push(body),
            Some(_) | None => return Ok(Err("its mailbox makes no sense".to_owned())),
        }
    }
    Ok(Ok(Mailbox::new(sent, kept)))
}
