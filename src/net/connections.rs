//! All sockets that were accepted: the table, the lists that say who has work, and their deadlines.
//!
//! It owns every connection from accept to free. Nothing is freed before [`Connections::reap`], the
//! last step of the turn, so that an event or an output can never reach a later tenant of a slot;
//! and nothing that is in a queue, before its turn has come.

use std::fmt;
use std::time::Instant;

use mio::net::TcpStream;
use mio::{Interest, Registry};

use super::connection::{Connection, Entrance, Phase};
use super::date::Date;
use super::deadlines::{Deadlines, IDLE_CHECKS, Kind};
use super::read_queues::{Queue, ReadQueues};
use super::spares::Spares;
use super::tally::Tally;
use super::token::Source;
use crate::config::Limits;
use crate::engine::io::ConnId;
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
    pub(super) table: Table<Connection>,
    next_generation: u32,
    pub(super) limits: Limits,
    /// Whom to read from.
    pub(super) queues: ReadQueues,
    /// Connections to flush in this turn.
    pub(super) to_flush: SlotSet,
    /// Connections whose output the kernel has not taken.
    pub(super) unsent: SlotSet,
    /// Connections to free at the end of the turn: they are over, and in no queue.
    pub(super) dead: Vec<u32>,
    /// Of clients and of operators.
    sockets: [Sockets; 2],
    /// One for each.
    pub(super) deadlines: Deadlines,
    /// What connections at rest do without.
    pub(super) spares: Spares,
    /// The time in answers.
    pub(super) date: Date,
    /// What has been carried so far.
    pub(super) tally: Tally,
    /// When a WebSocket peer was last heard.
    pub(super) heard_at: Option<Instant>,
}

impl Connections {
    /// No connections.
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            table: Table::default(),
            next_generation: 0,
            limits,
            queues: ReadQueues::default(),
            to_flush: SlotSet::default(),
            unsent: SlotSet::default(),
            dead: Vec::new(),
            sockets: Default::default(),
            deadlines: Deadlines::new(|kind| match kind {
                Kind::Handshake | Kind::AdminHandshake => limits.handshake_timeout,
                Kind::Sending | Kind::AdminSending | Kind::Parted => limits.linger_timeout,
                Kind::Answered | Kind::AdminAnswered => limits.answered_timeout,
                Kind::Closing => limits.close_timeout,
                Kind::Idle => limits.idle_timeout / u32::from(IDLE_CHECKS),
            }),
            spares: Spares::new(limits.message_bytes_max),
            date: Date::default(),
            tally: Tally::default(),
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
    pub(super) fn dead_at(&self, entrance: Entrance) -> usize {
        self.sockets[entrance as usize].dead
    }

    /// Connections with output that the kernel has not taken.
    pub(crate) fn unsent_len(&self) -> usize {
        self.unsent.len()
    }

    /// How many reads are waiting to be made.
    pub(crate) fn reads_len(&self) -> usize {
        self.unread_len() + self.leaving_len()
    }

    /// Connections with input to process.
    pub(crate) fn unread_len(&self) -> usize {
        self.ready_len() + self.backlog_len()
    }

    /// How many of them have something new.
    pub(crate) fn ready_len(&self) -> usize {
        self.queues.len(Queue::Ready)
    }

    /// How many of them have had their turn.
    pub(crate) fn backlog_len(&self) -> usize {
        self.queues.len(Queue::Backlog)
    }

    /// Connections that are over, and are still read from.
    pub(crate) fn leaving_len(&self) -> usize {
        self.queues.len(Queue::Leaving)
    }

    /// Bytes that the kernel has not taken; counts them one connection after the other.
    pub(crate) fn unsent_bytes(&self) -> usize {
        let unsent = self.unsent.iter();
        unsent
            .filter_map(|slot| self.table.get(slot))
            .map(Connection::unsent)
            .sum()
    }

