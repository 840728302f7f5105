//! The way from one node to all others: a link of its own to Redis, on which what is for everybody
//! is said and heard. At most once: who is not in reach at that moment never hears of it.
//!
//! It leads to where the link of the sessions does, and nowhere while that is down: a Redis that was
//! left for another one, after a failover, takes a message and passes it to nobody. So it is no
//! news of its own that the store is down, and a wrong password is tried, and logged, once.

#[cfg(feature = "redis")]
mod linked;
#[cfg(not(feature = "redis"))]
mod none;
#[cfg(feature = "redis")]
mod subscription;

use std::sync::Arc;

use crate::broadcast::BroadcastError;
#[cfg(feature = "redis")]
pub(crate) use linked::{Bus, open};
#[cfg(not(feature = "redis"))]
pub(crate) use none::{Bus, open};

/// What comes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(
    not(feature = "redis"),
    expect(dead_code, reason = "a build without Redis has no bus")
)]
pub(crate) enum BusEvent {
    /// Other nodes are in reach.
    Up,
    /// They are not, for this reason, which is fit for the log.
    Down(String),
    /// Redis does not answer in good time.
    Stalled,
    /// It answers again.
    Resumed,
    /// What was published has gone to all other nodes that are in reach; `false`: it has not, or
    /// nobody knows.
    Published(bool),
    /// Another node's message to every client; or why what was on the channel is none.
    Heard(Result<Arc<str>, BroadcastError>),
}
