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
mod claims;
mod file;
mod full;
mod loss;
mod mailbox;
mod sessions;
mod sweep;
#[cfg(test)]
mod tests;
mod waiting;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use self::asked::{Asked, PAGES_PER_CLAIM, carry_out_all, share_of_turn};
use self::claims::ClaimWatch;
use self::file::Opened;
use self::sessions::{Granted, Saved};
use self::sweep::Sweep;
pub(crate) use self::waiting::open;
use super::expiry::Expiry;
use super::sqlite_file::{
    self, Checkpointer, Identity, OpenError, Room, is_damage, is_full, is_locked,
};
use super::{SessionStore, answer_batch};
use crate::engine::io::{Disk, Now, Refused, StoreCommand, StoreEvent};
use crate::error::Error;

/// How soon a locked file is tried again: at first, and at last.
const LOCKED_PAUSE_MIN: Duration = Duration::from_millis(2);
const LOCKED_PAUSE_MAX: Duration = Duration::from_millis(20);

/// How long the file may be locked before the store counts as stalled.
const STALLED_AFTER: Duration = Duration::from_secs(1);

/// How soon a store that is down is tried again: at first, and at last.
const DOWN_PAUSE_MIN: Duration = Duration::from_millis(100);
const DOWN_PAUSE_MAX: Duration = Duration::from_secs(2);

/// Distinct statements, all of which stay prepared.
const STATEMENTS_MAX: usize = 32;

/// Keeps sessions in an SQLite file.
#[derive(Debug)]
pub struct SqliteStore {
    /// Closed before the checkpointer ends, whose connection is then the last one: SQLite
    /// checkpoints at the last close and removes the WAL, and that is the thread's work.
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
    /// The disk is full, or was: the file does not grow.
    is_full: bool,
    /// The engine has been told that what it saved is gone, and not that the store is up since.
    is_lost: bool,
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

impl SqliteStore {
    /// Opens the file, or makes it; each session is kept for `ttl` after its last change. Another
    /// thread wakes the loop with `waker`, upon which `handle_ready` is to be called.
    ///
    /// This may block, for up to some seconds if another process has the file locked. A file that
    /// is not ours, or that a newer version has written, is refused untouched.
    pub fn open(path: &Path, ttl: Duration, waker: Arc<mio::Waker>) -> Result<Self, Error> {
        Self::try_open(path, ttl, waker).map_err(|error| Error::Store(error.text))
    }

    fn try_open(path: &Path, ttl: Duration, waker: Arc<mio::Waker>) -> Result<Self, OpenError> {
        let Opened {
            conn,
            node,
            claim_seq,
            push_seq,
        } = file::open(path)?;
        conn.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
        let lost = |error| format!("cannot find the SQLite file again: {error}");
        // SQLite names the WAL after the file that a link leads to.
        let real_path = path.canonicalize().map_err(lost)?;
        let checkpointer = Checkpointer::start(&real_path, Some(file::check), waker);
        let checkpointer = checkpointer.map_err(|error| error.to_string())?;
        Ok(Self {
            conn,
            checkpointer,
            identity: Identity::of(path).map_err(lost)?,
            path: path.to_owned(),
            expiry: Expiry::new(ttl),
            state: State::Working { rest_at: None },
            down_pause: DOWN_PAUSE_MIN,
            asked: VecDeque::new(),
            events: VecDeque::from([StoreEvent::Up]),
            claims: ClaimWatch::new(node, claim_seq, push_seq),
            sweep: Sweep::default(),
            is_full: false,
            is_lost: false,
        })
    }

