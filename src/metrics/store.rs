//! The numbers of the store: what it was asked, what it answered, and how long that took.

use std::time::Instant;

use super::families::{Families, Seconds};
use super::stopwatch::Stopwatch;
use super::{Levels, STORE_BOUNDS};

/// The store since the start.
#[derive(Debug)]
pub(crate) struct Store {
    state: StoreState,
    failures: u64,
    saved: u64,
    fenced: u64,
    refused: u64,
    pushes_accepted: u64,
    pushes_refused: u64,
    claims: Stopwatch,
    commits: Stopwatch,
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
            pushes_accepted: 0,
            pushes_refused: 0,
            claims: Stopwatch::new(Seconds::new(
                "sundown_store_claim_duration_seconds",
                "Openings of sessions, from the question to the store's answer.",
                &STORE_BOUNDS,
            )),
            commits: Stopwatch::new(Seconds::new(
                "sundown_store_save_duration_seconds",
                "Batches of counts, from the question to the store's answer.",
                &STORE_BOUNDS,
            )),
        }
    }
}

impl Store {
    /// The store has changed to this state. When it goes down, what it was asked is never answered.
    pub(crate) fn changed(&mut self, state: StoreState) {
        self.state = state;
        if state == StoreState::Down {
            self.failures += 1;
            self.claims.reset();
            self.commits.reset();
        }
    }

    /// A claim was asked of it.
    pub(crate) fn claim_asked(&mut self, now: Instant) {
        self.claims.start(now);
    }

    /// It has granted the oldest claim.
    pub(crate) fn claimed(&mut self, now: Instant) {
        self.claims.stop(now);
    }

    /// It has refused the oldest claim.
    pub(crate) fn claim_refused(&mut self, now: Instant) {
        self.refused += 1;
        self.claims.stop(now);
    }

    /// A batch of counts was asked of it.
    pub(crate) fn commit_asked(&mut self, now: Instant) {
        self.commits.start(now);
    }

    /// It has answered the oldest batch: so many counts are saved, and so many are fenced.
    pub(crate) fn committed(&mut self, saved: usize, fenced: usize, now: Instant) {
        self.saved += saved as u64;
        self.fenced += fenced as u64;
        self.commits.stop(now);
    }

    /// It says what has become of pushes.
    pub(crate) fn pushed(&mut self, accepted: usize, refused: usize) {
        self.pushes_accepted += accepted as u64;
        self.pushes_refused += refused as u64;
    }

    /// It has refused one count of a batch, which it answers later.
    pub(crate) fn commit_refused(&mut self) {
        self.refused += 1;
    }

    /// Adds their families to the page.
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
                "Claims and commits of one session that the store has refused.",
                self.refused,
            ),
            (
                "sundown_pushes_accepted_total",
                "Pushes that the store has put into a mailbox.",
                self.pushes_accepted,
            ),
            (
                "sundown_pushes_refused_total",
                "Pushes to a full mailbox, or to a session that there is not.",
                self.pushes_refused,
            ),
        ];
        for (name, help, value) in counters {
            families.counter(name, help, value);
        }
        families.seconds(&self.claims.seconds);
        families.seconds(&self.commits.seconds);
        Self::append_levels(families, levels);
    }

    fn append_levels(families: &Families, levels: &Levels<'_>) {
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
            (
                "sundown_deferred_steps",
                "Messages whose handling is deferred.",
                levels.open_steps,
            ),
        ];
        for (name, help, value) in gauges {
            families.gauge(name, help, value as u64);
        }
    }
}
