//! Goal: clients get the messages of the wire contract, to the letter, and nothing more.
//! Method: one client at a time, which speaks and listens; a ping proves that nothing is left.

use crate::support::client::{Client, Event};
use crate::support::now;
use crate::support::said::Said;
use crate::support::server::Server;
use crate::support::store::Store;
use crate::support::stream::{End, Stream};

#[test]
fn a_plain_client_gets_counts_and_nothing_more() {
    let server = Server::start("memory:", &[]);
    for path in [
        "/ws/chat/",
        "/ws/chat",
        "/ws/chat/?session=p1",
        "/ws/chat?session=p2",
    ] {
        let mut client = Client::plain(&server, path);
        client.hears_nothing_more();
        for n in 1..=5 {
            assert_eq!(client.say("hello"), n);
        }
        client.binary(&[0, 159, 146, 150]);
        assert_eq!(client.count(), 6);
        client.text("");
        assert_eq!(client.count(), 7);
        client.hears_nothing_more();
        client.leave();
    }
}

#[test]
fn the_heartbeat_is_a_timestamp() {
    let server = Server::start("memory:", &["--heartbeat", "200ms"]);
    let mut client = Client::plain(&server, "/ws/chat/");
    let begun = now();
    let mut times = Vec::new();
    while times.len() < 3 {
        match client.hear() {
            Said::Time(time) => times.push(time),
            other @ (Said::Count(_) | Said::Bye(_) | Said::Hello(_) | Said::Notice(_)) => {
                panic!("nobody asked for {other:?}")
            }
        }
    }
    assert!(
        begun.elapsed().as_millis() >= 350,
        "three in {:?}",
        begun.elapsed()
    );
    for time in &times {
        // 2026-11-22T13:19:00.000Z, to the letter.
        let shape: String = time
            .chars()
            .map(|c| if c.is_ascii_digit() { '0' } else { c })
            .collect();
        assert_eq!(shape, "0000-00-00T00:00:00.000Z", "{time}");
    }
    assert!(times.is_sorted(), "{times:?}");
}

#[test]
fn v1_clients_get_a_hello_first() {
    let server = Server::start("memory:", &[]);
    let (mut client, hello) = Client::v1(&server, "A.z_~-9");
    assert_eq!(
        (hello.session.as_str(), hello.count, hello.resumed),
        ("A.z_~-9", 0, false)
    );
    assert_eq!(client.say("one"), 1);
    client.hears_nothing_more();
    client.leave();
    let (client, hello) = Client::v1(&server, "A.z_~-9");
    assert_eq!((hello.count, hello.resumed), (1, true));
    client.leave();
}

#[test]
fn v1_clients_without_a_session_get_a_uuid() {
    let server = Server::start("memory:", &[]);
    let (mut client, hello) = Client::v1_over(Stream::connect(server.address), "/ws/chat/");
    assert_eq!((hello.count, hello.resumed), (0, false));
    assert_uuid_v4(&hello.session);
    assert_eq!(client.say("one"), 1);
    client.leave();
    let (_other, another) = Client::v1_over(Stream::connect(server.address), "/ws/chat/");
    assert_ne!(hello.session, another.session);
    // It is a session like any other.
    let (_client, again) = Client::v1(&server, &hello.session);
    assert_eq!((again.count, again.resumed), (1, true));
}

fn assert_uuid_v4(text: &str) {
    let groups: Vec<usize> = text.split('-').map(str::len).collect();
    assert_eq!(groups, [8, 4, 4, 4, 12], "{text}");
    let hex = |c: char| c == '-' || c.is_ascii_digit() || ('a'..='f').contains(&c);
    assert!(text.chars().all(hex), "{text}");
    assert_eq!(&text[14..15], "4", "the version in {text}");
    assert!("89ab".contains(&text[19..20]), "the variant in {text}");
}

#[test]
fn v1_clients_get_one_notice_at_shutdown() {
    let mut server = Server::start("memory:", &["--drain-timeout", "2s"]);
    let (mut client, _) = Client::v1(&server, "noticed");
    assert_eq!(client.say("one"), 1);
    server.terminate();
    let Said::Notice(notice) = client.hear() else {
        panic!("no notice")
    };
    assert!(notice.shutdown);
    assert!((1..=2_000).contains(&notice.drain_ms), "{notice:?}");
    // Still read, processed and answered.
    assert_eq!(client.say("two"), 2);
    assert_eq!(client.hear(), Said::Bye(2));
    let when = notice.reconnect_ms;
    let reason = format!("server shutdown; retry-after-ms={when}");
    assert_eq!(client.until_close(), (1001, reason));
    assert_eq!(client.until_end(), End::Eof);
    assert_eq!(server.exit().code, Some(0));
}

/// Who has ended only its own side still reads, whether by a Close or by a FIN.
#[test]
fn replies_that_are_due_reach_a_peer_that_leaves() {
    let store = Store::redis();
    let server = Server::start(&store.url(), &[]);
    for (session, closes) in [("closes", true), ("hangs-up", false)] {
        let (mut client, _) = Client::v1(&server, session);
        client.answers_close = false;
        (0..100).for_each(|_| client.text("due"));
        if closes {
            client.close(1000);
        } else {
            client.stream.finish();
        }
        for n in 1..=100 {
            assert_eq!(client.count(), n);
        }
        client.until_closed(1000);
    }
}

/// More than the kernel takes at once waits for it when it leaves: it gets all of that first.
#[test]
fn what_is_owed_to_a_slow_reader_reaches_it_after_its_close() {
    let flags = ["--app", "echo", "--max-outbound-bytes", "33554432"];
    let server = Server::start("memory:", &flags);
    for hangs_up in [false, true] {
        let mut client = Client::plain(&server, "/");
        client.stream.shrink_inbox();
        let message = vec![7; 1 << 20];
        (0..16).for_each(|_| client.binary(&message));
        client.close(1000);
        if hangs_up {
            client.stream.finish();
        } else {
            client.stream.flush();
        }
        server.turns();
        for _ in 0..16 {
            assert_eq!(client.meet(), Event::Binary(message.clone()));
        }
        client.until_closed(1000);
    }
}
