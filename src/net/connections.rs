//! All sockets that were accepted: the table, the lists that say who has work, and their deadlines.
//!
//! It owns every connection from accept to free. Nothing is freed before [`Connections::reap`], the
//! last step of the turn, so that an event or an output can never reach a later tenant of a slot;
//! and nothing that is in a queue, before its turn has come.

pub(crate) mod inbound;

pub(crate) use behind_proxies::Proxies;

mod behind_proxies;
mod expiry;
mod outbound;

use std::fmt;
use std::time::{Duration, Instant};

use mio::Registry;
use mio::net::TcpStream;

use super::connection::{Connection, Entrance};
use super::counters::Counters;
use super::date::Date;
use super::deadlines::{Deadlines, Kind};
use super::event_source::Source;
use super::pool::Pool;
use super::read_queues::{Queue, ReadQueues};
use super::silence::IDLE_CHECKS;
use crate::config::Limits;
use crate::engine::io::ConnId;
use crate::memory::{Account, Kind as Held};
use crate::slots::SlotSet;
use crate::slots::table::Table;

/// How many sockets came in at one entrance.
#[derive(Debug, Default)]
struct Sockets {
    /// All that are in the table.
    open: usize,
    /// Those of them that are finished, and not freed yet.
    dead: usize,
}

/// Every socket, and who has work.
#[derive(Debug)]
pub(crate) struct Connections {
    table: Table<Connection>,
    next_generation: u32,
    limits: Limits,
    /// Whose word counts about where a client comes from.
    proxies: Proxies,
    /// Whom to read from.
    queues: ReadQueues,
    /// Connections to flush in this turn.
    to_flush: SlotSet,
    /// Connections whose output the kernel has not taken.
    unsent: SlotSet,
    /// Connections that were sent a push, and of whom it is to be told when the kernel has it all.
    pushed: SlotSet,
    /// Those of whom that is to be told now.
    taken: Vec<ConnId>,
    /// Connections to free at the end of the turn: they are over, and in no queue.
    dead: Vec<u32>,
    /// Of clients and of operators.
    sockets: [Sockets; 2],
    /// One for each.
    deadlines: Deadlines,
    /// What connections at rest do without.
    pool: Pool,
    /// The `Date` of HTTP answers.
    date: Date,
    /// What has been carried so far.
    counters: Counters,
    /// Bytes that connections hold, as of each one's last `served` or `flush`.
    memory: Account,
    /// When a WebSocket peer was last heard.
    heard_at: Option<Instant>,
}

impl Connections {
    /// No connections.
    pub(crate) fn new(limits: Limits, proxies: Proxies) -> Self {
        Self {
            table: Table::default(),
            next_generation: 0,
            limits,
            proxies,
            queues: ReadQueues::default(),
            to_flush: SlotSet::default(),
            unsent: SlotSet::default(),
            pushed: SlotSet::default(),
            taken: Vec::new(),
            dead: Vec::new(),
            sockets: Default::default(),
            deadlines: Deadlines::new(|kind| match kind {
                Kind::Handshake | Kind::AdminHandshake => limits.handshake_timeout,
                Kind::Sending | Kind::AdminSending | Kind::HalfClosed => limits.linger_timeout,
                Kind::Answered | Kind::AdminAnswered => limits.answered_timeout,
                Kind::Closing => limits.close_timeout,
                Kind::Idle => limits.idle_timeout / u32::from(IDLE_CHECKS),
            }),
            pool: Pool::default(),
            date: Date::default(),
            counters: Counters::default(),
            memory: Account::default(),
            heard_at: None,
        }
    }

    /// A turn begins at this time, in milliseconds since the Unix epoch.
    pub(crate) fn handle_clock(&mut self, unix_ms: u64) {
        self.date.set(unix_ms);
    }

    /// How many sockets are open, of every kind.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// How many sockets are open that came in there.
    pub(crate) fn len_at(&self, entrance: Entrance) -> usize {
        self.sockets[entrance as usize].open
    }

    /// How many of them are about to be freed.
    fn dead_at(&self, entrance: Entrance) -> usize {
        self.sockets[entrance as usize].dead
    }

    /// Connections with output that the kernel has not taken.
    pub(crate) fn unsent_len(&self) -> usize {
        self.unsent.len()
    }

    /// The next connection whose push the kernel has taken.
    pub(crate) fn poll_taken(&mut self) -> Option<ConnId> {
        self.taken.pop()
    }

    /// Whether there is one.
    pub(crate) fn has_taken(&self) -> bool {
        !self.taken.is_empty()
    }

    /// How many reads are waiting to be made.
    pub(crate) fn reads_len(&self) -> usize {
        self.unread_len() + self.queue_len(Queue::Leaving)
    }

    /// Connections with input to process.
    pub(crate) fn unread_len(&self) -> usize {
        self.queue_len(Queue::Ready) + self.queue_len(Queue::Backlog)
    }

    /// How many connections are in a queue.
    pub(crate) fn queue_len(&self, queue: Queue) -> usize {
        self.queues.len(queue)
    }

    /// Bytes that the kernel has not taken; exact at the end of a turn.
    pub(crate) fn unsent_bytes(&self) -> usize {
        self.memory.of(Held::Outbound)
    }

