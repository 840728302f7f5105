//! The phases of a shutdown, and when each of them began. Plain values.

use std::time::{Duration, Instant};

/// A phase, without its deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "as those of `State`")]
pub enum Phase {
    Serving,
    Delaying,
    Notifying,
    Draining,
    Persisting,
    Closing,
    Sweeping,
    Stopped,
}

impl Phase {
    /// All phases, in their order.
    pub const ALL: [Self; 8] = [
        Self::Serving,
        Self::Delaying,
        Self::Notifying,
        Self::Draining,
        Self::Persisting,
        Self::Closing,
        Self::Sweeping,
        Self::Stopped,
    ];

    /// Its name, for metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Delaying => "delaying",
            Self::Notifying => "notifying",
            Self::Draining => "draining",
            Self::Persisting => "persisting",
            Self::Closing => "closing",
            Self::Sweeping => "sweeping",
            Self::Stopped => "stopped",
        }
    }
}

/// When each phase began, for the report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeline {
    /// The first request.
    pub began: Option<Instant>,
    /// Notifying.
    pub notifying: Option<Instant>,
    /// Draining.
    pub draining: Option<Instant>,
    /// Persisting.
    pub persisting: Option<Instant>,
    /// Closing.
    pub closing: Option<Instant>,
    /// Sweeping.
    pub sweeping: Option<Instant>,
    /// Stopped.
    pub stopped: Option<Instant>,
}

impl Timeline {
    /// For how long each phase has lasted, from Delaying on: until the next that was entered began,
    /// and the last one until `now`, if there is one. A phase that was skipped, or is to come, has
    /// lasted for no time.
    pub fn lasted(&self, now: Option<Instant>) -> [(Phase, Duration); 6] {
        let mut end = self.stopped.or(now);
        let mut phases = [
            (Phase::Sweeping, self.sweeping),
            (Phase::Closing, self.closing),
            (Phase::Persisting, self.persisting),
            (Phase::Draining, self.draining),
            (Phase::Notifying, self.notifying),
            (Phase::Delaying, self.began),
        ]
        .map(|(phase, began)| {
            let began = began.or(end);
            let lasted = began
                .zip(end)
                .map(|(began, end)| end.saturating_duration_since(began));
            end = began;
            (phase, lasted.unwrap_or_default())
        });
        phases.reverse();
        phases
    }
}
