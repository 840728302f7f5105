//! The numbers of broadcasts: where they came from, and what came of them.

use super::STORE_BOUNDS;
use super::families::{Families, Seconds};
use super::stopwatch::Stopwatch;

/// What is said to everybody, and how long it takes until it is queued for all clients.
#[derive(Debug)]
pub(crate) struct Broadcasts {
    /// Asked for here.
    pub(crate) local: u64,
    /// Heard from other nodes.
    pub(crate) remote: u64,
    /// Of either kind: in a shutdown, or because too many waited.
    pub(crate) refused: u64,
    /// Asked for here, and not passed on to other nodes: they were out of reach, or Redis was slow.
    pub(crate) unpublished: u64,
    /// On the channel, and no broadcasts.
    pub(crate) unreadable: u64,
    pub(crate) watch: Stopwatch,
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
