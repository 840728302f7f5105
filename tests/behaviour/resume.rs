//! Goal: a client that comes back to another process over the same store finds its count.
//! Method: two servers, one after the other, over one store.

use crate::support::client::Client;
use crate::support::said::Said;
use crate::support::server::Server;
use crate::support::store::Store;
use crate::support::{ms, pause};

#[track_caller]
fn check(store: &Store) {
    let mut first = Server::start(&store.url(), &[]);
    let (mut v1, hello) = Client::v1(&first, "back");
    assert_eq!((hello.count, hello.resumed), (0, false));
    let mut plain = Client::plain(&first, "/ws/chat/?session=plain");
    let mut nobody = Client::plain(&first, "/ws/chat/");
    for n in 1..=10 {
        assert_eq!(v1.say("hello"), n);
        assert_eq!(plain.say("hello"), n);
        assert_eq!(nobody.say("hello"), n);
    }
    let (mut silent, _) = Client::v1(&first, "silent");
    first.terminate();
    for client in [&mut v1, &mut plain, &mut nobody] {
        while client.hear() != Said::Bye(10) {}
        assert_eq!(client.until_close().0, 1001);
    }
    assert_eq!(silent.until_close().0, 1001);
    assert_eq!(first.exit().code, Some(0));

    let second = Server::start(&store.url(), &[]);
    let (mut v1, hello) = Client::v1(&second, "back");
    assert_eq!(
        (hello.session.as_str(), hello.count, hello.resumed),
        ("back", 10, true)
    );
    assert_eq!(v1.say("hello again"), 11);
    let mut plain = Client::plain(&second, "/ws/chat/?session=plain");
    assert_eq!(plain.say("hello again"), 11);
    let mut nobody = Client::plain(&second, "/ws/chat/");
    assert_eq!(nobody.say("hello again"), 1);
    let (_stranger, hello) = Client::v1(&second, "stranger");
    assert_eq!((hello.count, hello.resumed), (0, false));
}

#[test]
fn over_sqlite() {
    check(&Store::sqlite());
}

#[test]
fn over_redis() {
    check(&Store::redis());
}

/// What a client sent before it hung up counts, whether it closed by the book or not.
#[test]
fn what_was_sent_before_hanging_up_is_counted() {
    let store = Store::sqlite();
    let server = Server::start(&store.url(), &[]);
    let mut closes = Client::plain(&server, "/ws/chat/?session=closes");
    (0..500).for_each(|_| closes.text("and a Close"));
    closes.close(1000);
    closes.until_end();
    let mut finishes = Client::plain(&server, "/ws/chat/?session=finishes");
    (0..500).for_each(|_| finishes.text("and a FIN"));
    finishes.stream.finish();
    finishes.until_end();
    for session in ["closes", "finishes"] {
        assert_eq!(Client::v1(&server, session).1.count, 500, "{session}");
    }
}

#[test]
fn sessions_end_with_their_time_to_live() {
    for store in [Store::sqlite(), Store::redis()] {
        let server = Server::start(&store.url(), &["--session-ttl", "1s"]);
        let (mut client, _) = Client::v1(&server, "brief");
        assert_eq!(client.say("one"), 1);
        client.leave();
        // The passing of time is the event here.
        pause(ms(2_500));
        let (_client, hello) = Client::v1(&server, "brief");
        assert_eq!((hello.count, hello.resumed), (0, false));
    }
}
