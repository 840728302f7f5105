//! Goal: whatever a client sends after its handshake, in whatever pieces, the messages and the end are
//! those that tungstenite finds in it (but where RFC 6455 is stricter: `oracle`); the same frames are
//! sent; memory follows what was sent and never what was announced; and the end is a Close frame and
//! a FIN, never a reset.
//! Method: the first byte says how the rest is cut, and whether there is a session. The reader takes
//! the bytes in one piece and in those pieces, and tells what the oracle does; then the server itself
//! takes them, over a socket, with limits that small inputs reach, and must send what the reader has
//! said.

#![no_main]

use std::cell::RefCell;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use sundown::engine::io::CloseReason;
use sundown::net::frame;
use sundown::net::intake::Intake;
use sundown::net::reader::{Reader, Received};
use sundown::{Config, Echo, Limits, Message, Server, StoreConfig};
use sundown_fuzz::{choice, cut, heap};

#[path = "../../../src/net/reader/oracle.rs"]
mod oracle;

use oracle::Told;

const MESSAGE_BYTES_MAX: usize = 300;
/// More pieces than this only take longer.
const PIECES_MAX: usize = 40;
/// Turns without an end, of 1 ms each: a connection that hangs.
const TURNS_MAX: usize = 3_000;

fuzz_target!(|data: &[u8]| {
    let (chosen, bytes) = choice(data);
    let (pattern, with_session) = (chosen >> 1, chosen & 1 == 1);
    let (mut told, mut told_of_pieces) = (Vec::new(), Vec::new());
    let whole = receive([bytes].into_iter(), |one| told.push(one));
    oracle::compare(bytes, &told, MESSAGE_BYTES_MAX);
    receive(cut(bytes, pattern), |one| told_of_pieces.push(one));
    assert_eq!(told, told_of_pieces, "in one piece, and in pieces");
    let (pieces, growth) = heap::growth(|| receive(cut(bytes, pattern), drop));
    assert_eq!(whole, pieces, "in one piece, and in pieces");
    // What came in: once as a message, once as its fragments, and its echo. Buffers double.
    let bound = (2 << 10) + 8 * MESSAGE_BYTES_MAX + 8 * bytes.len();
    assert!(
        growth <= bound,
        "{growth} bytes for {} of input",
        bytes.len()
    );
    if with_session {
        let sent = exchange("/?session=a", bytes, pattern);
        agrees(&Frames::of(&whole), &Frames::of(&sent), whole == sent);
    } else {
        assert_eq!(exchange("/", bytes, pattern), whole, "over a socket");
    }
});

/// What an echo server sends for these, by the reader alone, to its Close; and what the reader tells.
fn receive<'a>(pieces: impl Iterator<Item = &'a [u8]>, mut tell: impl FnMut(Told)) -> Vec<u8> {
    let (mut reader, mut sent) = (Reader::default(), Vec::new());
    for piece in pieces {
        let mut bytes = piece.to_vec();
        let mut input = Intake::new(&mut bytes);
        loop {
            match reader.next(&mut input, MESSAGE_BYTES_MAX, &mut Vec::new()) {
                Received::Nothing => break,
                Received::Pong => tell(Told::Pong),
                Received::Ping => {
                    let payload = reader.ping_payload();
                    frame::encode_pong(payload, &mut sent);
                    tell(Told::Ping(payload.to_vec()));
                }
                Received::Message(Message::Text(text)) => {
                    frame::encode_message(text.as_bytes(), false, &mut sent);
                    tell(Told::Text(text.to_owned()));
                }
                Received::Message(Message::Binary(bytes)) => {
                    frame::encode_message(bytes, true, &mut sent);
                    tell(Told::Binary(bytes.to_vec()));
                }
                Received::Closed => {
                    let payload = reader.close_payload().expect("a Close");
                    frame::encode_close_answer(payload, &mut sent);
                    tell(Told::Closed(payload.to_vec()));
                    return sent;
                }
                Received::Failed(reason) => {
                    frame::encode_close(&reason, &mut sent);
                    tell(Told::Failed(reason.code()));
                    return sent;
                }
            }
        }
        assert!(input.rest().is_empty());
    }
    // The FIN that follows.
    frame::encode_close(&CloseReason::of(1000, ""), &mut sent);
    sent
}

