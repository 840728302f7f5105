//! Services of an embedder's own: whom they let in, what they see, and what they may say.

use std::sync::mpsc;

use sundown::{Admission, Application, Deferred, Message, Session, SessionId, State, Upgrade};

use super::*;

/// Answers in capitals, until it is told to go.
struct Shout;

impl Application for Shout {
    fn on_upgrade(&mut self, request: &Upgrade<'_>) -> Admission {
        match request.path() {
            "/shout" => Admission::accept(request).without_counts(),
            _ => Admission::refuse(404, "not found"),
        }
    }

    fn on_message(&mut self, message: Message<'_>, session: &mut Session<'_>) {
        match message {
            Message::Text("quit") => session.close(4010, "as you wish").expect("a code"),
            Message::Text(text) => session.reply_text(text.to_uppercase()),
            Message::Binary(bytes) => session.reply_binary(bytes.to_ascii_uppercase()),
        }
    }
}

#[test]
fn a_service_of_a_few_lines() {
    let server = Running::start(config(&Store::Memory), Shout);
    let mut client = server.plain("/shout");
    client.text("sundown");
    assert_eq!(client.meet(), Event::Text("SUNDOWN".to_owned()));
    client.binary(b"raw");
    assert_eq!(client.meet(), Event::Binary(b"RAW".to_vec()));
    client.text("last");
    client.text("quit");
    client.text("not heard");
    assert_eq!(client.meet(), Event::Text("LAST".to_owned()));
    assert_eq!(client.meet(), Event::Close(4010, "as you wish".to_owned()));
    assert_eq!(client.meet(), Event::End(End::Eof));

    let refused = Client::dial(server.address, &http::upgrade("/ws/chat/", &[]));
    assert_eq!(refused.err().map(|answer| answer.status), Some(404));
    let stays = server.plain("/shout");
    server.handle.shutdown();
    assert_farewell(stays, 0);
    assert_eq!(server.outcome().byes, 1);
}

#[test]
fn a_service_keeps_what_it_needs() {
    /// Answers with what it was told before, on whichever connection.
    #[derive(Default)]
    struct Memory(String);

    impl Application for Memory {
        fn on_upgrade(&mut self, request: &Upgrade<'_>) -> Admission {
            Admission::accept(request).without_counts()
        }

        fn on_message(&mut self, message: Message<'_>, session: &mut Session<'_>) {
            if let Message::Text(text) = message {
                session.reply_text(std::mem::replace(&mut self.0, text.to_owned()));
            }
        }
    }

    let server = Running::start(config(&Store::Memory), Memory::default());
    let (mut one, mut other) = (server.plain("/ws/chat/"), server.plain("/ws/chat/"));
    one.text("from one");
    assert_eq!(one.meet(), Event::Text(String::new()));
    other.text("from the other");
    assert_eq!(other.meet(), Event::Text("from one".to_owned()));
    one.leave();
    other.leave();
    server.handle.shutdown();
    assert_eq!(server.outcome().connections, 0);
}

#[test]
fn a_service_sees_the_client_and_not_its_proxies() {
    /// Refuses everybody, and says who that is.
    struct Doorman;

    impl Application for Doorman {
        fn on_upgrade(&mut self, request: &Upgrade<'_>) -> Admission {
            let peer = request.peer().map(|peer| peer.to_string());
            Admission::refuse(403, peer.unwrap_or_default())
        }

        fn on_message(&mut self, _message: Message<'_>, _session: &mut Session<'_>) {}
    }

    let config = Config {
        proxy_protocol: true,
        trusted_proxies: vec!["127.0.0.2".to_owned()],
        ..config(&Store::Memory)
    };
    let server = Running::start(config, Doorman);
    let forwarded = ["X-Forwarded-For: 198.51.100.1, 203.0.113.9"];
    for (header, fields, client) in [
        (
            "PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\n",
            &[][..],
            "192.0.2.7:4711",
        ),
        (
            "PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\n",
            &forwarded,
            "192.0.2.7:4711",
        ),
        (
            "PROXY TCP4 127.0.0.2 192.0.2.1 4711 443\r\n",
            &forwarded,
            "203.0.113.9:0",
        ),
        (
            "PROXY TCP4 127.0.0.2 192.0.2.1 4711 443\r\n",
            &[],
            "127.0.0.2:4711",
        ),
        ("PROXY UNKNOWN\r\n", &forwarded, "203.0.113.9:0"),
    ] {
        let request = header.to_owned() + &http::upgrade("/ws/chat/", fields);
        let mut stream = Stream::connect_from([127, 0, 0, 2].into(), server.address);
        stream.queue(request.as_bytes());
        let answer = http::answer(&mut stream, PATIENCE).expect("an answer");
        let expected = format!("{{\"error\":\"{client}\"}}\n");
        assert_eq!((answer.status, answer.body), (403, expected), "{request}");
    }
    server.handle.shutdown();
    assert_eq!(server.outcome().connections, 0);
}

