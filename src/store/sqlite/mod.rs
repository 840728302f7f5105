//! Sessions in an SQLite file, which survive the process and may be shared with another one.
//!
//! It owns the loop's connection, what was asked and not yet carried out, and the answers. All
//! that a turn asks is carried out at its flush, in order and in one transaction; the commit is a
//! write into the kernel, so that it survives `kill -9`, and no fsync. What fsyncs is done by the
//! checkpointer's thread.
//!
//! It must never wait for a lock: a file that another process is writing is tried again a little
//! later, with nothing forgotten. Any other error takes the store down: what was asked is
//! forgotten, and so is what is asked until it is up again.
//!
//! Answers come in the order of the requests, except for [`StoreEvent::Synced`]: it comes when the
//! disk is done, and the answers to later requests do not wait for it.

mod asked;
mod file;
mod full;
mod sessions;
mod sweep;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use self::asked::{Asked, share_of_turn};
use self::file::Opened;
use self::full::{carry_out_all, is_full};
use self::sessions::{Clock, Granted};
use self::sweep::{SWEEP_PERIOD, SWEEP_PERIOD_BUSY, Sweep};
use super::database::{self, Checkpointer, Identity, Reserve, is_locked};
use super::expiry::Expiry;
use super::{Remains, SessionStore};
use crate::engine::io::{Claim, Now, Refused, Save, StoreEvent};
use crate::error::Error;

/// How soon a locked file is tried again: at first, and at last.
const LOCKED_PAUSE_MIN: Duration = Duration::from_millis(2);
const LOCKED_PAUSE_MAX: Duration = Duration::from_millis(20);

/// How long the file may be locked before the store counts as stalled.
const STALLED_AFTER: Duration = Duration::from_secs(1);

/// How soon a store that is down is tried again: at first, and at last.
const DOWN_PAUSE_MIN: Duration = Duration::from_millis(100);
const DOWN_PAUSE_MAX: Duration = Duration::from_secs(2);

/// How often to look for claims by other processes, and how many to take in one turn.
const CLAIMS_PERIOD: Duration = Duration::from_secs(1);
const CLAIMS_PER_TURN_MAX: usize = 256;

/// Distinct statements, all of which stay prepared.
const STATEMENTS_MAX: usize = 32;

/// Keeps sessions in an SQLite file.
#[derive(Debug)]
pub struct SqliteStore {
    /// Closed before the checkpointer ends, whose connection is then the last one: SQLite
    /// checkpoints at the last close, and that is the thread's work.
    conn: Connection,
    checkpointer: Checkpointer,
    /// The files that are open.
    identity: Identity,
    path: PathBuf,
    expiry: Expiry,
    state: State,
    /// The next pause of a store that goes down; only a commit makes it short again, so that a
    /// disk with room for the probe and no more does not keep the store going up and down.
    down_pause: Duration,
    asked: VecDeque<Asked>,
    events: VecDeque<StoreEvent>,
    claims: ClaimWatch,
    sweep: Sweep,
    reserve: Reserve,
    /// The disk is full, or was: the file does not grow.
    is_full: bool,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Asked and answered in the same turn, unless it was more than a turn may take.
    Working { rest_at: Option<Instant> },
    /// Another process has the write lock.
    Locked {
        since: Instant,
        retry_at: Instant,
        pause: Duration,
        /// The engine has been told.
        stalled: bool,
    },
    /// The file cannot be written.
    Down { probe_at: Instant },
}

/// Which claims have been seen.
#[derive(Debug)]
struct ClaimWatch {
    /// This opening of the file, which makes our claims ours.
    node: i64,
    /// The last claim that has been looked at.
    seen_seq: i64,
    /// The last claim of our own.
    own_seq: i64,
    /// The file's version when it was last looked at to the end.
    data_version: Option<i64>,
    /// When to look; `None` before the first turn.
    look_at: Option<Instant>,
}

