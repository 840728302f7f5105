//! The numbers of the store: what it was asked, what it answered, and how long that took.

use super::families::{Families, Seconds};
use super::stopwatch::Stopwatch;
use super::{Levels, STORE_BOUNDS};

/// How the store takes what it is asked.
#[derive(Debug)]
pub(crate) struct Store {
    state: StoreState,
    failures: u64,
    /// Counts that were confirmed.
    pub(crate) saved: u64,
    /// Counts that were refused, since the session has a newer owner.
    pub(crate) fenced: u64,
    /// Claims and saves that were refused for a reason of their own.
    pub(crate) refused: u64,
    /// Openings of sessions.
    pub(crate) claims: Stopwatch,
    /// Batches of counts.
    pub(crate) saves: Stopwatch,
}

/// How a store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StoreState {
    /// It answers.
    Up,
    /// It does not answer in good time.
    Stalled,
    /// It is out of reach.
    Down,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            state: StoreState::Down,
            failures: 0,
            saved: 0,
            fenced: 0,
            refused: 0,
            claims: Stopwatch::new(Seconds::new(
                "sundown_store_claim_duration_seconds",
                "Openings of sessions, from the question to the store's answer.",
                &STORE_BOUNDS,
            )),
            saves: Stopwatch::new(Seconds::new(
                "sundown_store_save_duration_seconds",
                "Batches of counts, from the question to the store's answer.",
                &STORE_BOUNDS,
            )),
        }
    }
}

impl Store {
    /// It is like that from here on. What was asked of one that goes down is never answered.
    pub(crate) fn is(&mut self, state: StoreState) {
        self.state = state;
        if state == StoreState::Down {
            self.failures += 1;
            self.claims.reset();
            self.saves.reset();
        }
    }

    pub(super) fn append(&self, families: &Families, levels: &Levels<'_>) {
        families.state(
            "sundown_store_state",
            "1 for how the session store is.",
            "state",
            &["up", "stalled", "down"],
            match self.state {
                StoreState::Up => "up",
                StoreState::Stalled => "stalled",
                StoreState::Down => "down",
            },
        );
        let counters = [
            (
                "sundown_store_failures_total",
                "Times that the store went down.",
                self.failures,
            ),
            (
                "sundown_store_saved_sessions_total",
                "Counts that the store has confirmed.",
                self.saved,
            ),
            (
                "sundown_store_fenced_sessions_total",
                "Counts that the store refused, since the session has a newer owner.",
                self.fenced,
            ),
            (
                "sundown_store_refused_sessions_total",
                "Claims and saves of one session that the store has refused.",
                self.refused,
            ),
        ];
        for (name, help, value) in counters {
            families.counter(name, help, value);
        }
        families.seconds(&self.claims.seconds);
        families.seconds(&self.saves.seconds);
        let gauges = [
            (
                "sundown_sessions",
                "Sessions that are open on this node.",
                levels.sessions,
            ),
            (
                "sundown_unsaved_sessions",
                "Sessions that neither the store nor the spill has confirmed.",
                levels.unsaved_sessions,
            ),
            (
                "sundown_waiting_replies",
                "Replies that wait for a save.",
                levels.waiting_replies,
            ),
        ];
        for (name, help, value) in gauges {
            families.gauge(name, help, value as u64);
        }
    }
}
