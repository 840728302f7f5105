//! What is asked of the file, as SQL: claims, saves, claims by others, and the sweep of what has
//! expired. It owns nothing; every function works on the connection that it is given.
//!
//! It must never leave a transaction open, and never does work that grows with the file.

use rusqlite::Error::QueryReturnedNoRows;
use rusqlite::{Connection, OptionalExtension, Row, named_params, params};

use super::mailbox;
use crate::engine::io::{Claim, Commit, Grant, Pushed, SessionId, StateTooBig};
use crate::store::expiry::Times;
use crate::store::record::Record;
use crate::store::sqlite_file::{
    PAGE_BYTES, cached, execute, in_transaction, integer, natural, numbers, snapshot, unsigned,
};

/// Free pages that a file has when the disk becomes full, and those that new sessions leave to
/// saves and to the sweep: both may split a page.
const PAGES_SPARE: i64 = 128;
const PAGES_KEPT: i64 = 64;

/// Pages that a push writes besides those of its body, roughly.
const PAGES_PER_PUSH: usize = 4;

/// Why what needs room is refused.
pub(super) const FULL: &str = "database or disk is full";

/// What a claim was granted.
#[derive(Debug)]
pub(super) struct Granted {
    pub(super) grant: Grant,
    /// The number of the claim, over all processes; `None` if it was repeated.
    pub(super) claim_seq: Option<i64>,
}

/// A claim that some process has made, or a push.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) seq: i64,
    pub(super) node: i64,
    /// `None`: no session id. Someone else has written to the file.
    pub(super) session: Option<SessionId>,
    /// The epoch, or the number of the push.
    pub(super) number: u64,
}

/// Those that a process has not seen.
const CLAIMS: &str = "SELECT claim_seq, node, id, epoch FROM session
    WHERE claim_seq > ?1 ORDER BY claim_seq LIMIT ?2";
const PUSHES: &str = "SELECT seq, node, id, number FROM mailbox
    WHERE seq > ?1 ORDER BY seq LIMIT ?2";

/// Grants a session's next epoch, or the same again to the same token. The inner error is why this
/// one cannot be granted.
pub(super) fn claim(
    conn: &Connection,
    claim: &Claim,
    node: i64,
    times: Times,
) -> rusqlite::Result<Result<Granted, String>> {
    let id = claim.session.as_str();
    let known = cached(
        conn,
        "SELECT epoch, expires_ms, token, claimed_found, incarnation, step, count, state,
                    sent
             FROM session WHERE id = ?1",
    )?
    .query_row([id], Known::read)
    .optional()?
    .transpose();
    let mut known = match known {
        Ok(known) => known,
        Err(too_big) => return Ok(Err(too_big.to_string())),
    };
    if let Some(known) = known.as_mut().filter(|known| known.has_mail) {
        match mailbox::read(conn, &claim.session, 0)? {
            Ok(mailbox) => known.record = known.record.clone().with_mailbox(mailbox),
            Err(reason) => return Ok(Err(reason)),
        }
    }
    let is_alive = |known: &Known| known.expires_ms > times.judged_ms;
    let is_alive = known.as_ref().is_some_and(is_alive);
    let known = known.map(|known| known.record);
    let last_claim = known.as_ref().and_then(Record::last_claim);
    if last_claim.is_some_and(|(token, _)| token == claim.token) {
        let sql = "UPDATE session SET expires_ms = ?2 WHERE id = ?1";
        execute(conn, sql, params![id, integer(times.expires_ms)])?;
        let (_, grant) = Record::claim(known.as_ref(), is_alive, claim.token, 0);
        let claim_seq = None;
        return Ok(Ok(Granted { grant, claim_seq }));
    }
    let sql = "UPDATE meta SET claim_seq = claim_seq + 1 RETURNING claim_seq, epoch_floor";
    let [claim_seq, epoch_floor] = numbers(conn, sql, &[])?.ok_or(QueryReturnedNoRows)?;
    let epoch_floor = natural(epoch_floor);
    let (_, grant) = Record::claim(known.as_ref(), is_alive, claim.token, epoch_floor);
    write_claim(conn, claim, &grant, (claim_seq, node), times)?;
    let claim_seq = Some(claim_seq);
    Ok(Ok(Granted { grant, claim_seq }))
}