thread_local! {
    /// One that reads little at a time, and one whose reads grow with the frames.
    static SERVERS: [RefCell<Server>; 2] = [100, 64 << 10].map(|max| RefCell::new(start(max)));
}

fn start(read_bytes_max: usize) -> Server {
    let config = Config {
        listen: ([127, 0, 0, 1], 0).into(),
        admin: None,
        store: StoreConfig::Memory,
        limits: Limits {
            message_bytes_max: MESSAGE_BYTES_MAX,
            read_bytes_max,
            held_replies_max: 2,
            idle_timeout: Duration::ZERO,
            ..Limits::default()
        },
        ..Config::default()
    };
    Server::bind(config, Echo).expect("a free port")
}

/// What the server sends over a socket, after its 101 and to its FIN.
fn exchange(path: &str, bytes: &[u8], pattern: u8) -> Vec<u8> {
    SERVERS.with(|servers| {
        let server = &mut *servers[usize::from(pattern >> 1 & 1)].borrow_mut();
        let mut client = TcpStream::connect(server.local_addr().tcp().expect("TCP"))
            .expect("room for one client");
        let mut turn = |wait| {
            server
                .turn(Some(Duration::from_millis(wait)))
                .expect("a loop that goes on");
        };
        client.set_nodelay(true).expect("TCP_NODELAY");
        client.set_nonblocking(true).expect("O_NONBLOCK");
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Version: 13\r\n\r\n"
        );
        client.write_all(head.as_bytes()).expect("a head");
        let mut rest = bytes;
        for piece in cut(bytes, pattern).take(PIECES_MAX) {
            client.write_all(piece).expect("a piece");
            turn(0);
            rest = &rest[piece.len()..];
        }
        client.write_all(rest).expect("the rest");
        client.shutdown(Shutdown::Write).expect("FIN");
        let mut answer = Vec::new();
        let mut chunk = [0; 4 << 10];
        for _ in 0..TURNS_MAX {
            turn(1);
            loop {
                match client.read(&mut chunk) {
                    Ok(0) => return without_head(&answer),
                    Ok(len) => answer.extend_from_slice(&chunk[..len]),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => panic!("no FIN, but {error}"),
                }
            }
        }
        panic!("no end, after {answer:?}");
    })
}

fn without_head(answer: &[u8]) -> Vec<u8> {
    assert!(answer.starts_with(b"HTTP/1.1 101 "));
    let end = answer
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .expect("a whole head");
    answer[end + 4..].to_vec()
}

/// What was sent, by kind. With a session, replies wait for the store, and pongs overtake them.
struct Frames {
    data: Vec<Vec<u8>>,
    control: Vec<Vec<u8>>,
}

impl Frames {
    fn of(mut bytes: &[u8]) -> Self {
        let mut frames = Self {
            data: Vec::new(),
            control: Vec::new(),
        };
        while let [first, second, ..] = *bytes {
            assert_eq!(
                (first & 0xf0, second & 0x80),
                (0x80, 0),
                "whole, and not masked"
            );
            let (head, len) = match second {
                126 => (4, usize::from(u16::from_be_bytes([bytes[2], bytes[3]]))),
                127 => panic!("longer than any message may be"),
                short => (2, usize::from(short)),
            };
            let (frame, rest) = bytes.split_at(head + len);
            let kind = if first & 0x08 == 0 {
                &mut frames.data
            } else {
                &mut frames.control
            };
            kind.push(frame.to_vec());
            bytes = rest;
        }
        assert!(bytes.is_empty(), "a frame was cut off");
        frames
    }

    fn close(&self) -> Option<&[u8]> {
        self.control.last().map(Vec::as_slice)
    }
}

/// All pongs and the Close are the same; replies are, unless a broken rule has ended it.
fn agrees(expected: &Frames, sent: &Frames, are_same: bool) {
    if are_same {
        return;
    }
    assert_eq!(expected.control, sent.control);
    let failed = sent.close().is_some_and(|close| {
        matches!(close, [0x88, _, high, low, ..] if [1002, 1007, 1009]
            .contains(&u16::from_be_bytes([*high, *low])))
    });
    assert!(
        expected.data.starts_with(&sent.data),
        "replies out of order"
    );
    assert!(failed || expected.data == sent.data, "replies are missing");
}
