//! Goal: a frozen Redis does not hold up the exit, and what it cost is said: out within 10 s, and
//! where there is no spill either, exit code 1 and each lost session with its count.
//! Method: SIGSTOP to redis-server, messages, SIGTERM to the server. The spill's directory does not
//! exist; what a spill is good for is in `spill`.

use crate::support::client::{Client, Event};
use crate::support::redis::Redis;
use crate::support::said::Said;
use crate::support::server::{Server, Unsaved};
use crate::support::stream::End;

/// What a client hears from the signal to the end, which is a Close 1001: the last count that was
/// still acknowledged, and the goodbye's total.
#[track_caller]
fn farewell(client: &mut Client) -> (Option<u64>, u64) {
    let (mut last_count, mut bye) = (None, None);
    loop {
        match client.meet() {
            Event::Text(text) => match Said::parse(&text) {
                Said::Count(count) => last_count = Some(count),
                Said::Bye(total) => bye = Some(total),
                Said::Notice(_) => {}
                other @ (Said::Time(_) | Said::Hello(_)) => panic!("nobody asked for {other:?}"),
            },
            Event::Close(code, _) => {
                assert_eq!((code, client.until_end()), (1001, End::Eof));
                return (last_count, bye.expect("a goodbye before the Close"));
            }
            Event::End(end) => panic!("ended without a Close: {end:?}"),
            Event::Binary(_) | Event::Ping(_) | Event::Pong(_) => {}
        }
    }
}

const NO_SPILL: [&str; 2] = ["--spill", "sqlite:missing/spill.db"];

#[test]
fn what_could_not_be_saved_is_named() {
    let redis = Redis::start();
    let mut server = Server::start(&redis.url(), &NO_SPILL);
    let (mut a, _) = Client::v1(&server, "a");
    let (mut b, _) = Client::v1(&server, "b");
    let (mut safe, _) = Client::v1(&server, "safe");
    for n in 1..=3 {
        assert_eq!(a.say("saved"), n);
        assert_eq!(safe.say("saved"), n);
    }
    redis.freeze();
    (0..4).for_each(|_| a.text("not saved"));
    b.text("not saved");
    a.stream.flush();
    b.stream.flush();

    server.terminate();
    // Acknowledged is what the store has: the rest has no reply, and the goodbye says so.
    assert_eq!(farewell(&mut a), (None, 3));
    assert_eq!(farewell(&mut b), (None, 0));
    assert_eq!(farewell(&mut safe), (None, 3));
    let mut report = server.exits_with(1);
    report.unsaved.sort();
    assert_eq!(report.unsaved, [Unsaved::of("a", 7), Unsaved::of("b", 1)]);
}

#[test]
fn relaxed_mode_names_them_too() {
    let redis = Redis::start();
    let flags = [&NO_SPILL[..], &["--durability", "relaxed"]].concat();
    let mut server = Server::start(&redis.url(), &flags);
    let (mut client, _) = Client::v1(&server, "relaxed");
    redis.freeze();
    for n in 1..=5 {
        assert_eq!(client.say("answered at once"), n);
    }
    server.terminate();
    farewell(&mut client);
    let report = server.exits_with(1);
    assert_eq!(report.unsaved, [Unsaved::of("relaxed", 5)]);
}

#[test]
fn with_nothing_unsaved_nothing_is_lost() {
    let redis = Redis::start();
    let mut server = Server::start(&redis.url(), &[]);
    let (mut client, _) = Client::v1(&server, "saved");
    let mut nobody = Client::plain(&server, "/ws/chat/");
    assert_eq!(client.say("saved"), 1);
    assert_eq!(nobody.say("not kept anyway"), 1);
    redis.freeze();
    server.terminate();
    assert_eq!(farewell(&mut client), (None, 1));
    assert_eq!(farewell(&mut nobody), (None, 1));
    let report = server.exits_with(0);
    assert_eq!(report.unsaved, []);
}

/// It thaws in the middle of the shutdown: everything is saved after all.
#[test]
fn a_thaw_in_time_saves_everything() {
    let redis = Redis::start();
    let mut server = Server::start(&redis.url(), &[]);
    let (mut client, _) = Client::v1(&server, "thawed");
    redis.freeze();
    (0..5).for_each(|_| client.text("on its way"));
    client.stream.flush();
    server.terminate();
    assert!(matches!(client.hear(), Said::Notice(_)));
    redis.thaw();
    assert_eq!(farewell(&mut client), (Some(5), 5));
    server.exits_with(0);
    let second = Server::start(&redis.url(), &[]);
    assert_eq!(Client::v1(&second, "thawed").1.count, 5);
}

/// A Redis that is frozen from before the start does not keep the server from serving those who
/// need no store, nor from leaving.
#[test]
fn frozen_before_the_start() {
    let redis = Redis::start();
    redis.freeze();
    let mut server = Server::start_unready(&redis.url(), &[]);
    assert_eq!(server.readiness(), 503);
    let mut nobody = Client::plain(&server, "/ws/chat/");
    assert_eq!(nobody.say("not kept anyway"), 1);
    server.terminate();
    assert_eq!(farewell(&mut nobody), (None, 1));
    server.exits_with(0);
}

/// Clients whose sessions were asked for when Redis froze: they wait for it without an answer, and
/// the shutdown does not wait for them.
#[test]
fn sessions_that_never_opened() {
    let redis = Redis::start();
    let mut first = Server::start(&redis.url(), &[]);
    let (mut client, _) = Client::v1(&first, "waits");
    assert_eq!(client.say("kept"), 1);
    client.leave();
    first.stop();
    let mut second = Server::start(&redis.url(), &[]);
    let (mut granted, _) = Client::v1(&second, "granted");
    redis.freeze();
    let head = crate::support::http::upgrade("/ws/chat/?session=waits", &[]);
    let mut waits = Client::dial(second.address, &head).expect("101");
    waits.send("queued");
    second.terminate();
    waits.until_closed(1001);
    assert_eq!(farewell(&mut granted), (None, 0));
    let report = second.exits_with(0);
    assert_eq!((report.saved, report.unsaved.len()), (1, 0));
}
