//! A store with a spill: a file for what the store does not take in time at a shutdown, and which
//! the next server that is started with it hands to the store before it is ready.
//!
//! It stands between the loop and a store of any kind, and passes on all that is none of its
//! business. It owns the file, the right to replay it, and the news that the store is up: those it
//! holds back until the replay is over, so that readiness and sessions wait for it. A row is saved
//! under its own epoch, so that the store's fence decides whether it is still wanted. What becomes of
//! its pushes is told to nobody: those who pushed are gone.
//!
//! It must never delete a row that the store has neither taken nor fenced, never wait for a lock
//! while the loop runs, and never let two processes replay one file.

mod file;
mod lease;
mod mail;
mod place;
mod replay;
mod table;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::Waker;

use self::file::SpillFile;
use self::place::Place;
use self::replay::Replay;
use self::table::Table;
use super::expiry::Expiry;
use super::sqlite_file::is_locked;
use super::{OpenedStore, Peer, SessionStore, SharedStore, Spill};
use crate::engine::io::{Commit, Disk, Now, SessionId, StoreCommand, StoreEvent};
use crate::engine::ledger::Mark;
use crate::error::Error;

/// A store, and the file for what it does not take in time.
pub(crate) struct SpillingStore {
    store: OpenedStore,
    place: Place,
    gate: Gate,
    /// The store is stalled, and the engine has not been told.
    stalled: bool,
    /// The file has been replayed, or found empty, since this process began.
    seen_to: bool,
    asked: VecDeque<Vec<Commit>>,
    /// Rows that this process has written and that are still wanted.
    written: HashMap<SessionId, Commit>,
    /// Rows that the store has taken or refused.
    settled: Vec<Commit>,
    /// Where rows without a state and mail go.
    counts: Table,
    /// Another process was writing: not before this.
    retry_at: Option<Instant>,
    /// The log has been told that the file does not take everything.
    told_refused: bool,
    events: VecDeque<StoreEvent>,
    /// The turn's time, as last heard.
    now: Instant,
    expiry: Expiry,
}

/// What the engine is told of the store.
enum Gate {
    /// The store is not up, and the engine knows.
    Shut,
    /// The store is up, the file has not been looked at.
    Looking { at: Instant, told: bool },
    /// Rows are on their way to the store.
    Replaying(Replay),
    /// The engine knows that the store is up.
    Open,
}

/// Rows in one transaction, and in one batch of a replay. When the disk is full, what fits is kept
/// in such portions.
const ROWS_MAX: usize = 512;

/// How soon a file that another process is writing is tried again.
const LOCKED_PAUSE: Duration = Duration::from_millis(5);

/// How soon to look again whether the other process has done the replay.
const LEASE_PAUSE: Duration = Duration::from_millis(100);

/// How soon a file that cannot be read is tried again.
const BROKEN_PAUSE: Duration = Duration::from_secs(1);

impl SpillingStore {
    /// Opens the spill at `path`, or makes it, for a store that is not up yet and keeps each session
    /// for `ttl`; this may block. Its helper thread, which fsyncs, wakes the loop with `waker`.
    ///
    /// A spill that is not there and cannot be made is a warning: nothing is in it, and the server
    /// can do without. One that is there and cannot be opened is an error, since sessions may be in
    /// it.
    pub(crate) fn open(
        path: &Path,
        store: OpenedStore,
        ttl: Duration,
        waker: Arc<Waker>,
        now: Now,
    ) -> Result<Self, Error> {
        let mut expiry = Expiry::new(ttl);
        expiry.handle_now(now);
        let place = match SpillFile::open(path, waker) {
            Ok(file) => Place::File(Box::new(file)),
            Err(reason) if file::may_hold_rows(path) => {
                let path = path.display();
                return Err(Error::Store(format!("--spill sqlite:{path}: {reason}")));
            }
            Err(reason) => {
                let reason = format!("sqlite:{}: {reason}", path.display());
                log::warn!(
                    "no spill, so that sessions which the store does not take in time at a \
                     shutdown will be lost: {reason}"
                );
                Place::Nowhere(reason)
            }
        };
        Ok(Self {
            store,
            place,
            gate: Gate::Shut,
            stalled: false,
            seen_to: false,
            asked: VecDeque::new(),
            written: HashMap::new(),
            settled: Vec::new(),
            counts: Table::Counts,
            retry_at: None,
            told_refused: false,
            events: VecDeque::new(),
            now: now.instant,
            expiry,
        })
    }

