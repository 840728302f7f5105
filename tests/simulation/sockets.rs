//! A process's sockets: what `src/net` does with bytes, done with frames. It keeps the same lists
//! under the same rules, since the levels that end the phases of a shutdown are their lengths.

use std::collections::{BTreeSet, VecDeque};
use std::time::Instant;

use slab::Slab;
use sundown::Limits;
use sundown::engine::io::{CloseReason, ConnId, Protocol, SessionId};
use sundown::engine::message::ServerMessage;

use super::common::Common;
use super::network::{Ask, ClientFrame, ServerFrame, Side, SockId};

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Handshake,
    Open,
    Deaf,
    Lingering { half_closed: bool },
    Dead,
}

#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, as in src/net/connection.rs"
)]
struct Conn {
    sock: SockId,
    generation: u32,
    phase: Phase,
    outbound: VecDeque<(ServerFrame, usize)>,
    unsent: usize,
    /// Bytes of the first frame that the kernel has.
    taken: usize,
    readable: bool,
    blocked: bool,
    paused: bool,
    listed: bool,
    /// Its peer has closed its side, or the connection is broken.
    hung_up: bool,
    dirty: bool,
    /// A Close frame is on its way: there is never a second.
    close_queued: bool,
    end_seen: bool,
    fin_sent: bool,
    /// Until then, what it has sent before its end may still be read.
    left_until: Option<Instant>,
}

/// What a connection has brought.
#[derive(Debug)]
pub(crate) enum Brought {
    Request {
        protocol: Protocol,
        session: Option<SessionId>,
        received: u64,
    },
    Message(Ask),
    Received(u64),
    Leave,
    PeerClosed {
        by_frame: bool,
    },
    Gone,
}

/// All sockets of a process.
#[derive(Debug)]
pub(crate) struct Sockets {
    slab: Slab<Conn>,
    limits: Limits,
    next_generation: u32,
    ready: VecDeque<u32>,
    leaving: VecDeque<u32>,
    dirty: Vec<u32>,
    unsent: BTreeSet<u32>,
    /// Those that were sent a push which they cannot confirm, and those of them whose kernel has it.
    pushed: BTreeSet<u32>,
    taken: Vec<ConnId>,
    dead: Vec<u32>,
    closings: VecDeque<(Instant, ConnId)>,
    lingerings: VecDeque<(Instant, ConnId)>,
    pub(crate) heard_at: Option<Instant>,
}