impl SqliteStore {
    /// Opens the file, or makes it; each session is kept for `ttl` after its last change. Another
    /// thread wakes the loop with `waker`, upon which `handle_ready` is to be called.
    ///
    /// This may block, for up to some seconds if another process has the file locked. A file that
    /// is not ours, or that a newer version has written, is refused untouched.
    pub fn open(path: &Path, ttl: Duration, waker: Arc<mio::Waker>) -> Result<Self, Error> {
        let Opened {
            conn,
            node,
            claim_seq,
        } = file::open(path)?;
        conn.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
        // SQLite names the WAL after the file that a link leads to.
        let real_path = path
            .canonicalize()
            .map_err(Error::io("cannot find the SQLite file again"))?;
        let checkpointer = Checkpointer::start(&real_path, waker)?;
        Ok(Self {
            conn,
            checkpointer,
            identity: Identity::of(path).map_err(Error::io("cannot find the SQLite file again"))?,
            path: path.to_owned(),
            expiry: Expiry::new(ttl),
            state: State::Working { rest_at: None },
            down_pause: DOWN_PAUSE_MIN,
            asked: VecDeque::new(),
            events: VecDeque::from([StoreEvent::Up]),
            claims: ClaimWatch {
                node,
                seen_seq: claim_seq,
                own_seq: claim_seq,
                data_version: None,
                look_at: None,
            },
            sweep: Sweep::default(),
            reserve: Reserve::of(&real_path),
            is_full: false,
        })
    }

    fn clock(&self) -> Clock {
        Clock {
            judged_ms: self.expiry.judged_ms(),
            expires_ms: self.expiry.expires_ms(),
        }
    }

    fn ask(&mut self, asked: Asked) {
        match self.state {
            State::Working { .. } | State::Locked { .. } => self.asked.push_back(asked),
            // The engine asks again when the store is up.
            State::Down { .. } => {}
        }
    }

    /// Carries out what was asked, or as much as a turn may take.
    fn carry_out(&mut self, now: Now) {
        let share = share_of_turn(&self.asked);
        if share.requests == 0 {
            return;
        }
        let clock = self.clock();
        let asked = self.asked.iter_mut().take(share.requests);
        let (conn, node) = (&self.conn, self.claims.node);
        let result = if share.pages == 0 {
            Ok(())
        } else if self.is_full && self.checkpointer.is_busy() {
            return self.wait_for_lock(now);
        } else {
            database::in_transaction(conn, || carry_out_all(conn, asked, node, clock))
        };
        match result {
            Ok(()) => {
                self.work_again(now);
                self.answer(share.requests);
                self.checkpointer.note_written(share.pages, now.instant);
            }
            Err(error) if is_locked(&error) => self.wait_for_lock(now),
            Err(error) if is_full(&error) => self.carry_out_full(&error, &share, now),
            Err(error) => self.go_down(&error, now),
        }
    }

    /// The transaction has been committed.
    fn work_again(&mut self, now: Now) {
        if let State::Locked { stalled: true, .. } = self.state {
            self.events.push_back(StoreEvent::Resumed);
        }
        self.state = State::Working {
            rest_at: Some(now.instant),
        };
        self.down_pause = DOWN_PAUSE_MIN;
    }

    /// Answers the first so many of what was asked.
    fn answer(&mut self, requests: usize) {
        for asked in self.asked.drain(..requests) {
            self.sweep.claims += usize::from(matches!(asked, Asked::Claim { .. }));
            match asked {
                Asked::Save { batch, fenced } => {
                    self.checkpointer.note_unsynced();
                    self.events.push_back(StoreEvent::Saved { batch, fenced });
                }
                Asked::Claim {
                    claim,
                    refused: Some(reason),
                    ..
                } => {
                    let request = Refused::Claim(claim.key);
                    self.events
                        .push_back(StoreEvent::Refused { request, reason });
                }
                Asked::Claim { claim, granted, .. } => {
                    if let Some(claim_seq) = granted.claim_seq {
                        self.claims.own_seq = claim_seq;
                    }
                    self.events.push_back(StoreEvent::Claimed {
                        key: claim.key,
                        epoch: granted.epoch,
                        count: granted.count,
                        found: granted.found,
                    });
                }
                Asked::Sync => self.checkpointer.sync(),
            }
        }
        if self.asked.is_empty() {
            self.state = State::Working { rest_at: None };
        }
    }

