//! Goal: `sundown smoke` passes where a client is served, on every store, and nowhere else; it says
//! on one line at which step it stopped and what came instead, keeps to its 5 s whatever the peer
//! does, and shows no session id.
//! Method: the built binary against itself, and against a peer in the test that says what it is
//! told to; exit code, standard output and standard error.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use tungstenite::handshake::derive_accept_key;

use crate::support::client::Client;
use crate::support::frame::{self, BINARY as BINARY_FRAME, CLOSE, FIN, PING, TEXT};
use crate::support::peer::{Nobody, Peer, head};
use crate::support::process::Process;
use crate::support::said::Said;
use crate::support::server::{BINARY, Server};
use crate::support::store::Store;
use crate::support::{PATIENCE, ms, now, pause};

/// The promise: from the start to the verdict.
const TIMEOUT: Duration = Duration::from_secs(5);

const HELLO: &str = r#"{"session":"secret","count":0,"resumed":false}"#;
const COUNT: &str = r#"{"count":1}"#;
const GOING_AWAY: &str = "server shutdown; retry-after-ms=131";

/// What a run leaves behind.
struct Run {
    code: Option<i32>,
    stdout: Vec<String>,
    stderr: Vec<String>,
    took: Duration,
}

#[track_caller]
fn run(args: &[&str]) -> Run {
    let mut command = Command::new(BINARY);
    command.arg("smoke").args(args).env_clear();
    let begun = now();
    let mut process = Process::spawn(command);
    let (status, at) = process.wait(PATIENCE);
    Run {
        code: status.code(),
        stdout: process.stdout.all(),
        stderr: process.stderr.all(),
        took: at.duration_since(begun),
    }
}

#[track_caller]
fn smoke(addr: SocketAddr) -> Run {
    run(&["--listen", &addr.to_string()])
}

/// Exit 0, and one line.
#[track_caller]
fn check_passes(addr: SocketAddr, args: &[&str]) {
    let run = run(args);
    assert_eq!(run.code, Some(0), "{:?}", run.stderr);
    assert!(run.stderr.is_empty(), "{:?}", run.stderr);
    let [line] = run.stdout.as_slice() else {
        panic!("{:?}", run.stdout);
    };
    let seen = format!("ws://{addr}/ws/chat/: 101, hello, {COUNT} and Close 1000 in ");
    let took_ms = line
        .strip_prefix(&seen)
        .and_then(|rest| rest.strip_suffix(" ms"));
    let took_ms: u128 = took_ms
        .and_then(|digits| digits.parse().ok())
        .unwrap_or_else(|| panic!("{line}"));
    assert!(took_ms <= run.took.as_millis(), "{line}");
}

/// Exit 1, nothing on standard output, and one line which says this after the address.
#[track_caller]
fn check_fails(addr: SocketAddr, expected: &str) -> Run {
    let run = smoke(addr);
    assert_eq!(run.code, Some(1), "{:?}", run.stderr);
    assert!(run.stdout.is_empty(), "{:?}", run.stdout);
    let [line] = run.stderr.as_slice() else {
        panic!("{:?}", run.stderr);
    };
    assert_eq!(
        line,
        &format!("sundown: ws://{addr}/ws/chat/: {expected}"),
        "the line"
    );
    run
}

#[test]
fn a_server_in_order_passes_on_every_store() {
    for store in [Store::Memory, Store::sqlite(), Store::redis()] {
        for durability in ["acked", "relaxed"] {
            let mut server = Server::start(&store.url(), &["--durability", durability]);
            check_passes(server.address, &["--listen", &server.address.to_string()]);
            server.stop();
        }
    }
}

/// The container's own variables are what it is run with, and nothing but the listener matters.
#[test]
fn an_unspecified_address_is_reached_over_loopback() {
    let server = Server::start("memory:", &[]);
    let port = server.address.port();
    let listen = format!("0.0.0.0:{port}");
    let args = ["--listen", &listen, "--app=echo", "--drain-timeout=1ms"];
    check_passes(server.address, &args);
}

