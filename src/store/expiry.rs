//! When a record expires, and by which clock that is judged.
//!
//! A record outlives its process, so its expiry is a time of the wall clock, and that may step: a
//! board that gets its time from the network, a virtual machine that slept. What
//! is open here is renewed by the monotonic clock, every quarter of the time to live; so after a
//! step forward (or a process that stood still) expiry is judged by a time that goes on from before
//! it, until all that is open must have been renewed. It must never judge by a time ahead of the
//! wall clock.

use std::time::{Duration, Instant};

use crate::engine::io::Now;

/// The clock of one store.
#[derive(Debug)]
pub struct Expiry {
    ttl: Duration,
    /// When what is changed now expires, by the wall clock, in milliseconds since the Unix epoch.
    expires_ms: u64,
    /// The time by which expiry is judged, since the Unix epoch: the wall clock, or behind it.
    judged: Duration,
    /// When that was last set.
    at: Option<Instant>,
    /// The wall clock has stepped forward: it is believed from here on.
    believe_at: Option<Instant>,
}

/// The times that a store needs to carry out a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// What is changed now expires at this time of the wall clock, in milliseconds since the Unix
    /// epoch.
    pub expires_ms: u64,
    /// What expires at this time or earlier has expired.
    pub judged_ms: u64,
}

/// Less is no step: the clock is being slewed, or was read between two milliseconds.
const STEP_MIN: Duration = Duration::from_secs(1);

impl Expiry {
    /// Records are kept for `ttl` after their last change.
    pub fn new(ttl: Duration) -> Self {
        Self {
            ttl,
            expires_ms: millis(ttl),
            judged: Duration::ZERO,
            at: None,
            believe_at: None,
        }
    }

    /// The time of the turn.
    pub fn handle_now(&mut self, now: Now) {
        let wall = Duration::from_millis(now.unix_ms);
        self.expires_ms = now.unix_ms.saturating_add(millis(self.ttl));
        let Some(last) = self.at.replace(now.instant) else {
            self.judged = wall;
            return;
        };
        // A process that stood still for longer has renewed nothing meanwhile.
        let passed = now.instant.saturating_duration_since(last);
        self.judged += passed.min(self.ttl / 2);
        let step = wall.saturating_sub(self.judged);
        let is_step = step > STEP_MIN.min(self.ttl / 8);
        if is_step {
            let renewed_at = now.instant + self.ttl / 2;
            let believe_at = *self.believe_at.get_or_insert(renewed_at);
            if now.instant < believe_at {
                return;
            }
        }
        self.judged = wall;
        self.believe_at = None;
    }

    /// Both times of this turn.
    pub fn times(&self) -> Times {
        Times {
            expires_ms: self.expires_ms(),
            judged_ms: self.judged_ms(),
        }
    }

    /// What is changed now expires at this time of the wall clock, in milliseconds.
    pub fn expires_ms(&self) -> u64 {
        self.expires_ms
    }

    /// What expires at this time or earlier has expired.
    pub fn judged_ms(&self) -> u64 {
        millis(self.judged)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const TTL: Duration = Duration::from_secs(100);

    struct Rig {
        expiry: Expiry,
        now: Now,
    }

    impl Rig {
        fn new() -> Self {
            let mut rig = Self {
                expiry: Expiry::new(TTL),
                now: clock::now(),
            };
            rig.expiry.handle_now(rig.now);
            rig
        }

        /// Both clocks go on, in turns of a second.
        fn pass(&mut self, seconds: u64) {
            for _ in 0..seconds {
                self.now.instant += Duration::from_secs(1);
                self.now.unix_ms += 1_000;
                self.expiry.handle_now(self.now);
            }
        }

        /// How far the time that is judged by lies behind the wall clock, in seconds.
        fn lag(&self) -> i128 {
            let [wall, judged] = [self.now.unix_ms, self.expiry.judged_ms()].map(i128::from);
            (wall - judged) / 1_000
        }
    }

    #[test]
    fn a_step_forward_is_believed_once_all_that_is_open_has_been_renewed() {
        let mut rig = Rig::new();
        rig.pass(10);
        assert_eq!(rig.lag(), 0);
        rig.now.unix_ms += 1_000_000;
        rig.expiry.handle_now(rig.now);
        assert_eq!(rig.lag(), 1_000);
        assert_eq!(rig.expiry.expires_ms(), rig.now.unix_ms + 100_000);
        rig.pass(49);
        assert_eq!(rig.lag(), 1_000);
        rig.pass(1);
        assert_eq!(rig.lag(), 0);
    }

    #[test]
    fn a_step_back_is_believed_at_once() {
        let mut rig = Rig::new();
        rig.now.unix_ms -= 1_000_000;
        rig.expiry.handle_now(rig.now);
        assert_eq!(rig.lag(), 0);
    }

    #[test]
    fn a_process_that_stood_still_renews_before_it_judges() {
        let mut rig = Rig::new();
        rig.now.instant += 10 * TTL;
        rig.now.unix_ms += 1_000_000;
        rig.expiry.handle_now(rig.now);
        assert_eq!(rig.lag(), 950);
        rig.pass(50);
        assert_eq!(rig.lag(), 0);
    }

    #[test]
    fn a_clock_that_is_slewed_is_followed_in_turns_of_any_length() {
        let mut rig = Rig::new();
        let began_ms = rig.now.unix_ms;
        for turn in 1..=100_000 {
            rig.now.instant += Duration::from_micros(99);
            rig.now.unix_ms = began_ms + turn / 10;
            rig.expiry.handle_now(rig.now);
            assert_eq!(rig.lag(), 0);
        }
    }
}
