//! Goal: the Redis store keeps its promises (next epoch, fencing, counts that never go down)
//! against a real Redis, whatever happens to the way there. Method: each test starts its own
//! `redis-server` and drives the store with a small poll loop; it waits for events, never for time.

#![expect(
    clippy::expect_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test names what it expects; anything else is a failure"
)]

#[cfg(test)]
mod driver;
#[cfg(test)]
mod fake;
#[cfg(test)]
mod foreign;
#[cfg(test)]
mod link;
#[cfg(test)]
mod mail;
#[cfg(test)]
#[path = "../support/mailboxes.rs"]
mod mailboxes;
#[cfg(test)]
mod promises;
#[cfg(test)]
mod refusals;
#[cfg(test)]
#[path = "../support/steps.rs"]
mod steps;
#[path = "../support/mod.rs"]
#[expect(
    dead_code,
    reason = "it is shared with the other tests, which use more of it"
)]
mod support;
#[cfg(test)]
mod version_0_1_0;
#[cfg(test)]
mod ways;
