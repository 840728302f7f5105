//! All sockets that were accepted: the slab, the lists that say who has work, and their deadlines.
//!
//! It owns every connection from accept to free. Nothing is freed before [`Connections::reap`], the
//! last step of the turn, so that an event or an output can never reach a later tenant of a slot.

use std::collections::VecDeque;
use std::time::Instant;

use mio::net::TcpStream;
use mio::{Interest, Registry};
use slab::Slab;

use super::connection::{Connection, Entrance, Phase};
use super::deadlines::Deadlines;
use super::expiry::IDLE_CHECKS;
use super::spares::Spares;
use super::token::Source;
use crate::config::Limits;
use crate::engine::io::ConnId;
use crate::slots::SlotSet;

/// Every socket, and who has work.
#[derive(Debug)]
pub(crate) struct Connections {
    pub(super) slab: Slab<Connection>,
    next_generation: u32,
    pub(super) limits: Limits,
    /// Connections of which the kernel has told something new, in the order in which it did.
    pub(super) ready: VecDeque<u32>,
    /// Connections that have had their turn, and have more.
    pub(super) backlog: VecDeque<u32>,
    /// Connections that are over, and still have something to be read and dropped.
    pub(super) leaving: VecDeque<u32>,
    /// Connections with output to flush in this turn.
    pub(super) dirty: Vec<u32>,
    /// Connections whose output the kernel has not taken.
    pub(super) unsent: SlotSet,
    /// Connections to free at the end of the turn.
    dead: Vec<u32>,
    /// Connections that were freed since the slab was last made smaller.
    freed: usize,
    /// Connections of operators.
    admins: SlotSet,
    /// By entrance.
    pub(super) handshakes: [Deadlines; 2],
    pub(super) closings: Deadlines,
    pub(super) lingerings: Deadlines,
    pub(super) idle: Deadlines,
    /// What connections at rest do without.
    pub(super) spares: Spares,
    /// Peers that were closed because they read too slowly.
    pub(super) slow_readers: u64,
    /// When a WebSocket peer was last heard.
    pub(super) heard_at: Option<Instant>,
}