impl Sockets {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            slab: Slab::new(),
            limits,
            next_generation: 0,
            ready: VecDeque::new(),
            leaving: VecDeque::new(),
            dirty: Vec::new(),
            unsent: BTreeSet::new(),
            pushed: BTreeSet::new(),
            taken: Vec::new(),
            dead: Vec::new(),
            closings: VecDeque::new(),
            lingerings: VecDeque::new(),
            heard_at: None,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }

    pub(crate) fn sock(&mut self, id: ConnId) -> Option<SockId> {
        self.get_mut(id).map(|conn| conn.sock)
    }

    pub(crate) fn unsent_len(&self) -> usize {
        self.unsent.len()
    }

    pub(crate) fn ready_len(&self) -> usize {
        self.ready.len()
    }

    pub(crate) fn poll_taken(&mut self) -> Option<ConnId> {
        self.taken.pop()
    }

    pub(crate) fn has_taken(&self) -> bool {
        !self.taken.is_empty()
    }

    pub(crate) fn reads_len(&self) -> usize {
        self.ready.len() + self.leaving.len()
    }

    pub(crate) fn insert(&mut self, common: &Common, sock: SockId) {
        let generation = self.next_generation;
        self.next_generation += 1;
        let slot = self.slab.insert(Conn {
            sock,
            generation,
            phase: Phase::Handshake,
            outbound: VecDeque::new(),
            unsent: 0,
            taken: 0,
            readable: common.network.is_readable(sock, Side::Server),
            blocked: false,
            paused: false,
            listed: false,
            hung_up: false,
            dirty: false,
            close_queued: false,
            end_seen: false,
            fin_sent: false,
            left_until: None,
        });
        if self.slab[slot].readable {
            self.enlist(slot as u32);
        }
    }

    /// The kernel has said something about a socket.
    pub(crate) fn handle_ready(&mut self, common: &Common, sock: SockId, readable: bool) {
        let of_sock = |(_, conn): &(usize, &Conn)| conn.sock == sock;
        let Some(slot) = self.slab.iter().find(of_sock).map(|(slot, _)| slot as u32) else {
            return;
        };
        let conn = &mut self.slab[slot as usize];
        conn.readable |= readable;
        conn.hung_up = has_hung_up(common, sock);
        conn.blocked &= readable;
        let writes = conn.unsent > 0;
        if readable {
            self.enlist(slot);
        }
        if writes {
            self.mark_dirty(slot);
        }
    }

    pub(crate) fn next_ready(&mut self) -> Option<ConnId> {
        while let Some(slot) = self.ready.pop_front().or_else(|| self.leaving.pop_front()) {
            if let Some(conn) = self.slab.get_mut(slot as usize) {
                conn.listed = false;
                let generation = conn.generation;
                return Some(ConnId { slot, generation });
            }
        }
        None
    }

    /// The next thing that a connection brings in this read.
    pub(crate) fn next_brought(&mut self, common: &mut Common, id: ConnId) -> Option<Brought> {
        let now = common.now.instant;
        let conn = self.get_mut(id)?;
        if conn.paused {
            return self.look(common, id);
        }
        if !conn.readable {
            return None;
        }
        let (sock, phase) = (conn.sock, conn.phase);
        let Some(frame) = common.read_up(sock) else {
            conn.readable = false;
            return self.ended(common, id);
        };
        let open = phase == Phase::Open;
        if !matches!(frame, ClientFrame::End) && open {
            self.heard_at = Some(now);
        }
        match frame {
            ClientFrame::Upgrade {
                protocol,
                session,
                received,
            } if phase == Phase::Handshake => Some(Brought::Request {
                protocol,
                session,
                received,
            }),
            ClientFrame::Message(ask) if open => Some(Brought::Message(ask)),
            ClientFrame::Leave if open => Some(Brought::Leave),
            ClientFrame::Received(number) if open => Some(Brought::Received(number)),
            ClientFrame::Ping if open => self.pong(common, id),
            ClientFrame::Close if open => {
                self.deafen(id, now);
                Some(Brought::PeerClosed { by_frame: true })
            }
            ClientFrame::End => {
                self.get_mut(id)?.end_seen = true;
                if open {
                    self.deafen(id, now);
                    return Some(Brought::PeerClosed { by_frame: false });
                }
                self.ended(common, id)
            }
            ClientFrame::Upgrade { .. }
            | ClientFrame::Message(_)
            | ClientFrame::Leave
            | ClientFrame::Received(_)
            | ClientFrame::Ping
            | ClientFrame::Close => None,
        }
    }

    /// A connection that is not read from: whether its peer has left.
    fn look(&mut self, common: &mut Common, id: ConnId) -> Option<Brought> {
        let at = common.now.instant + self.limits.close_timeout;
        let conn = self.get_mut(id).filter(|conn| conn.phase == Phase::Open)?;
        let sock = conn.sock;
        if common.network.is_broken(sock, Side::Server) {
            common.seen.note("reset while it was not read from");
            self.kill(id.slot);
            return Some(Brought::Gone);
        }
        if common.network.before_end(sock)? > 0 {
            if conn.left_until.is_none() {
                conn.left_until = Some(at);
                self.closings.push_back((at, id));
            }
            return None;
        }
        common.seen.note("ended while it was not read from");
        common.read_up(sock);
        conn.end_seen = true;
        self.deafen(id, common.now.instant);
        Some(Brought::PeerClosed { by_frame: false })
    }

    fn pong(&mut self, common: &mut Common, id: ConnId) -> Option<Brought> {
        common.seen.note("ping answered");
        self.queue(id, ServerFrame::Pong, 2);
        if self.keeps_up(common, id) {
            return None;
        }
        self.fail(common, id, &CloseReason::TooSlow);
        Some(Brought::Gone)
    }

    /// Nothing more can be read now: maybe ever.
    fn ended(&mut self, common: &Common, id: ConnId) -> Option<Brought> {
        let conn = self.get_mut(id)?;
        let broken = common.network.is_broken(conn.sock, Side::Server);
        let client = matches!(conn.phase, Phase::Open | Phase::Deaf);
        // A peer that has closed its side may still read what is left for it.
        let is_over = conn.end_seen && conn.unsent == 0 && !client;
        if !broken && !is_over {
            return None;
        }
        self.kill(id.slot);
        client.then_some(Brought::Gone)
    }

    pub(crate) fn put_back(&mut self, id: ConnId) {
        if let Some(conn) = self.get_mut(id)
            && conn.readable
            && !conn.paused
        {
            self.enlist(id.slot);
        }
    }

    pub(crate) fn set_paused(&mut self, common: &Common, id: ConnId, paused: bool) {
        if let Some(conn) = self.get_mut(id) {
            conn.paused = paused;
            conn.left_until = None;
            conn.hung_up = has_hung_up(common, conn.sock);
            conn.readable |= common.network.is_readable(conn.sock, Side::Server);
            self.enlist(id.slot);
        }
    }

    /// The request gets a 101.
    pub(crate) fn upgrade(&mut self, id: ConnId) {
        if let Some(conn) = self.get_mut(id) {
            conn.phase = Phase::Open;
            self.queue(id, ServerFrame::Upgraded, 120);
            self.put_back(id);
        }
    }

    /// The request gets a 503.
    pub(crate) fn refuse(&mut self, common: &Common, id: ConnId) {
        self.queue(id, ServerFrame::Refused, 120);
        self.linger(common, id);
    }

    /// `false`: the peer reads too slowly.
    pub(crate) fn send(
        &mut self,
        common: &mut Common,
        id: ConnId,
        protocol: Protocol,
        message: ServerMessage,
    ) -> bool {
        if !message.is_reserved() && !self.keeps_up(common, id) {
            return false;
        }
        if self.is_websocket(id) {
            let size = 2 + message.payload(protocol, &mut Vec::new()).len();
            if matches!(message, ServerMessage::Push(_)) && protocol != Protocol::V2 {
                self.pushed.insert(id.slot);
            }
            self.queue(id, ServerFrame::Message(message), size);
        }
        true
    }

    fn keeps_up(&mut self, common: &mut Common, id: ConnId) -> bool {
        let limit = self.limits.outbound_bytes_max;
        if self.get_mut(id).is_some_and(|conn| conn.unsent > limit) {
            self.write(common, id.slot);
        }
        !self.is_websocket(id) || self.get_mut(id).is_none_or(|conn| conn.unsent <= limit)
    }

    /// Queues a Close frame, unless there is one.
    pub(crate) fn close(
        &mut self,
        common: &Common,
        id: ConnId,
        reason: &CloseReason,
        bounded: bool,
    ) {
        if self.is_websocket(id)
            && let Some(conn) = self.get_mut(id)
        {
            if !std::mem::replace(&mut conn.close_queued, true) {
                let (code, text) = (reason.code(), reason.text().into_owned());
                let size = 4 + text.len();
                self.queue(id, ServerFrame::Close { code, text }, size);
            }
            if bounded {
                let at = common.now.instant + self.limits.close_timeout;
                self.closings.push_back((at, id));
            }
        }
    }

    pub(crate) fn finish(&mut self, common: &Common, id: ConnId) {
        self.close(common, id, &CloseReason::of(1000, ""), false);
        self.linger(common, id);
    }

    pub(crate) fn fail(&mut self, common: &mut Common, id: ConnId, reason: &CloseReason) {
        common.seen.note("reader too slow");
        self.close(common, id, reason, false);
        self.linger(common, id);
    }

    pub(crate) fn cut(&mut self, id: ConnId) {
        if self.get_mut(id).is_some() {
            self.kill(id.slot);
        }
    }

    pub(crate) fn dismiss_strangers(&mut self, common: &Common) {
        let strangers = self
            .slab
            .iter()
            .filter(|(_, conn)| conn.phase == Phase::Handshake);
        let ids: Vec<ConnId> = strangers
            .map(|(slot, conn)| ConnId {
                slot: slot as u32,
                generation: conn.generation,
            })
            .collect();
        for id in ids {
            self.refuse(common, id);
        }
    }

    /// Cuts who has had its time; answers the WebSocket connections among them.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Vec<ConnId> {
        while let Some(id) = pop_due(&mut self.lingerings, now) {
            self.cut(id);
        }
        let mut lost = Vec::new();
        while let Some(id) = pop_due(&mut self.closings, now) {
            // What was left of it is read after all.
            let stays = self.get_mut(id).is_some_and(|conn| {
                conn.phase == Phase::Open
                    && !conn.close_queued
                    && conn.left_until.is_none_or(|at| at > now)
            });
            if self.is_websocket(id) && !stays {
                self.kill(id.slot);
                lost.push(id);
            }
        }
        lost
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let closing = self.closings.front().map(|(at, _)| *at);
        let lingering = self.lingerings.front().map(|(at, _)| *at);
        closing.into_iter().chain(lingering).min()
    }

    /// Writes out what was queued in this turn, each connection once; whether there was any.
    pub(crate) fn flush(&mut self, common: &mut Common) -> bool {
        let dirty = std::mem::take(&mut self.dirty);
        let any = !dirty.is_empty();
        for slot in dirty {
            if !self.slab.contains(slot as usize) {
                continue;
            }
            self.slab[slot as usize].dirty = false;
            self.write(common, slot);
            let conn = &mut self.slab[slot as usize];
            if conn.unsent > 0 {
                if !matches!(conn.phase, Phase::Lingering { .. }) {
                    self.unsent.insert(slot);
                }
                continue;
            }
            self.unsent.remove(&slot);
            if self.pushed.remove(&slot) && conn.phase != Phase::Dead {
                let generation = conn.generation;
                self.taken.push(ConnId { slot, generation });
            }
            if conn.phase == (Phase::Lingering { half_closed: false }) {
                conn.phase = Phase::Lingering { half_closed: true };
                conn.readable = true;
                conn.fin_sent = true;
                common.put_down(conn.sock, ServerFrame::End, 0);
            }
            if conn.readable {
                self.enlist(slot);
            }
        }
        any
    }

    /// Nothing has been queued since the last flush.
    pub(crate) fn is_flushed(&self) -> bool {
        self.dirty.is_empty()
    }

    /// Frees what is over.
    pub(crate) fn reap(&mut self, common: &mut Common) {
        for slot in std::mem::take(&mut self.dead) {
            self.unsent.remove(&slot);
            self.pushed.remove(&slot);
            if let Some(conn) = self.slab.try_remove(slot as usize) {
                // A socket that is closed with unread input makes its kernel send a reset.
                let in_order = !common.network.is_readable(conn.sock, Side::Server);
                if in_order && !conn.fin_sent {
                    common.put_down(conn.sock, ServerFrame::End, 0);
                }
                common.close_sock(conn.sock, Side::Server, in_order);
            }
        }
    }

    /// The most that waits for one peer.
    pub(crate) fn unsent_bytes_max(&self) -> usize {
        let unsent = self.slab.iter().map(|(_, conn)| conn.unsent);
        unsent.max().unwrap_or(0)
    }

    /// Writes what waits, as far as the kernel takes it.
    fn write(&mut self, common: &mut Common, slot: u32) {
        let Some(conn) = self.slab.get_mut(slot as usize) else {
            return;
        };
        if common.network.is_broken(conn.sock, Side::Server) {
            conn.outbound.clear();
            (conn.unsent, conn.taken) = (0, 0);
            conn.readable = true;
            return;
        }
        while !conn.blocked && conn.unsent > 0 {
            let taken = common.take_down(conn.sock, conn.unsent);
            conn.unsent -= taken;
            conn.taken += taken;
            conn.blocked = conn.unsent > 0;
            while conn
                .outbound
                .front()
                .is_some_and(|(_, size)| *size <= conn.taken)
            {
                if let Some((frame, size)) = conn.outbound.pop_front() {
                    conn.taken -= size;
                    common.put_down(conn.sock, frame, size);
                }
            }
        }
    }

    fn queue(&mut self, id: ConnId, frame: ServerFrame, size: usize) {
        if let Some(conn) = self.get_mut(id) {
            conn.outbound.push_back((frame, size));
            conn.unsent += size;
            self.mark_dirty(id.slot);
        }
    }

    fn linger(&mut self, common: &Common, id: ConnId) {
        if let Some(conn) = self.get_mut(id) {
            conn.phase = Phase::Lingering { half_closed: false };
            conn.paused = false;
            conn.readable = true;
            self.unsent.remove(&id.slot);
            self.enlist(id.slot);
            self.mark_dirty(id.slot);
            let at = common.now.instant + self.limits.linger_timeout;
            self.lingerings.push_back((at, id));
        }
    }

    fn deafen(&mut self, id: ConnId, now: Instant) {
        if let Some(conn) = self.get_mut(id) {
            conn.phase = Phase::Deaf;
            let at = now + self.limits.close_timeout;
            self.closings.push_back((at, id));
        }
    }

    fn kill(&mut self, slot: u32) {
        if let Some(conn) = self.slab.get_mut(slot as usize)
            && conn.phase != Phase::Dead
        {
            conn.phase = Phase::Dead;
            self.dead.push(slot);
        }
    }

    fn enlist(&mut self, slot: u32) {
        if let Some(conn) = self.slab.get_mut(slot as usize)
            && !conn.listed
            && (!conn.paused || conn.hung_up)
        {
            conn.listed = true;
            if matches!(conn.phase, Phase::Lingering { .. }) {
                self.leaving.push_back(slot);
            } else {
                self.ready.push_back(slot);
            }
        }
    }

    fn mark_dirty(&mut self, slot: u32) {
        if let Some(conn) = self.slab.get_mut(slot as usize)
            && !conn.dirty
        {
            conn.dirty = true;
            self.dirty.push(slot);
        }
    }

    fn is_websocket(&mut self, id: ConnId) -> bool {
        self.get_mut(id)
            .is_some_and(|conn| matches!(conn.phase, Phase::Open | Phase::Deaf))
    }

    fn get_mut(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.slab
            .get_mut(id.slot as usize)
            .filter(|conn| conn.generation == id.generation && conn.phase != Phase::Dead)
    }
}

fn has_hung_up(common: &Common, sock: SockId) -> bool {
    let network = &common.network;
    network.is_broken(sock, Side::Server) || network.before_end(sock).is_some()
}

fn pop_due(deadlines: &mut VecDeque<(Instant, ConnId)>, now: Instant) -> Option<ConnId> {
    let (at, id) = *deadlines.front()?;
    if at > now {
        return None;
    }
    deadlines.pop_front();
    Some(id)
}
