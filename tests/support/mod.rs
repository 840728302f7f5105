//! What the process tests share: the built binary, Debian's Redis, and clients that are written
//! by hand over plain sockets, so that nothing here is the server's own code.
//!
//! Nothing sleeps in place of a condition: everything waits for an event, with a deadline. The
//! clock, the pause and the connect that the server itself may not use are wrapped here, once.

pub(crate) mod client;
pub(crate) mod crowd;
pub(crate) mod frame;
pub(crate) mod http;
pub(crate) mod kinds;
pub(crate) mod peer;
pub(crate) mod process;
pub(crate) mod redis;
pub(crate) mod said;
pub(crate) mod server;
pub(crate) mod store;
pub(crate) mod stream;
pub(crate) mod terminal;

use std::time::{Duration, Instant};

/// How long anything that should happen at once may take on a loaded machine before the test
/// gives up on it. Not a promise of the server's: those have their own numbers.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The promise: from the signal to the exit.
pub(crate) const SHUTDOWN_MAX: Duration = Duration::from_secs(10);

pub(crate) const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the ban is for the server; a client outside it has a clock of its own"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Paces a client, or lets a measured window pass. Never stands in for an event.
#[expect(
    clippy::disallowed_methods,
    reason = "the ban is for the server's loop; this paces a client's thread"
)]
pub(crate) fn pause(length: Duration) {
    std::thread::sleep(length);
}

/// Asks again and again, until it holds. For what announces itself in no other way.
#[track_caller]
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = now() + PATIENCE;
    while !holds() {
        assert!(now() < deadline, "still not: {what}");
        pause(ms(5));
    }
}
