//! Connections over real sockets: what they hold, their deadlines, and how they are freed.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use mio::{Events, Poll};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use socket2::SockRef;

use super::inbound::Event;
use super::*;
use crate::clock;
use crate::engine::io::CloseReason;
use crate::memory::Kind as Held;
use crate::net::http::Answer;
use crate::net::intake::Intake;
use crate::net::masked::frame;

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
            connections: Connections::new(Limits::default(), Proxies::default()),
            now: clock::now().instant,
        }
    }

    /// A client whose request is to come.
    fn accept(&mut self) -> (TcpStream, ConnId) {
        let client = TcpStream::connect(self.listener.local_addr().unwrap()).unwrap();
        let (socket, _) = self.listener.accept().unwrap();
        socket.set_nonblocking(true).unwrap();
        // Little fits into the kernel: a peer that does not read is noticed.
        let (near, far) = (SockRef::from(&socket), SockRef::from(&client));
        near.set_send_buffer_size(4 << 10).unwrap();
        far.set_recv_buffer_size(4 << 10).unwrap();
        let registry = self.poll.registry();
        let (socket, now) = (TcpStream::from_std(socket), self.now);
        self.connections
            .insert(socket, Entrance::Public, registry, now);
        let newest = self.connections.all().into_iter();
        (client, newest.max_by_key(|conn| conn.generation).unwrap())
    }

    /// A client whose handshake is complete.
    fn open(&mut self) -> (TcpStream, ConnId) {
        let (client, conn) = self.accept();
        self.connections.upgrade(conn, b"101", self.now);
        self.connections.flush(self.now);
        (client, conn)
    }

    /// Waits until so many have sent something.
    fn wait_ready(&mut self, len: usize) {
        while self.connections.queue_len(Queue::Ready) < len {
            self.take_events(None);
        }
    }

    fn take_events(&mut self, timeout: Option<Duration>) {
        let mut events = Events::with_capacity(8);
        self.poll.poll(&mut events, timeout).unwrap();
        for event in &events {
            if let Source::Connection(slot) = Source::of(event.token()) {
                self.connections.handle_ready(slot, event);
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
                    Event::Message(_) => "message",
                    Event::Control => "control",
                    Event::Request(..) | Event::PeerClosed { .. } | Event::Gone => "other",
                });
                assert!(self.connections.send(conn, b"reply", false, false));
            }
            self.connections.served(conn, input);
        }
        ways
    }

    fn is_under_way(&mut self, conn: ConnId) -> bool {
        let connection = self.connections.get_mut(conn).unwrap();
        connection.reader().unwrap().is_under_way()
    }

    fn has_buffer(&mut self, conn: ConnId) -> bool {
        let connection = self.connections.get_mut(conn).unwrap();
        connection.socket.outbound().capacity() > 0
    }
}