    /// What has been carried so far.
    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Bytes that connections hold; exact at the end of a turn.
    pub(crate) fn memory(&self) -> Account {
        self.memory
    }

    /// When a WebSocket peer was last heard.
    pub(crate) fn heard_at(&self) -> Option<Instant> {
        self.heard_at
    }

    /// Where a connection came in.
    pub(crate) fn entrance(&self, conn: ConnId) -> Option<Entrance> {
        self.table.get(conn.slot).map(Connection::entrance)
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
        log::debug!("connection {generation}: from {}", Peer(&socket, entrance));
        let connection = Connection::new(socket, generation, entrance);
        let (slot, connection) = self.table.insert(connection);
        connection.set_preface(self.proxies.preface(&connection.socket));
        self.sockets[entrance as usize].open += 1;
        let token = Source::Connection(slot).token();
        if let Err(error) = connection.socket.register(registry, token) {
            log::warn!("cannot watch a connection: {error}");
            self.kill(slot);
            return;
        }
        self.deadlines.set(slot, entrance.handshake(), now);
    }

    /// The kernel has said something about a connection.
    pub(crate) fn handle_ready(&mut self, slot: u32, event: &mio::event::Event) {
        if let Some(connection) = self.table.get_mut(slot)
            && !connection.is_dead()
        {
            connection.socket.handle_ready(event);
            if connection.socket.is_readable() {
                self.queues.enlist(slot, connection);
            }
            if connection.socket.unsent() > 0 {
                self.to_flush.insert(slot);
            }
        }
    }

    /// Cuts a connection: what the kernel takes at once is sent.
    pub(crate) fn cut(&mut self, conn: ConnId) {
        if let Some(connection) = live(&mut self.table, conn) {
            // Its goodbye, if it was queued in this turn.
            self.counters.sent(connection.socket.flush());
            self.kill(conn.slot);
        }
    }

    /// Frees what is over: the last step of the turn. A socket that is closed is not watched any
    /// more, and need not be deregistered: that would be one more system call for each.
    pub(crate) fn reap(&mut self) {
        if self.dead.is_empty() {
            return;
        }
        let rows = self.table.capacity();
        for slot in std::mem::take(&mut self.dead) {
            if let Some(mut connection) = self.table.remove(slot) {
                connection.uncount(&mut self.memory);
                let sockets = &mut self.sockets[connection.entrance() as usize];
                sockets.open -= 1;
                sockets.dead -= 1;
            }
        }
        if self.table.len() == 0 {
            debug_assert_eq!(self.memory.total(), 0, "{:?}", self.memory);
            self.pool.clear();
        }
        if self.table.capacity() < rows {
            self.deadlines.shrink(self.table.rows_len());
            self.unsent.shrink();
            self.queues.shrink();
            self.to_flush.shrink();
        }
    }

    fn kill(&mut self, slot: u32) {
        if let Some(connection) = self.table.get_mut(slot)
            && connection.die()
        {
            connection.count_received(&mut self.memory);
            connection.count_outbound(&mut self.memory);
            self.sockets[connection.entrance() as usize].dead += 1;
            self.deadlines.clear(slot);
            self.unsent.remove(slot);
            self.pushed.remove(slot);
            // Its slot is still in a queue.
            if !connection.is_queued() {
                self.dead.push(slot);
            }
        }
    }

    fn get_mut(&mut self, conn: ConnId) -> Option<&mut Connection> {
        live(&mut self.table, conn)
    }

    /// Its silence is checked from here on: it has done its handshake.
    fn watch(&mut self, conn: ConnId, now: Instant) {
        let is_watched = self.deadlines.after(Kind::Idle) > Duration::ZERO;
        if let Some(connection) = self.get_mut(conn) {
            connection.begin_silence();
            if is_watched {
                self.deadlines.set(conn.slot, Kind::Idle, now);
            } else {
                self.deadlines.clear(conn.slot);
            }
        }
    }

    /// A WebSocket peer has to close within `close_timeout`. A later call changes nothing.
    fn bound_closing(&mut self, conn: ConnId, now: Instant) {
        if let Some(connection) = self.get_mut(conn)
            && connection.bound_close()
        {
            self.deadlines.set(conn.slot, Kind::Closing, now);
        }
    }

    fn id_at(&self, slot: u32) -> Option<ConnId> {
        Some(self.table.get(slot)?.id_at(slot))
    }

    fn all(&self) -> Vec<ConnId> {
        let all = self.table.iter();
        all.map(|(slot, connection)| connection.id_at(slot))
            .collect()
    }
}

/// Who has connected, and where. It is asked for when it is shown.
struct Peer<'a>(&'a TcpStream, Entrance);

impl fmt::Display for Peer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.peer_addr() {
            Ok(addr) => addr.fmt(f)?,
            Err(_) => f.write_str("a process on this host")?,
        }
        match self.1 {
            Entrance::Public => f.write_str(" on --listen"),
            Entrance::Admin => f.write_str(" on --admin"),
        }
    }
}

/// The connection, if it is that one and not dead: for who needs another field beside it.
fn live(table: &mut Table<Connection>, conn: ConnId) -> Option<&mut Connection> {
    table
        .get_mut(conn.slot)
        .filter(|connection| connection.id_at(conn.slot) == conn)
        .filter(|connection| !connection.is_dead())
}

#[cfg(test)]
mod tests;
