//! Connections over real sockets: what they hold at rest, their deadlines, and how they are freed.

use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use mio::{Events, Poll};

use super::inbound::Event;
use super::*;
use crate::clock;
use crate::engine::io::CloseReason;
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
        while self.connections.queue_len(Queue::Ready) < len {
            self.poll.poll(&mut events, None).unwrap();
            for event in &events {
                if let Source::Connection(slot) = Source::of(event.token()) {
                    self.connections.handle_ready(slot, event);
                }
            }
        }
    }

    /// Waits for input and serves it; returns how each message came.
    fn serve(&mut self) -> Vec<&'static str> {
        self.wait_ready(1);
        let (mut ways, mut buffer) = (Vec::new(), [0; 100]);
        while let Some(conn) = self.connections.next_of(Queue::Ready) {
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
        connection.codec().is_some()
    }

    fn has_buffer(&mut self, conn: ConnId) -> bool {
        let connection = self.connections.get_mut(conn).unwrap();
        connection.socket.outbound().capacity() > 0
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
    assert_eq!(
        server.connections.queue_len(Queue::Ready),
        0,
        "nothing has come"
    );
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
    let firsts: Vec<_> = std::iter::from_fn(|| server.connections.next_of(Queue::Ready)).collect();
    for conn in firsts {
        server.connections.served(conn, 0, 0);
    }
    server.connections.cut(conns[1]);
    server.connections.reap();
    assert_eq!(server.connections.len(), 3, "its slot is in the queue");
    let mut rest = [(); 4].map(|()| server.connections.next_of(Queue::Backlog));
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
