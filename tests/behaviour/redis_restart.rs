//! Goal: Redis killed and restarted in mid-traffic costs nothing: clients go on by themselves on
//! the connections they have, readiness is 503 while it is away and 200 after, and in `relaxed`
//! mode replies do not even pause.
//! Method: `kill -9` to a redis-server whose append-only file is written through, and its restart
//! on the same port and files.

use crate::support::client::Client;
use crate::support::http;
use crate::support::redis::Redis;
use crate::support::server::Server;
use crate::support::stream::End;
use crate::support::{eventually, ms};

#[test]
fn acked_replies_wait_and_none_is_lost() {
    let mut redis = Redis::durable();
    let mut server = Server::start(&redis.url(), &[]);
    let mut clients: Vec<Client> = (0..10)
        .map(|at| Client::v1(&server, &format!("patient-{at}")).0)
        .collect();
    for client in &mut clients {
        (1..=20).for_each(|n| assert_eq!(client.say("before"), n));
    }
    // Messages are on their way at the moment of the kill, and more follow.
    for client in &mut clients {
        (0..50).for_each(|_| client.text("during"));
        client.stream.flush();
    }
    redis.kill();
    for client in &mut clients {
        (0..50).for_each(|_| client.text("while it is away"));
        client.stream.flush();
    }
    eventually("readiness 503", || server.readiness() == 503);
    redis.restart();
    for client in &mut clients {
        for n in 21..=120 {
            assert_eq!(client.count(), n);
        }
    }
    eventually("readiness 200", || server.readiness() == 200);
    for client in &mut clients {
        assert_eq!(client.say("after"), 121);
    }
    server.kill();
    drop(clients);
    let server = Server::start(&redis.url(), &[]);
    for at in 0..10 {
        assert_eq!(Client::v1(&server, &format!("patient-{at}")).1.count, 121);
    }
}

/// Who needs the store is sent to another instance; who does not is served.
#[test]
fn newcomers_with_a_session_are_refused_while_it_is_away() {
    let mut redis = Redis::durable();
    let server = Server::start(&redis.url(), &[]);
    redis.kill();
    eventually("readiness 503", || server.readiness() == 503);
    let head = http::upgrade("/ws/chat/?session=early", &[]);
    let Err(refusal) = Client::dial(server.address, &head) else {
        panic!("it was let in")
    };
    assert_eq!((refusal.status, &refusal.end), (503, &Some(End::Eof)));
    assert!(refusal.header("Retry-After").is_some(), "{refusal:?}");
    let mut nobody = Client::plain(&server, "/ws/chat/");
    assert_eq!(nobody.say("not kept anyway"), 1);
    redis.restart();
    eventually("readiness 200", || server.readiness() == 200);
    let (mut client, _) = Client::v1(&server, "early");
    assert_eq!(client.say("in time"), 1);
}

#[test]
fn relaxed_replies_go_on() {
    let mut redis = Redis::durable();
    let mut server = Server::start(&redis.url(), &["--durability", "relaxed"]);
    let (mut client, _) = Client::v1(&server, "relaxed");
    assert_eq!(client.say("before"), 1);
    redis.kill();
    eventually("readiness 503", || server.readiness() == 503);
    for n in 2..=500 {
        assert_eq!(client.say("while it is away"), n);
    }
    redis.restart();
    eventually("readiness 200", || server.readiness() == 200);
    assert_eq!(client.say("after"), 501);
    let report = server.stop();
    assert_eq!(report.unsaved, []);
    let second = Server::start(&redis.url(), &[]);
    assert_eq!(Client::v1(&second, "relaxed").1.count, 501);
}

/// Many restarts under traffic without pause.
#[test]
fn again_and_again() {
    let mut redis = Redis::durable();
    let server = Server::start(&redis.url(), &[]);
    let (mut client, _) = Client::v1(&server, "again");
    let mut count = 0;
    for _ in 0..5 {
        (0..100).for_each(|_| client.text("again"));
        client.stream.flush();
        redis.kill();
        redis.restart();
        for _ in 0..100 {
            count += 1;
            assert_eq!(client.count(), count);
        }
    }
    client.leave();
    assert_eq!(Client::v1(&server, "again").1.count, count);
}

/// In `acked` mode reading stops at a limit while Redis is away: a blasting client fills the
/// kernel's buffers, not the server's memory.
#[test]
fn a_blast_while_it_is_away_is_held_back() {
    let mut redis = Redis::durable();
    let server = Server::start(&redis.url(), &[]);
    let (mut client, _) = Client::v1(&server, "held-back");
    assert_eq!(client.say("one"), 1);
    redis.kill();
    eventually("readiness 503", || server.readiness() == 503);
    let before = server.resident_kib();
    // More messages than may wait for a save, and more bytes than the kernel's two buffers hold.
    let message = "x".repeat(10_000);
    for _ in 0..3_000 {
        client.text(&message);
    }
    let mut left = usize::MAX;
    while client.stream.unwritten() < left {
        left = client.stream.unwritten();
        assert_eq!(client.next(ms(500)), None, "no reply while it is away");
    }
    assert!(left > 0, "it read everything");
    let grown = server.resident_kib().saturating_sub(before);
    assert!(grown < 8 << 10, "it grew by {grown} KiB");
    redis.restart();
    for n in 2..=3_001 {
        assert_eq!(client.count(), n);
    }
    client.leave();
}