    /// Carries out what was asked, or as much as a turn may take.
    fn carry_out(&mut self, now: Now) {
        let share = share_of_turn(&self.asked);
        if share.requests == 0 {
            return;
        }
        let times = self.expiry.times();
        let asked = self.asked.iter_mut().take(share.requests);
        let (conn, node, is_full_disk) = (&self.conn, self.claims.node(), self.is_full);
        let result = if share.pages == 0 {
            carry_out_all(conn, asked, node, times, is_full_disk)
        } else if self.is_full && self.checkpointer.is_busy() {
            return self.wait_for_lock(now);
        } else {
            sqlite_file::in_transaction(conn, || {
                carry_out_all(conn, asked, node, times, is_full_disk)
            })
        };
        match result {
            Ok(()) => {
                self.work_again(now);
                self.answer(share.requests);
                self.note_written(share.pages, now);
            }
            Err(error) if is_locked(&error) => self.wait_for_lock(now),
            Err(error) if is_full(&error) => {
                self.begin_full(&error.to_string(), Room::None, now);
                if self.makes_room() {
                    self.wait_for_lock(now);
                } else {
                    self.go_down(&error, now);
                }
            }
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
            let answer = match asked.command {
                StoreCommand::Commit(batch) => {
                    self.checkpointer.note_unsynced();
                    let Saved {
                        fenced,
                        refused,
                        pushed,
                    } = asked.saved;
                    answer_batch(batch, fenced, refused, pushed, &mut self.events)
                }
                StoreCommand::Claim(claim) => {
                    self.sweep.handle_claim();
                    match asked.granted {
                        Ok(Granted { grant, claim_seq }) => {
                            if let Some(seq) = claim_seq {
                                self.claims.handle_own(seq);
                            }
                            let key = claim.key;
                            StoreEvent::Claimed { key, grant }
                        }
                        Err(reason) => StoreEvent::Refused {
                            request: Refused::Claim(claim.key),
                            reason,
                        },
                    }
                }
                StoreCommand::Read(read) => {
                    let key = read.key;
                    match asked.mailbox {
                        Ok(mailbox) => StoreEvent::Mailbox { key, mailbox },
                        Err(reason) => StoreEvent::Refused {
                            request: Refused::Read(key),
                            reason,
                        },
                    }
                }
                StoreCommand::Sync => {
                    self.checkpointer.sync(self.claims.own_seq());
                    continue;
                }
            };
            self.events.push_back(answer);
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
        if is_damage(error) {
            self.lose(self.damaged(&error.to_string()));
        }
        self.fall(&error.to_string(), now);
    }

    fn fall(&mut self, reason: &str, now: Now) {
        self.asked.clear();
        self.checkpointer.forget_syncs();
        let reason = format!("{}: {reason}", self.describe());
        self.events.push_back(StoreEvent::Down { reason });
        self.pause_down(now);
    }

    /// Finds out whether the file can be written again.
    fn probe(&mut self, now: Now) {
        if let Some(change) = self.change() {
            log::debug!("{}: still down: {change}", self.describe());
            return self.pause_down(now);
        }
        match sessions::probe(&self.conn) {
            Ok(()) => {
                self.state = State::Working { rest_at: None };
                self.sweep.hurry(now.instant);
                self.is_lost = false;
                self.events.push_back(StoreEvent::Up);
            }
            Err(error) if is_locked(&error) => {
                let probe_at = now.instant + LOCKED_PAUSE_MAX;
                self.state = State::Down { probe_at };
            }
            Err(error) => {
                log::debug!("{}: still down: {error}", self.describe());
                if is_full(&error) {
                    // The WAL may be what fills it.
                    self.checkpointer.trim();
                }
                self.pause_down(now);
            }
        }
    }

    fn pause_down(&mut self, now: Now) {
        let probe_at = now.instant + self.down_pause;
        self.state = State::Down { probe_at };
        self.down_pause = (self.down_pause * 2).min(DOWN_PAUSE_MAX);
    }

    /// Looks for claims and pushes by other processes.
    fn look_for_claims(&mut self, now: Now) {
        self.claims.put_off(now.instant);
        self.look_for_file(now);
        if self.is_down() {
            return;
        }
        match self.claims.find(&self.conn, now.instant) {
            Ok(news) => self.events.extend(news),
            Err(error) if is_locked(&error) => {}
            Err(error) => self.go_down(&error, now),
        }
    }

    /// Deletes some of what has expired.
    fn sweep(&mut self, now: Now) {
        let times = self.expiry.times();
        let rows_max = self.sweep.rows_max();
        let swept = sqlite_file::in_transaction(&self.conn, || {
            sessions::sweep(&self.conn, times, rows_max)
        });
        match swept {
            Ok(rows) => {
                let pages = rows * PAGES_PER_CLAIM;
                self.note_written(pages, now);
                self.sweep.handle_swept(rows, rows_max, now.instant);
                self.look_for_room(now);
            }
            Err(error) if is_full(&error) => {
                // Whether the store can go on is for the saves to say.
                self.begin_full(&error.to_string(), Room::None, now);
                self.makes_room();
                self.sweep.put_off(now.instant);
            }
            Err(error) if is_locked(&error) => {
                self.sweep.put_off(now.instant);
            }
            Err(error) => self.go_down(&error, now),
        }
    }

    /// What the checkpointer has done meanwhile.
    fn collect(&mut self, now: Now) {
        let Some(syncs) = self.checkpointer.collect(now.instant) else {
            return;
        };
        self.begin_full_if(self.checkpointer.room(), now);
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
            State::Locked { .. } => {
                // On a full disk one checkpoint follows the other, and the sweep would never have
                // its turn.
                if self.is_full && self.sweep.look_at().is_some_and(|at| at <= now.instant) {
                    self.sweep(now);
                }
                self.carry_out(now);
            }
            State::Working { .. } | State::Down { .. } => {}
        }
    }
}

impl SessionStore for SqliteStore {
    fn describe(&self) -> String {
        format!("sqlite:{}", self.path.display())
    }

    fn ask(&mut self, command: StoreCommand) {
        match self.state {
            State::Working { .. } | State::Locked { .. } => self.asked.push_back(Asked {
                command,
                saved: Saved::default(),
                mailbox: Err(String::new()),
                granted: Err(String::new()),
            }),
            // The engine asks again when the store is up.
            State::Down { .. } => {}
        }
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
        if !self.is_down() && self.claims.look_at().is_some_and(due) {
            self.look_for_claims(now);
        }
        if self.is_working() && (self.sweep.is_owed() || self.sweep.look_at().is_some_and(due)) {
            self.sweep(now);
        }
    }

    fn flush(&mut self, now: Now) {
        self.expiry.handle_now(now);
        self.collect(now);
        if self.claims.begin(now.instant) {
            self.begin_full_if(self.checkpointer.room(), now);
        }
        self.sweep.begin(now.instant);
        match self.state {
            State::Working { .. } => self.carry_out(now),
            State::Locked { .. } | State::Down { .. } => {}
        }
    }

    fn disk(&self) -> Option<Disk> {
        Some(self.checkpointer.disk())
    }

    fn handle_end(&mut self, until: Instant) {
        self.checkpointer.handle_end(until);
        if let Some(reason) = self.change() {
            self.lose(reason);
        }
    }

    fn poll_event(&mut self) -> Option<StoreEvent> {
        self.events.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let look_at = self.claims.look_at();
        let first = |times: [Option<Instant>; 3]| times.into_iter().flatten().min();
        match self.state {
            State::Working { rest_at } => first([rest_at, look_at, self.sweep.look_at()]),
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