/// It leaves a session of its own with one message, and takes nobody else's.
#[test]
fn it_leaves_one_new_session_in_the_store() {
    let store = Store::sqlite();
    let mut server = Server::start(&store.url(), &[]);
    let (mut client, _) = Client::v1(&server, "mine");
    assert_eq!(client.say("before"), 1);
    for _ in 0..2 {
        assert_eq!(smoke(server.address).code, Some(0));
    }
    assert_eq!(client.say("after"), 2);
    client.leave();
    server.stop();
    let url = store.url();
    let file = url.strip_prefix("sqlite:").expect("a file");
    let file = rusqlite::Connection::open(file).expect("a database");
    let mut query = file
        .prepare("SELECT count FROM session ORDER BY count")
        .expect("the table");
    let counts = query.query_map([], |row| row.get(0)).expect("rows");
    let counts: Vec<i64> = counts.map(|count| count.expect("a count")).collect();
    assert_eq!(counts, [1, 1, 2]);
}

#[test]
fn bad_configuration_is_64_and_a_port_that_nobody_knows_is_1() {
    let bad = run(&["--listen", "localhost:8000"]);
    assert_eq!(bad.code, Some(64));
    assert!(bad.stderr[0].starts_with("sundown: --listen"));
    let nowhere = run(&["--listen", "0.0.0.0:0"]);
    assert_eq!(nowhere.code, Some(1));
    assert!(nowhere.stderr[0].starts_with("sundown: port 0 is not"));
    for run in [bad, nowhere] {
        assert!(run.stdout.is_empty() && run.stderr.len() == 1);
    }
}

#[test]
fn nobody_listens() {
    let nobody = Nobody::new();
    check_fails(
        nobody.addr,
        "connect: expected a connection, got: Connection refused (os error 111)",
    );
}

#[test]
fn another_application_is_not_what_was_deployed() {
    let server = Server::start("memory:", &["--app", "echo"]);
    check_fails(
        server.address,
        "message: expected {\"count\":1}, got: smoke (the message itself: is it another \
         application than chat?)",
    );
}

#[test]
fn the_store_is_away() {
    let nobody = Nobody::new();
    let url = format!("redis://{}", nobody.addr);
    let server = Server::start_unready(&url, &[]);
    check_fails(
        server.address,
        "handshake: expected 101, got: 503 {\"error\":\"store unavailable\"}",
    );
}

#[test]
fn the_server_is_shutting_down() {
    let flags = ["--drain-timeout", "6s", "--drain-quiet", "5s"];
    let server = Server::start("memory:", &flags);
    let (mut client, _) = Client::v1(&server, "holds-it");
    server.terminate();
    assert!(matches!(client.hear(), Said::Notice(_)));
    check_fails(
        server.address,
        "handshake: expected 101, got: 503 {\"error\":\"try another instance\"}",
    );
}

#[test]
fn a_handshake_that_is_none() {
    for (answer, expected) in [
        ("", "the end of the connection"),
        ("HTTP/1.1 101 Swi", "the end of the connection"),
        (
            "SSH-2.0-OpenSSH_9.2\r\n",
            "WebSocket protocol error: httparse error: invalid HTTP version",
        ),
        (
            "HTTP/1.1 404 Not Found\r\nContent-Length: 8\r\n\r\nno\nhere\u{1b}, but not this",
            "404 no\\nhere\\u{1b}",
        ),
        ("HTTP/1.1 200 OK\r\n\r\n", "200"),
        (
            "HTTP/1.1 400 Bad Request\r\nContent-Length: 99\r\n\r\n{\"session\":\"secret\"}",
            "400 {\"session\":\"…\"}",
        ),
        (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Protocol: sundown.v1\r\nSec-WebSocket-Accept: x\r\n\r\n",
            "WebSocket protocol error: Key mismatch in \"Sec-WebSocket-Accept\" header",
        ),
    ] {
        let peer = Peer::start(move |stream| {
            head(stream);
            send(stream, answer.as_bytes());
            finish(stream);
        });
        let expected = format!("handshake: expected 101, got: {expected}");
        check_fails(peer.addr, &expected);
        peer.join();
    }
}

