//! Pushes over real sockets: from a session, from another thread and from another node, to clients
//! that are there, away, or on another node by now.

use std::collections::BTreeSet;

use sundown::{Body, Hub, Message, PushError, PushRefused, Session, SessionId};

use super::support::kinds::Told;
use super::*;

/// `SESSION TEXT` pushes the text to that session.
struct Post;

impl Application for Post {
    fn on_message(&mut self, message: Message<'_>, session: &mut Session<'_>) {
        if let Message::Text(text) = message
            && let Some((to, body)) = text.split_once(' ')
        {
            session.push_to(&id(to), body).expect("a short text");
        }
    }

    fn on_push_refused(
        &mut self,
        to: &SessionId,
        _body: &Body,
        why: PushRefused,
        session: &mut Session<'_>,
    ) {
        session.reply_text(format!("{to}: {why}"));
    }

    fn on_shutdown(&mut self, hub: &mut Hub<'_>) {
        hub.push_to(&id("farewell"), "so long")
            .expect("a short text");
    }
}

fn id(name: &str) -> SessionId {
    SessionId::parse(name).expect("a name")
}

fn v2(server: &Running, session: &str, received: u64) -> (Client, support::kinds::Hello) {
    let path = format!("/ws/chat/?session={session}&received={received}");
    Client::v2_to(server.address, &path)
}

fn push(number: u64, body: &str) -> Told {
    let body = body.to_owned();
    Told::Push { number, body }
}

/// Away, back, and with a receipt.
#[track_caller]
fn check_one_node(store: &Store) {
    let server = Running::start(config(store), Post);
    let (mut sender, _) = v2(&server, "sender", 0);
    let (mut client, hello) = v2(&server, "client", 0);
    assert_eq!((hello.sent, hello.resumed), (0, false));
    sender.text("mclient one");
    assert_eq!(sender.told(), Told::Count(1));
    assert_eq!(client.told(), push(1, "one"));
    client.text("a1");
    client.leave();
    let receipt = server.handle.push(&id("client"), "two");
    assert_eq!(receipt.wait(), Ok(2));
    sender.text("mclient three");
    assert_eq!(sender.told(), Told::Count(2));
    let (mut client, hello) = v2(&server, "client", 1);
    assert_eq!((hello.sent, hello.resumed), (3, true));
    assert_eq!(client.told(), push(2, "two"));
    assert_eq!(client.told(), push(3, "three"));
    client.leave();

    sender.text("mnobody x");
    let mut told = [sender.told(), sender.told()];
    told.sort_by_key(|told| matches!(told, Told::Reply(_)));
    let refused = "nobody: there is no such session".to_owned();
    assert_eq!(told, [Told::Count(3), Told::Reply(refused)]);
    let receipt = server.handle.push(&id("nobody"), "x");
    assert_eq!(receipt.wait(), Err(PushError::Unknown));
    let receipt = server.handle.push(&id("client"), vec![0; 300_000]);
    assert_eq!(receipt.wait(), Err(PushError::TooBig));
    for number in 4..=257 {
        let receipt = server.handle.push(&id("client"), "more");
        assert_eq!(receipt.wait(), Ok(number));
    }
    // The first to be kept is 2: it is not confirmed.
    assert_eq!(
        server.handle.push(&id("client"), "x").wait(),
        Err(PushError::Full)
    );
    sender.leave();
    server.handle.shutdown();
    let handle = server.handle.clone();
    server.outcome();
    let receipt = handle.push(&id("client"), "after the end");
    assert_eq!(receipt.wait(), Err(PushError::Stopped));
}

#[test]
fn pushes_wait_in_memory() {
    check_one_node(&Store::Memory);
}

#[test]
fn pushes_wait_in_sqlite() {
    check_one_node(&Store::sqlite());
}

#[test]
fn pushes_wait_in_redis() {
    check_one_node(&Store::redis());
}

/// From one node to a client of the other, which then changes sides.
#[track_caller]
fn check_two_nodes(store: &Store, pushes: u64) {
    let (one, two) = (
        Running::start(config(store), Post),
        Running::start(config(store), Post),
    );
    let (mut sender, _) = v2(&one, "sender", 0);
    let (mut client, _) = v2(&two, "client", 0);
    for number in 1..=pushes {
        sender.text(&format!("mclient {number}"));
        assert_eq!(sender.told(), Told::Count(number));
        assert_eq!(client.told(), push(number, &number.to_string()));
    }
    let last = pushes + 1;
    assert_eq!(one.handle.push(&id("client"), "last").wait(), Ok(last));
    assert_eq!(client.told(), push(last, "last"));
    // Without a word about the last ones, to the other node, where it was pushed from.
    client.text(&format!("a{}", pushes - 1));
    let (mut moved, hello) = v2(&one, "client", pushes);
    assert_eq!(hello.sent, last);
    assert_eq!(moved.told(), push(last, "last"));
    assert_eq!(two.handle.push(&id("client"), "more").wait(), Ok(last + 1));
    assert_eq!(moved.told(), push(last + 1, "more"));
    moved.leave();
    sender.leave();
    for running in [&one, &two] {
        running.handle.shutdown();
    }
    // It answers its Close, so that nobody waits for that.
    client.until_close();
    assert_eq!(client.until_end(), End::Eof);
    one.outcome();
    two.outcome();
}

