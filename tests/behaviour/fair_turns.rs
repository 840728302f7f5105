//! Goal: a peer that sends little does not wait for peers that send much.
//! Method: the library, turn by turn in this thread, with input of both in the kernel: which turn
//! answers, and how much of the flood it has taken by then. Nothing here is measured in time.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use sundown::{Chat, Config, Server, StoreConfig};

use crate::support::frame::{PING, TEXT, masked};
use crate::support::{PATIENCE, http, ms, now};

const FLOODERS: usize = 20;
/// A slice of the flood holds so many pings at most: those of one read.
const SLICE_PINGS_MAX: usize = 64;
const PONG_BYTES: usize = 2;

fn turn(server: &mut Server, wait: Duration) {
    server.turn(Some(wait)).expect("a loop that goes on");
}

/// A client whose handshake is done, by the server's turns.
fn upgraded(server: &mut Server, address: SocketAddr) -> TcpStream {
    let mut socket = TcpStream::connect_timeout(&address, PATIENCE).expect("room");
    socket.set_nonblocking(true).expect("O_NONBLOCK");
    let head = http::upgrade("/ws/chat/", &[]);
    socket.write_all(head.as_bytes()).expect("a head");
    let deadline = now() + PATIENCE;
    while !received(&mut socket).ends_with(b"\r\n\r\n") {
        assert!(now() < deadline, "no 101");
        turn(server, ms(1));
    }
    socket
}

/// What has come by now.
fn received(socket: &mut TcpStream) -> Vec<u8> {
    let (mut all, mut chunk) = (Vec::new(), [0; 4 << 10]);
    loop {
        match socket.read(&mut chunk) {
            Ok(0) => panic!("the server has closed"),
            Ok(len) => all.extend_from_slice(&chunk[..len]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return all,
            Err(error) => panic!("no reply, but {error}"),
        }
    }
}

#[test]
fn a_reply_does_not_wait_for_a_flood() {
    let config = Config {
        listen: ([127, 0, 0, 1], 0).into(),
        admin: None,
        store: StoreConfig::Memory,
        ..Config::default()
    };
    let mut server = Server::bind(config, Chat).expect("a free port");
    let address = server.local_addr().tcp().expect("TCP");
    let mut flooders: Vec<_> = (0..FLOODERS)
        .map(|_| upgraded(&mut server, address))
        .collect();
    let mut good = upgraded(&mut server, address);
    for flooder in &mut flooders {
        let pings = masked(PING, b"").repeat(10_000);
        // As much as the kernel takes: far more than a turn should.
        let written = flooder.write(&pings).expect("room for some");
        assert!(written >= 30_000, "{written}");
    }
    // Everyone's first read: they are no news after that.
    while received_by(&mut flooders) < FLOODERS * PONG_BYTES {
        turn(&mut server, ms(1));
    }
    good.write_all(&masked(TEXT, b"x")).expect("a message");
    let mut turns = 0;
    let mut pongs = 0;
    while received(&mut good).is_empty() {
        assert!(turns < 100, "no reply");
        turn(&mut server, Duration::ZERO);
        turns += 1;
        pongs += received_by(&mut flooders) / PONG_BYTES;
    }
    assert!(
        pongs <= turns * SLICE_PINGS_MAX,
        "{pongs} pings were answered in {turns} turns"
    );
    // One more than necessary, if the kernel is late with the news.
    assert!(turns <= 3, "{turns} turns");
}

fn received_by(flooders: &mut [TcpStream]) -> usize {
    flooders.iter_mut().map(|one| received(one).len()).sum()
}
