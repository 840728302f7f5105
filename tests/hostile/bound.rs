//! How much memory a crowd may cost, from the server's limits: docs/hostile.md has the same sum.

use sundown::Limits;

/// What the peers of a crowd make the server hold, each of them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bound {
    pub(crate) sockets: usize,
    /// Bytes of an unfinished request head.
    pub(crate) head_bytes: usize,
    /// It has been upgraded.
    pub(crate) is_websocket: bool,
    /// Bytes of an unfinished message.
    pub(crate) message_bytes: usize,
    /// It is answered, and reads slowly or not at all.
    pub(crate) is_answered: bool,
}

impl Bound {
    pub(crate) fn kib(self) -> u64 {
        let limits = Limits::default();
        let head = GROWTH * self.head_bytes.min(limits.request_head_bytes_max);
        let websocket = if self.is_websocket {
            WEBSOCKET_BYTES
        } else {
            0
        };
        let message = GROWTH * self.message_bytes.min(limits.message_bytes_max);
        let outbound = if self.is_answered {
            // One read is answered whole before anyone looks at what waits, and one waits itself.
            GROWTH * (limits.outbound_bytes_max + limits.read_bytes_max) + limits.read_bytes_max
        } else {
            0
        };
        let each = SOCKET_BYTES + head + websocket + message + outbound;
        ((BASE_BYTES + self.sockets * each) >> 10) as u64
    }
}

/// Of a socket, whatever it does: its row in the table, its deadline, its bits.
const SOCKET_BYTES: usize = 1 << 10;
/// What a reader has under way beside its message, and the application's entry.
const WEBSOCKET_BYTES: usize = 2 << 10;
/// A vector that grows doubles.
const GROWTH: usize = 2;
/// What the allocator keeps, and what is there once for all.
const BASE_BYTES: usize = 4 << 20;