#[test]
fn a_push_finds_its_session_on_another_node_of_one_sqlite_file() {
    // Nobody tells the other node: it looks once a second.
    check_two_nodes(&Store::sqlite(), 3);
}

#[test]
fn a_push_finds_its_session_on_another_node_of_one_redis() {
    check_two_nodes(&Store::redis(), 20);
}

/// A plain client gets each at most once: what the kernel has taken is not sent again.
#[test]
fn plain_clients_get_bare_messages() {
    let server = Running::start(config(&Store::Memory), Post);
    let mut client = server.plain("/ws/chat/?session=client");
    assert_eq!(client.say("hi"), 1);
    let (mut sender, _) = v2(&server, "sender", 0);
    sender.text("mclient one");
    assert_eq!(sender.told(), Told::Count(1));
    assert_eq!(client.meet(), Event::Text("one".to_owned()));
    client.leave();
    let (mut client, hello) = v2(&server, "client", 0);
    assert_eq!(hello.sent, 1);
    client.text("m");
    // A push that is still kept would come before the count.
    assert_eq!(client.told(), Told::Count(2));
    client.leave();
    sender.leave();
    server.handle.shutdown();
    server.outcome();
}

#[test]
fn what_the_application_says_at_the_end_arrives_before_the_goodbye() {
    let server = Running::start(config(&Store::Memory), Post);
    let (mut client, _) = v2(&server, "farewell", 0);
    server.handle.shutdown();
    let mut told = Vec::new();
    while !matches!(told.last(), Some(Told::Bye { .. })) {
        told.push(client.told());
    }
    assert!(matches!(told[0], Told::Notice { .. }), "{told:?}");
    assert_eq!(
        told[1..],
        [push(1, "so long"), Told::Bye { total: 0, sent: 1 }]
    );
    assert!(matches!(client.meet(), Event::Close(1001, _)));
    assert_eq!(client.meet(), Event::End(End::Eof));
    assert!(server.outcome().is_safe());
}

/// What other threads push while the loop does not turn is held up to 4 MiB, or 1,024 pushes. What
/// the loop has taken makes room again.
#[test]
fn pushes_that_the_loop_does_not_take_are_refused() {
    let mut server = Server::bind(config(&Store::Memory), Post).expect("a free port");
    let handle = server.handle();
    let big = 256 * 1024;
    for (len, room) in [
        (big, 16),
        (3_000, 1_024),
        (big, 16),
        (big + 1, 0),
        (big, 16),
    ] {
        let handle = handle.clone();
        let flood = thread::spawn(move || {
            let push = |_| handle.push(&id("nobody"), vec![0; len]);
            (0..1_200).map(push).collect::<Vec<_>>()
        });
        let receipts = flood.join().expect("no panic");
        let (held, refused) = receipts.split_at(room);
        let why = if len > big {
            PushError::TooBig
        } else {
            PushError::TooMany
        };
        for receipt in refused {
            assert_eq!(receipt.wait_for(Duration::ZERO), Some(Err(why)), "{len}");
        }
        for receipt in held {
            assert_eq!(receipt.wait_for(Duration::ZERO), None, "{len}");
        }
        for receipt in held {
            let mut told = None;
            eventually("the loop takes it", || {
                told = receipt.wait_for(Duration::ZERO);
                told.is_some() || !server.turn(Some(ms(1))).expect("a turn")
            });
            assert_eq!(told, Some(Err(PushError::Unknown)), "{len}");
        }
    }
}

