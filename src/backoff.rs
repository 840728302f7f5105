//! How long to wait before the next attempt to connect. Owns the attempt count and a seeded
//! generator; pure, and must never read a clock or wait itself.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Full jitter: each wait is drawn between nothing and a ceiling that doubles, so that a fleet
/// which lost its store in one moment does not come back to it in one moment.
pub(crate) struct Backoff {
    random: StdRng,
    failures: u32,
}

impl Backoff {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            random: StdRng::seed_from_u64(seed),
            failures: 0,
        }
    }

    /// The wait after one more failure.
    pub(crate) fn next_delay(&mut self) -> Duration {
        let ceiling = CEILING_MIN
            .saturating_mul(1 << self.failures.min(DOUBLINGS_MAX))
            .min(CEILING_MAX);
        self.failures = self.failures.saturating_add(1);
        self.random.random_range(DELAY_MIN..=ceiling)
    }

    /// The link has held: the next failure is a first one.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// The first ceiling.
const CEILING_MIN: Duration = Duration::from_millis(50);
/// The store is back for up to this long before anyone notices.
const CEILING_MAX: Duration = Duration::from_secs(2);
/// A wait of nothing at all would be a busy loop on bad luck.
const DELAY_MIN: Duration = Duration::from_millis(1);
/// Doublings after which the ceiling has long been reached; keeps the shift in range.
const DOUBLINGS_MAX: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_within_its_ceilings_for_any_seed() {
        for seed in 0..200 {
            let mut backoff = Backoff::new(seed);
            for failures in 0..40 {
                let ceiling = Duration::from_millis(50 << failures.min(10)).min(CEILING_MAX);
                let delay = backoff.next_delay();
                assert!(delay >= DELAY_MIN, "seed {seed}: {delay:?}");
                assert!(delay <= ceiling, "seed {seed}: {delay:?} > {ceiling:?}");
            }
        }
    }

    #[test]
    fn spreads_over_the_whole_ceiling() {
        let mut backoff = Backoff::new(7);
        let delays: Vec<_> = (0..1_000).map(|_| backoff.next_delay()).collect();
        let settled = &delays[10..];
        assert!(settled.iter().any(|d| *d < CEILING_MAX / 10));
        assert!(settled.iter().any(|d| *d > CEILING_MAX * 9 / 10));
    }

    #[test]
    fn begins_again_after_a_reset_and_repeats_with_its_seed() {
        let mut backoff = Backoff::new(42);
        let first: Vec<_> = (0..20).map(|_| backoff.next_delay()).collect();
        let mut twin = Backoff::new(42);
        assert_eq!(
            first,
            (0..20).map(|_| twin.next_delay()).collect::<Vec<_>>()
        );
        backoff.reset();
        assert!(backoff.next_delay() <= CEILING_MIN);
    }
}
