//! Broadcasts between nodes, on a link to Redis of their own. Delivery is at most once: a node that
//! is out of reach at that moment does not get the broadcast.
//!
//! The link follows that of the sessions, and is down while that is down: after a failover the old
//! Redis accepts a message and passes it to no node. An outage is logged once, by the store.

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

/// What the bus reports.
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