    /// What has been carried so far.
    pub(crate) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// When a WebSocket peer was last heard.
    pub(crate) fn heard_at(&self) -> Option<Instant> {
        self.heard_at
    }

    /// Where a connection came in.
    pub(crate) fn entrance(&self, conn: ConnId) -> Option<Entrance> {
        self.table
            .get(conn.slot)
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
        log::debug!("connection {generation}: from {}", Peer(&socket, entrance));
        let connection = Connection::new(socket, generation, entrance);
        let (slot, connection) = self.table.insert(connection);
        self.sockets[entrance as usize].open += 1;
        let token = Source::Connection(slot).token();
        // Once and for all: no further system call when what it waits for changes.
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = registry.register(&mut connection.socket, token, interest) {
            log::warn!("cannot watch a connection: {error}");
            self.kill(slot);
            return;
        }
        self.deadlines.set(slot, entrance.handshake(), now);
    }

    /// The kernel has said something about a connection.
    pub(crate) fn handle_ready(&mut self, slot: u32, event: &mio::event::Event) {
        let connection = self.table.get_mut(slot);
        let Some(connection) = connection.filter(|connection| !connection.is_dead()) else {
            return;
        };
        if event.is_writable() {
            connection.unblock();
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            connection.readable = true;
            connection.hung_up |= event.is_read_closed() || event.is_error();
        }
        if connection.readable {
            self.queues.enlist(slot, connection);
        }
        if connection.unsent() > 0 {
            self.to_flush.insert(slot);
        }
    }

    /// Cuts a connection: what the kernel takes at once is sent.
    pub(crate) fn cut(&mut self, conn: ConnId) {
        if let Some(connection) = self.get_mut(conn) {
            // Its goodbye, if it was queued in this turn.
            let taken = connection.flush();
            self.tally.sent_bytes += taken as u64;
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
            if let Some(connection) = self.table.remove(slot) {
                let sockets = &mut self.sockets[connection.entrance as usize];
                sockets.open -= 1;
                sockets.dead -= 1;
            }
        }
        if self.table.len() == 0 {
            self.spares.clear();
        }
        if self.table.capacity() < rows {
            self.deadlines.shrink(self.table.rows_len());
            self.unsent.shrink();
            self.queues.shrink();
            self.to_flush.shrink();
        }
    }

    pub(super) fn kill(&mut self, slot: u32) {
        if let Some(connection) = self.table.get_mut(slot)
            && !connection.is_dead()
        {
            connection.phase = Phase::Dead;
            self.sockets[connection.entrance as usize].dead += 1;
            self.deadlines.clear(slot);
            self.unsent.remove(slot);
            // Its slot is still in a queue.
            if !connection.listed {
                self.dead.push(slot);
            }
        }
    }

    pub(super) fn get_mut(&mut self, conn: ConnId) -> Option<&mut Connection> {
        live(&mut self.table, conn)
    }

    /// A connection with a buffer for output, which is flushed in this turn.
    pub(super) fn get_to_send(&mut self, conn: ConnId) -> Option<&mut Connection> {
        let connection = live(&mut self.table, conn)?;
        self.spares.lend_buffer(&mut connection.outbound);
        self.to_flush.insert(conn.slot);
        Some(connection)
    }

    /// A connection with a codec, if it is a WebSocket connection.
    pub(super) fn get_awake(&mut self, conn: ConnId) -> Option<&mut Connection> {
        let connection = live(&mut self.table, conn)?;
        if let Some(codec @ None) = connection.codec() {
            *codec = Some(self.spares.take_codec());
        }
        Some(connection)
    }

    pub(super) fn id_at(&self, slot: u32) -> Option<ConnId> {
        let generation = self.table.get(slot)?.generation;
        Some(ConnId { slot, generation })
    }

