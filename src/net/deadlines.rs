//! One deadline for each connection that has one, by slot. All of a kind lie equally far ahead when
//! they are set, so that each kind is a queue: to set one, to take it back and to find the earliest
//! costs nothing.
//!
//! The queues are rings through one array, which has a node for each slot. Of a connection that is
//! gone nothing is left in them.

use std::time::{Duration, Instant};

/// What a deadline is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// The request head must be complete.
    Handshake,
    /// The same on the admin listener.
    AdminHandshake,
    /// It is over, and the peer is to read the rest of its output.
    Sending,
    /// The same on the admin listener.
    AdminSending,
    /// Our side is closed behind an HTTP answer, and the peer is to close its own.
    Answered,
    /// The same on the admin listener.
    AdminAnswered,
    /// Our side of a WebSocket connection is closed, and the peer is to close its own.
    HalfClosed,
    /// The closing handshake is to be completed.
    Closing,
    /// The next check whether it has been silent.
    Idle,
}

impl Kind {
    /// In the order in which due ones are handled.
    pub(super) const ALL: [Self; 9] = [
        Self::Handshake,
        Self::AdminHandshake,
        Self::Sending,
        Self::AdminSending,
        Self::Answered,
        Self::AdminAnswered,
        Self::HalfClosed,
        Self::Closing,
        Self::Idle,
    ];
}

/// First in, first due.
#[derive(Debug)]
pub(super) struct Deadlines {
    after: [Duration; Kind::ALL.len()],
    /// When the first one was set: the others are counted from there, in half the bytes.
    since: Option<Instant>,
    /// For each kind the node where its ring begins and ends, then one for each slot.
    nodes: Vec<Node>,
}

/// A place in a ring; alone in its own, if no deadline is set.
#[derive(Clone, Copy, Debug)]
struct Node {
    /// Nanoseconds, which last for centuries.
    at: u64,
    earlier: u32,
    later: u32,
}

/// Reserved at first: see `table`.
const NODES_FIRST: usize = (160 << 10) / size_of::<Node>();

/// Memory for so many is never given back.
const NODES_MIN: usize = 64;

impl Deadlines {
    /// Deadlines of each kind so long after the moment in which they are set.
    pub(super) fn new(after: impl Fn(Kind) -> Duration) -> Self {
        Self {
            after: Kind::ALL.map(after),
            since: None,
            nodes: (0..).map(Node::alone).take(Kind::ALL.len()).collect(),
        }
    }

    /// How long such a deadline lies ahead when it is set.
    pub(super) fn after(&self, kind: Kind) -> Duration {
        self.after[kind as usize]
    }

    /// Sets a connection's deadline, in place of the one that it has.
    pub(super) fn set(&mut self, slot: u32, kind: Kind, now: Instant) {
        let since = *self.since.get_or_insert(now);
        let node = node_of(slot);
        if self.nodes.len() <= node as usize {
            if self.nodes.capacity() < NODES_MIN {
                self.nodes.reserve_exact(NODES_FIRST);
            }
            let missing = self.nodes.len() as u32..=node;
            self.nodes.extend(missing.map(Node::alone));
        }
        self.unlink(node);
        let ahead = now.saturating_duration_since(since) + self.after(kind);
        let at = u64::try_from(ahead.as_nanos()).unwrap_or(u64::MAX);
        let end = kind as u32;
        let last = std::mem::replace(&mut self.nodes[end as usize].earlier, node);
        self.nodes[last as usize].later = node;
        self.nodes[node as usize] = Node {
            at,
            earlier: last,
            later: end,
        };
    }

    /// A connection has no deadline any more.
    pub(super) fn clear(&mut self, slot: u32) {
        let node = node_of(slot);
        if (node as usize) < self.nodes.len() {
            self.unlink(node);
        }
    }

    /// The earliest.
    pub(super) fn next(&self) -> Option<Instant> {
        let firsts = Kind::ALL.iter().filter_map(|kind| self.first_node(*kind));
        let at = firsts.map(|node| self.nodes[node as usize].at).min()?;
        Some(self.since? + Duration::from_nanos(at))
    }

    /// Takes out the earliest of a kind, if it is due, and returns its slot.
    pub(super) fn pop_due(&mut self, kind: Kind, now: Instant) -> Option<u32> {
        let node = self.first_node(kind)?;
        if self.since? + Duration::from_nanos(self.nodes[node as usize].at) > now {
            return None;
        }
        self.unlink(node);
        Some(slot_of(node))
    }