fn write_claim(
    conn: &Connection,
    claim: &Claim,
    grant: &Grant,
    (claim_seq, node): (i64, i64),
    times: Times,
) -> rusqlite::Result<usize> {
    cached(
        conn,
        "INSERT INTO session (id, epoch, count, expires_ms, sweep_ms, token,
                              claimed_count, claimed_found, claim_seq, node,
                              incarnation, step, state)
         VALUES (:id, :epoch, :count, :expires_ms, :expires_ms, :token,
                 :count, :found, :claim_seq, :node, :incarnation, :step, :state)
         ON CONFLICT (id) DO UPDATE SET
             epoch = excluded.epoch, count = excluded.count, expires_ms = excluded.expires_ms,
             token = excluded.token, claimed_count = excluded.claimed_count,
             claimed_found = excluded.claimed_found, claim_seq = excluded.claim_seq,
             node = excluded.node, incarnation = excluded.incarnation, step = excluded.step,
             state = excluded.state",
    )?
    .execute(named_params! {
        ":id": claim.session.as_str(),
        ":epoch": integer(grant.epoch),
        ":count": integer(grant.snapshot.count),
        ":expires_ms": integer(times.expires_ms),
        ":token": claim.token.cast_signed(),
        ":found": grant.found,
        ":claim_seq": claim_seq,
        ":node": node,
        ":incarnation": integer(grant.snapshot.incarnation),
        ":step": integer(grant.snapshot.step),
        ":state": grant.snapshot.state.as_bytes(),
    })
}

/// What a batch has come to.
#[derive(Debug, Default)]
pub(super) struct Saved {
    /// The positions that a newer claim has fenced.
    pub(super) fenced: Vec<usize>,
    /// The positions that were refused, and why.
    pub(super) refused: Vec<(usize, String)>,
    /// What has become of the pushes of all others.
    pub(super) pushed: Vec<Pushed>,
}

/// Saves a batch. While the file `is_full`, a push needs room in it.
///
/// Within an epoch, what is not of a later step changes only the expiry, and never the count, which
/// is the higher one all the same: rows of version 0.1.0 have no steps.
pub(super) fn save(
    conn: &Connection,
    batch: &[Commit],
    node: i64,
    times: Times,
    is_full: bool,
) -> rusqlite::Result<Saved> {
    // The fence is the `WHERE`: a row that it holds back counts as no change.
    let mut statement = cached(
        conn,
        "INSERT INTO session (id, epoch, count, expires_ms, sweep_ms, token,
                              claimed_count, claimed_found, claim_seq, node,
                              incarnation, step, state)
         VALUES (?1, ?2, ?3, ?4, ?4, NULL, 0, 0, 0, 0, ?5, ?6, ?7)
         ON CONFLICT (id) DO UPDATE SET
             count = CASE WHEN excluded.epoch > epoch THEN excluded.count
                          ELSE max(count, excluded.count) END,
             incarnation = CASE WHEN excluded.epoch > epoch THEN excluded.incarnation
                                ELSE incarnation END,
             state = CASE WHEN (excluded.epoch, excluded.step) > (epoch, step)
                          THEN excluded.state ELSE state END,
             step = CASE WHEN excluded.epoch > epoch THEN excluded.step
                         ELSE max(step, excluded.step) END,
             token = CASE WHEN excluded.epoch > epoch THEN NULL ELSE token END,
             epoch = excluded.epoch,
             expires_ms = excluded.expires_ms
         WHERE excluded.epoch >= session.epoch",
    )?;
    let mut saved = Saved::default();
    for (position, commit) in batch.iter().enumerate() {
        let held = match &commit.mail {
            Some(_) => mailbox::held(conn, &commit.session)?,
            None => None,
        };
        let has_room = !is_full || commit.pushes().is_empty() || has_pages_for(conn, commit)?;
        if !has_room {
            saved.refused.push((position, FULL.to_owned()));
            continue;
        }
        let changed = statement.execute(params![
            commit.session.as_str(),
            integer(commit.epoch),
            integer(commit.snapshot.count),
            integer(times.expires_ms),
            integer(commit.snapshot.incarnation),
            integer(commit.snapshot.step),
            commit.snapshot.state.as_bytes(),
        ])?;
        if changed == 0 {
            saved.fenced.push(position);
        } else {
            mailbox::carry_out(conn, commit, held, node, times, &mut saved.pushed)?;
        }
    }
    Ok(saved)
}

/// Whether the session is there, or one more fits into the file as it is.
pub(super) fn has_room_for(conn: &Connection, session: &SessionId) -> rusqlite::Result<bool> {
    let sql = "SELECT 1 FROM session WHERE id = ?1";
    let is_known = || numbers::<1>(conn, sql, params![session.as_str()]);
    Ok(free_pages(conn)? >= PAGES_KEPT || is_known()?.is_some())
}

/// Pages that a commit writes for its state and its pushes, roughly.
pub(super) fn pages_beside(commit: &Commit) -> usize {
    let pages = |bytes: usize| bytes / PAGE_BYTES as usize;
    let pushes = commit.pushes().iter();
    let pushes = pushes.map(|push| pages(push.body.len()) + PAGES_PER_PUSH);
    pages(commit.snapshot.state.len()) + pushes.sum::<usize>()
}

