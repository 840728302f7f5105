//! The way in: from the kernel's bytes to requests, messages and the end of a connection.
//!
//! One read at a time, into a buffer that all connections share; what a connection cannot use at
//! once stays in its own stash, and only there.

use std::time::Instant;

use super::{Connections, live};
use crate::config::Limits;
use crate::engine::io::{CloseReason, ConnId};
use crate::engine::message::Message;
use crate::net::connection::Entrance;
use crate::net::counters;
use crate::net::frame;
use crate::net::handshake;
use crate::net::http::{self, Head};
use crate::net::intake::Intake;
use crate::net::read_queues::Queue;
use crate::net::reader::{Reader, Received};
use crate::net::socket::ReadOutcome;

/// What a connection has brought.
#[derive(Debug)]
pub(crate) enum Event<'a> {
    /// A request is complete; `decide` on it. Only operators' requests have a body.
    Request(Box<Head>, Vec<u8>),
    /// A data message, lent from what was read.
    Message(Message<'a>),
    /// A control frame, which has been answered if it had to be.
    Control,
    /// The peer has closed its side: by a Close frame, or by a bare FIN.
    PeerClosed { by_frame: bool },
    /// The connection is over; the engine can forget it.
    Gone,
}

impl Connections {
    /// The next connection of a queue, for one read.
    pub(crate) fn next_of(&mut self, queue: Queue) -> Option<ConnId> {
        let slot = self.queues.pop(queue)?;
        let connection = self.table.get_mut(slot)?;
        connection.set_queued(false);
        if connection.is_dead() {
            self.dead.push(slot);
            return None;
        }
        Some(connection.id_at(slot))
    }

    /// Fills `buffer` from a connection: what it holds back from before, or one read. Returns how
    /// many bytes there are to give to `next_event`, and what the read itself has told.
    pub(crate) fn fill(
        &mut self,
        conn: ConnId,
        buffer: &mut [u8],
        now: Instant,
    ) -> (usize, Option<Event<'static>>) {
        let Some(connection) = self.get_mut(conn) else {
            return (0, None);
        };
        if connection.is_paused() {
            return (0, self.check_hang_up(conn, now));
        }
        if connection.holds_input() {
            return (connection.take_held(buffer), None);
        }
        if !connection.socket.is_readable() {
            return (0, None);
        }
        let is_open = connection.is_open();
        match connection.read(buffer) {
            ReadOutcome::Bytes(len) => {
                self.counters.received(len);
                if is_open {
                    self.heard_at = Some(now);
                }
                (len, None)
            }
            ReadOutcome::Empty => (0, None),
            outcome @ (ReadOutcome::End | ReadOutcome::Broken) => {
                (0, self.ended(conn, outcome, now))
            }
        }
    }

