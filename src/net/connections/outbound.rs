//! The way out: from answers, messages and Close frames to the kernel, and the end of a connection
//! that loses nothing which is still in flight.

use std::time::Instant;

use super::{Connections, live};
use crate::engine::io::{CloseReason, ConnId, Protocol};
use crate::net::frame;
use crate::net::http::Answer;

impl Connections {
    /// The request gets a 101: from here on it is a WebSocket.
    pub(crate) fn upgrade(&mut self, conn: ConnId, response: &[u8], now: Instant) {
        if let Some(connection) = live(&mut self.table, conn) {
            self.pool.lend_buffer(connection.socket.outbound());
            connection.socket.outbound().extend_from_slice(response);
            self.to_flush.insert(conn.slot);
            connection.open();
            // What came behind the head is input already: no edge will tell.
            self.queues.put_back(conn.slot, connection);
            self.watch(conn, now);
        }
    }

    /// The request is whole, and its answer takes a while: until then nothing more is read, and no
    /// deadline runs.
    pub(crate) fn await_answer(&mut self, conn: ConnId) {
        if let Some(connection) = self.get_mut(conn) {
            connection.set_paused(true);
            self.deadlines.clear(conn.slot);
        }
    }

    /// The request gets an answer, after which the connection is over.
    pub(crate) fn answer(&mut self, conn: ConnId, answer: &Answer, with_body: bool, now: Instant) {
        if let Some(connection) = live(&mut self.table, conn) {
            let bytes = answer.to_bytes(with_body, self.date.text());
            connection.socket.outbound().extend_from_slice(&bytes);
            self.linger(conn, now);
        }
    }

    /// The request gets an answer before it is whole.
    pub(super) fn answer_early(&mut self, conn: ConnId, answer: &Answer, why: &str, now: Instant) {
        if let Some(entrance) = self.entrance(conn) {
            let (number, status) = (conn.generation, answer.status);
            log::debug!("connection {number}: {status}{why}");
            self.counters.answered(entrance, status);
            self.answer(conn, answer, true, now);
        }
    }

    /// Queues a message; `reserved` ones go out whatever waits already. `false`: the peer reads too
    /// slowly, and must be closed for it.
    #[must_use]
    pub(crate) fn send(
        &mut self,
        conn: ConnId,
        payload: &[u8],
        binary: bool,
        reserved: bool,
    ) -> bool {
        if !reserved && !self.keeps_up(conn) {
            return false;
        }
        if let Some(connection) = live(&mut self.table, conn)
            && connection.is_websocket()
        {
            self.to_flush.insert(conn.slot);
            let outbound = connection.socket.outbound();
            self.pool.lend_buffer(outbound);
            if payload.len() < OFFERED_BYTES_MIN {
                frame::encode_message(payload, binary, outbound);
            } else {
                frame::encode_header_of_message(payload.len(), binary, outbound);
                self.counters.sent(connection.socket.offer(payload));
            }
        }
        true
    }

    /// What was queued last is a push. Of a client that cannot confirm it, it is to be told when the
    /// kernel has taken it.
    #[cold]
    pub(crate) fn push_queued(&mut self, conn: ConnId, protocol: Protocol) {
        if protocol != Protocol::V2 && live(&mut self.table, conn).is_some() {
            self.pushed.insert(conn.slot);
        }
    }

    /// Whether no more than `outbound_bytes_max` waits for a peer. A fast reader's burst within
    /// one turn is no fault: what waits is offered to the kernel first.
    pub(super) fn keeps_up(&mut self, conn: ConnId) -> bool {
        let limit = self.limits.outbound_bytes_max;
        let Some(connection) = live(&mut self.table, conn) else {
            return true;
        };
        if connection.socket.unsent() > limit {
            self.counters.sent(connection.socket.flush());
        }
        !connection.is_websocket() || connection.socket.unsent() <= limit
    }

    /// Queues a Close frame: there is room for it, whatever waits already. What the peer sends is
    /// read on until its own Close; within `close_timeout`, if `bounded`.
    pub(crate) fn close(
        &mut self,
        conn: ConnId,
        reason: &CloseReason,
        bounded: bool,
        now: Instant,
    ) {
        if let Some(connection) = live(&mut self.table, conn)
            && connection.close(reason)
        {
            if connection.count_end() {
                let (number, code) = (conn.generation, reason.code());
                log::debug!("connection {number}: Close {code} by us: {}", reason.text());
                self.counters.closed(reason);
            }
            self.to_flush.insert(conn.slot);
            if bounded {
                self.bound_closing(conn, now);
            }
        }
    }

    /// Nothing more is owed to a peer that has closed: its Close is answered, then ours follows.
    pub(crate) fn finish(&mut self, conn: ConnId, now: Instant) {
        if let Some(connection) = live(&mut self.table, conn) {
            connection.close(&CloseReason::of(1000, ""));
        }
        self.linger(conn, now);
    }

    /// Closes a peer that has broken a rule: Close frame, then linger. What it has sent is not used
    /// any more.
    pub(crate) fn fail(&mut self, conn: ConnId, reason: &CloseReason, now: Instant) {
        self.close(conn, reason, false, now);
        self.linger(conn, now);
    }

    /// Answers all requests that are not whole yet.
    pub(crate) fn dismiss_strangers(&mut self, answer: &Answer, now: Instant) {
        for conn in self.all() {
            if let Some(connection) = self.get_mut(conn)
                && connection.request().is_some()
            {
                self.answer_early(conn, answer, " before its request was whole", now);
            }
        }
    }

    /// Writes out everything that was queued in this turn, each connection once.
    pub(crate) fn flush(&mut self, now: Instant) {
        for slot in self.to_flush.drain() {
            let Some(connection) = self.table.get_mut(slot) else {
                continue;
            };
            self.counters.sent(connection.socket.flush());
            connection.count_outbound(&mut self.memory);
            if connection.socket.unsent() > 0 {
                // A shutdown waits for clients only.
                if connection.is_websocket() {
                    self.unsent.insert(slot);
                }
                continue;
            }
            self.unsent.remove(slot);
            if self.pushed.contains(slot) {
                self.pushed.remove(slot);
                self.taken.push(connection.id_at(slot));
            }
            self.pool.keep_buffer(connection.socket.outbound());
            if let Some(kind) = connection.half_close() {
                self.deadlines.set(slot, kind, now);
            }
            // The next read tells of a broken pipe.
            if connection.socket.is_readable() {
                self.queues.enlist(slot, connection);
            }
        }
    }

    fn linger(&mut self, conn: ConnId, now: Instant) {
        if let Some(connection) = live(&mut self.table, conn) {
            if connection.linger() {
                let kind = connection.entrance().sending();
                self.deadlines.set(conn.slot, kind, now);
            }
            connection.count_received(&mut self.memory);
            self.unsent.remove(conn.slot);
            self.queues.enlist(conn.slot, connection);
            self.to_flush.insert(conn.slot);
        }
    }
}

/// A payload of this size is offered to the kernel before it is copied: from here on, to copy it and
/// to find memory for that takes longer than a call of its own. Smaller ones leave at the end of the
/// turn, many with one call.
const OFFERED_BYTES_MIN: usize = 32 << 10;
