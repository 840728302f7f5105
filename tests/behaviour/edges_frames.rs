//! Goal: a frame that is wrong costs nobody else anything, and ends that connection without a reset.
//! What is wrong, and with which code, is for `tests/conformance`; what it costs, for `tests/hostile`.
//! Method: raw bytes after a handshake, and a witness on another connection.

use crate::support::client::Client;
use crate::support::frame::{TEXT, unmasked};
use crate::support::server::Server;

#[test]
fn the_default_limit_is_a_mebibyte() {
    let server = Server::start("memory:", &[]);
    let mut client = Client::plain(&server, "/ws/chat/");
    client.text(&"x".repeat(1 << 20));
    assert_eq!(client.count(), 1);
    client.text(&"x".repeat((1 << 20) + 1));
    client.until_closed(1009);
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
        let mut client = Client::plain(&server, "/ws/chat/");
        client.stream.queue(&bytes);
        client.until_closed(1002);
        witness.say("still here");
    }
}