#[test]
fn a_connection_at_rest_has_nothing_under_way_and_no_buffer() {
    let mut server = Server::new();
    let (mut client, conn) = server.open();
    assert!(
        !server.is_under_way(conn) && !server.has_buffer(conn),
        "fresh"
    );
    client.write_all(&[0x81, 0x82, 0, 0]).unwrap();
    assert!(server.serve().is_empty());
    assert!(server.is_under_way(conn), "a frame has begun");
    assert!(!server.has_buffer(conn), "and nothing is to be sent");
    client.write_all(&[0, 0, b'h', b'i']).unwrap();
    assert_eq!(server.serve(), ["message"]);
    assert!(!server.is_under_way(conn), "the frame has ended");
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
    client.write_all(&[0x81, 0x80, 0, 0, 0, 0]).unwrap();
    assert_eq!(server.serve(), ["message"], "what comes late is read");
    assert!(
        !server.is_under_way(conn),
        "a Close of ours is nothing that is to come"
    );
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
fn messages_are_read_whole_in_pieces_and_whole_again() {
    let mut server = Server::new();
    let (mut client, conn) = server.open();
    let message = [0x81, 0x82, 0, 0, 0, 0, b'h', b'i'];
    let (ping, fragment) = ([0x89, 0x80, 0, 0, 0, 0], [0x01, 0x80, 0, 0, 0, 0]);
    let last = [0x80, 0x80, 0, 0, 0, 0];
    let ways = [
        (message.repeat(2), "message message"),
        (
            [&ping[..], &message, &ping].concat(),
            "control message control",
        ),
        ([&message[..], &message[..7]].concat(), "message"),
        ([&message[7..], &message].concat(), "message message"),
        ([&fragment[..], &ping].concat(), "control"),
        ([&last[..], &message].concat(), "message message"),
    ];
    for (bytes, expected) in ways {
        client.write_all(&bytes).unwrap();
        assert_eq!(server.serve().join(" "), expected);
    }
    assert!(!server.is_under_way(conn));
}

#[test]
fn who_asks_for_pongs_and_reads_nothing_is_closed() {
    let mut server = Server::new();
    let (mut client, conn) = server.open();
    let ping = [0x89, 0x80, 0, 0, 0, 0];
    client.write_all(&ping).unwrap();
    assert_eq!(server.serve(), ["control"]);
    // One message is always taken, however large.
    let payload = vec![0; 8 << 20];
    assert!(server.connections.send(conn, &payload, true, false));
    client.write_all(&ping).unwrap();
    server.wait_ready(1);
    let (mut buffer, now) = ([0; 100], server.now);
    assert_eq!(server.connections.next_of(Queue::Ready), Some(conn));
    let (len, _) = server.connections.fill(conn, &mut buffer, now);
    let mut input = Intake::new(&mut buffer[..len]);
    let event = server.connections.next_event(conn, &mut input, now);
    assert!(matches!(event, Some(Event::Gone)), "{event:?}");
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
        server.connections.served(conn, Intake::default());
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

/// Ends a turn. Returns what is counted then, which is what a look at each connection finds.
#[track_caller]
fn held(server: &mut Server) -> [usize; 2] {
    server.connections.flush(server.now);
    server.connections.reap();
    let mut found = Account::default();
    for (_, connection) in server.connections.table.iter() {
        found.add(Held::Received, connection.received());
        found.add(Held::Outbound, connection.socket.unsent());
    }
    assert_eq!(server.connections.memory(), found);
    [Held::Received, Held::Outbound].map(|kind| found.of(kind))
}

#[test]
fn what_connections_hold_is_counted_until_it_is_used_or_they_are_freed() {
    let mut server = Server::new();
    let (mut stranger, _) = server.accept();
    let [(slow, slow_conn), (mut client, conn)] = [server.open(), server.open()];
    assert_eq!(held(&mut server), [0, 0]);

    stranger.write_all(b"GET / HT").unwrap();
    server.serve();
    assert_eq!(held(&mut server), [8, 0], "of a head");
    client.write_all(&frame(0x82, b"12345")[..9]).unwrap();
    server.serve();
    assert_eq!(held(&mut server), [8 + 3, 0], "of a message");
    server.connections.hold_back(conn, b"later");
    server.connections.served(conn, Intake::default());
    assert_eq!(held(&mut server), [8 + 3 + 5, 0], "what waits for its turn");
    let payload = vec![0; 300_000];
    assert!(server.connections.send(slow_conn, &payload, true, false));
    server.connections.flush(server.now);
    let unsent = server
        .connections
        .get_mut(slow_conn)
        .map(|slow| slow.socket.unsent());
    let unsent = unsent.unwrap();
    assert_eq!(server.connections.unsent_bytes(), unsent);
    assert!(unsent > 0, "the kernel has taken all of it");
    assert_eq!(held(&mut server), [8 + 3 + 5, unsent], "what is not sent");

    server.connections.cut(conn);
    assert_eq!(held(&mut server), [8 + 5, unsent], "it is in a queue");
    assert_eq!(server.connections.next_of(Queue::Backlog), None);
    assert_eq!(held(&mut server), [8, unsent], "it is freed");
    stranger.write_all(b"nonsense\r\n\r\n").unwrap();
    server.serve();
    assert_eq!(held(&mut server), [0, unsent], "it is answered");
    drop(slow);
    while server.connections.get_mut(slow_conn).is_some() {
        server.serve();
    }
    assert_eq!(held(&mut server), [0, 0]);
}

/// A client of the test below, and what it has not written yet.
struct Peer {
    stream: TcpStream,
    conn: ConnId,
    pending: Vec<u8>,
}

#[test]
fn the_account_is_what_connections_hold_whatever_happens() {
    let mut most = [0, 0];
    for seed in 0..60 {
        let (mut rng, mut server) = (StdRng::seed_from_u64(seed), Server::new());
        let mut peers = Vec::new();
        for _ in 0..200 {
            if peers.len() < 2 || peers.len() < 8 && rng.random_bool(0.1) {
                let opens = rng.random_bool(0.7);
                let (stream, conn) = if opens {
                    server.open()
                } else {
                    server.accept()
                };
                let pending = Vec::new();
                peers.push(Peer {
                    stream,
                    conn,
                    pending,
                });
            }
            let at = rng.random_range(0..peers.len());
            if act(&mut server, &mut peers[at], &mut rng) {
                peers.swap_remove(at);
            }
            server.take_events(Some(Duration::ZERO));
            serve_some(&mut server, &mut rng);
            for (most, now) in most.iter_mut().zip(held(&mut server)) {
                *most = now.max(*most);
            }
        }
        for conn in server.connections.all() {
            server.connections.cut(conn);
        }
        while server.connections.len() > 0 {
            serve_some(&mut server, &mut rng);
            held(&mut server);
        }
        assert_eq!(held(&mut server), [0, 0], "seed {seed}");
    }
    assert!(!most.contains(&0), "nothing was held: {most:?}");
}

/// Something happens to a connection, from outside or from inside. Returns whether its peer goes.
fn act(server: &mut Server, peer: &mut Peer, rng: &mut StdRng) -> bool {
    let (conn, now) = (peer.conn, server.now);
    let reason = CloseReason::of(1001, "");
    match rng.random_range(0..40) {
        0 => server.connections.cut(conn),
        1 => server.connections.close(conn, &reason, true, now),
        2 => server.connections.finish(conn, now),
        3 => server.connections.fail(conn, &reason, now),
        4 => {
            let answer = Answer::unavailable("");
            server.connections.answer(conn, &answer, true, now);
        }
        5 => server.connections.make_room(Entrance::Public, now),
        6 => {
            server.now += Duration::from_secs(rng.random_range(1..20));
            server.connections.handle_timeout(server.now);
        }
        7 => return true,
        8..12 => {
            let paused = rng.random_bool(0.5);
            server.connections.set_paused(conn, paused, now);
        }
        12..18 => {
            let payload = vec![0; rng.random_range(0..200_000)];
            if !server.connections.send(conn, &payload, true, false) {
                server.connections.fail(conn, &CloseReason::TooSlow, now);
            }
        }
        18..24 => {
            let mut buffer = vec![0; rng.random_range(1..200_000)];
            _ = peer.stream.read(&mut buffer);
        }
        _ => {
            if peer.pending.is_empty() {
                let (len_max, frames_max) = if rng.random_bool(0.1) {
                    (50_000, 5)
                } else {
                    (120, 100)
                };
                let payload = vec![0; rng.random_range(0..len_max)];
                let firsts = [0x82, 0x82, 0x02, 0x00, 0x80, 0x89, 0x88];
                for _ in 0..rng.random_range(1..frames_max) {
                    let first = firsts[rng.random_range(0..firsts.len())];
                    peer.pending.extend(frame(first, &payload));
                }
            }
            let len = rng.random_range(0..=peer.pending.len());
            let written = peer.stream.write(&peer.pending[..len]).unwrap_or(0);
            peer.pending.drain(..written);
        }
    }
    false
}

/// One read of many connections, some of which use only a part of what it has brought.
fn serve_some(server: &mut Server, rng: &mut StdRng) {
    let (mut buffer, now) = (vec![0; 64 << 10], server.now);
    for queue in [Queue::Ready, Queue::Backlog, Queue::Leaving] {
        for _ in 0..server.connections.queue_len(queue) {
            if rng.random_bool(0.2) {
                break;
            }
            let Some(conn) = server.connections.next_of(queue) else {
                continue;
            };
            let (len, _) = server.connections.fill(conn, &mut buffer, now);
            let mut input = Intake::new(&mut buffer[..len]);
            for _ in 0..rng.random_range(1..50) {
                _ = server.connections.next_event(conn, &mut input, now);
            }
            server.connections.hold_back(conn, input.rest());
            server.connections.served(conn, input);
        }
    }
}
