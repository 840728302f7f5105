//! How long requests take that are answered in the order in which they were made.

use std::collections::VecDeque;
use std::time::Instant;

use super::families::Seconds;

/// When each request under way was made, and how long those before them took.
#[derive(Debug)]
pub(super) struct Stopwatch {
    under_way: VecDeque<Instant>,
    pub(super) seconds: Seconds,
}

impl Stopwatch {
    pub(super) fn new(seconds: Seconds) -> Self {
        Self {
            under_way: VecDeque::new(),
            seconds,
        }
    }

    /// A request is made.
    pub(super) fn start(&mut self, now: Instant) {
        self.under_way.push_back(now);
    }

    /// The oldest has been answered.
    pub(super) fn stop(&mut self, now: Instant) {
        if let Some(since) = self.under_way.pop_front() {
            self.seconds.observe(now.saturating_duration_since(since));
        }
        if self.under_way.is_empty() {
            // After a crowd the memory goes back.
            self.under_way.shrink_to(KEPT);
        }
    }

    /// The last one will not be answered.
    pub(super) fn cancel(&mut self) {
        self.under_way.pop_back();
    }

    /// Whatever is under way is forgotten.
    pub(super) fn reset(&mut self) {
        self.under_way = VecDeque::new();
    }
}

/// Requests that there is always room for.
const KEPT: usize = 16;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock;

    #[test]
    fn requests_are_timed_in_their_order() {
        let begun = clock::now().instant;
        let secs = Duration::from_secs;
        let at = |seconds| begun + secs(seconds);
        let mut watch = Stopwatch::new(Seconds::new("seconds", "Help.", &[1.0]));
        watch.stop(at(0));
        assert_eq!(watch.seconds.sum(), secs(0), "nothing was asked");
        watch.start(at(1));
        watch.start(at(3));
        watch.stop(at(5));
        assert_eq!(watch.seconds.sum(), secs(4));
        watch.stop(at(6));
        assert_eq!(watch.seconds.sum(), secs(4 + 3));
        watch.start(at(7));
        watch.reset();
        watch.stop(at(9));
        assert_eq!(
            watch.seconds.sum(),
            secs(4 + 3),
            "the store has forgotten it"
        );
    }
}