/// Whether what a commit pushes fits into the file as it is.
fn has_pages_for(conn: &Connection, commit: &Commit) -> rusqlite::Result<bool> {
    Ok(free_pages(conn)? >= PAGES_KEPT + size(pages_beside(commit)))
}

fn free_pages(conn: &Connection) -> rusqlite::Result<i64> {
    numbers(conn, "PRAGMA freelist_count", &[]).map(|found| found.map_or(0, |[pages]| pages))
}

/// Makes free pages in the file.
pub(super) fn make_spare_pages(conn: &Connection) -> rusqlite::Result<()> {
    in_transaction(conn, || {
        conn.execute_batch("CREATE TABLE spare (bytes BLOB)")?;
        let sql = "INSERT INTO spare SELECT zeroblob(page_size * ?1) FROM pragma_page_size";
        conn.execute(sql, [PAGES_SPARE])?;
        conn.execute_batch("DROP TABLE spare")
    })
}

/// A number that changes when another connection has written.
pub(super) fn data_version(conn: &Connection) -> rusqlite::Result<i64> {
    numbers(conn, "PRAGMA data_version", &[]).map(|found| found.map_or(0, |[version]| version))
}

/// The next claims after the one with this number, at most `max`.
pub(super) fn claims_after(
    conn: &Connection,
    claim_seq: i64,
    max: usize,
) -> rusqlite::Result<Vec<Seen>> {
    seen_after(conn, CLAIMS, claim_seq, max)
}

/// The next pushes after the one with this number, at most `max`, but for those that are confirmed
/// already.
pub(super) fn pushes_after(conn: &Connection, seq: i64, max: usize) -> rusqlite::Result<Vec<Seen>> {
    seen_after(conn, PUSHES, seq, max)
}

#[inline(never)]
fn seen_after(conn: &Connection, sql: &str, seq: i64, max: usize) -> rusqlite::Result<Vec<Seen>> {
    let mut statement = cached(conn, sql)?;
    let mut rows = statement.query(params![seq, size(max)])?;
    let mut seen = Vec::new();
    while let Some(row) = rows.next()? {
        seen.push(Seen {
            seq: row.get(0)?,
            node: row.get(1)?,
            session: SessionId::parse(row.get_ref(2)?.as_str()?).ok(),
            number: unsigned(row, 3)?,
        });
    }
    Ok(seen)
}

/// Deletes rows that have expired, after a look at no more than `max`. Gives how many it looked
/// at.
pub(super) fn sweep(conn: &Connection, times: Times, max: usize) -> rusqlite::Result<usize> {
    let now_ms = integer(times.judged_ms);
    let due: Vec<(String, i64, i64)> = cached(
        conn,
        "SELECT id, epoch, expires_ms FROM session
             WHERE sweep_ms <= ?1 ORDER BY sweep_ms LIMIT ?2",
    )?
    .query_map(params![now_ms, size(max)], |row| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?))
    })?
    .collect::<rusqlite::Result<_>>()?;
    let mut put_off = cached(
        conn,
        "UPDATE session SET sweep_ms = expires_ms WHERE id = ?1",
    )?;
    let mut delete = cached(conn, "DELETE FROM session WHERE id = ?1")?;
    let mut epoch_max = 0;
    for (id, epoch, expires_ms) in &due {
        if *expires_ms > now_ms {
            put_off.execute([id])?;
        } else {
            delete.execute([id])?;
            epoch_max = epoch_max.max(*epoch);
        }
    }
    let sql = "UPDATE meta SET epoch_floor = ?1 WHERE epoch_floor < ?1";
    execute(conn, sql, params![epoch_max])?;
    Ok(due.len())
}

/// Finds out whether the file can be written and read.
pub(super) fn probe(conn: &Connection) -> rusqlite::Result<()> {
    in_transaction(conn, || {
        execute(conn, "UPDATE meta SET probes = probes + 1", &[])?;
        numbers::<1>(conn, "SELECT epoch FROM session LIMIT 1", &[]).map(|_| ())
    })
}

/// A session's row.
struct Known {
    record: Record,
    expires_ms: u64,
    has_mail: bool,
}

impl Known {
    fn read(row: &Row<'_>) -> rusqlite::Result<Result<Self, StateTooBig>> {
        let snapshot = match snapshot(row, 4)? {
            Ok(snapshot) => snapshot,
            Err(too_big) => return Ok(Err(too_big)),
        };
        let (token, found) = (row.get::<_, Option<i64>>(2)?, row.get(3)?);
        let claim = token.map(|token| (token.cast_unsigned(), found));
        Ok(Ok(Self {
            record: Record::new(unsigned(row, 0)?, snapshot, claim),
            expires_ms: unsigned(row, 1)?,
            has_mail: unsigned(row, 8)? > 0,
        }))
    }
}

fn size(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