    /// What the engine is told of an event of the store's.
    fn pass_on(&mut self, event: StoreEvent) -> Option<StoreEvent> {
        match event {
            StoreEvent::Up => {
                self.stalled = false;
                let (at, told) = (self.now, false);
                self.gate = Gate::Looking { at, told };
                None
            }
            StoreEvent::Down { .. } => {
                // The lease goes, too: another process may have a better link.
                self.gate = Gate::Shut;
                Some(event)
            }
            StoreEvent::Stalled | StoreEvent::Resumed if !matches!(self.gate, Gate::Open) => {
                self.stalled = matches!(event, StoreEvent::Stalled);
                None
            }
            StoreEvent::Committed {
                batch,
                fenced,
                pushed,
            } => {
                if let Gate::Replaying(replay) = &mut self.gate {
                    replay.handle_saved(&batch, &fenced);
                    self.settled.extend(batch);
                    return None;
                }
                self.settle(&batch);
                Some(StoreEvent::Committed {
                    batch,
                    fenced,
                    pushed,
                })
            }
            StoreEvent::Refused { reason, .. } if matches!(self.gate, Gate::Replaying(_)) => {
                if let Gate::Replaying(replay) = &mut self.gate {
                    replay.handle_refused(reason);
                }
                None
            }
            StoreEvent::Stalled
            | StoreEvent::Resumed
            | StoreEvent::Refused { .. }
            | StoreEvent::Lost { .. }
            | StoreEvent::Claimed { .. }
            | StoreEvent::Mailbox { .. }
            | StoreEvent::Mail { .. }
            | StoreEvent::Synced
            | StoreEvent::TakenOver { .. }
            | StoreEvent::Spilled { .. } => Some(event),
        }
    }

    /// The store has taken or refused these after all: their rows are not wanted any more.
    fn settle(&mut self, batch: &[Commit]) {
        if self.written.is_empty() {
            return;
        }
        for commit in batch {
            let covered = |row: &Commit| {
                row.epoch == commit.epoch && Mark::of(&row.snapshot) <= Mark::of(&commit.snapshot)
            };
            if self.written.get(&commit.session).is_some_and(covered) {
                self.written.remove(&commit.session);
                self.settled.push(commit.clone());
            }
        }
    }

    fn handle_now(&mut self, now: Now) {
        self.now = now.instant;
        self.expiry.handle_now(now);
    }

    fn open_gate(&mut self) {
        self.seen_to = true;
        self.gate = Gate::Open;
        self.events.push_back(StoreEvent::Up);
        if std::mem::take(&mut self.stalled) {
            self.events.push_back(StoreEvent::Stalled);
        }
    }

