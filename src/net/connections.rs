//! All sockets that were accepted: the slab, the lists that say who has work, and their deadlines.
//!
//! It owns every connection from accept to free. Nothing is freed before [`Connections::reap`], the
//! last step of the turn, so that an event or an output can never reach a later tenant of a slot.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Interest, Registry};
use slab::Slab;

use super::connection::{Connection, Entrance, Phase, ReadOutcome};
use super::http::{self, Answer, Head};
use super::token::Source;
use super::websocket::{self, Received, WebSocket};
use crate::config::Limits;
use crate::engine::io::{CloseReason, ConnId};
use crate::slots::SlotSet;

/// Every socket, and who has work.
#[derive(Debug)]
pub(crate) struct Connections {
    slab: Slab<Connection>,
    next_generation: u32,
    limits: Limits,
    /// Connections with input to process, in the order in which it came.
    ready: VecDeque<u32>,
    /// Connections with output to flush in this turn.
    dirty: Vec<u32>,
    /// Connections whose output the kernel has not taken.
    unsent: SlotSet,
    /// Connections to free at the end of the turn.
    dead: Vec<u32>,
    handshakes: Deadlines,
    closings: Deadlines,
    lingerings: Deadlines,
    idle: Deadlines,
    /// When a WebSocket peer was last heard.
    heard_at: Option<Instant>,
}

/// What a connection has brought.
#[derive(Debug)]
pub(crate) enum Event {
    /// A request head is complete; `decide` on it.
    Request(Box<Head>),
    /// A data message.
    Message(tungstenite::Message),
    /// The peer has closed its side: by a Close frame, or by a bare FIN.
    PeerClosed { by_frame: bool },
    /// The connection is over; the engine can forget it.
    Gone,
}

/// Deadlines that all lie equally far ahead when they are set: first in, first due.
#[derive(Debug)]
struct Deadlines {
    after: Duration,
    queue: VecDeque<(Instant, ConnId)>,
}

/// An idle peer is looked at so many times in an idle timeout.
const IDLE_CHECKS: u32 = 4;

