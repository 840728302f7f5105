//! The file for what the store does not take in time: what `src/store/spill` promises, on rows that
//! survive processes. One process at a time replays it, and the engine is not told that the store
//! is up before that is over.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use sundown::engine::io::{Commit, Mail, SessionId, SessionKey, Snapshot, StoreEvent};
use sundown::engine::ledger::Mark;

use super::common::Common;

/// One file.
#[derive(Debug, Default)]
pub(crate) struct File {
    pub(crate) rows: BTreeMap<SessionId, Row>,
    /// Rows that the store has refused to a replay: they stay until the next one.
    pub(crate) refused: BTreeSet<SessionId>,
    /// Which life of which node replays it.
    lease: Option<(usize, u32)>,
}

/// What it has of one session.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) epoch: u64,
    pub(crate) snapshot: Snapshot,
    mail: Option<Box<Mail>>,
}

impl Row {
    fn of(commit: &Commit) -> Self {
        Self {
            epoch: commit.epoch,
            snapshot: commit.snapshot.clone(),
            mail: commit.mail.clone(),
        }
    }

    /// Of two rows, the one with the higher place is newer.
    fn place(&self) -> (u64, Mark) {
        (self.epoch, Mark::of(&self.snapshot))
    }
}

/// What the engine is told of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    Shut,
    /// The store is up, the file has not been looked at.
    Looking {
        at: Instant,
    },
    /// Rows are on their way to the store.
    Replaying,
    Open,
}

/// What is to be done once the file has been looked at.
#[derive(Debug)]
pub(crate) enum Found {
    /// Tell the engine.
    Nothing,
    /// Save these first.
    Rows(Vec<Commit>),
    /// Someone else is at it.
    Later,
}

/// A process's way to its file.
#[derive(Debug)]
pub(crate) struct Spill {
    owner: (usize, u32),
    file: usize,
    pub(crate) gate: Gate,
    /// Up to which row the replay has come.
    after: Option<SessionId>,
    asked: VecDeque<Vec<Commit>>,
    retry_at: Option<Instant>,
    written: BTreeMap<SessionId, Row>,
}

/// As in `src/store/spill`.
const LOCKED_PAUSE: Duration = Duration::from_millis(5);
const LEASE_PAUSE: Duration = Duration::from_millis(100);
const NOBODY: SessionKey = SessionKey {
    slot: u32::MAX,
    generation: u32::MAX,
};

impl Spill {
    pub(crate) fn new(common: &Common, node: usize, life: u32) -> Self {
        Self {
            owner: (node, life),
            file: if common.options.spill_is_shared {
                0
            } else {
                node
            },
            gate: Gate::Shut,
            after: None,
            asked: VecDeque::new(),
            retry_at: None,
            written: BTreeMap::new(),
        }
    }

    pub(crate) fn ask(&mut self, batch: Vec<Commit>) {
        self.asked.push_back(batch);
    }

    /// Writes what is asked; a file that someone else is writing is tried again.
    pub(crate) fn write(&mut self, common: &mut Common) -> Vec<StoreEvent> {
        let mut events = Vec::new();
        if self.retry_at.is_some_and(|at| at > common.now.instant) {
            return events;
        }
        self.retry_at = None;
        while let Some(batch) = self.asked.pop_front() {
            if common.dice.chance(common.options.spill_locked) {
                common.seen.note("spill locked");
                self.asked.push_front(batch);
                self.retry_at = Some(common.now.instant + LOCKED_PAUSE);
                break;
            }
            let kept = !common.dice.chance(common.options.spill_refused);
            common
                .seen
                .note(if kept { "spilled" } else { "spill refused" });
            if kept {
                for commit in &batch {
                    let row = Row::of(commit);
                    let rows = &mut common.truth.files[self.file].rows;
                    let held = rows.entry(commit.session.clone());
                    let held = held.or_insert_with(|| row.clone());
                    if row.place() > held.place() {
                        *held = row.clone();
                    }
                    self.written.insert(commit.session.clone(), row);
                }
            }
            events.push(StoreEvent::Spilled { batch, kept });
        }
        events
    }

    /// The store has answered for these: their rows are not wanted any more.
    pub(crate) fn settle(&mut self, common: &mut Common, batch: &[Commit]) {
        let file = &mut common.truth.files[self.file];
        let rows = &mut file.rows;
        let is_replay = self.gate == Gate::Replaying;
        for commit in batch {
            let is_covered =
                |row: &Row| row.epoch == commit.epoch && row.place() <= Row::of(commit).place();
            let mine = is_replay || self.written.get(&commit.session).is_some_and(is_covered);
            if mine && rows.get(&commit.session).is_some_and(is_covered) {
                rows.remove(&commit.session);
                file.refused.remove(&commit.session);
                common.seen.note("spilled row settled");
            }
        }
    }

    /// A row of the replay was refused: it stays, and the replay goes on.
    pub(crate) fn keep(&mut self, common: &mut Common, session: &SessionId) {
        common.seen.note("spilled row refused");
        let file = &mut common.truth.files[self.file];
        file.refused.insert(session.clone());
    }

    /// Looks whether there is something to replay, from the beginning or further on.
    pub(crate) fn look(&mut self, common: &mut Common) -> Found {
        if self.gate != Gate::Replaying {
            self.after = None;
        }
        let file = &mut common.truth.files[self.file];
        let is_left = |row: &&SessionId| self.after.as_ref() < Some(*row);
        if !file.rows.keys().any(|row| is_left(&row)) {
            self.gate = Gate::Open;
            self.release(common);
            return Found::Nothing;
        }
        if file.lease.is_some_and(|holder| holder != self.owner) {
            let at = common.now.instant + LEASE_PAUSE;
            self.gate = Gate::Looking { at };
            common.seen.note("spill leased by another");
            return Found::Later;
        }
        file.lease = Some(self.owner);
        self.gate = Gate::Replaying;
        common.seen.note("spill replayed");
        let rows = file.rows.iter().filter(|(row, _)| is_left(row));
        let row = |(session, row): (&SessionId, &Row)| Commit {
            key: NOBODY,
            session: session.clone(),
            epoch: row.epoch,
            snapshot: row.snapshot.clone(),
            mail: Some(row.mail.clone().unwrap_or_default()),
        };
        let rows: Vec<_> = rows.map(row).collect();
        self.after = rows.last().map(|commit| commit.session.clone());
        Found::Rows(rows)
    }

    pub(crate) fn shut(&mut self, common: &mut Common) {
        self.gate = Gate::Shut;
        self.release(common);
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let look_at = match self.gate {
            Gate::Looking { at } => Some(at),
            Gate::Shut | Gate::Replaying | Gate::Open => None,
        };
        let retry_at = self.retry_at.filter(|_| !self.asked.is_empty());
        look_at.into_iter().chain(retry_at).min()
    }

    fn release(&self, common: &mut Common) {
        common.truth.files[self.file]
            .lease
            .take_if(|holder| *holder == self.owner);
    }
}
