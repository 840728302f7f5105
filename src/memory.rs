//! An account of the memory that peers make the process hold: bytes, by kind.
//!
//! It is a plain value. `net::connections` and `engine::session` each own one, for the bytes that they
//! own, and add them up when the metrics are read. An account has the lengths of what waits: neither
//! what the allocator reserves, nor what has a fixed size. It limits nothing.

use std::ops::Add;

/// What is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Requests and messages that are not whole, and input that waits for its turn.
    Received,
    /// Output that the kernel has not taken.
    Outbound,
    /// Replies that wait for a save.
    Replies,
    /// Broadcasts that are not queued for all clients.
    Broadcasts,
    /// The states of open sessions.
    States,
    /// Pushes that wait for the store, or for a client of this node to confirm them.
    Pushes,
}

impl Kind {
    /// All of them.
    pub(crate) const ALL: [Self; 6] = [
        Self::Received,
        Self::Outbound,
        Self::Replies,
        Self::Broadcasts,
        Self::States,
        Self::Pushes,
    ];

    /// The name, as the metric has it.
    fn name(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Outbound => "outbound",
            Self::Replies => "replies",
            Self::Broadcasts => "broadcasts",
            Self::States => "states",
            Self::Pushes => "pushes",
        }
    }
}

/// How many bytes of each kind are held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Account([usize; Kind::ALL.len()]);

impl Account {
    /// Adds bytes.
    pub(crate) fn add(&mut self, kind: Kind, bytes: usize) {
        self.0[kind as usize] += bytes;
    }

    /// Takes off bytes that were added before.
    pub(crate) fn subtract(&mut self, kind: Kind, bytes: usize) {
        let held = &mut self.0[kind as usize];
        debug_assert!(*held >= bytes, "{kind:?}: {bytes} of {held} bytes");
        *held = held.saturating_sub(bytes);
    }

    /// Replaces a holder's share, which was `counted`, by `bytes`. In most calls it is the same.
    pub(crate) fn replace(&mut self, kind: Kind, counted: &mut u32, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        if bytes != *counted {
            self.subtract(kind, *counted as usize);
            self.add(kind, bytes as usize);
            *counted = bytes;
        }
    }

    /// The bytes of one kind.
    pub(crate) fn of(&self, kind: Kind) -> usize {
        self.0[kind as usize]
    }

    /// The bytes of all kinds.
    pub(crate) fn total(&self) -> usize {
        self.0.iter().sum()
    }

    /// The bytes of each kind, with its name.
    pub(crate) fn by_kind(&self) -> [(&'static str, usize); Kind::ALL.len()] {
        Kind::ALL.map(|kind| (kind.name(), self.0[kind as usize]))
    }
}

impl Add for Account {
    type Output = Self;

    fn add(mut self, other: Self) -> Self {
        for (held, more) in self.0.iter_mut().zip(other.0) {
            *held += more;
        }
        self
    }
}