/// Each refusal leads to another push. That takes more answers of the store than a turn hears, and
/// nothing else wakes the loop.
#[test]
fn pushes_that_lead_to_pushes_need_no_other_event() {
    /// Pushes in vain, so often as the message says.
    struct Countdown;

    impl Application for Countdown {
        fn on_message(&mut self, message: Message<'_>, session: &mut Session<'_>) {
            if let Message::Text(text) = message {
                session.push_to(&id("nobody"), text).expect("a short text");
            }
        }

        fn on_push_refused(
            &mut self,
            to: &SessionId,
            body: &Body,
            _why: PushRefused,
            session: &mut Session<'_>,
        ) {
            let left = String::from_utf8_lossy(body.as_bytes())
                .parse::<u32>()
                .expect("a number")
                - 1;
            if left == 0 {
                session.reply_text("none is left");
            } else {
                session.push_to(to, left.to_string()).expect("a short text");
            }
        }
    }

    for store in [Store::Memory, Store::sqlite()] {
        let config = Config {
            heartbeat: Duration::ZERO,
            ..config(&store)
        };
        let server = Running::start(config, Countdown);
        let (mut client, _) = v2(&server, "client", 0);
        client.text("m100");
        assert_eq!(client.told(), Told::Count(1));
        assert_eq!(client.told(), Told::Reply("none is left".to_owned()));
        client.leave();
        server.handle.shutdown();
        assert!(server.outcome().is_safe());
    }
}

/// The list of a mailbox is gone, as when Redis evicts it. That is no takeover: who is there goes on,
/// and nothing is put into what has a hole until it has received all that there was.
#[test]
fn a_mailbox_that_redis_has_evicted_is_no_takeover() {
    let store = Store::redis();
    let Store::Redis(redis) = &store else {
        unreachable!("it is one");
    };
    let evict = || redis.command(&["DEL", "sundown:mailbox:client"]);
    let nodes = [(); 2].map(|()| Running::start(config(&store), Post));
    let push_to_client = |body| nodes[1].handle.push(&id("client"), body).wait();
    let (mut client, _) = v2(&nodes[0], "client", 0);
    assert_eq!(push_to_client("one"), Ok(1));
    assert_eq!(client.told(), push(1, "one"));
    evict();
    assert_eq!(push_to_client("two"), Err(PushError::Unknown));
    client.text("m");
    assert_eq!(client.told(), Told::Count(1));
    client.text("a1");
    client.text("m");
    assert_eq!(client.told(), Told::Count(2));
    assert_eq!(push_to_client("two"), Ok(2));
    assert_eq!(client.told(), push(2, "two"));
    client.leave();
    // It may have received it, or not: nobody knows.
    evict();
    for _ in 0..2 {
        let head = http::upgrade(
            "/ws/chat/?session=client",
            &["Sec-WebSocket-Protocol: sundown.v2"],
        );
        let mut client = Client::dial(nodes[1].address, &head).expect("101");
        let refused = "session refused by the store; try again later".to_owned();
        assert_eq!(client.meet(), Event::Close(1013, refused));
    }
    redis.command(&["DEL", "sundown:session:client"]);
    let (client, hello) = v2(&nodes[1], "client", 2);
    assert_eq!((hello.sent, hello.resumed), (0, false));
    client.leave();
    for node in nodes {
        node.handle.shutdown();
        assert!(node.outcome().is_safe());
    }
}

/// Many threads push to many sessions, whose clients come and go between two nodes: each gets 1 to
/// m without a gap or a repeat.
#[test]
fn a_storm_of_pushes_and_of_clients_that_move() {
    const SESSIONS: usize = 20;
    const PUSHES: u64 = 120;
    let store = Store::redis();
    let nodes = [(); 2].map(|()| Running::start(config(&store), Post));
    let mut clients: Vec<_> = (0..SESSIONS)
        .map(|at| (v2(&nodes[at % 2], &format!("s{at}"), 0).0, 0))
        .collect();
    let pushers: Vec<_> = (0..4)
        .map(|from| {
            let handle = nodes[from % 2].handle.clone();
            thread::spawn(move || {
                for at in 0..SESSIONS {
                    for number in 0..PUSHES / 4 {
                        let to = id(&format!("s{}", (at + from * 5) % SESSIONS));
                        let body = format!("{from} {number}");
                        handle.push(&to, body).wait().expect("room and a session");
                    }
                }
            })
        })
        .collect();
    let mut bodies = vec![BTreeSet::new(); SESSIONS];
    let mut moves = 0;
    while clients.iter().any(|(_, received)| *received < PUSHES) {
        for (at, (client, received)) in clients.iter_mut().enumerate() {
            if *received == PUSHES {
                continue;
            }
            let Told::Push { number, body } = client.told() else {
                panic!("no push");
            };
            assert_eq!(number, *received + 1, "session {at}");
            *received = number;
            assert!(bodies[at].insert(body), "twice in session {at}");
            if number % 7 == 0 {
                client.text(&format!("a{number}"));
            }
            if number % 11 == at as u64 % 11 {
                moves += 1;
                *client = v2(&nodes[(at + moves) % 2], &format!("s{at}"), number).0;
            }
        }
    }
    for pusher in pushers {
        pusher.join().expect("no panic");
    }
    assert!(moves > SESSIONS, "{moves}");
    for (client, _) in clients {
        client.leave();
    }
    for node in nodes {
        node.handle.shutdown();
        node.outcome();
    }
}
