//! The only caller of `now()`: the loop reads the clock once a turn, here.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::engine::io::Now;

/// Reads the monotonic clock alone: to measure how long something took.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that reads the clock"
)]
pub fn instant() -> Instant {
    Instant::now()
}

/// How long it is until then: zero from then on.
pub fn left_until(at: Instant) -> Duration {
    at.saturating_duration_since(instant())
}

/// Reads both clocks.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that reads the clock"
)]
pub fn now() -> Now {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let unix_ms = u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX);
    Now {
        instant: instant(),
        unix_ms,
    }
}
