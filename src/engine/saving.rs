//! What the store is asked, and when: saves, renewals, the sync before the exit, and the spill once
//! the store has had its time.
//!
//! It owns the state of the store, and which of these is due. The counts are in `session`. It never
//! sees a client.

use std::time::Duration;

use super::io::{Commit, Now, StoreCommand};
use super::session::Sessions;
use crate::config::{Config, Durability};

/// What is due.
#[derive(Debug)]
pub(super) struct Saving {
    durability: Durability,
    store: StoreState,
    /// `relaxed`: what is unsaved goes out at the next flush.
    save_due: bool,
    /// Nothing is read any more, and what is unsaved goes out at each flush.
    is_persisting: bool,
    /// The store has had its time to persist: nothing waits for it any more.
    is_overdue: bool,
    sync: Sync,
    refresh_every: Duration,
    /// A renewal of all sessions is under way, and goes on at this slot.
    refresh: Option<usize>,
    /// The time of the last turn.
    clock: Now,
    /// How many sessions this turn may still put into the spill, of so many.
    spill_share: usize,
    spill_max: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StoreState {
    Up,
    Stalled,
    Down,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sync {
    Idle,
    Wanted,
    Asked,
}

/// How often open sessions are renewed in the store, if their time to live asks for no more.
const REFRESH_EVERY_MAX: Duration = Duration::from_secs(600);

impl Saving {
    /// The store is not there yet.
    pub(super) fn new(config: &Config, now: Now) -> Self {
        Self {
            durability: config.durability,
            store: StoreState::Down,
            save_due: false,
            is_persisting: false,
            is_overdue: false,
            sync: Sync::Idle,
            refresh_every: (config.session_ttl / 4).min(REFRESH_EVERY_MAX),
            refresh: None,
            clock: now,
            spill_share: 0,
            spill_max: config.limits.spill_max.max(config.limits.connections_max),
        }
    }

    /// Whether replies wait until what they acknowledge is saved.
    pub(super) fn is_acked(&self) -> bool {
        self.durability == Durability::Acked
    }

    pub(super) fn is_up(&self) -> bool {
        self.store == StoreState::Up
    }

    pub(super) fn is_persisting(&self) -> bool {
        self.is_persisting
    }

    /// Whether a client that has closed waits for the store to save its session.
    pub(super) fn waits_for_store(&self) -> bool {
        self.is_up() || self.is_acked() && !self.is_overdue
    }

    /// The store is there. It may have lost sessions that are open.
    pub(super) fn handle_up(&mut self) {
        self.store = StoreState::Up;
        self.refresh = Some(0);
    }

    /// The store is out of reach, and has forgotten what it was asked.
    pub(super) fn handle_down(&mut self) {
        self.store = StoreState::Down;
        if self.sync == Sync::Asked {
            self.sync = Sync::Wanted;
        }
    }

    pub(super) fn handle_stalled(&mut self) {
        self.store = StoreState::Stalled;
    }

    pub(super) fn handle_resumed(&mut self) {
        self.store = StoreState::Up;
    }

    pub(super) fn handle_synced(&mut self) {
        self.sync = Sync::Idle;
    }

    /// A turn has begun. A wall clock that has stepped forward makes open sessions look expired.
    pub(super) fn handle_clock(&mut self, now: Now) {
        let last = std::mem::replace(&mut self.clock, now);
        let passed = now.instant.saturating_duration_since(last.instant);
        let on_the_wall = Duration::from_millis(now.unix_ms.saturating_sub(last.unix_ms));
        if on_the_wall > passed + self.refresh_every {
            self.refresh = Some(0);
        }
    }

    /// What is unsaved goes out at the next flush.
    pub(super) fn save_soon(&mut self) {
        self.save_due = true;
    }

    /// A sync follows what is unsaved now.
    pub(super) fn sync_soon(&mut self) {
        self.sync = Sync::Wanted;
    }

    pub(super) fn refresh_every(&self) -> Duration {
        self.refresh_every
    }

    /// Begins a renewal of all sessions, unless one is under way.
    pub(super) fn begin_refresh(&mut self) {
        self.refresh.get_or_insert(0);
    }

    /// Marks the next sessions of a renewal to be saved. Returns whether there are more.
    pub(super) fn refresh(&mut self, sessions: &mut Sessions, max: usize) -> bool {
        if let Some(cursor) = self.refresh {
            // Once nothing is read any more, it is the last one.
            self.refresh = sessions.refresh(cursor, max, self.is_persisting);
            self.save_due = true;
        }
        self.refresh.is_some()
    }

    /// Nothing is read any more: all sessions are saved, then the store is synced. A session that
    /// has not changed is saved, too: a store may have lost what it has confirmed.
    pub(super) fn begin_persisting(&mut self) {
        self.is_persisting = true;
        self.sync = Sync::Wanted;
        if self.is_up() {
            self.refresh = Some(0);
        }
    }

    /// The store has had its time: what it has not confirmed goes into the spill. A store in this
    /// process still takes one last flush.
    pub(super) fn give_up_store(&mut self, sessions: &mut Sessions) {
        self.is_overdue = true;
        self.save_due = true;
        sessions.begin_spill();
        sessions.give_up_confirming();
    }

    /// How many saves, claims and syncs the store has not confirmed.
    pub(super) fn unsaved_len(&self, sessions: &Sessions) -> usize {
        let unsaved = sessions.unsafe_len();
        // A store that is away has nothing to sync or to confirm for sessions that are all saved.
        let syncing = self.sync != Sync::Idle && (self.is_up() || unsaved > 0);
        let unconfirmed = if self.is_up() {
            sessions.unconfirmed_len() + usize::from(self.is_confirming())
        } else {
            0
        };
        unsaved + unconfirmed + usize::from(syncing)
    }

    pub(super) fn poll(&mut self, sessions: &mut Sessions) -> Option<StoreCommand> {
        if self.store == StoreState::Down {
            return None;
        }
        let urgent = self.is_acked() || self.save_due || self.is_persisting || sessions.has_asked();
        if urgent && let Some(command) = sessions.poll_store() {
            return Some(command);
        }
        self.save_due = false;
        // The sync comes after everything that is saved.
        if self.is_confirming() || self.sync != Sync::Wanted {
            return None;
        }
        self.sync = Sync::Asked;
        Some(StoreCommand::Sync)
    }

    /// A turn has begun, and may hand over its share of the spill.
    pub(super) fn allow_spill(&mut self) {
        self.spill_share = self.spill_max;
    }

    /// The next sessions to put into the spill: a turn's share, or all of them in the last turn.
    pub(super) fn poll_spill(
        &mut self,
        sessions: &mut Sessions,
        is_last: bool,
    ) -> Option<Vec<Commit>> {
        let max = if is_last {
            self.spill_max
        } else {
            self.spill_share
        };
        let batch = sessions.poll_spill(max);
        if batch.is_empty() {
            return None;
        }
        self.spill_share = 0;
        Some(batch)
    }

    /// Whether sessions are still being handed over for the last time.
    fn is_confirming(&self) -> bool {
        self.is_persisting && !self.is_overdue && self.refresh.is_some()
    }
}
