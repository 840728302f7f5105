//! What a client noticed each time that it lost its connection: how it ended, and how long it was
//! until it could go on. Only instants and facts; it never judges them.

use std::time::{Duration, Instant};

/// From the end of one connection to the first reply on the next.
#[derive(Clone, Debug)]
pub(crate) struct Break {
    pub(crate) end: End,
    /// The last reply before it, or its answer to the notice if that was later.
    pub(crate) waits_since: Option<Instant>,
    /// When it was to come back, if it has answered the notice.
    pub(crate) slot: Option<Instant>,
    /// The first attempt to come back.
    pub(crate) dialled: Option<Instant>,
    /// Attempts that were answered otherwise than by 101, or not at all.
    pub(crate) refused: u32,
    pub(crate) greeted: Option<Instant>,
    pub(crate) first_reply: Option<Instant>,
}

/// How a connection ended, as the client saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Goodbye, Close 1001, and the end of the stream.
    Farewell,
    /// The end of the stream, and not all of that before it.
    Eof,
    /// An error of the socket, or silence until the client gave up.
    Broken,
}

impl Break {
    pub(crate) fn new(end: End, waits_since: Option<Instant>, slot: Option<Instant>) -> Self {
        Self {
            end,
            waits_since,
            slot,
            dialled: None,
            refused: 0,
            greeted: None,
            first_reply: None,
        }
    }

    /// What a user of the client notices: from when it had to wait to the first reply.
    pub(crate) fn gap(&self) -> Option<Duration> {
        let first = self.first_reply?;
        self.waits_since
            .map(|since| first.saturating_duration_since(since))
    }

    /// How much later than its slot the first reply came.
    pub(crate) fn beyond_slot(&self) -> Option<Duration> {
        let first = self.first_reply?;
        self.slot.map(|slot| first.saturating_duration_since(slot))
    }
}