    pub(super) fn all(&self) -> Vec<ConnId> {
        self.table
            .iter()
            .map(|(slot, connection)| ConnId {
                slot,
                generation: connection.generation,
            })
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
pub(super) fn live(table: &mut Table<Connection>, conn: ConnId) -> Option<&mut Connection> {
    table
        .get_mut(conn.slot)
        .filter(|connection| connection.generation == conn.generation)
        .filter(|connection| !connection.is_dead())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::{Ipv4Addr, TcpListener};
    use std::time::Duration;

    use mio::{Events, Poll};

    use super::*;
    use crate::clock;
    use crate::engine::io::CloseReason;
    use crate::net::inbound::Event;
    use crate::net::intake::Intake;

    struct Server {
        poll: Poll,
        listener: TcpListener,
        connections: Connections,
        now: Instant,
    }

    impl Server {
        fn new() -> Self {
            Self {
                poll: Poll::new().unwrap(),
                listener: TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap(),
                connections: Connections::new(Limits::default()),
                now: clock::now().instant,
            }
        }

        /// A client whose handshake is complete.
        fn open(&mut self) -> (TcpStream, ConnId) {
            let client = TcpStream::connect(self.listener.local_addr().unwrap()).unwrap();
            let (socket, _) = self.listener.accept().unwrap();
            socket.set_nonblocking(true).unwrap();
            let registry = self.poll.registry();
            let (socket, now) = (TcpStream::from_std(socket), self.now);
            self.connections
                .insert(socket, Entrance::Public, registry, now);
            let conn = *self.connections.all().last().unwrap();
            self.connections.upgrade(conn, b"101", now);
            self.connections.flush(self.now);
            (client, conn)
        }

        /// Waits until so many have sent something.
        fn wait_ready(&mut self, len: usize) {
            let mut events = Events::with_capacity(8);
            while self.connections.ready_len() < len {
                self.poll.poll(&mut events, None).unwrap();
                for event in &events {
                    if let Source::Connection(slot) = Source::of(event.token()) {
                        self.connections.handle_ready(slot, event);
                    }
                }
            }
        }

        /// Waits for input and serves it; answers how each message came.
        fn serve(&mut self) -> Vec<&'static str> {
            self.wait_ready(1);
            let (mut ways, mut buffer) = (Vec::new(), [0; 100]);
            while let Some(conn) = self.connections.next_ready() {
                let (len, _) = self.connections.fill(conn, &mut buffer, self.now);
                let mut input = Intake::new(&mut buffer[..len]);
                while let Some(event) = self.connections.next_event(conn, &mut input, self.now) {
                    ways.push(match event {
                        Event::Message(_) => "lent",
                        Event::Assembled(_) => "assembled",
                        Event::Control => "control",
                        Event::Request(..) | Event::PeerClosed { .. } | Event::Gone => "other",
                    });
                    assert!(self.connections.send(conn, b"reply", false, false));
                }
                let lent = input.frames();
                self.connections.served(conn, len, lent);
            }
            ways
        }

        fn has_codec(&mut self, conn: ConnId) -> bool {
            let connection = self.connections.get_mut(conn).unwrap();
            connection.codec().unwrap().is_some()
        }

        fn has_buffer(&mut self, conn: ConnId) -> bool {
            self.connections.get_mut(conn).unwrap().outbound.capacity() > 0
        }
    }

    #[test]
    fn a_connection_at_rest_holds_no_codec_and_no_buffer() {
        let mut server = Server::new();
        let (mut client, conn) = server.open();
        assert!(!server.has_codec(conn) && !server.has_buffer(conn), "fresh");
        client.write_all(&[0x81, 0x82, 0, 0]).unwrap();
        assert!(server.serve().is_empty());
        assert!(server.has_codec(conn), "a frame has begun");
        assert!(!server.has_buffer(conn), "and nothing is to be sent");
        client.write_all(&[0, 0, b'h', b'i']).unwrap();
        assert_eq!(server.serve(), ["assembled"]);
        assert!(!server.has_codec(conn), "the frame has ended");
        assert!(server.has_buffer(conn), "the reply waits");
        server.connections.flush(server.now);
        assert!(!server.has_buffer(conn), "the reply is on its way");

        server.connections.set_paused(conn, false, server.now);
        assert_eq!(server.connections.ready_len(), 0, "nothing has come");
        let (reason, now) = (CloseReason::of(1001, ""), server.now);
        server.connections.close(conn, &reason, true, now);
        assert!(server.has_codec(conn), "a Close is under way");
        client.write_all(&[0x81, 0x80, 0, 0, 0, 0]).unwrap();
        assert_eq!(server.serve(), ["lent"], "what comes late is read");
        assert!(server.has_codec(conn), "and still is");
    }

    /// What comes of so many checks, each of which is so late.
    fn check_idle<const N: usize>(server: &mut Server, late: Duration) -> [&'static str; N] {
        [(); N].map(|()| {
            server.now += server.connections.deadlines.after(Kind::Idle) + late;
            let lost = server.connections.handle_timeout(server.now);
            let pinged = !server.connections.to_flush.is_empty();
            server.connections.flush(server.now);
            match (lost.len(), pinged) {
                (0, false) => "nothing",
                (0, true) => "pinged",
                _ => "cut",
            }
        })
    }

    #[test]
    fn silence_is_counted_in_checks() {
        let mut server = Server::new();
        let (mut client, conn) = server.open();
        let stall = Duration::from_secs(3_600);
        let checks = check_idle(&mut server, Duration::ZERO);
        assert_eq!(checks, ["nothing", "pinged", "nothing"]);
        client.write_all(&[0x8a, 0x80, 0, 0, 0, 0]).unwrap();
        assert_eq!(server.serve(), ["control"]);
        server.connections.flush(server.now);
        let checks = check_idle(&mut server, stall);
        let part = "the first ends a time in which it was heard";
        assert_eq!(
            checks,
            ["nothing", "nothing", "pinged", "nothing"],
            "{part}"
        );
        server.connections.set_paused(conn, true, server.now);
        let checks = check_idle(&mut server, stall);
        let part = "it is not read from, and never cut";
        assert_eq!(
            checks,
            [
                "pinged", "nothing", "pinged", "nothing", "pinged", "nothing"
            ],
            "{part}"
        );
        server.connections.set_paused(conn, false, server.now);
        let checks = check_idle(&mut server, stall);
        assert_eq!(checks, ["pinged", "nothing", "nothing", "nothing"]);
        let checks = check_idle(&mut server, stall);
        assert_eq!(checks, ["nothing", "nothing", "cut"]);
    }

    #[test]
    fn a_proxy_that_cuts_after_a_minute_sees_a_ping_before() {
        for paused in [false, true] {
            let mut server = Server::new();
            let (mut client, conn) = server.open();
            server.connections.set_paused(conn, paused, server.now);
            for ping in 0..4 {
                let begun = server.now;
                while server.connections.to_flush.is_empty() {
                    server.now += Duration::from_secs(1);
                    let lost = server.connections.handle_timeout(server.now);
                    assert_eq!(lost.len(), 0, "paused: {paused}, ping {ping}");
                }
                let silence = server.now - begun;
                assert!(silence <= Duration::from_secs(45), "{silence:?}");
                server.connections.flush(server.now);
                if !paused {
                    client.write_all(&[0x8a, 0x80, 0, 0, 0, 0]).unwrap();
                    assert_eq!(server.serve(), ["control"]);
                    server.connections.flush(server.now);
                }
            }
        }
    }

    #[test]
    fn no_ping_follows_a_close() {
        let mut server = Server::new();
        let (_client, conn) = server.open();
        let (reason, now) = (CloseReason::of(1001, ""), server.now);
        server.connections.close(conn, &reason, false, now);
        server.connections.flush(now);
        let checks = check_idle(&mut server, Duration::ZERO);
        assert_eq!(checks, ["nothing"; 7]);
    }

    #[test]
    fn the_deadline_of_a_close_is_not_put_off() {
        let mut server = Server::new();
        let (_client, conn) = server.open();
        let (reason, begun) = (CloseReason::of(1001, ""), server.now);
        server.connections.close(conn, &reason, true, begun);
        let due = server.connections.poll_timeout();
        assert_eq!(due, Some(begun + server.connections.limits.close_timeout));
        let later = begun + Duration::from_millis(1);
        server.connections.close(conn, &reason, true, later);
        assert_eq!(server.connections.poll_timeout(), due);
        server.connections.finish(conn, later);
        let due = server.connections.poll_timeout();
        assert_eq!(due, Some(later + server.connections.limits.linger_timeout));
        server
            .connections
            .finish(conn, later + Duration::from_millis(1));
        assert_eq!(server.connections.poll_timeout(), due);
    }

    #[test]
    fn whole_messages_are_lent_and_again_after_others() {
        let mut server = Server::new();
        let (mut client, conn) = server.open();
        let message = [0x81, 0x82, 0, 0, 0, 0, b'h', b'i'];
        let (ping, fragment) = ([0x89, 0x80, 0, 0, 0, 0], [0x01, 0x80, 0, 0, 0, 0]);
        let last = [0x80, 0x80, 0, 0, 0, 0];
        let ways = [
            (message.repeat(2), "lent lent"),
            (
                [&ping[..], &message, &ping].concat(),
                "control lent control",
            ),
            ([&message[..], &message[..7]].concat(), "lent"),
            ([&message[7..], &message].concat(), "assembled lent"),
            ([&fragment[..], &ping].concat(), "control"),
            ([&last[..], &message].concat(), "assembled lent"),
        ];
        for (bytes, expected) in ways {
            client.write_all(&bytes).unwrap();
            assert_eq!(server.serve().join(" "), expected);
        }
        assert!(!server.has_codec(conn));
    }

    #[test]
    fn a_connection_that_is_cut_in_a_queue_is_freed_when_its_turn_has_come() {
        let mut server = Server::new();
        let mut clients = [(); 3].map(|()| server.open());
        for (client, _) in &mut clients {
            client.write_all(&[0x81]).unwrap();
        }
        server.wait_ready(3);
        let conns = clients.each_ref().map(|(_, conn)| *conn);
        let firsts: Vec<_> = std::iter::from_fn(|| server.connections.next_ready()).collect();
        for conn in firsts {
            server.connections.served(conn, 0, 0);
        }
        server.connections.cut(conns[1]);
        server.connections.reap();
        assert_eq!(server.connections.len(), 3, "its slot is in the queue");
        let mut rest = [(); 4].map(|()| server.connections.next_in_backlog());
        rest.sort_by_key(|conn| conn.map(|conn| conn.slot));
        assert_eq!(rest, [None, None, Some(conns[0]), Some(conns[2])]);
        assert_eq!(server.connections.reads_len(), 0, "it is not listed again");
        server.connections.reap();
        assert_eq!(server.connections.len(), 2);
    }

    #[test]
    fn after_a_crowd_no_row_and_no_deadline_is_left() {
        let mut server = Server::new();
        let clients: Vec<_> = (0..200).map(|_| server.open()).collect();
        let lens = |server: &Server| {
            let connections = &server.connections;
            let of_kind = |kind| connections.deadlines.first(kind).is_some();
            let kinds = Kind::ALL.map(of_kind);
            let slots = connections.deadlines.slots_len();
            (connections.table.rows_len(), slots, kinds)
        };
        let idle = Kind::ALL.map(|kind| kind == Kind::Idle);
        assert_eq!(lens(&server), (200, 200, idle), "no handshake is under way");
        for (_, conn) in &clients[1..] {
            server.connections.cut(*conn);
        }
        server.connections.reap();
        assert_eq!(lens(&server), (1, 1, idle), "its place is the first");
        server.connections.cut(clients[0].1);
        server.connections.reap();
        assert_eq!(lens(&server).0, 0);
        assert_eq!(lens(&server).2, Kind::ALL.map(|_| false));
    }
}