    /// Writes and deletes what is due. Waits no longer than `until` for a process that is writing.
    fn write(&mut self, until: Option<Instant>) {
        if self.retry_at.is_some_and(|at| at > self.now) {
            return;
        }
        self.retry_at = None;
        if self.asked.is_empty() && self.settled.is_empty() {
            return;
        }
        self.look_for_file();
        self.place.collect();
        let file = match &mut self.place {
            Place::File(file) => file,
            Place::Remaking(_) => return,
            Place::Nowhere(reason) => {
                let refused = self.asked.drain(..);
                log::error!("no spill: {reason}");
                self.events
                    .extend(refused.map(|batch| StoreEvent::Spilled { batch, kept: false }));
                return;
            }
        };
        let mut kept = 0;
        while let Some(batch) = self.asked.pop_front() {
            file.wait_for_locks(until);
            match file.put(&batch, self.expiry.expires_ms(), self.counts) {
                Ok(()) => {
                    kept += batch.len();
                    let rows = batch.iter().map(|s| (s.session.clone(), s.clone()));
                    self.written.extend(rows);
                    self.events
                        .push_back(StoreEvent::Spilled { batch, kept: true });
                }
                Err(error) if is_locked(&error) => {
                    self.asked.push_front(batch);
                    self.retry_at = Some(self.now + LOCKED_PAUSE);
                    break;
                }
                Err(error) => {
                    if !std::mem::replace(&mut self.told_refused, true) {
                        log::error!(
                            "{}: not all sessions are in the spill: {error}",
                            file.describe()
                        );
                    }
                    self.events
                        .push_back(StoreEvent::Spilled { batch, kept: false });
                }
            }
        }
        if kept > 0 {
            log::warn!("{kept} sessions are in the spill, {}", file.describe());
            file.sync();
        }
        file.wait_for_locks(until);
        match file.remove(&self.settled) {
            Ok(()) => self.settled.clear(),
            Err(error) if is_locked(&error) => self.retry_at = Some(self.now + LOCKED_PAUSE),
            Err(error) => {
                // They are replayed once more, which does no harm.
                log::warn!("{}: rows stay that are done: {error}", file.describe());
                self.settled.clear();
            }
        }
    }

    /// Makes the file again if it was removed, moved or replaced, and puts all that this process has
    /// written, and that is still wanted, into the new one.
    fn look_for_file(&mut self) {
        let Some(change) = self.place.changed() else {
            return;
        };
        log::error!("the spill: {change}");
        self.place.remake();
        self.settled.clear();
        let rows: Vec<_> = self.written.drain().map(|(_, commit)| commit).collect();
        for rows in rows.chunks(ROWS_MAX) {
            self.asked.push_back(rows.to_vec());
        }
    }

    /// Looks whether there is something to replay, and goes on with it.
    fn replay(&mut self) {
        match &mut self.gate {
            Gate::Looking { at, .. } if *at <= self.now => self.look(),
            Gate::Replaying(replay) if !replay.is_under_way() => self.hand_over(),
            Gate::Shut | Gate::Looking { .. } | Gate::Replaying(_) | Gate::Open => {}
        }
    }

    fn look(&mut self) {
        let file = match &self.place {
            Place::File(file) => file,
            Place::Remaking(_) | Place::Nowhere(_) => return self.open_gate(),
        };
        match file.is_empty() {
            Ok(true) => return self.open_gate(),
            Ok(false) => {}
            Err(error) => return self.handle_unreadable(&error),
        }
        match file.lease() {
            Ok(Some(lease)) => {
                self.gate = Gate::Replaying(Replay::new(lease));
                self.hand_over();
            }
            // Whoever serves already has nothing of its own in it.
            Ok(None) | Err(_) if self.seen_to => self.open_gate(),
            Ok(None) => self.look_again(LEASE_PAUSE, "another process is replaying it"),
            Err(error) => self.look_again(BROKEN_PAUSE, &format!("no lock: {error}")),
        }
    }

    /// Hands the next rows to the store; when there are none, the replay is over.
    fn hand_over(&mut self) {
        let (Place::File(file), Gate::Replaying(replay)) = (&self.place, &mut self.gate) else {
            return;
        };
        let page = match file.rows_after(replay.reached(), ROWS_MAX, self.expiry.judged_ms()) {
            Ok(page) => page,
            Err(error) => return self.handle_unreadable(&error),
        };
        let Some(last) = page.last else {
            replay.tell(&file.describe());
            return self.open_gate();
        };
        replay.hand_over(page.rows.len(), page.expired.len(), last);
        self.settled.extend(page.expired);
        if !page.rows.is_empty() {
            self.store.ask(StoreCommand::Commit(page.rows));
        }
    }

