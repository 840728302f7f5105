//! The connections that a turn reads from, and how much: those with new input first, then slices of
//! those that send much, and of those that are over.
//!
//! It owns what a read and a message cost of a turn's budget. It decides nothing about what was
//! read.

use super::EventLoop;
use crate::core::Core;
use crate::engine::io::ConnId;
use crate::net::intake::Intake;
use crate::net::read_queues::Queue;

/// One receive buffer for all connections.
pub(super) struct ReadBuffer(Vec<u8>);

impl ReadBuffer {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self(vec![0; bytes_max])
    }
}

impl EventLoop {
    /// Gives each connection that has something new one read, and of those that have more than that
    /// as many as fit a small slice: then `poll` is asked again, so that a client that sends little
    /// waits for one slice, and not for all that send much. What is left keeps its place.
    pub(super) fn serve_ready(&mut self, core: &mut Core) {
        let slice = self.limits.slice_bytes_max;
        for (queue, mut budget) in [
            (Queue::Ready, self.limits.turn_bytes_max),
            (Queue::Backlog, slice),
            // Their own: their sockets count until they have been read to the end.
            (Queue::Leaving, slice.saturating_mul(LEAVING_SLICES)),
        ] {
            for _ in 0..self.connections.queue_len(queue) {
                if budget == 0 {
                    break;
                }
                if let Some(conn) = self.connections.next_of(queue) {
                    budget = budget.saturating_sub(self.serve(core, conn));
                }
            }
        }
    }

    /// One read, and all that comes of it. Returns what it has cost of the turn's budget.
    fn serve(&mut self, core: &mut Core, conn: ConnId) -> usize {
        let now = core.now().instant;
        let mut buffer = std::mem::take(&mut self.read_buffer.0);
        let (len, ended) = self.connections.fill(conn, &mut buffer, now);
        let mut cost = READ_COST_BYTES + len;
        let mut input = Intake::new(&mut buffer[..len]);
        let mut events = 0;
        while events < EVENTS_MAX
            && let Some(event) = self.connections.next_event(conn, &mut input, now)
        {
            events += 1;
            cost += EVENT_COST_BYTES;
            self.handle_event(core, conn, event);
            // Most reads bring one message.
            if input.rest().is_empty() {
                break;
            }
        }
        if events == EVENTS_MAX {
            self.connections.hold_back(conn, input.rest());
        }
        if let Some(event) = ended {
            self.handle_event(core, conn, event);
        }
        self.connections.served(conn, input);
        self.read_buffer.0 = buffer;
        cost
    }
}

/// What a read costs of a turn's budget beside its bytes, however little it brings.
const READ_COST_BYTES: usize = 1 << 10;

/// What is dropped costs little: so many slices of it take no longer than one of what is used.
const LEAVING_SLICES: usize = 8;

/// Messages and pings of one read before the next connection has its turn.
const EVENTS_MAX: usize = 64;

/// What a message or a ping costs beside its bytes: many small ones take longer than a large one.
const EVENT_COST_BYTES: usize = 128;
