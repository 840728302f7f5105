//! When to look for rows that have expired, and how many to take.

use std::time::{Duration, Instant};

/// How often to look for rows that have expired, and how many to take in one turn. When there were
/// some, more are likely, and the next look is sooner; when there were that many, it is soon.
const SWEEP_PERIOD: Duration = Duration::from_secs(60);
const SWEEP_PERIOD_SOME: Duration = Duration::from_secs(1);
pub(super) const SWEEP_PERIOD_BUSY: Duration = Duration::from_millis(100);
const SWEEP_ROWS_MIN: usize = 100;

/// While there are more, the sweep takes so many rows for each claim since the last look, which may
/// have made one: however fast rows are made, they are deleted faster.
const SWEEP_ROWS_PER_CLAIM: usize = 2;

/// The deletion of what has expired.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    /// When to look; `None` before the first turn.
    look_at: Option<Instant>,
    /// The last look has not found the end.
    is_behind: bool,
    /// Claims since then.
    claims: usize,
}

impl Sweep {
    /// The first look is due after a while. Later calls change nothing.
    pub(super) fn begin(&mut self, now: Instant) {
        self.look_at.get_or_insert(now + SWEEP_PERIOD);
    }

    /// When to look.
    pub(super) fn look_at(&self) -> Option<Instant> {
        self.look_at
    }

    /// A claim may have made a row.
    pub(super) fn handle_claim(&mut self) {
        self.claims += 1;
    }

    /// A look was not possible: the next one is due soon.
    pub(super) fn put_off(&mut self, now: Instant) {
        self.look_at = Some(now + SWEEP_PERIOD_BUSY);
    }

    /// Rows to look at now.
    pub(super) fn rows_max(&self) -> usize {
        let owed = if self.is_behind { self.claims } else { 0 };
        SWEEP_ROWS_MIN.max(owed * SWEEP_ROWS_PER_CLAIM)
    }

    /// Whether it must not wait for its time.
    pub(super) fn is_owed(&self) -> bool {
        self.rows_max() > SWEEP_ROWS_MIN
    }

    /// There is no room, or was none: what has expired must go now.
    pub(super) fn hurry(&mut self, now: Instant) {
        self.is_behind = true;
        self.look_at = Some(
            self.look_at
                .map_or(now, |at| at.min(now + SWEEP_PERIOD_BUSY)),
        );
    }

    /// The disk is full: looks again before long, whatever the last look has found.
    pub(super) fn look_again(&mut self, now: Instant) {
        let soon = now + SWEEP_PERIOD_SOME;
        self.look_at = self.look_at.map(|at| at.min(soon));
    }

    /// A look at no more than `rows_max` has come to so many rows.
    pub(super) fn handle_swept(&mut self, rows: usize, rows_max: usize, now: Instant) {
        self.claims = 0;
        self.is_behind = rows >= rows_max;
        let pause = if self.is_behind {
            SWEEP_PERIOD_BUSY
        } else if rows > 0 {
            SWEEP_PERIOD_SOME
        } else {
            SWEEP_PERIOD
        };
        self.look_at = Some(now + pause);
    }
}
