//! Goal: a `sundown.v2` client can tell messages apart by their kinds, loses nothing and repeats
//! nothing through a SIGTERM and a `kill -9`, and is told what is wrong with a message that is none.
//! Method: clients by hand, which keep an outbox and resume.

use crate::support::client::{Client, Event};
use crate::support::kinds::Told;
use crate::support::server::Server;
use crate::support::store::Store;

#[test]
fn a_reply_is_told_from_a_count_in_text_and_binary() {
    let server = Server::start("memory:", &["--app", "echo"]);
    let (mut client, hello) = Client::v2_to(server.address, "/anywhere");
    assert_eq!((hello.count, hello.resumed, hello.sent), (0, false, 0));
    assert!(hello.incarnation > 0);
    // What looks like a message of the server's is none of it.
    for (n, body) in (1..).zip(["c7", "", "{\"bye\":true,\"total\":1}", "\u{fc}"]) {
        client.text(&format!("m{body}"));
        assert_eq!(client.told(), Told::Reply(body.to_owned()));
        assert_eq!(client.told(), Told::Count(n));
    }
    client.binary(b"m\xff\x00");
    assert_eq!(client.told(), Told::Binary(b"\xff\x00".to_vec()));
    assert_eq!(client.told(), Told::Count(5));
    client.text("a0");
    client.hears_nothing_more();
    client.leave();
    let (_client, again) = Client::v2_to(
        server.address,
        &format!("/?session={}&received=0", hello.session),
    );
    assert_eq!((again.count, again.resumed), (5, true));
    assert_eq!(again.incarnation, hello.incarnation);
}

#[test]
fn a_message_that_is_none_closes_after_what_came_before_it() {
    let server = Server::start("memory:", &[]);
    for (at, (bad, reason)) in [
        ("", "sundown.v2: an empty message"),
        ("hello", "sundown.v2: unknown kind"),
        ("a", "sundown.v2: malformed"),
        ("a-1", "sundown.v2: malformed"),
        ("a18446744073709551616", "sundown.v2: malformed"),
        ("quit", "sundown.v2: malformed"),
        (
            "ptopic body",
            "sundown.v2: p, s, u and T are not served yet",
        ),
        ("stopic", "sundown.v2: p, s, u and T are not served yet"),
        ("utopic", "sundown.v2: p, s, u and T are not served yet"),
        ("Ttoken", "sundown.v2: p, s, u and T are not served yet"),
    ]
    .into_iter()
    .enumerate()
    {
        for binary in [false, true] {
            let session = format!("bad-{at}-{binary}");
            let (mut client, _) = Client::v2(&server, &session);
            client.text("mone");
            if binary {
                client.binary(bad.as_bytes());
            } else {
                client.text(bad);
            }
            client.text("mtwo");
            client.until_count(1);
            assert_eq!(client.meet(), Event::Close(1002, reason.into()), "{bad:?}");
            client.until_end();
            assert_eq!(Client::v2(&server, &session).1.count, 1, "{bad:?}");
        }
    }
    let (mut client, _) = Client::v2(&server, "after-q");
    for message in ["mone", "q", "a7", "mtwo"] {
        client.text(message);
    }
    client.until_count(1);
    let reason = "sundown.v2: a message after q";
    assert_eq!(client.meet(), Event::Close(1002, reason.into()));
}

/// The notice, `q` from those who are ready, the goodbye; then another process.
#[track_caller]
fn check_sigterm(store: &Store) {
    let flags = ["--durability", "relaxed"];
    let mut first = Server::start(&store.url(), &flags);
    let (mut ready, hello) = Client::v2(&first, "ready");
    let (mut late, _) = Client::v2(&first, "late");
    (0..20).for_each(|_| ready.text("mone"));
    ready.until_count(20);
    first.terminate();
    let Told::Notice { reconnect_ms, .. } = ready.told() else {
        panic!("no notice")
    };
    // It has more to say, and then no more.
    ready.text("mlast");
    ready.until_count(21);
    ready.send("q");
    assert!(matches!(late.told(), Told::Notice { .. }));
    late.send("q");
    assert_eq!(ready.told(), Told::Bye { total: 21, sent: 0 });
    let (code, reason) = ready.until_close();
    assert_eq!(code, 1001);
    let retry_ms = reason.rsplit_once('=').map(|(_, ms)| ms.parse());
    let remains = retry_ms.expect("a wait").expect("a number");
    assert!((0..=reconnect_ms).contains(&remains), "{remains}");
    assert_eq!(late.told(), Told::Bye { total: 0, sent: 0 });
    late.until_closed(1001);
    let report = first.exits_with(0);
    assert_eq!((report.byes, report.drained, report.saved), (2, 2, 2));
    assert_eq!((report.cut, report.late), (0, 0), "{report:?}");

    let second = Server::start(&store.url(), &flags);
    let (mut ready, again) = Client::v2(&second, "ready");
    assert_eq!((again.count, again.resumed), (21, true));
    assert_eq!(again.incarnation, hello.incarnation);
    ready.text("mone more");
    ready.until_count(22);
}

#[test]
fn a_sigterm_over_sqlite() {
    check_sigterm(&Store::sqlite());
}

#[test]
fn a_sigterm_over_redis() {
    check_sigterm(&Store::redis());
}

/// What is sent behind the server's Close is counted, up to the client's own.
#[test]
fn late_messages_count() {
    let store = Store::sqlite();
    let mut first = Server::start(&store.url(), &[]);
    let (mut client, _) = Client::v2(&first, "late");
    client.answers_close = false;
    client.send("mone");
    client.until_count(1);
    first.terminate();
    assert_eq!(client.until_close().0, 1001);
    (0..100).for_each(|_| client.text("mlate"));
    client.text("q");
    client.close(1001);
    client.until_end();
    assert_eq!(first.exits_with(0).late, 100);
    let second = Server::start(&store.url(), &[]);
    assert_eq!(Client::v2(&second, "late").1.count, 101);
}

/// What `c` covers survives, also with `relaxed`, and each message is counted once.
#[track_caller]
fn check_kill(store: &Store) {
    let flags = ["--durability", "relaxed"];
    let wanted = 3_000;
    let (mut acknowledged, mut sent, mut incarnation) = (0, 0, None);
    for round in 0..4 {
        let mut server = Server::start(&store.url(), &flags);
        let (mut client, hello) = Client::v2(&server, "outbox");
        let range = acknowledged..=sent;
        assert!(range.contains(&hello.count), "{}: {range:?}", hello.count);
        assert_eq!(
            *incarnation.get_or_insert(hello.incarnation),
            hello.incarnation
        );
        let dies_at = wanted * (round + 1) / 4;
        let is_last = round == 3;
        acknowledged = hello.count;
        for number in acknowledged + 1..=wanted {
            client.text(&format!("m{number}"));
        }
        while acknowledged < dies_at {
            let told = client.told();
            let Told::Count(count) = told else {
                panic!("nobody asked for {told:?}")
            };
            acknowledged = count;
        }
        sent = wanted;
        if is_last {
            client.leave();
        } else {
            server.kill();
        }
    }
    assert_eq!(acknowledged, wanted);
    let server = Server::start(&store.url(), &flags);
    assert_eq!(Client::v2(&server, "outbox").1.count, wanted);
}

#[test]
fn a_kill_over_sqlite() {
    check_kill(&Store::sqlite());
}

#[test]
fn a_kill_over_redis() {
    check_kill(&Store::redis());
}