    /// Before anything else, the sessions in the file must be in the store. Later, what another
    /// process may have left in it can wait.
    fn handle_unreadable(&mut self, error: &rusqlite::Error) {
        if self.seen_to && !is_locked(error) {
            log::error!("the spill cannot be read: {error}");
            self.open_gate();
        } else {
            self.look_again(BROKEN_PAUSE, &error.to_string());
        }
    }

    fn look_again(&mut self, pause: Duration, reason: &str) {
        if !matches!(self.gate, Gate::Looking { told: true, .. }) {
            log::warn!("not ready: the spill waits to be replayed: {reason}");
        }
        let (at, told) = (self.now + pause, true);
        self.gate = Gate::Looking { at, told };
    }
}

impl SharedStore for SpillingStore {
    fn peer(&self) -> Option<Peer> {
        self.store.peer()
    }
}

impl SessionStore for SpillingStore {
    fn describe(&self) -> String {
        self.store.describe()
    }

    fn ask(&mut self, command: StoreCommand) {
        self.counts.note_asked(&command);
        self.store.ask(command);
    }

    fn handle_ready(&mut self, now: Now) {
        self.handle_now(now);
        if let Place::File(file) = &mut self.place {
            file.collect(now.instant);
        }
        self.store.handle_ready(now);
    }

    fn handle_timeout(&mut self, now: Now) {
        self.handle_now(now);
        self.store.handle_timeout(now);
    }

    fn flush(&mut self, now: Now) {
        self.handle_now(now);
        self.write(None);
        self.replay();
        self.store.flush(now);
    }

    fn handle_end(&mut self, until: Instant) {
        self.store.handle_end(until);
    }

    fn disk(&self) -> Option<Disk> {
        match &self.place {
            Place::File(file) => file.disk(),
            Place::Remaking(_) | Place::Nowhere(_) => self.store.disk(),
        }
    }

    fn poll_event(&mut self) -> Option<StoreEvent> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            let event = self.store.poll_event()?;
            self.counts.note_answer(&event);
            if let Some(event) = self.pass_on(event) {
                return Some(event);
            }
        }
    }

    fn spill(&mut self) -> Option<&mut dyn Spill> {
        Some(self)
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let look_at = match &self.gate {
            Gate::Looking { at, .. } => Some(*at),
            // The next rows, or the end, in the next turn.
            Gate::Replaying(replay) => (!replay.is_under_way()).then_some(self.now),
            Gate::Shut | Gate::Open => None,
        };
        let times = [self.store.poll_timeout(), look_at, self.retry_at];
        times.into_iter().flatten().min()
    }
}

impl Spill for SpillingStore {
    fn put(&mut self, mut batch: Vec<Commit>) {
        // In the order of the file: a transaction writes pages, and neighbours share them.
        batch.sort_unstable_by(|a, b| a.session.cmp(&b.session));
        let mut rest = batch.into_iter().peekable();
        while rest.peek().is_some() {
            self.asked.push_back(rest.by_ref().take(ROWS_MAX).collect());
        }
    }

    fn finish(&mut self, until: Instant) -> Option<u64> {
        if !self.written.is_empty() {
            self.look_for_file();
        }
        if !self.asked.is_empty() {
            self.place.wait(until);
            self.retry_at = None;
            self.write(Some(until));
        }
        let Place::File(file) = &mut self.place else {
            return Some(0);
        };
        file.finish(until);
        match file.rows() {
            Ok(rows) => Some(rows.saturating_sub(self.written.len() as u64)),
            Err(error) => {
                log::warn!("{}: rows may wait in it: {error}", file.describe());
                None
            }
        }
    }
}
