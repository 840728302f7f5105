//! Goal: what RFC 6455 forbids ends that connection with the right code, never with a reset, and
//! nobody else notices.
//! Method: raw bytes after a handshake; cases are data.

use crate::support::client::Client;
use crate::support::frame::{BINARY, CLOSE, FIN, PING, TEXT, close_payload, masked, unmasked};
use crate::support::server::Server;
use crate::support::stream::End;

const CONTINUATION: u8 = 0;

/// Sends the bytes after a handshake: the connection must be closed with one of these codes,
/// cleanly, and the witness must be served as before.
#[track_caller]
fn check(server: &Server, witness: &mut Client, what: &str, bytes: &[u8], codes: &[u16]) {
    let mut client = Client::plain(server, "/ws/chat/");
    client.stream.queue(bytes);
    let (code, reason) = client.until_close();
    assert!(codes.contains(&code), "{what}: {code} {reason}");
    assert_eq!(client.until_end(), End::Eof, "{what}");
    witness.say("still here");
}

#[test]
fn protocol_errors_are_1002() {
    let server = Server::start("memory:", &[]);
    let mut witness = Client::plain(&server, "/ws/chat/");
    let mut case = |what: &str, bytes: &[u8]| check(&server, &mut witness, what, bytes, &[1002]);
    for bit in [0x40, 0x20, 0x10, 0x70] {
        case(
            &format!("reserved bits {bit:#x}"),
            &masked(TEXT | bit, b"x"),
        );
        case(
            &format!("reserved bits {bit:#x} on a ping"),
            &masked(PING | bit, b"x"),
        );
    }
    for opcode in (0x3..=0x7).chain(0xb..=0xf) {
        case(
            &format!("reserved opcode {opcode:#x}"),
            &masked(FIN | opcode, b"x"),
        );
    }
    case("no mask", &unmasked(TEXT, b"hello"));
    case("no mask on a ping", &unmasked(PING, b"hello"));
    case("no mask on an empty message", &unmasked(TEXT, b""));
    case("a ping in fragments", &masked(PING & !FIN, b"x"));
    case(
        "a Close in fragments",
        &masked(CLOSE & !FIN, &close_payload(1000, "")),
    );
    case("a ping of 126 bytes", &masked(PING, &[0; 126]));
    case("a Close of 126 bytes", &masked(CLOSE, &[b'x'; 126]));
    case(
        "a continuation of nothing",
        &masked(FIN | CONTINUATION, b"x"),
    );
    let inside = [masked(TEXT & !FIN, b"a"), masked(TEXT, b"b")].concat();
    case("a message inside another", &inside);
    let after = [
        masked(TEXT & !FIN, b"a"),
        masked(FIN, b"b"),
        masked(FIN, b"c"),
    ]
    .concat();
    case("a continuation after the end", &after);
    case("a Close of one byte", &masked(CLOSE, &[3]));
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535] {
        let what = format!("a Close with the code {code}");
        case(&what, &masked(CLOSE, &close_payload(code, "")));
    }
}

#[test]
fn invalid_utf8_is_1007() {
    let server = Server::start("memory:", &[]);
    let mut witness = Client::plain(&server, "/ws/chat/");
    let mut case = |what: &str, bytes: &[u8]| check(&server, &mut witness, what, bytes, &[1007]);
    case("a lone continuation byte", &masked(TEXT, b"ab\x80"));
    case("an overlong slash", &masked(TEXT, b"\xc0\xaf"));
    case("a surrogate", &masked(TEXT, b"\xed\xa0\x80"));
    case("beyond Unicode", &masked(TEXT, b"\xf4\x90\x80\x80"));
    case("cut short", &masked(TEXT, b"gr\xc3"));
    let fragments = [masked(TEXT & !FIN, b"gr\xc3"), masked(FIN, b"\x28")].concat();
    case("wrong across fragments", &fragments);
    let reason = [&1000_u16.to_be_bytes()[..], b"\xff"].concat();
    check(
        &server,
        &mut witness,
        "a Close reason",
        &masked(CLOSE, &reason),
        &[1002, 1007],
    );
    // Binary messages may hold anything.
    let mut client = Client::plain(&server, "/ws/chat/");
    client.binary(b"\xff\xfe");
    assert_eq!(client.count(), 1);
}