impl Connections {
    /// No connections.
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            slab: Slab::new(),
            next_generation: 0,
            limits,
            ready: VecDeque::new(),
            dirty: Vec::new(),
            unsent: SlotSet::default(),
            dead: Vec::new(),
            handshakes: Deadlines::new(limits.handshake_timeout),
            closings: Deadlines::new(limits.close_timeout),
            lingerings: Deadlines::new(limits.linger_timeout),
            idle: Deadlines::new(limits.idle_timeout / IDLE_CHECKS),
            heard_at: None,
        }
    }

    /// How many sockets are open, of every kind.
    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }

    /// Connections with output that the kernel has not taken.
    pub(crate) fn unsent_len(&self) -> usize {
        self.unsent.len()
    }

    /// Connections with input to process.
    pub(crate) fn ready_len(&self) -> usize {
        self.ready.len()
    }

    /// When a WebSocket peer was last heard.
    pub(crate) fn heard_at(&self) -> Option<Instant> {
        self.heard_at
    }

    /// Where a connection came in.
    pub(crate) fn entrance(&self, conn: ConnId) -> Option<Entrance> {
        self.slab
            .get(conn.slot as usize)
            .map(|connection| connection.entrance)
    }

    /// Takes in a socket that was accepted.
    pub(crate) fn insert(
        &mut self,
        socket: TcpStream,
        entrance: Entrance,
        registry: &Registry,
        now: Instant,
    ) {
        let generation = self.next_generation;
        self.next_generation = self.next_generation.wrapping_add(1);
        let entry = self.slab.vacant_entry();
        let slot = entry.key() as u32;
        let connection = entry.insert(Connection::new(socket, generation, entrance, now));
        let token = Source::Connection(slot).token();
        // Once and for all: no further system call when what it waits for changes.
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = registry.register(&mut connection.socket, token, interest) {
            log::warn!("cannot watch a connection: {error}");
            self.kill(slot);
            return;
        }
        self.handshakes.push(ConnId { slot, generation }, now);
    }

    /// The kernel has said something about a connection.
    pub(crate) fn handle_ready(&mut self, slot: u32, event: &mio::event::Event) {
        let Some(connection) = self.slab.get_mut(slot as usize) else {
            return;
        };
        if event.is_writable() {
            connection.unblock();
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            connection.readable = true;
            connection.hung_up |= event.is_read_closed() || event.is_error();
        }
        let (readable, writable) = (connection.readable, connection.unsent() > 0);
        if readable {
            self.enlist(slot);
        }
        if writable {
            self.mark_dirty(slot);
        }
    }

    /// The next connection with input, for one read.
    pub(crate) fn next_ready(&mut self) -> Option<ConnId> {
        while let Some(slot) = self.ready.pop_front() {
            if let Some(connection) = self.slab.get_mut(slot as usize) {
                connection.listed = false;
                return Some(ConnId {
                    slot,
                    generation: connection.generation,
                });
            }
        }
        None
    }

    /// Fills `buffer` from a connection: what it holds back from before, or one read. Answers how
    /// many bytes there are to give to `next_event`, and what the read itself has told.
    pub(crate) fn fill(
        &mut self,
        conn: ConnId,
        buffer: &mut [u8],
        now: Instant,
    ) -> (usize, Option<Event>) {
        let Some(connection) = self.get_mut(conn) else {
            return (0, None);
        };
        if connection.paused {
            return (0, None);
        }
        if std::mem::take(&mut connection.resumed) && connection.stash.is_empty() {
            // First what tungstenite holds already; the socket may have come to its end.
            return (0, None);
        }
        if !connection.stash.is_empty() {
            let len = connection.stash.len().min(buffer.len());
            buffer[..len].copy_from_slice(&connection.stash[..len]);
            connection.stash.drain(..len);
            return (len, None);
        }
        if !connection.readable {
            return (0, None);
        }
        let outcome = connection.read(buffer);
        let websocket = matches!(connection.phase, Phase::Open(_));
        match outcome {
            ReadOutcome::Bytes(len) => {
                connection.heard_at = now;
                connection.pinged = false;
                if websocket {
                    self.heard_at = Some(now);
                }
                (len, None)
            }
            ReadOutcome::Empty => (0, None),
            ReadOutcome::End | ReadOutcome::Broken => (0, self.ended(conn, outcome, now)),
        }
    }

    /// What the bytes in `input`, which is advanced, make of a connection. Call until `None`.
    pub(crate) fn next_event(
        &mut self,
        conn: ConnId,
        input: &mut &[u8],
        now: Instant,
    ) -> Option<Event> {
        let limits = self.limits;
        let connection = self.get_mut(conn)?;
        match &mut connection.phase {
            Phase::Open(_) if connection.paused => {
                // It goes before what the stash still holds.
                connection.stash.splice(..0, input.iter().copied());
                *input = &[];
                None
            }
            Phase::Open(websocket) => {
                let unsent = connection.outbound.len();
                let received = websocket.receive(input, &mut connection.outbound);
                let answered = connection.outbound.len() > unsent;
                if answered {
                    self.mark_dirty(conn.slot);
                }
                self.received(conn, received, now)
            }
            Phase::Handshake { head } => {
                let old_len = head.len();
                head.extend_from_slice(input);
                *input = &[];
                if head.len() == old_len
                    || !http::worth_parsing(head, old_len, limits.request_head_bytes_max)
                {
                    return None;
                }
                match http::parse(head, limits.request_head_bytes_max) {
                    Ok(None) => None,
                    Ok(Some((request, len))) => {
                        connection.stash = head.split_off(len);
                        Some(Event::Request(Box::new(request)))
                    }
                    Err(bad) => {
                        self.answer(conn, &super::handshake::answer_bad_head(bad), true, now);
                        None
                    }
                }
            }
            Phase::Deaf(_) | Phase::Lingering { .. } | Phase::Dead => {
                *input = &[];
                None
            }
        }
    }

    /// Puts a connection that may have more input at the end of the ready list.
    pub(crate) fn put_back(&mut self, conn: ConnId) {
        if let Some(connection) = self.get_mut(conn)
            && !connection.paused
            && (connection.readable || !connection.stash.is_empty())
        {
            self.enlist(conn.slot);
        }
    }

    /// The request gets a 101: from here on it is a WebSocket.
    pub(crate) fn upgrade(&mut self, conn: ConnId, response: &[u8], now: Instant) {
        let websocket = WebSocket::new(self.limits.message_bytes_max);
        if let Some(connection) = self.get_mut(conn) {
            connection.outbound.extend_from_slice(response);
            connection.phase = Phase::Open(Box::new(websocket));
            self.mark_dirty(conn.slot);
            // What came behind the head is input already: no edge will tell.
            self.put_back(conn);
            if self.idle.after > Duration::ZERO {
                self.idle.push(conn, now);
            }
        }
    }

    /// The request gets an answer, after which the connection is over.
    pub(crate) fn answer(&mut self, conn: ConnId, answer: &Answer, with_body: bool, now: Instant) {
        if let Some(connection) = self.get_mut(conn) {
            connection
                .outbound
                .extend_from_slice(&answer.to_bytes(with_body));
            self.linger(conn, now);
        }
    }

    /// Queues a message. `false`: the peer reads too slowly, and was closed for it.
    #[must_use]
    pub(crate) fn send(&mut self, conn: ConnId, payload: &[u8], binary: bool) -> bool {
        let limit = self.limits.outbound_bytes_max;
        let Some(connection) = self.get_mut(conn) else {
            return true;
        };
        if connection.websocket().is_none() {
            return true;
        }
        if connection.unsent() > limit {
            // A fast reader's burst within one turn is no fault: offer it to the kernel first.
            connection.flush();
        }
        if connection.unsent() > limit {
            return false;
        }
        websocket::encode_message(payload, binary, &mut connection.outbound);
        self.mark_dirty(conn.slot);
        true
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
        let Some(connection) = self.get_mut(conn) else {
            return;
        };
        if let Phase::Open(websocket) | Phase::Deaf(websocket) = &mut connection.phase {
            websocket.close(reason, &mut connection.outbound);
            self.mark_dirty(conn.slot);
            if bounded {
                self.closings.push(conn, now);
            }
        }
    }

    /// Nothing more is owed to a peer that has closed: its Close is answered, then ours follows.
    pub(crate) fn finish(&mut self, conn: ConnId, now: Instant) {
        let Some(connection) = self.get_mut(conn) else {
            return;
        };
        if let Phase::Open(websocket) | Phase::Deaf(websocket) = &mut connection.phase {
            websocket.close(&CloseReason::of(1000, ""), &mut connection.outbound);
        }
        self.linger(conn, now);
    }

    /// Closes a peer that has broken a rule: Close frame, then linger. What it has sent is not used
    /// any more.
    pub(crate) fn fail(&mut self, conn: ConnId, reason: &CloseReason, now: Instant) {
        self.close(conn, reason, false, now);
        self.linger(conn, now);
    }

    /// Stops reading from a connection, or goes on.
    pub(crate) fn set_paused(&mut self, conn: ConnId, paused: bool) {
        if let Some(connection) = self.get_mut(conn) {
            connection.paused = paused;
            if !paused {
                connection.resumed = true;
                // tungstenite may hold a message that was received whole: no edge will tell.
                self.enlist(conn.slot);
            }
        }
    }

    /// Sends away everyone who has not got as far as a WebSocket.
    pub(crate) fn dismiss_strangers(&mut self, answer: &Answer, now: Instant) {
        for conn in self.all() {
            if let Some(connection) = self.get_mut(conn)
                && let Phase::Handshake { .. } = connection.phase
            {
                self.answer(conn, answer, true, now);
            }
        }
    }

    /// Cuts every connection that is left, without more ado.
    pub(crate) fn cut_all(&mut self) {
        for conn in self.all() {
            self.kill(conn.slot);
        }
    }

    /// Writes out everything that was queued in this turn, each connection once.
    pub(crate) fn flush(&mut self) {
        for slot in std::mem::take(&mut self.dirty) {
            let Some(connection) = self.slab.get_mut(slot as usize) else {
                continue;
            };
            connection.dirty = false;
            connection.flush();
            if connection.unsent() > 0 {
                self.unsent.insert(slot);
                continue;
            }
            self.unsent.remove(slot);
            if let Phase::Lingering { half_closed } = &mut connection.phase
                && !*half_closed
            {
                *half_closed = true;
                connection.half_close();
                connection.readable = true;
            }
            // A broken pipe is told by reading.
            if connection.readable {
                self.enlist(slot);
            }
        }
    }

    /// Cuts who has had its time; answers the WebSocket connections among them.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Vec<ConnId> {
        let mut lost = Vec::new();
        while let Some(conn) = self.handshakes.pop_due(now) {
            let Some(connection) = self.get_mut(conn) else {
                continue;
            };
            match &connection.phase {
                Phase::Handshake { head } if head.is_empty() => self.kill(conn.slot),
                Phase::Handshake { .. } => {
                    self.answer(conn, &Answer::json(408, "request timeout"), true, now);
                }
                Phase::Open(_) | Phase::Deaf(_) | Phase::Lingering { .. } | Phase::Dead => {}
            }
        }
        while let Some(conn) = self.lingerings.pop_due(now) {
            if self.get_mut(conn).is_some() {
                self.kill(conn.slot);
            }
        }
        while let Some(conn) = self.closings.pop_due(now) {
            if self
                .get_mut(conn)
                .is_some_and(|connection| connection.websocket().is_some())
            {
                self.kill(conn.slot);
                lost.push(conn);
            }
        }
        while let Some(conn) = self.idle.pop_due(now) {
            lost.extend(self.check_idle(conn, now));
        }
        lost
    }

    /// When `handle_timeout` wants to be called next.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        [
            &self.handshakes,
            &self.closings,
            &self.lingerings,
            &self.idle,
        ]
        .into_iter()
        .filter_map(Deadlines::next)
        .min()
    }

    /// The oldest handshake makes room: it has had the most time.
    pub(crate) fn evict_handshake(&mut self) {
        while let Some((_, conn)) = self.handshakes.queue.pop_front() {
            if let Some(connection) = self.get_mut(conn)
                && let Phase::Handshake { .. } = connection.phase
            {
                self.kill(conn.slot);
                return;
            }
        }
    }

    /// Frees what is over: the last step of the turn.
    pub(crate) fn reap(&mut self, registry: &Registry) {
        for slot in std::mem::take(&mut self.dead) {
            self.unsent.remove(slot);
            if let Some(mut connection) = self.slab.try_remove(slot as usize)
                && let Err(error) = registry.deregister(&mut connection.socket)
            {
                log::trace!("deregister: {error}");
            }
        }
        if self.slab.is_empty() {
            // After a crowd: give the memory back.
            self.slab.shrink_to_fit();
        }
    }

    fn received(&mut self, conn: ConnId, received: Received, now: Instant) -> Option<Event> {
        match received {
            Received::Nothing => None,
            Received::Message(message) => Some(Event::Message(message)),
            Received::Closed => {
                self.deafen(conn, now);
                Some(Event::PeerClosed { by_frame: true })
            }
            Received::Failed(reason) => {
                self.fail(conn, &reason, now);
                Some(Event::Gone)
            }
        }
    }

    /// The socket has nothing more to read, ever.
    fn ended(&mut self, conn: ConnId, outcome: ReadOutcome, now: Instant) -> Option<Event> {
        let connection = self.get_mut(conn)?;
        let open = matches!(connection.phase, Phase::Open(_));
        let deaf = matches!(connection.phase, Phase::Deaf(_));
        let unsent = connection.unsent() > 0;
        if outcome == ReadOutcome::End && open {
            self.deafen(conn, now);
            return Some(Event::PeerClosed { by_frame: false });
        }
        // A half-closed peer may still read what is left for it.
        let may_read = outcome == ReadOutcome::End && (deaf || unsent);
        if may_read {
            return None;
        }
        self.kill(conn.slot);
        (open || deaf).then_some(Event::Gone)
    }

    /// The peer has had its say. What is still owed to it, it must take within `close_timeout`.
    fn deafen(&mut self, conn: ConnId, now: Instant) {
        if let Some(connection) = self.get_mut(conn)
            && let Phase::Open(_) = connection.phase
            && let Phase::Open(websocket) = std::mem::replace(&mut connection.phase, Phase::Dead)
        {
            connection.phase = Phase::Deaf(websocket);
            connection.stash = Vec::new();
            self.closings.push(conn, now);
        }
    }

    fn linger(&mut self, conn: ConnId, now: Instant) {
        if let Some(connection) = self.get_mut(conn) {
            connection.phase = Phase::Lingering { half_closed: false };
            connection.stash = Vec::new();
            connection.paused = false;
            connection.readable = true;
            self.enlist(conn.slot);
            self.mark_dirty(conn.slot);
            self.lingerings.push(conn, now);
        }
    }

    fn check_idle(&mut self, conn: ConnId, now: Instant) -> Option<ConnId> {
        let timeout = self.limits.idle_timeout;
        let connection = self.get_mut(conn)?;
        let silent = now.saturating_duration_since(connection.heard_at);
        let Phase::Open(_) = connection.phase else {
            return None;
        };
        if connection.paused {
            // It is not read from: its silence says nothing.
            connection.heard_at = now;
        } else if silent >= timeout {
            self.fail(conn, &CloseReason::IDLE, now);
            return Some(conn);
        } else if silent >= timeout / 2 && !connection.pinged {
            connection.pinged = true;
            websocket::encode_ping(&mut connection.outbound);
            self.mark_dirty(conn.slot);
        }
        self.idle.push(conn, now);
        None
    }

    fn kill(&mut self, slot: u32) {
        if let Some(connection) = self.slab.get_mut(slot as usize)
            && !matches!(connection.phase, Phase::Dead)
        {
            connection.phase = Phase::Dead;
            self.dead.push(slot);
        }
    }

    fn enlist(&mut self, slot: u32) {
        if let Some(connection) = self.slab.get_mut(slot as usize)
            && !connection.listed
            && !connection.paused
        {
            connection.listed = true;
            self.ready.push_back(slot);
        }
    }

    fn mark_dirty(&mut self, slot: u32) {
        if let Some(connection) = self.slab.get_mut(slot as usize)
            && !connection.dirty
        {
            connection.dirty = true;
            self.dirty.push(slot);
        }
    }

    fn get_mut(&mut self, conn: ConnId) -> Option<&mut Connection> {
        self.slab
            .get_mut(conn.slot as usize)
            .filter(|connection| connection.generation == conn.generation)
            .filter(|connection| !matches!(connection.phase, Phase::Dead))
    }

    fn all(&self) -> Vec<ConnId> {
        self.slab
            .iter()
            .map(|(slot, connection)| ConnId {
                slot: slot as u32,
                generation: connection.generation,
            })
            .collect()
    }
}

impl Deadlines {
    fn new(after: Duration) -> Self {
        Self {
            after,
            queue: VecDeque::new(),
        }
    }

    fn push(&mut self, conn: ConnId, now: Instant) {
        self.queue.push_back((now + self.after, conn));
    }

    fn next(&self) -> Option<Instant> {
        self.queue.front().map(|(deadline, _)| *deadline)
    }

    fn pop_due(&mut self, now: Instant) -> Option<ConnId> {
        let (deadline, conn) = *self.queue.front()?;
        if deadline > now {
            return None;
        }
        self.queue.pop_front();
        Some(conn)
    }
}