/// A charge point's path, password and subprotocol; what it sends is kept.
struct Central(mpsc::Sender<String>);

impl Application for Central {
    fn on_upgrade(&mut self, request: &Upgrade<'_>) -> Admission {
        let Some(id) = request.path().strip_prefix("/ocpp/") else {
            return Admission::refuse(404, "not found");
        };
        assert!(request.peer().is_some_and(|peer| peer.ip().is_loopback()));
        match (request.header("authorization"), SessionId::parse(id)) {
            (Some("Basic b3BlbjpzZXNhbWU="), Ok(session)) => Admission::accept(request)
                .with_session(session)
                .with_subprotocol("ocpp1.6"),
            _ => Admission::refuse(401, "a \"password\"")
                .with_header("WWW-Authenticate", "Basic realm=\"charge points\"")
                .with_header("Content-Length", "0")
                .with_header("X-Split", "a\r\nX-Two: b"),
        }
    }

    fn on_message(&mut self, message: Message<'_>, session: &mut Session<'_>) {
        let Message::Text(text) = message else { return };
        if text == "panic" {
            std::panic::resume_unwind(Box::new("as it was asked to"));
        }
        session.reply_text(text);
        let can_reply = session.can_reply();
        let said = format!("{} {text} {can_reply}", session.count());
        self.0.send(said).expect("the test listens");
    }
}

/// The request of a charge point.
fn charge_point(path: &str, more: &[&str]) -> String {
    let offer = "Sec-WebSocket-Protocol: sundown.v1, ocpp1.6";
    let fields: Vec<_> = [offer].into_iter().chain(more.iter().copied()).collect();
    http::upgrade(path, &fields)
}

const PASSWORD: &str = "Authorization: Basic b3BlbjpzZXNhbWU=";

#[test]
fn a_service_decides_who_is_let_in() {
    let (sender, _calls) = mpsc::channel();
    let server = Running::start(config(&Store::Memory), Central(sender));
    let refused = Client::dial(server.address, &charge_point("/ocpp/one", &[]));
    let answer = refused.err().expect("a refusal");
    assert_eq!(answer.status, 401);
    assert_eq!(answer.body, "{\"error\":\"a  password \"}\n");
    let expected = Some("Basic realm=\"charge points\"");
    assert_eq!(answer.header("www-authenticate"), expected);
    let len = answer.body.len().to_string();
    assert_eq!(answer.header("content-length"), Some(&*len));
    assert_eq!(answer.header("x-split").or(answer.header("x-two")), None);
    let elsewhere = Client::dial(server.address, &charge_point("/elsewhere", &[PASSWORD]));
    assert_eq!(elsewhere.err().map(|answer| answer.status), Some(404));
    server.handle.shutdown();
    server.outcome();
}

/// It hears its own words, and of sundown only the Close. What it says after that is heard, too.
#[test]
fn a_client_with_a_subprotocol_of_the_services_hears_nothing_of_sundowns() {
    let (sender, calls) = mpsc::channel();
    let server = Running::start(config(&Store::Memory), Central(sender));
    let head = charge_point("/ocpp/one", &[PASSWORD]);
    let mut client = Client::dial(server.address, &head).expect("101");
    client.answers_close = false;
    client.text("[2]");
    assert_eq!(client.meet(), Event::Text("[2]".to_owned()));
    assert_eq!(server.handle.broadcast("1"), Ok(()));
    server.handle.shutdown();
    assert!(matches!(client.meet(), Event::Close(1001, _)));
    client.text("[3]");
    client.close(1001);
    assert_eq!(client.until_end(), End::Eof);
    let outcome = server.outcome();
    assert_eq!((outcome.byes, outcome.closed_1001, outcome.late), (0, 1, 1));
    let said: Vec<_> = calls.iter().collect();
    assert_eq!(said, ["1 [2] true", "2 [3] false"]);
}

