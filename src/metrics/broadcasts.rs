//! The numbers of broadcasts: where they came from, and what came of them.

use std::time::Instant;

use super::STORE_BOUNDS;
use super::families::{Families, Seconds};
use super::stopwatch::Stopwatch;

/// Broadcasts since the start.
#[derive(Debug)]
pub(crate) struct Broadcasts {
    local: u64,
    remote: u64,
    refused: u64,
    unpublished: u64,
    unreadable: u64,
    /// From the beginning of a broadcast until it is queued for all clients.
    watch: Stopwatch,
}

impl Default for Broadcasts {
    fn default() -> Self {
        Self {
            local: 0,
            remote: 0,
            refused: 0,
            unpublished: 0,
            unreadable: 0,
            watch: Stopwatch::new(Seconds::new(
                "sundown_broadcast_fanout_duration_seconds",
                "Broadcasts, until they are queued for all clients.",
                &STORE_BOUNDS,
            )),
        }
    }
}

impl Broadcasts {
    /// One was asked for on this node.
    pub(crate) fn asked(&mut self, now: Instant) {
        self.local += 1;
        self.watch.start(now);
    }

    /// One came from another node.
    pub(crate) fn heard(&mut self, now: Instant) {
        self.remote += 1;
        self.watch.start(now);
    }

    /// The oldest is queued for all clients.
    pub(crate) fn queued(&mut self, now: Instant) {
        self.watch.stop(now);
    }

    /// The newest was refused: in a shutdown, or because too many waited.
    pub(crate) fn refused(&mut self) {
        self.refused += 1;
        self.watch.cancel();
    }

    /// One of this node was not passed on to other nodes: they were out of reach, or Redis was slow.
    pub(crate) fn unpublished(&mut self) {
        self.unpublished += 1;
    }

    /// What was on the channel is no broadcast.
    pub(crate) fn unreadable(&mut self) {
        self.unreadable += 1;
    }

    /// Adds their families to the page.
    pub(super) fn append(&self, families: &Families, is_linked: bool) {
        families.counters(
            "sundown_broadcasts_total",
            "Broadcasts, by whether they were asked for here or heard from another node.",
            ["origin"],
            [(["local"], self.local), (["remote"], self.remote)],
        );
        let counters = [
            (
                "sundown_broadcasts_refused_total",
                "Broadcasts that were not sent: in a shutdown, or because too many waited.",
                self.refused,
            ),
            (
                "sundown_broadcasts_unpublished_total",
                "Broadcasts that were not passed on to other nodes, which were out of reach.",
                self.unpublished,
            ),
            (
                "sundown_broadcasts_unreadable_total",
                "Messages on the broadcast channel that are no broadcasts.",
                self.unreadable,
            ),
        ];
        for (name, help, value) in counters {
            families.counter(name, help, value);
        }
        families.seconds(&self.watch.seconds);
        families.gauge(
            "sundown_broadcast_link_up",
            "1 while broadcasts reach other nodes, through Redis.",
            u64::from(is_linked),
        );
    }
}
