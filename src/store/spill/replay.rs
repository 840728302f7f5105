//! A replay that is under way: how far it has come, and what the log says of it at its end.
//!
//! It owns the lease, which other processes wait for. It must never name a session.

use super::lease::Lease;
use super::table::Reached;
use crate::engine::io::{Commit, SessionKey};

/// Under which a replay saves: no session of the engine's.
pub(super) const NOBODY: SessionKey = SessionKey {
    slot: u32::MAX,
    generation: u32::MAX,
};

/// What has become of the rows so far.
pub(super) struct Replay {
    _lease: Lease,
    /// The last row that was handed over.
    reached: Reached,
    /// A batch is on its way.
    under_way: bool,
    replayed: usize,
    /// Claimed anew since.
    dropped: usize,
    /// Rested for longer than the time to live.
    expired: usize,
    /// Rows that the store has refused by themselves, the last one for this reason. They stay, and
    /// are tried again by the next replay.
    refused: usize,
    reason: String,
}

impl Replay {
    /// Nothing is done yet.
    pub(super) fn new(lease: Lease) -> Self {
        Self {
            _lease: lease,
            reached: Reached::default(),
            under_way: false,
            replayed: 0,
            dropped: 0,
            expired: 0,
            refused: 0,
            reason: String::new(),
        }
    }

    /// The last row that was handed over.
    pub(super) fn reached(&self) -> &Reached {
        &self.reached
    }

    /// Whether a batch is on its way.
    pub(super) fn is_under_way(&self) -> bool {
        self.under_way
    }

    /// The next rows, up to this one, are handed over; so many have expired.
    pub(super) fn hand_over(&mut self, rows: usize, expired: usize, last: Reached) {
        self.reached = last;
        self.expired += expired;
        self.under_way = rows > 0;
    }

    /// The store has refused a row by itself.
    pub(super) fn handle_refused(&mut self, reason: String) {
        self.refused += 1;
        self.reason = reason;
    }

    /// The store has answered.
    pub(super) fn handle_saved(&mut self, batch: &[Commit], fenced: &[usize]) {
        self.under_way = false;
        self.replayed += batch.len() - fenced.len();
        self.dropped += fenced.len();
    }

    /// Never which sessions they were: an id is a secret.
    pub(super) fn tell(&self, file: &str) {
        let (replayed, dropped) = (self.replayed, self.dropped + self.expired);
        log::info!("{file}: {replayed} sessions replayed, {dropped} dropped");
        if self.dropped > 0 {
            log::warn!(
                "{file}: {} spilled sessions had been claimed anew since, and are dropped",
                self.dropped
            );
        }
        if self.expired > 0 {
            log::warn!(
                "{file}: {} spilled sessions had rested for longer than --session-ttl, and are \
                 dropped",
                self.expired
            );
        }
        if self.refused > 0 {
            log::error!(
                "{file}: the store refuses {} sessions, which stay in the file: {}",
                self.refused,
                self.reason
            );
        }
    }
}