    /// What the bytes in `input`, which is used up, make of a connection. Call until `None`.
    pub(crate) fn next_event<'a>(
        &mut self,
        conn: ConnId,
        input: &'a mut Intake<'_>,
        now: Instant,
    ) -> Option<Event<'a>> {
        let message_bytes_max = self.limits.message_bytes_max;
        let connection = live(&mut self.table, conn)?;
        if !connection.is_open() {
            let event = self.next_request(conn, input.rest(), now);
            input.clear();
            return event;
        }
        if connection.is_paused() {
            connection.hold_back(input.rest());
            input.clear();
            return None;
        }
        match connection.receive(input, message_bytes_max, self.pool.spare()) {
            Received::Message(message) => Some(Event::Message(message)),
            Received::Nothing => None,
            Received::Pong => Some(Event::Control),
            Received::Ping => Some(self.answered_ping(conn, now)),
            Received::Closed => {
                self.count_peer_close(conn);
                self.deafen(conn, now);
                Some(Event::PeerClosed { by_frame: true })
            }
            Received::Failed(reason) => {
                self.fail(conn, &reason, now);
                Some(Event::Gone)
            }
        }
    }

    /// Pongs are queued like everything else, and bounded like it.
    fn answered_ping(&mut self, conn: ConnId, now: Instant) -> Event<'static> {
        self.to_flush.insert(conn.slot);
        if self.keeps_up(conn) {
            return Event::Control;
        }
        self.fail(conn, &CloseReason::TooSlow, now);
        Event::Gone
    }

    /// What these bytes make of a request, if one is being received.
    fn next_request(&mut self, conn: ConnId, bytes: &[u8], now: Instant) -> Option<Event<'static>> {
        let head_bytes_max = self.limits.request_head_bytes_max;
        let connection = live(&mut self.table, conn)?;
        let entrance = connection.entrance();
        let request = connection.request()?;
        let received = match entrance {
            Entrance::Public => request.receive(bytes, head_bytes_max),
            Entrance::Admin => {
                request.receive_with_body(bytes, head_bytes_max, Limits::BROADCAST_BYTES_MAX)
            }
        };
        match received {
            Ok(None) => {
                if request.take_expectation() {
                    let outbound = connection.socket.outbound();
                    outbound.extend_from_slice(http::CONTINUE);
                    self.to_flush.insert(conn.slot);
                }
                None
            }
            Ok(Some((head, rest))) => {
                let (behind, body) = match entrance {
                    Entrance::Public => (rest, Vec::new()),
                    Entrance::Admin => (Vec::new(), rest),
                };
                connection.hold_back(&behind);
                Some(Event::Request(Box::new(head), body))
            }
            Err(bad) => {
                let answer = handshake::answer_bad_head(bad);
                let why = self.why_bad(conn, bad);
                self.answer_early(conn, &answer, &why, now);
                None
            }
        }
    }

    /// What a connection has brought and has had no time for: it comes first when it has its turn
    /// again.
    pub(crate) fn hold_back(&mut self, conn: ConnId, input: &[u8]) {
        if let Some(connection) = self.get_mut(conn)
            && connection.is_open()
        {
            connection.hold_back(input);
        }
    }

    /// This has been used: what is read next depends on what it was. A connection that may have more
    /// input gets its place for that, and one that has nothing under way is at rest until more
    /// comes.
    pub(crate) fn served(&mut self, conn: ConnId, mut input: Intake<'_>) {
        if let Some(buffer) = input.take_buffer() {
            self.pool.keep_spare(buffer);
        }
        let read_bytes_max = self.limits.read_bytes_max;
        if let Some(connection) = live(&mut self.table, conn) {
            connection.adapt(input.used(), input.frames(), read_bytes_max);
            connection.rest();
            connection.count_received(&mut self.memory);
            self.queues.put_back(conn.slot, connection);
        }
    }

    /// Stops reading from a connection, or goes on.
    pub(crate) fn set_paused(&mut self, conn: ConnId, paused: bool, now: Instant) {
        let Some(connection) = self.get_mut(conn) else {
            return;
        };
        connection.set_paused(paused);
        if !paused && connection.unbound_close() {
            self.watch(conn, now);
        }
        // No edge will tell of what came in the meantime.
        if let Some(connection) = live(&mut self.table, conn)
            && (paused && connection.socket.has_hung_up() || !paused && connection.may_have_more())
        {
            self.queues.enlist(conn.slot, connection);
        }
    }

    /// A connection that is not read from has hung up. If nothing of it is left to be read, it has
    /// ended; else what is left has `close_timeout` to be read.
    fn check_hang_up(&mut self, conn: ConnId, now: Instant) -> Option<Event<'static>> {
        let connection = self.get_mut(conn)?;
        if !connection.socket.has_hung_up() {
            return None;
        }
        let (is_open, holds_input) = (connection.is_open(), connection.holds_input());
        match connection.socket.peek() {
            ReadOutcome::Broken => self.ended(conn, ReadOutcome::Broken, now),
            // An operator may close its side, and wait for its answer.
            ReadOutcome::Bytes(_) | ReadOutcome::Empty | ReadOutcome::End if !is_open => None,
            ReadOutcome::End if !holds_input => self.ended(conn, ReadOutcome::End, now),
            ReadOutcome::Bytes(_) | ReadOutcome::Empty | ReadOutcome::End => {
                self.bound_closing(conn, now);
                None
            }
        }
    }

    /// The socket has nothing more to read, ever.
    fn ended(
        &mut self,
        conn: ConnId,
        outcome: ReadOutcome,
        now: Instant,
    ) -> Option<Event<'static>> {
        let connection = self.get_mut(conn)?;
        let (is_open, is_websocket) = (connection.is_open(), connection.is_websocket());
        let has_unsent = connection.socket.unsent() > 0;
        if is_websocket && connection.count_end() {
            let number = conn.generation;
            log::debug!("connection {number}: lost, without a Close");
            self.counters.lost();
        }
        if outcome == ReadOutcome::End && is_open {
            self.deafen(conn, now);
            return Some(Event::PeerClosed { by_frame: false });
        }
        // A half-closed peer may still read what is left for it.
        if outcome == ReadOutcome::End && (is_websocket || has_unsent) {
            return None;
        }
        self.kill(conn.slot);
        is_websocket.then_some(Event::Gone)
    }

    fn count_peer_close(&mut self, conn: ConnId) {
        if let Some(connection) = self.get_mut(conn)
            && connection.count_end()
        {
            let payload = connection.reader().and_then(Reader::close_payload);
            let code = payload.and_then(frame::close_code);
            let (number, shown) = (conn.generation, code.unwrap_or(counters::NO_STATUS));
            log::debug!("connection {number}: Close {shown} by its peer");
            self.counters.closed_by_peer(code);
        }
    }

    /// The peer has closed its side. It must read what is still queued for it within `close_timeout`.
    fn deafen(&mut self, conn: ConnId, now: Instant) {
        if let Some(connection) = self.get_mut(conn)
            && connection.deafen()
        {
            self.bound_closing(conn, now);
        }
    }
}