    /// The connection with the earliest deadline of a kind.
    pub(super) fn first(&self, kind: Kind) -> Option<u32> {
        self.first_node(kind).map(slot_of)
    }

    /// There are only so many slots now: gives back the memory of the others.
    pub(super) fn shrink(&mut self, slots: usize) {
        self.nodes.truncate(Kind::ALL.len() + slots);
        self.nodes.shrink_to(NODES_MIN.max(self.nodes.len() * 2));
    }

    /// How many slots have a place.
    #[cfg(test)]
    pub(super) fn slots_len(&self) -> usize {
        self.nodes.len() - Kind::ALL.len()
    }

    fn first_node(&self, kind: Kind) -> Option<u32> {
        let end = kind as u32;
        Some(self.nodes[end as usize].later).filter(|node| *node != end)
    }

    fn unlink(&mut self, node: u32) {
        let Node { earlier, later, .. } = self.nodes[node as usize];
        self.nodes[earlier as usize].later = later;
        self.nodes[later as usize].earlier = earlier;
        self.nodes[node as usize] = Node::alone(node);
    }
}

impl Node {
    fn alone(node: u32) -> Self {
        Self {
            at: 0,
            earlier: node,
            later: node,
        }
    }
}

/// There is room for that: descriptors are an i32.
fn node_of(slot: u32) -> u32 {
    slot + Kind::ALL.len() as u32
}

fn slot_of(node: u32) -> u32 {
    node - Kind::ALL.len() as u32
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::rngs::StdRng;
    use rand::seq::IndexedRandom as _;
    use rand::{RngExt as _, SeedableRng as _};

    use super::*;
    use crate::clock;

    const MS: Duration = Duration::from_millis(1);

    fn after(kind: Kind) -> Duration {
        MS * (10 + 7 * kind as u32)
    }

    /// Slots by deadline, the earliest first.
    fn take(deadlines: &mut Deadlines, kind: Kind, now: Instant) -> Vec<u32> {
        std::iter::from_fn(|| deadlines.pop_due(kind, now)).collect()
    }

    #[test]
    fn every_connection_has_the_one_that_was_set_last() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut deadlines = Deadlines::new(after);
        let mut model = BTreeMap::new();
        let mut now = clock::now().instant;
        for order in 0..20_000 {
            let slot = rng.random_range(0..40);
            match rng.random_range(0..5) {
                0 | 1 => {
                    let kind = *Kind::ALL.choose(&mut rng).unwrap();
                    deadlines.set(slot, kind, now);
                    model.insert(slot, (now + after(kind), order, kind));
                }
                2 => {
                    deadlines.clear(slot);
                    model.remove(&slot);
                }
                3 => now += MS * rng.random_range(0..4),
                _ => {
                    let end = model.last_key_value().map_or(0, |(slot, _)| slot + 1);
                    deadlines.shrink(end as usize);
                }
            }
            let earliest = model.values().min().map(|(at, ..)| *at);
            assert_eq!(deadlines.next(), earliest);
            for kind in Kind::ALL {
                let of_kind = model.iter().filter(|(_, (.., of))| *of == kind);
                let mut of_kind: Vec<_> = of_kind
                    .map(|(slot, (at, order, _))| (*at, *order, *slot))
                    .collect();
                of_kind.sort_unstable();
                let first = of_kind.first().map(|(.., slot)| *slot);
                assert_eq!(deadlines.first(kind), first);
                if order % 7 == 0 {
                    of_kind.retain(|(at, ..)| *at <= now);
                    let due: Vec<_> = of_kind.into_iter().map(|(.., slot)| slot).collect();
                    model.retain(|slot, _| !due.contains(slot));
                    assert_eq!(take(&mut deadlines, kind, now), due);
                }
            }
        }
    }

    #[test]
    fn after_a_crowd_the_memory_is_given_back() {
        let mut deadlines = Deadlines::new(after);
        let now = clock::now().instant;
        (0..20_000).for_each(|slot| deadlines.set(slot, Kind::Idle, now));
        (1..20_000).for_each(|slot| deadlines.clear(slot));
        deadlines.shrink(1);
        assert!(deadlines.nodes.capacity() <= NODES_MIN);
        assert_eq!(take(&mut deadlines, Kind::Idle, now + MS * 100), [0]);
    }
}