#[test]
fn oversized_messages_are_1009() {
    let server = Server::start("memory:", &["--max-message-size", "1000"]);
    let mut witness = Client::plain(&server, "/ws/chat/");
    let mut case = |what: &str, bytes: &[u8]| check(&server, &mut witness, what, bytes, &[1009]);
    case("a byte too long", &masked(TEXT, &[b'x'; 1001]));
    case("far too long", &masked(BINARY, &vec![0; 2_000_000]));
    case(
        "announced, not sent",
        &masked(BINARY, &vec![0; 70_000])[..14],
    );
    let fragments = [masked(TEXT & !FIN, &[b'x'; 900]), masked(FIN, &[b'x'; 101])].concat();
    case("too long in all", &fragments);
    let endless: Vec<u8> = [
        masked(BINARY & !FIN, b""),
        masked(CONTINUATION, &[0; 100]).repeat(20),
    ]
    .concat();
    case("fragments without an end", &endless);

    let mut client = Client::plain(&server, "/ws/chat/");
    client.text(&"x".repeat(1000));
    assert_eq!(client.count(), 1);
    client.frame(TEXT & !FIN, &[b'x'; 900]);
    client.frame(FIN | CONTINUATION, &[b'x'; 100]);
    assert_eq!(client.count(), 2);
}

#[test]
fn the_default_limit_is_a_mebibyte() {
    let server = Server::start("memory:", &[]);
    let mut client = Client::plain(&server, "/ws/chat/");
    client.text(&"x".repeat(1 << 20));
    assert_eq!(client.count(), 1);
    client.text(&"x".repeat((1 << 20) + 1));
    assert_eq!(client.until_close().0, 1009);
    assert_eq!(client.until_end(), End::Eof);
}

/// A header is a claim: memory is for what arrives, not for what is announced.
#[test]
fn claims_of_exabytes_cost_no_memory() {
    let server = Server::start("memory:", &[]);
    let mut witness = Client::plain(&server, "/ws/chat/");
    witness.say("warm");
    let before = server.resident_kib();
    server.forget_peak();
    for len in [1 << 63, u64::MAX, (1 << 63) - 1, 1 << 40, (1 << 20) + 1] {
        let mut header = vec![BINARY, 0xff];
        header.extend_from_slice(&u64::to_be_bytes(len));
        header.extend_from_slice(&[1, 2, 3, 4, 5, 6]);
        for _ in 0..20 {
            check(
                &server,
                &mut witness,
                &format!("{len} bytes"),
                &header,
                &[1002, 1009],
            );
        }
    }
    let grown = server.peak_kib().saturating_sub(before);
    assert!(grown < 8 << 10, "it grew by {grown} KiB");
}

/// A claim within the limit is no allocation either, or idle peers could fill the memory.
#[test]
fn messages_that_never_come_cost_no_memory() {
    let server = Server::start("memory:", &[]);
    let mut witness = Client::plain(&server, "/ws/chat/");
    witness.say("warm");
    let before = server.resident_kib();
    let announced = &masked(BINARY, &vec![0; 1 << 20])[..20];
    let mut silent: Vec<_> = (0..100)
        .map(|_| Client::plain(&server, "/ws/chat/"))
        .collect();
    for client in &mut silent {
        client.stream.queue(announced);
        client.stream.flush();
    }
    server.turns();
    let grown = server.resident_kib().saturating_sub(before);
    assert!(grown < 16 << 10, "it grew by {grown} KiB");
}

/// Bytes that follow an error are thrown away, not answered with a reset that would destroy the
/// Close.
#[test]
fn an_error_in_a_flood_is_still_a_clean_close() {
    let server = Server::start("memory:", &[]);
    let mut witness = Client::plain(&server, "/ws/chat/");
    let flood = vec![0; 4 << 20];
    let bytes = [unmasked(TEXT, b"wrong"), flood].concat();
    for _ in 0..10 {
        check(&server, &mut witness, "a flood", &bytes, &[1002]);
    }
}

/// So are bytes that follow the peer's own Close, which nobody should send.
#[test]
fn what_follows_a_close_is_thrown_away() {
    let server = Server::start("memory:", &[]);
    let mut witness = Client::plain(&server, "/ws/chat/");
    let close = masked(CLOSE, &close_payload(1000, ""));
    let bytes = [close, vec![0; 4 << 20]].concat();
    for _ in 0..10 {
        check(&server, &mut witness, "after a Close", &bytes, &[1000]);
    }
}