#[test]
fn a_panic_costs_its_own_client_the_connection_and_nobody_else_anything() {
    let (sender, _calls) = mpsc::channel();
    let store = Store::sqlite();
    let server = Running::start(config(&store), Central(sender));
    let head = |path| charge_point(path, &[PASSWORD]);
    let mut other = Client::dial(server.address, &head("/ocpp/other")).expect("101");
    for _ in 0..3 {
        let mut client = Client::dial(server.address, &head("/ocpp/one")).expect("101");
        client.text("panic");
        let failed = "the service failed on this message".to_owned();
        assert_eq!(client.meet(), Event::Close(1011, failed));
        assert_eq!(client.meet(), Event::End(End::Eof));
    }
    other.text("still here");
    assert_eq!(other.meet(), Event::Text("still here".to_owned()));
    server.handle.shutdown();
    other.until_close();
    assert_eq!(other.until_end(), End::Eof);
    assert!(server.outcome().is_safe());
}

/// Keeps the hash of all that it was sent, and answers with it.
struct HashChain;

fn chained(state: &[u8], text: &str) -> [u8; 8] {
    // FNV-1a, over the state and the message.
    let bytes = state.iter().chain(text.as_bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash.to_le_bytes()
}

impl Application for HashChain {
    fn on_message(&mut self, message: Message<'_>, session: &mut Session<'_>) {
        let Message::Text(text) = message else { return };
        let state = chained(session.state(), text);
        session.set_state(&state).expect("8 bytes");
        session.reply_binary(state);
    }
}

/// From node to node, each taking it over from the one before.
#[track_caller]
fn check_chain(store: &Store) {
    let servers = [(); 2].map(|()| Running::start(config(store), HashChain));
    let mut state = Vec::new();
    for turn in 0..6 {
        let (mut client, hello) = servers[turn % 2].v1("a");
        assert_eq!(hello.count, turn as u64 * 5);
        for n in 0..5 {
            let text = format!("{turn}.{n}");
            state = chained(&state, &text).to_vec();
            client.text(&text);
            assert_eq!(client.meet(), Event::Binary(state.clone()));
            assert!(matches!(client.hear(), Said::Count(_)));
        }
    }
    for server in servers {
        server.handle.shutdown();
        assert!(server.outcome().is_safe());
    }
}

#[test]
fn a_state_goes_with_its_session_from_node_to_node() {
    check_chain(&Store::sqlite());
    check_chain(&Store::redis());
}

/// At its limit it is kept, also over a restart; above it the service is told, and nothing is lost.
#[test]
fn a_state_has_its_limit() {
    /// Sets a state of as many bytes as the message says, and answers with the state's length.
    struct Sized;

    impl Application for Sized {
        fn on_message(&mut self, message: Message<'_>, session: &mut Session<'_>) {
            let Message::Text(text) = message else { return };
            let len = text.parse().expect("a number");
            // Each length has bytes of its own.
            let made = |len| vec![(len % 251) as u8; len];
            let is_set = session.set_state(&made(len)).is_ok();
            let len = session.state().len();
            let is_whole = session.state() == made(len);
            session.reply_text(format!("{is_set} {is_whole} {len}"));
        }
    }

    #[track_caller]
    fn check(client: &mut Client, len: usize, answer: &str) {
        client.text(&len.to_string());
        assert_eq!(client.meet(), Event::Text(answer.to_owned()));
        assert!(matches!(client.hear(), Said::Count(_)));
    }

    for store in [Store::Memory, Store::sqlite(), Store::redis()] {
        let server = Running::start(config(&store), Sized);
        let (mut client, _) = server.v1("a");
        check(&mut client, State::MAX, "true true 65536");
        check(&mut client, State::MAX + 1, "false true 65536");
        check(&mut client, 0, "true true 0");
        check(&mut client, State::MAX, "true true 65536");
        client.leave();
        let (mut client, hello) = server.v1("a");
        assert_eq!(hello.count, 4);
        check(&mut client, State::MAX + 1, "false true 65536");
        client.leave();
        server.handle.shutdown();
        assert!(server.outcome().is_safe());
        if matches!(store, Store::Memory) {
            continue;
        }
        let server = Running::start(config(&store), Sized);
        let (mut client, hello) = server.v1("a");
        assert_eq!(hello.count, 5);
        check(&mut client, State::MAX + 1, "false true 65536");
        client.leave();
        server.handle.shutdown();
        assert!(server.outcome().is_safe());
    }
}

/// Defers each message, and hands it to the test.
struct Workers(mpsc::Sender<Deferred>);

impl Application for Workers {
    fn on_message(&mut self, _message: Message<'_>, session: &mut Session<'_>) {
        self.0.send(session.defer()).expect("the test works");
    }
}

/// What has become of the client's message.
#[track_caller]
fn deferred(client: &mut Client, steps: &mpsc::Receiver<Deferred>) -> Deferred {
    let deadline = now() + PATIENCE;
    loop {
        assert!(now() < deadline, "the service has not got the message");
        assert_eq!(client.next(ms(5)), None);
        if let Ok(deferred) = steps.try_recv() {
            return deferred;
        }
    }
}

/// It answers from another thread, and wakes the loop for that. The shutdown waits for it.
#[test]
fn what_another_thread_completes_is_answered_and_counted() {
    let store = Store::sqlite();
    let (sender, steps) = mpsc::channel();
    let server = Running::start(config(&store), Workers(sender));
    let (mut client, _) = server.v1("a");
    let worker = thread::spawn(move || {
        for deferred in steps {
            deferred.complete(|session| {
                let (count, can_reply) = (session.count(), session.can_reply());
                let state = [session.state(), b"x"].concat();
                session.set_state(&state).expect("a few bytes");
                session.reply_text(format!("{count} {can_reply} {}", state.len()));
            });
        }
    });
    for n in 1..=20 {
        client.text("work");
        assert_eq!(client.meet(), Event::Text(format!("{n} true {n}")));
        assert_eq!(client.count(), n);
    }
    client.text("one more");
    server.handle.shutdown();
    let (mut said, mut counts) = (Vec::new(), 0);
    loop {
        match client.meet() {
            Event::Text(text) if text.starts_with("21") => said.push(text),
            Event::Text(text) if text.contains("count") => counts += 1,
            Event::Close(1001, _) => break,
            Event::Text(_) => {}
            other @ (Event::Close(..)
            | Event::Binary(_)
            | Event::Ping(_)
            | Event::Pong(_)
            | Event::End(_)) => panic!("{other:?}"),
        }
    }
    // It arrived before the shutdown or during it, and was processed once in either case.
    assert_eq!((said.len(), counts), (1, 1), "{said:?}");
    client.until_end();
    let outcome = server.outcome();
    assert!(outcome.is_safe());
    assert_eq!((outcome.abandoned, outcome.cut), (0, 0));
    worker.join().expect("no panic");
}

/// The server ends in time all the same, and what was not completed is not counted: the client
/// sends it again, to the next server.
#[test]
fn a_worker_that_never_completes_does_not_delay_the_exit() {
    let store = Store::sqlite();
    let (sender, steps) = mpsc::channel();
    let server = Running::start(config(&store), Workers(sender));
    let (mut client, _) = server.v1("a");
    client.text("hangs");
    let hanging = deferred(&mut client, &steps);
    let asked_at = now();
    server.handle.shutdown();
    let closed = client.until_close();
    assert_eq!(closed.0, 1001);
    let outcome = server.outcome();
    let took = now().duration_since(asked_at);
    assert!(took < SHUTDOWN_MAX, "it took {took:?}");
    assert!(outcome.is_safe());
    assert_eq!(outcome.abandoned, 1);
    assert!(hanging.is_cancelled());
    hanging.complete(|_| unreachable!("its server has ended"));
    let (sender, steps) = mpsc::channel();
    let next = Running::start(config(&store), Workers(sender));
    let (mut client, hello) = next.v1("a");
    assert_eq!(hello.count, 0);
    client.text("hangs no more");
    deferred(&mut client, &steps).complete(|_| {});
    assert_eq!(client.count(), 1);
    next.handle.shutdown();
    client.until_close();
    client.until_end();
    assert!(next.outcome().is_safe());
}
