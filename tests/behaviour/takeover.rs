//! Goal: one owner. Whoever opens a session that is open elsewhere, on this node or another, gets
//! it with its exact count, and the older connection is closed with 4001.
//! Method: two connections to one session, through one process and through two that share a store,
//! quiet and in full traffic; what a fenced process counted must never be seen in the store.

use crate::support::client::{Client, Event};
use crate::support::ms;
use crate::support::redis::Redis;
use crate::support::said::Said;
use crate::support::server::Server;
use crate::support::store::Store;
use crate::support::stream::End;

const TAKEN_OVER: (u16, &str) = (4001, "session taken over");

#[track_caller]
fn assert_taken_over(client: &mut Client) {
    let (code, reason) = client.until_close();
    assert_eq!((code, reason.as_str()), TAKEN_OVER);
    assert_eq!(client.until_end(), End::Eof);
}

#[track_caller]
fn check_quiet(first: &Server, second: &Server, same_node: bool) {
    let (mut old, _) = Client::v1(first, "one-owner");
    for n in 1..=10 {
        assert_eq!(old.say("old"), n);
    }
    let (mut new, hello) = Client::v1(second, "one-owner");
    assert_eq!((hello.count, hello.resumed), (10, true));
    if !same_node {
        // At the latest its next save tells the old node that it is no longer the owner.
        old.text("too late");
    }
    assert_taken_over(&mut old);
    for n in 11..=20 {
        assert_eq!(new.say("new"), n);
    }
    // And back.
    let (mut back, hello) = Client::v1(first, "one-owner");
    assert_eq!((hello.count, hello.resumed), (20, true));
    if !same_node {
        new.text("too late");
    }
    assert_taken_over(&mut new);
    assert_eq!(back.say("back"), 21);
    back.leave();
}

/// The old owner never stops sending. Returns what it had seen and what it had sent.
fn blast_until_taken(mut client: Client) -> (u64, u64) {
    let (mut seen, mut close) = (0, None);
    loop {
        while !client.has_closed() && client.stream.unwritten() < 4 << 10 {
            client.text("mine");
        }
        match client.next(ms(1)) {
            None => {}
            Some(Event::Text(text)) => {
                let Said::Count(count) = Said::parse(&text) else {
                    panic!("no count: {text}")
                };
                seen = count;
            }
            Some(Event::Close(code, reason)) => close = Some((code, reason)),
            Some(Event::End(end)) => {
                assert_eq!(end, End::Eof);
                assert_eq!(close, Some((TAKEN_OVER.0, TAKEN_OVER.1.to_owned())));
                return (seen, client.sent);
            }
            Some(other @ (Event::Binary(_) | Event::Ping(_) | Event::Pong(_))) => {
                panic!("nobody asked for {other:?}")
            }
        }
    }
}

#[track_caller]
fn check_blasting(first: &Server, second: &Server) {
    for round in 0..5 {
        let session = format!("contested-{round}");
        let (mut old, _) = Client::v1(first, &session);
        assert_eq!(old.say("mine"), 1);
        let blaster = std::thread::spawn(move || blast_until_taken(old));
        let mut other = Client::plain(first, "/ws/chat/");
        (1..=20).for_each(|n| assert_eq!(other.say("meanwhile"), n));

        let (mut new, hello) = Client::v1(second, &session);
        // From here on the new owner counts alone.
        for n in 1..=50 {
            assert_eq!(new.say("ours"), hello.count + n);
        }
        let (seen, sent) = blaster.join().expect("the old owner was told");
        let count = hello.count;
        assert!((seen..=sent).contains(&count), "{seen} ≤ {count} ≤ {sent}");
        new.leave();
        let (last, hello) = Client::v1(first, &session);
        assert_eq!(hello.count, count + 50);
        last.leave();
    }
}

#[test]
fn on_the_same_node() {
    for store in [Store::Memory, Store::sqlite(), Store::redis()] {
        let server = Server::start(&store.url(), &[]);
        check_quiet(&server, &server, true);
        check_blasting(&server, &server);
    }
}

#[test]
fn on_another_node() {
    for store in [Store::sqlite(), Store::redis()] {
        let [first, second] = [(); 2].map(|()| Server::start(&store.url(), &[]));
        check_quiet(&first, &second, false);
        check_blasting(&first, &second);
    }
}

/// Without the news that another node has the session, only the fence in the store is left.
#[test]
fn on_another_node_without_news_of_it() {
    let user = "--user default off --user bob on >secret ~* resetchannels +@all";
    let redis = Redis::with(&user.split(' ').collect::<Vec<_>>());
    let url = format!("redis://bob:secret@127.0.0.1:{}", redis.port());
    let [mut first, second] = [(); 2].map(|()| Server::start(&url, &[]));
    let (mut old, _) = Client::v1(&first, "fenced");
    assert_eq!(old.say("mine"), 1);
    let (mut new, hello) = Client::v1(&second, "fenced");
    assert_eq!((hello.count, new.say("ours")), (1, 2));
    // Counts further than the new owner, so that only the fence can hold it back.
    (0..50).for_each(|_| old.text("too late"));
    assert_taken_over(&mut old);
    assert_eq!(first.stop().unsaved, []);
    assert_eq!(new.say("ours"), 3);
    new.leave();
    assert_eq!(Client::v1(&second, "fenced").1.count, 3);
}

/// The old owner's node is stopped after the session has moved on: it must not write its count.
#[test]
fn a_node_that_lost_a_session_does_not_save_it_at_its_shutdown() {
    let store = Store::redis();
    let mut first = Server::start(&store.url(), &["--durability", "relaxed"]);
    let second = Server::start(&store.url(), &["--durability", "relaxed"]);
    let (mut old, _) = Client::v1(&first, "moved");
    assert_eq!(old.say("one"), 1);
    let (mut new, _) = Client::v1(&second, "moved");
    (0..50).for_each(|_| old.text("lost ones"));
    first.terminate();
    old.until_end();
    first.exit();
    let at = new.say("two");
    new.leave();
    let (client, hello) = Client::v1(&second, "moved");
    assert_eq!(hello.count, at);
    client.leave();
}