/// A proxy may send the two apart.
#[test]
fn an_answers_body_may_come_after_its_head() {
    let peer = Peer::start(|stream| {
        head(stream);
        send(
            stream,
            b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 4\r\n\r\n",
        );
        pause(ms(50));
        send(stream, b"gone");
        until_gone(stream);
    });
    check_fails(peer.addr, "handshake: expected 101, got: 502 gone");
    peer.join();
}

#[test]
fn messages_that_are_not_the_contracts() {
    let hello = "hello: expected {\"session\":\"…\",\"count\":0,\"resumed\":false}, got: ";
    let count = "message: expected {\"count\":1}, got: ";
    let close = "close: expected Close 1000, got: ";
    let long = "y".repeat(8 << 10);
    let half = |first| frame::unmasked(first, "y".repeat(10 << 10).as_bytes());
    let greeted = |more: Vec<u8>| [text(HELLO), more].concat();
    for (said, step, expected) in [
        (text("\0nonsense\n"), hello, "\\0nonsense"),
        (text(&long), hello, &format!("{}…", &long[..200])),
        (
            text(&"y".repeat(20 << 10)),
            hello,
            "Space limit exceeded: Message too long: 20480 > 16384",
        ),
        (
            [half(TEXT & !FIN), half(FIN)].concat(),
            hello,
            "Space limit exceeded: Message too long: 20480 > 16384",
        ),
        (
            frame::unmasked(BINARY_FRAME, HELLO.as_bytes()),
            hello,
            "a binary message of 46 bytes",
        ),
        (
            text(r#"{"session":"secret","count":3,"resumed":true}"#),
            hello,
            r#"{"session":"…","count":3,"resumed":true}"#,
        ),
        (
            frame::unmasked(0x83, b""),
            hello,
            "WebSocket protocol error: Encountered invalid opcode: 3",
        ),
        (greeted(text(r#"{"count":2}"#)), count, r#"{"count":2}"#),
        (
            greeted(text(HELLO)),
            count,
            r#"{"session":"…","count":0,"resumed":false}"#,
        ),
        (
            greeted([text(COUNT), text(r#"{"count":2}"#)].concat()),
            close,
            r#"{"count":2}"#,
        ),
        (
            greeted([text(COUNT), frame::unmasked(CLOSE, &[])].concat()),
            close,
            "a Close without a code",
        ),
        (
            frame::unmasked(CLOSE, &frame::close_payload(1001, GOING_AWAY)),
            hello,
            &format!("Close 1001 {GOING_AWAY} (the server is shutting down)"),
        ),
    ] {
        let peer = speaks(said);
        check_fails(peer.addr, &format!("{step}{expected}"));
        peer.join();
    }
}

/// A message that arrives with pings around it, in two frames, is the same message.
#[test]
fn pings_in_between_are_no_answers() {
    let (first, rest) = COUNT.as_bytes().split_at(4);
    let ping = frame::unmasked(PING, b"still there?");
    let peer = Peer::start(move |stream| {
        shake_hands(stream);
        send(stream, &[&ping[..], &text(HELLO), &ping].concat());
        let first = frame::unmasked(TEXT & !FIN, first);
        let rest = frame::unmasked(FIN, rest);
        send(stream, &[first, ping, rest].concat());
        let close = frame::unmasked(CLOSE, &frame::close_payload(1000, ""));
        send(stream, &close);
        finish(stream);
        until_gone(stream);
    });
    let run = smoke(peer.addr);
    assert_eq!(run.code, Some(0), "{:?}", run.stderr);
    peer.join();
}

/// The server would destroy what it has sent last.
#[test]
fn a_reset_after_the_close_is_no_end() {
    let peer = Peer::start(|stream| {
        shake_hands(stream);
        let close = frame::unmasked(CLOSE, &frame::close_payload(1000, ""));
        send(stream, &[text(HELLO), text(COUNT), close].concat());
        // The message and the Close, each with its header and mask.
        let mut all = [0; 6 + 5 + 6 + 2];
        stream.read_exact(&mut all).expect("the client's side");
        rustix::net::sockopt::set_socket_linger(&*stream, Some(Duration::ZERO))
            .expect("a socket can be reset");
    });
    let run = smoke(peer.addr);
    assert_eq!(run.code, Some(1), "{:?}", run.stdout);
    let line = run.stderr.concat();
    assert!(line.contains(": close: expected "), "{line}");
    assert!(line.contains("Connection reset by peer"), "{line}");
    peer.join();
}

/// Not sooner than promised, and not much later.
#[track_caller]
fn check_deadline(peer: Peer<()>, step: &str) {
    let run = check_fails(peer.addr, &format!("{step}, got: no answer within 5s"));
    assert!(run.took >= TIMEOUT, "{:?}", run.took);
    assert!(run.took < 2 * TIMEOUT, "{:?}", run.took);
    peer.join();
}

#[test]
fn silence_ends_at_the_deadline() {
    let peer = Peer::start(until_gone);
    check_deadline(peer, "handshake: expected 101");
}

#[test]
fn a_close_without_an_end_ends_at_the_deadline() {
    let close = frame::unmasked(CLOSE, &frame::close_payload(1000, ""));
    let peer = speaks([text(HELLO), text(COUNT), close].concat());
    check_deadline(peer, "close: expected the end of the connection");
}

/// Each of them is in time, and all together are not.
#[test]
fn pings_do_not_move_the_deadline() {
    let peer = Peer::start(|stream| {
        shake_hands(stream);
        send(stream, &text(HELLO));
        let ping = frame::unmasked(PING, b"");
        // Ends when the client has gone, or after far more than it may take.
        for _ in 0..100 {
            pause(ms(200));
            if stream.write_all(&ping).is_err() {
                break;
            }
        }
    });
    check_deadline(peer, "message: expected {\"count\":1}");
}

fn text(payload: &str) -> Vec<u8> {
    frame::unmasked(TEXT, payload.as_bytes())
}

/// Shakes hands, says all of this at once, and waits for the client to go.
fn speaks(bytes: Vec<u8>) -> Peer<()> {
    Peer::start(move |stream| {
        shake_hands(stream);
        send(stream, &bytes);
        until_gone(stream);
    })
}

/// Whether the client is still there to read it is not the peer's concern.
fn send(stream: &mut TcpStream, bytes: &[u8]) {
    drop(stream.write_all(bytes));
}

/// The same for the end.
fn finish(stream: &TcpStream) {
    drop(stream.shutdown(Shutdown::Write));
}

fn until_gone(stream: &mut TcpStream) {
    let mut chunk = [0; 1024];
    while stream.read(&mut chunk).is_ok_and(|len| len > 0) {}
}

/// As the server does; and looks at what a client without a session sends.
fn shake_hands(stream: &mut TcpStream) {
    let head = head(stream);
    let field = |name: &str| {
        head.lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.to_owned())
    };
    assert!(head.starts_with("GET /ws/chat/ HTTP/1.1\r\n"), "{head}");
    assert_eq!(
        field("Sec-WebSocket-Protocol").as_deref(),
        Some("sundown.v1")
    );
    assert_eq!(field("Origin"), None, "--allowed-origins would judge it");
    let host = stream.local_addr().expect("an address").to_string();
    assert_eq!(field("Host"), Some(host));
    let key = field("Sec-WebSocket-Key").expect("a key");
    let accept = derive_accept_key(key.as_bytes());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Protocol: sundown.v1\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    send(stream, answer.as_bytes());
}