    /// Somebody else writes: the same again, a little later.
    fn wait_for_lock(&mut self, now: Now) {
        let (since, pause, mut stalled) = match self.state {
            State::Working { .. } | State::Down { .. } => (now.instant, LOCKED_PAUSE_MIN, false),
            State::Locked {
                since,
                pause,
                stalled,
                ..
            } => (since, (pause * 2).min(LOCKED_PAUSE_MAX), stalled),
        };
        if !stalled && now.instant.saturating_duration_since(since) >= STALLED_AFTER {
            stalled = true;
            self.events.push_back(StoreEvent::Stalled);
        }
        self.state = State::Locked {
            since,
            retry_at: now.instant + pause,
            pause,
            stalled,
        };
    }

    /// The file cannot be written or read: forgets what was asked.
    fn go_down(&mut self, error: &rusqlite::Error, now: Now) {
        self.fall(&error.to_string(), now);
    }

    fn fall(&mut self, reason: &str, now: Now) {
        self.asked.clear();
        self.checkpointer.forget_syncs();
        let reason = format!("{}: {reason}", self.describe());
        self.events.push_back(StoreEvent::Down { reason });
        self.pause_down(now);
    }

    /// Goes down if the file that is open is not the one that its name leads to: whoever opens that
    /// would not find what is saved. Another file is not taken: it knows of other epochs.
    fn look_for_file(&mut self, now: Now) {
        if let Some(change) = self.identity.changed() {
            let reason = change.clone();
            self.events.push_back(StoreEvent::Lost { reason });
            self.fall(&change, now);
        }
    }

    fn pause_down(&mut self, now: Now) {
        let probe_at = now.instant + self.down_pause;
        self.state = State::Down { probe_at };
        self.down_pause = (self.down_pause * 2).min(DOWN_PAUSE_MAX);
    }

    /// Looks for claims by other processes.
    fn look_for_claims(&mut self, now: Now) {
        self.claims.look_at = Some(now.instant + CLAIMS_PERIOD);
        self.look_for_file(now);
        if self.is_down() {
            return;
        }
        match self.find_claims() {
            Ok(true) => {}
            // More than fits into a turn: the rest in the next one.
            Ok(false) => self.claims.look_at = Some(now.instant),
            Err(error) if is_locked(&error) => {}
            Err(error) => self.go_down(&error, now),
        }
    }

    /// Whether all have been found.
    fn find_claims(&mut self) -> rusqlite::Result<bool> {
        let watch = &mut self.claims;
        let data_version = sessions::data_version(&self.conn)?;
        if watch.data_version == Some(data_version) {
            // Nobody else has written, so that the claims since are all our own.
            watch.seen_seq = watch.own_seq.max(watch.seen_seq);
            return Ok(true);
        }
        let found = sessions::claims_after(&self.conn, watch.seen_seq, CLAIMS_PER_TURN_MAX)?;
        let all = found.len() < CLAIMS_PER_TURN_MAX;
        for claim in found {
            watch.seen_seq = claim.claim_seq;
            if claim.node != watch.node
                && let Some(session) = claim.session
            {
                let epoch = claim.epoch;
                self.events
                    .push_back(StoreEvent::TakenOver { session, epoch });
            }
        }
        if all {
            watch.data_version = Some(data_version);
        }
        Ok(all)
    }

