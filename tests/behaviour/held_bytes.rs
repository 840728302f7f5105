//! Goal: an operator sees what peers make the server hold, by kind, and that it is let go again.
//! Method: clients that send halves, do not read, or are not answered since Redis is frozen; then
//! they go on, or leave.

use crate::support::client::{Client, Event};
use crate::support::eventually;
use crate::support::frame::{BINARY, masked};
use crate::support::redis::Redis;
use crate::support::server::Server;
use crate::support::stream::Stream;

/// The bytes of a kind.
#[track_caller]
fn held(server: &Server, kind: &str) -> u64 {
    let value = server.metric(&format!("held_bytes{{kind=\"{kind}\"}}"));
    value.expect("a gauge for each kind")
}

#[track_caller]
fn until_held(server: &Server, kind: &str, holds: fn(u64) -> bool) {
    eventually(kind, || holds(held(server, kind)));
}

#[test]
fn what_peers_make_the_server_hold_is_seen_and_let_go() {
    let redis = Redis::start();
    let flags = [
        "--app=echo",
        "--max-outbound-bytes=67108864",
        "--max-message-size=33554432",
    ];
    let server = Server::start(&redis.url(), &flags);
    for kind in ["received", "outbound", "replies", "broadcasts", "states"] {
        assert_eq!(held(&server, kind), 0, "{kind}");
    }

    let mut stranger = Stream::connect(server.address);
    stranger.queue(b"GET / HT");
    stranger.flush();
    let mut client = Client::plain(&server, "/");
    let message = masked(BINARY, b"12345");
    let (half, rest) = message.split_at(message.len() - 2);
    client.stream.queue(half);
    client.stream.flush();
    until_held(&server, "received", |bytes| bytes == 8 + 3);
    client.stream.queue(rest);
    assert_eq!(client.meet(), Event::Binary(b"12345".to_vec()));
    drop(stranger);
    until_held(&server, "received", |bytes| bytes == 0);

    // More than the kernel takes for it.
    let large = vec![7; 16 << 20];
    client.stream.shrink_inbox();
    client.binary(&large);
    client.stream.flush();
    until_held(&server, "outbound", |bytes| bytes > 1 << 20);
    assert!(client.meet() == Event::Binary(large), "it reads after all");
    until_held(&server, "outbound", |bytes| bytes == 0);
    client.leave();

    let (mut first, _) = Client::v1(&server, "first");
    let (mut second, _) = Client::v1(&server, "second");
    redis.freeze();
    for client in [&mut first, &mut second] {
        client.binary(&[0; 1_000]);
        client.stream.flush();
    }
    until_held(&server, "replies", |bytes| bytes >= 2_000);
    second.stream.reset();
    until_held(&server, "replies", |bytes| (1_000..2_000).contains(&bytes));
    redis.thaw();
    assert_eq!(first.meet(), Event::Binary(vec![0; 1_000]));
    until_held(&server, "replies", |bytes| bytes == 0);
}