impl Connections {
    /// No connections.
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            slab: Slab::new(),
            next_generation: 0,
            limits,
            ready: VecDeque::new(),
            backlog: VecDeque::new(),
            leaving: VecDeque::new(),
            dirty: Vec::new(),
            unsent: SlotSet::default(),
            dead: Vec::new(),
            freed: 0,
            admins: SlotSet::default(),
            handshakes: [(); 2].map(|()| Deadlines::new(limits.handshake_timeout)),
            closings: Deadlines::new(limits.close_timeout),
            lingerings: Deadlines::new(limits.linger_timeout),
            idle: Deadlines::new(limits.idle_timeout / IDLE_CHECKS),
            spares: Spares::new(limits.message_bytes_max),
            slow_readers: 0,
            heard_at: None,
        }
    }

    /// How many sockets are open, of every kind.
    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }

    /// How many sockets are open that came in there.
    pub(crate) fn len_at(&self, entrance: Entrance) -> usize {
        match entrance {
            Entrance::Public => self.slab.len() - self.admins.len(),
            Entrance::Admin => self.admins.len(),
        }
    }

    /// Connections with output that the kernel has not taken.
    pub(crate) fn unsent_len(&self) -> usize {
        self.unsent.len()
    }

    /// How many reads are waiting to be made.
    pub(crate) fn reads_len(&self) -> usize {
        self.unread_len() + self.leaving.len()
    }

    /// Connections with input to process.
    pub(crate) fn unread_len(&self) -> usize {
        self.ready.len() + self.backlog.len()
    }

    /// How many of them have something new.
    pub(crate) fn ready_len(&self) -> usize {
        self.ready.len()
    }

    /// How many of them have had their turn.
    pub(crate) fn backlog_len(&self) -> usize {
        self.backlog.len()
    }

    /// Connections that are over, and are still read from.
    pub(crate) fn leaving_len(&self) -> usize {
        self.leaving.len()
    }

    /// How many peers were closed so far because they read too slowly.
    pub(crate) fn slow_readers(&self) -> u64 {
        self.slow_readers
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
        if entrance == Entrance::Admin {
            self.admins.insert(slot);
        }
        let token = Source::Connection(slot).token();
        // Once and for all: no further system call when what it waits for changes.
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = registry.register(&mut connection.socket, token, interest) {
            log::warn!("cannot watch a connection: {error}");
            self.kill(slot);
            return;
        }
        self.forget_handshakes(entrance);
        self.handshakes[entrance as usize].push(ConnId { slot, generation }, now);
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

    /// Cuts a connection, without more ado.
    pub(crate) fn cut(&mut self, conn: ConnId) {
        if self.get_mut(conn).is_some() {
            self.kill(conn.slot);
        }
    }

    /// Frees what is over: the last step of the turn.
    pub(crate) fn reap(&mut self, registry: &Registry) {
        if self.dead.is_empty() {
            return;
        }
        self.freed += self.dead.len();
        for slot in std::mem::take(&mut self.dead) {
            self.unsent.remove(slot);
            self.admins.remove(slot);
            if let Some(mut connection) = self.slab.try_remove(slot as usize)
                && let Err(error) = registry.deregister(&mut connection.socket)
            {
                log::trace!("deregister: {error}");
            }
        }
        self.release();
    }

    /// After a crowd: gives the memory back. Its cost is shared by all who have gone since.
    fn release(&mut self) {
        self.forget_deadlines();
        if self.slab.is_empty() {
            self.spares.clear();
            for list in [&mut self.ready, &mut self.backlog, &mut self.leaving] {
                list.shrink_to_fit();
            }
        } else if self.slab.len() > self.slab.capacity() / 4
            || self.freed < self.slab.capacity() / 2
        {
            return;
        }
        self.freed = 0;
        self.slab.shrink_to_fit();
        self.unsent.shrink_to_fit();
        self.admins.shrink_to_fit();
    }

    pub(super) fn kill(&mut self, slot: u32) {
        if let Some(connection) = self.slab.get_mut(slot as usize)
            && !matches!(connection.phase, Phase::Dead)
        {
            connection.phase = Phase::Dead;
            self.dead.push(slot);
        }
    }

    pub(super) fn enlist(&mut self, slot: u32) {
        if let Some(connection) = self.slab.get_mut(slot as usize)
            && !connection.listed
            && !connection.paused
        {
            connection.listed = true;
            if connection.is_lingering() {
                self.leaving.push_back(slot);
            } else {
                self.ready.push_back(slot);
            }
        }
    }

    pub(super) fn mark_dirty(&mut self, slot: u32) {
        if let Some(connection) = self.slab.get_mut(slot as usize)
            && !connection.dirty
        {
            connection.dirty = true;
            self.dirty.push(slot);
        }
    }

    pub(super) fn get_mut(&mut self, conn: ConnId) -> Option<&mut Connection> {
        live(&mut self.slab, conn)
    }

    /// A connection with a buffer for output, which is flushed in this turn.
    pub(super) fn get_to_send(&mut self, conn: ConnId) -> Option<&mut Connection> {
        let connection = live(&mut self.slab, conn)?;
        self.spares.lend_buffer(&mut connection.outbound);
        if !connection.dirty {
            connection.dirty = true;
            self.dirty.push(conn.slot);
        }
        Some(connection)
    }

    /// A connection with a codec, if it is a WebSocket connection.
    pub(super) fn get_awake(&mut self, conn: ConnId) -> Option<&mut Connection> {
        let connection = live(&mut self.slab, conn)?;
        if let Some(codec @ None) = connection.codec() {
            *codec = Some(self.spares.take_codec());
        }
        Some(connection)
    }

    pub(super) fn all(&self) -> Vec<ConnId> {
        self.slab
            .iter()
            .map(|(slot, connection)| ConnId {
                slot: slot as u32,
                generation: connection.generation,
            })
            .collect()
    }
}

/// The connection, if it is that one and not dead: for who needs another field beside it.
pub(super) fn live(slab: &mut Slab<Connection>, conn: ConnId) -> Option<&mut Connection> {
    slab.get_mut(conn.slot as usize)
        .filter(|connection| connection.generation == conn.generation)
        .filter(|connection| !matches!(connection.phase, Phase::Dead))
}