    /// Deletes some of what has expired.
    fn sweep(&mut self, now: Now) {
        let clock = self.clock();
        let rows_max = self.sweep.rows_max();
        let swept =
            database::in_transaction(&self.conn, || sessions::sweep(&self.conn, clock, rows_max));
        match swept {
            Ok(rows) => {
                self.checkpointer.note_written(rows, now.instant);
                self.sweep.handle_swept(rows, rows_max, now.instant);
                self.look_for_room();
            }
            Err(error) if is_locked(&error) => {
                self.sweep.look_at = Some(now.instant + SWEEP_PERIOD_BUSY);
            }
            Err(error) => self.go_down(&error, now),
        }
    }

    /// What the checkpointer has done meanwhile.
    fn collect(&mut self, now: Now) {
        let Some(syncs) = self.checkpointer.collect(now.instant) else {
            return;
        };
        if syncs > 0 && !self.is_down() {
            // Before anyone relies on it.
            self.look_for_file(now);
            if self.is_down() {
                return;
            }
        }
        for _ in 0..syncs {
            self.events.push_back(StoreEvent::Synced);
        }
        // It may have been our own checkpoint that had the lock.
        match self.state {
            State::Locked { .. } => self.carry_out(now),
            State::Working { .. } | State::Down { .. } => {}
        }
    }
}

impl SessionStore for SqliteStore {
    fn describe(&self) -> String {
        format!("sqlite:{}", self.path.display())
    }

    fn claim(&mut self, claim: Claim) {
        let granted = Granted::default();
        let refused = None;
        self.ask(Asked::Claim {
            claim,
            granted,
            refused,
        });
    }

    fn save(&mut self, batch: Vec<Save>) {
        let fenced = Vec::new();
        self.ask(Asked::Save { batch, fenced });
    }

    fn sync(&mut self) {
        self.ask(Asked::Sync);
    }

    fn handle_ready(&mut self, now: Now) {
        self.expiry.handle_now(now);
        self.collect(now);
    }

    fn handle_timeout(&mut self, now: Now) {
        self.expiry.handle_now(now);
        self.collect(now);
        let due = |at: Instant| at <= now.instant;
        match self.state {
            State::Locked { retry_at, .. } if due(retry_at) => self.carry_out(now),
            State::Down { probe_at } if due(probe_at) => self.probe(now),
            // What is left of the last turn goes with this turn's, at the flush.
            State::Working { .. } | State::Locked { .. } | State::Down { .. } => {}
        }
        if !self.is_down() && self.claims.look_at.is_some_and(due) {
            self.look_for_claims(now);
        }
        if self.is_working() && (self.sweep.is_owed() || self.sweep.look_at.is_some_and(due)) {
            self.sweep(now);
        }
    }

    fn flush(&mut self, now: Now) {
        self.expiry.handle_now(now);
        self.collect(now);
        self.claims.look_at.get_or_insert(now.instant);
        self.sweep.look_at.get_or_insert(now.instant + SWEEP_PERIOD);
        match self.state {
            State::Working { .. } => self.carry_out(now),
            State::Locked { .. } | State::Down { .. } => {}
        }
    }

    fn remains(&self) -> Remains {
        Remains::without_spill(Some(self.checkpointer.disk()))
    }

    fn finish(&mut self) {
        self.reserve.leave_some();
        if !self.is_down()
            && let Some(reason) = self.identity.changed()
        {
            self.events.push_back(StoreEvent::Lost { reason });
        }
    }

    fn poll_event(&mut self) -> Option<StoreEvent> {
        self.events.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let look_at = self.claims.look_at;
        let first = |times: [Option<Instant>; 3]| times.into_iter().flatten().min();
        match self.state {
            State::Working { rest_at } => first([rest_at, look_at, self.sweep.look_at]),
            State::Locked { retry_at, .. } => first([Some(retry_at), look_at, None]),
            State::Down { probe_at } => Some(probe_at),
        }
    }
}

impl SqliteStore {
    fn is_down(&self) -> bool {
        match self.state {
            State::Working { .. } | State::Locked { .. } => false,
            State::Down { .. } => true,
        }
    }

    fn is_working(&self) -> bool {
        match self.state {
            State::Working { .. } => true,
            State::Locked { .. } | State::Down { .. } => false,
        }
    }
}
