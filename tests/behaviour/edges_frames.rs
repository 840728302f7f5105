//! Goal: a frame that is wrong costs the server no memory and nobody else anything, and ends that
//! connection without a reset. What is wrong, and with which code, is for `tests/conformance`.
//! Method: raw bytes after a handshake, and a witness on another connection.

use crate::support::client::Client;
use crate::support::frame::{BINARY, CLOSE, TEXT, close_payload, masked, unmasked};
use crate::support::server::Server;
use crate::support::stream::End;

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
fn the_default_limit_is_a_mebibyte() {
    let server = Server::start("memory:", &[]);
    let mut client = Client::plain(&server, "/ws/chat/");
    client.text(&"x".repeat(1 << 20));
    assert_eq!(client.count(), 1);
    client.text(&"x".repeat((1 << 20) + 1));
    client.until_closed(1009);
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
