//! Every choice of a run: one generator, from one seed. Whoever asks it in another order plays
//! another run, so nothing here may depend on anything but what was asked before.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// The only source of randomness.
pub(crate) struct Dice(StdRng);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }

    /// Whether something of this probability happens.
    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        self.0.random_bool(probability)
    }

    /// Both ends included.
    pub(crate) fn among(&mut self, least: usize, most: usize) -> usize {
        self.0.random_range(least..=most)
    }

    /// Both ends included.
    pub(crate) fn time(&mut self, least: Duration, most: Duration) -> Duration {
        let (least, most) = (least.as_micros() as u64, most.as_micros() as u64);
        Duration::from_micros(self.0.random_range(least..=most.max(least)))
    }

    /// Up to so many milliseconds.
    pub(crate) fn within_ms(&mut self, most: u64) -> Duration {
        self.time(Duration::ZERO, Duration::from_millis(most))
    }

    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.among(0, of.len() - 1)]
    }

    /// For an engine.
    pub(crate) fn seed(&mut self) -> [u8; 32] {
        self.0.random()
    }
}
