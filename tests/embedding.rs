//! Goal: a program that embeds the library gets all that the binary has: a port of its own, a
//! service in a few lines, a loop that it may drive itself, a shutdown from another thread on every
//! store, as many servers as it likes, and none that leaves anything behind.
//! Method: the public API in this process, clients by hand over real sockets, and a real
//! redis-server.

#![expect(
    clippy::expect_used,
    reason = "a test stops at the first thing that is not as it should be"
)]

#[path = "support/mod.rs"]
#[expect(
    dead_code,
    reason = "it is shared with the other tests, which use more of it"
)]
mod support;

#[path = "support/journal.rs"]
mod journal;
#[path = "embedding/panics.rs"]
mod panics;
#[path = "embedding/pushes.rs"]
mod pushes;
#[path = "embedding/services.rs"]
mod services;
#[path = "embedding/stores.rs"]
mod stores;
#[path = "support/table.rs"]
mod table;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use journal::Journal;
use signal_hook::consts::SIGINT;
use signal_hook::low_level::raise;
use sundown::engine::shutdown::Trigger;
use sundown::signals::Signals;
use sundown::{
    Application, BroadcastError, Chat, Config, Echo, Error, Handle, Outcome, Server,
    ShutdownBudget, StoreConfig,
};
use support::client::{Client, Event};
use support::said::{Hello, Notice, Said};
use support::store::Store;
use support::stream::{End, Stream};
use support::{PATIENCE, SHUTDOWN_MAX, eventually, http, ms, now};

/// A server may be made on one thread and run on another, and asked from any.
const fn is_send<T: Send>() {}
const fn is_shared<T: Clone + Send + Sync>() {}
const _: () = is_send::<Server>();
const _: () = is_shared::<Handle>();

/// The store of a test as an embedder names it, and free ports.
fn config(store: &Store) -> Config {
    Config {
        listen: ([127, 0, 0, 1], 0).into(),
        admin: None,
        store: store.url().parse().expect("a store"),
        // Not in the checkout, where the tests run.
        spill: match store {
            Store::Memory | Store::Sqlite(_) => "/nowhere/spill.db".into(),
            Store::Redis(redis) => redis.dir().join("spill.db"),
        },
        ..Config::default()
    }
}

/// A server on a thread of its own, as most programs have it.
struct Running {
    address: SocketAddr,
    admin: Option<SocketAddr>,
    handle: Handle,
    thread: JoinHandle<Result<Outcome, Error>>,
}

impl Running {
    #[track_caller]
    fn start(config: Config, app: impl Application + 'static) -> Self {
        Self::serve(Server::bind(config, app).expect("free ports and a store"))
    }

    #[track_caller]
    fn serve(server: Server) -> Self {
        let running = Self {
            address: server.local_addr().tcp().expect("TCP"),
            admin: server.admin_addr(),
            handle: server.handle(),
            thread: thread::spawn(move || server.run()),
        };
        eventually("readiness 200", || {
            http::get(running.address, "/readyz").status == 200
        });
        running
    }

    /// A client of its path, without the subprotocol.
    #[track_caller]
    fn plain(&self, path: &str) -> Client {
        Client::dial(self.address, &http::upgrade(path, &[])).expect("101")
    }

    /// A `sundown.v1` client, and its hello.
    #[track_caller]
    fn v1(&self, session: &str) -> (Client, Hello) {
        let path = format!("/ws/chat/?session={session}");
        let head = http::upgrade(&path, &["Sec-WebSocket-Protocol: sundown.v1"]);
        let mut client = Client::dial(self.address, &head).expect("101");
        let Said::Hello(hello) = client.hear() else {
            panic!("no hello first");
        };
        (client, hello)
    }

    /// What `run` answers, once the shutdown that was asked for is over.
    #[track_caller]
    fn outcome(self) -> Outcome {
        let outcome = self.thread.join().expect("a loop that does not panic");
        outcome.expect("a loop that did not fail")
    }
}

/// Goodbye with this total, 1001, and the end: what everyone gets who answers the Close.
#[track_caller]
fn assert_farewell(mut client: Client, total: u64) {
    assert_eq!(client.hear(), Said::Bye(total));
    let Event::Close(code, reason) = client.meet() else {
        panic!("no Close after the goodbye");
    };
    assert_eq!(code, 1001);
    assert!(
        reason.starts_with("server shutdown; retry-after-ms="),
        "{reason}"
    );
    assert_eq!(client.meet(), Event::End(End::Eof));
}

// A shutdown by handle, on every store.

#[track_caller]
fn check_shutdown(store: &Store, survives: bool) {
    check_shutdown_of(survives, |shutdown| {
        let config = config(store);
        Running::start(Config { shutdown, ..config }, Chat)
    });
}

#[track_caller]
fn check_shutdown_of(survives: bool, start: impl Fn(ShutdownBudget) -> Running) {
    let server = start(ShutdownBudget {
        // Also on a loaded machine, a message that answers the notice comes before the end.
        drain_quiet: Duration::from_secs(2),
        drain: Duration::from_secs(7),
        ..ShutdownBudget::default()
    });
    let mut anonymous = server.plain("/ws/chat/");
    let mut named = server.plain("/ws/chat?session=named");
    let (mut v1, hello) = server.v1("v1");
    assert_eq!((hello.session.as_str(), hello.count), ("v1", 0));
    assert_eq!(anonymous.say("one"), 1);
    for count in 1..=3 {
        assert_eq!(named.say("more"), count);
        assert_eq!(v1.say("more"), count);
    }

    let asked_at = now();
    server.handle.shutdown();
    let Said::Notice(Notice { shutdown, .. }) = v1.hear() else {
        panic!("no notice");
    };
    assert!(shutdown);
    assert_eq!(v1.say("in the drain"), 4);
    assert_farewell(v1, 4);
    assert_farewell(named, 3);
    assert_farewell(anonymous, 1);
    let address = server.address;
    let outcome = server.outcome();
    let took = now().duration_since(asked_at);

    assert!(took < SHUTDOWN_MAX, "it took {took:?}");
    assert_outcome(&outcome);
    assert!(
        Stream::try_connect(address).is_err(),
        "the listener is open"
    );

    let server = start(ShutdownBudget::default());
    let (client, hello) = server.v1("v1");
    assert_eq!(hello.count, if survives { 4 } else { 0 });
    assert_eq!(hello.resumed, survives);
    client.leave();
    server.handle.shutdown();
    assert!(server.outcome().is_safe());
}

/// For three clients, of whom one had the subprotocol and two had sessions.
#[track_caller]
fn assert_outcome(outcome: &Outcome) {
    assert_eq!(outcome.trigger, Some(Trigger::Handle));
    assert_eq!(outcome.connections, 3, "{outcome:?}");
    assert_eq!(outcome.notified, 1, "{outcome:?}");
    assert_eq!(outcome.drained, 3, "{outcome:?}");
    assert_eq!(outcome.saved, 2, "{outcome:?}");
    assert_eq!(outcome.spilled, 0, "{outcome:?}");
    assert_eq!(outcome.byes, 3, "{outcome:?}");
    assert_eq!(outcome.late, 0, "{outcome:?}");
    assert_eq!(outcome.closed_1001, 3, "{outcome:?}");
    assert_eq!(outcome.cut, 0, "{outcome:?}");
    assert_eq!(outcome.unsaved, [], "{outcome:?}");
    assert!(outcome.is_safe());
    assert_eq!(outcome.exit_code(), 0);
    let timeline = &outcome.timeline;
    let phases = [
        timeline.began,
        timeline.notifying,
        timeline.draining,
        timeline.persisting,
        timeline.closing,
        timeline.sweeping,
        timeline.stopped,
    ];
    assert!(phases.iter().all(Option::is_some), "{timeline:?}");
    assert!(phases.is_sorted(), "{timeline:?}");
    let report = outcome.report_json();
    assert!(
        report.starts_with(r#"{"signal":"handle","connections":3,"#),
        "{report}"
    );
}

#[test]
fn a_handle_shuts_down_with_sessions_in_memory() {
    check_shutdown(&Store::Memory, false);
}

#[test]
fn a_handle_shuts_down_with_sessions_in_sqlite() {
    check_shutdown(&Store::sqlite(), true);
}

#[test]
fn a_handle_shuts_down_with_sessions_in_redis() {
    check_shutdown(&Store::redis(), true);
}

#[test]
fn a_handle_shuts_down_with_sessions_in_a_store_of_the_embedders_own() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("journal");
    check_shutdown_of(true, |shutdown| {
        let config = config(&Store::Memory);
        let server = Server::bind_with(Config { shutdown, ..config }, Chat, |parts| {
            let waker = Arc::clone(parts.waker);
            let store = Journal::open(&path, parts.config.session_ttl, waker)?;
            Ok(Box::new(store))
        });
        Running::serve(server.expect("free ports and a store"))
    });
}

/// A drain that nothing else would end for the length of a test.
fn slow_drain() -> ShutdownBudget {
    ShutdownBudget {
        timeout: Duration::from_secs(300),
        notify: Duration::from_secs(60),
        drain: Duration::from_secs(200),
        drain_quiet: Duration::from_secs(100),
        persist: Duration::from_secs(250),
        ..ShutdownBudget::default()
    }
}

#[test]
fn a_second_call_skips_the_drain() {
    let slow = Config {
        shutdown: slow_drain(),
        ..config(&Store::Memory)
    };
    let server = Running::start(slow, Chat);
    let (mut client, _) = server.v1("a");
    server.handle.shutdown();
    assert!(matches!(client.hear(), Said::Notice(_)));
    assert_eq!(client.say("it drains"), 1);
    server.handle.clone().shutdown();
    assert_farewell(client, 1);
    let outcome = server.outcome();
    assert_eq!((outcome.byes, outcome.closed_1001, outcome.cut), (1, 1, 0));
}

#[test]
fn a_third_call_cuts_at_once() {
    let slow = Config {
        shutdown: slow_drain(),
        ..config(&Store::Memory)
    };
    let server = Running::start(slow, Chat);
    let (mut client, _) = server.v1("a");
    client.answers_close = false;
    server.handle.shutdown();
    assert!(matches!(client.hear(), Said::Notice(_)));
    server.handle.shutdown();
    assert_eq!(client.hear(), Said::Bye(0));
    assert!(matches!(client.meet(), Event::Close(1001, _)));
    server.handle.shutdown();
    let outcome = server.outcome();
    assert_eq!((outcome.byes, outcome.closed_1001, outcome.cut), (1, 0, 1));
    client.until_end();
}

/// However many calls the loop finds at once, it counts them all.
#[test]
fn three_calls_between_two_turns_are_three() {
    let slow = Config {
        shutdown: slow_drain(),
        ..config(&Store::Memory)
    };
    let mut server = Server::bind(slow, Chat).expect("a free port");
    let mut stream = Stream::connect(server.local_addr().tcp().expect("TCP"));
    stream.queue(http::upgrade("/ws/chat/", &[]).as_bytes());
    stream.flush();
    let deadline = now() + PATIENCE;
    while !stream.unread().ends_with(b"\r\n\r\n") {
        assert!(server.turn(Some(ms(5))).expect("a turn"));
        stream.pump(now());
        assert!(now() < deadline, "no answer to the handshake");
    }
    let handle = server.handle();
    (0..3).for_each(|_| handle.shutdown());
    while server.turn(Some(ms(5))).expect("a turn") {
        assert!(now() < deadline, "it waits for something");
    }
    assert_eq!(server.outcome().cut, 1);
}

// The loop, turned by hand.

#[test]
fn turns_by_hand_serve_as_well() {
    let mut server = Server::bind(config(&Store::Memory), Chat).expect("a free port");
    let address = server.local_addr().tcp().expect("TCP");
    let handle = server.handle();
    let client = thread::spawn(move || {
        let head = http::upgrade("/ws/chat/", &[]);
        let mut client = Client::dial(address, &head).expect("101");
        assert_eq!(client.say("one"), 1);
        assert_eq!(client.say("two"), 2);
        handle.shutdown();
        assert_farewell(client, 2);
    });
    let deadline = now() + PATIENCE;
    while server.turn(Some(ms(20))).expect("a turn") {
        assert!(now() < deadline, "the shutdown never ends");
    }
    client.join().expect("a client that got what it was due");
    let outcome = server.outcome();
    assert_eq!((outcome.byes, outcome.closed_1001), (1, 1));
    // Over is over, however often it is asked.
    assert!(!server.turn(Some(Duration::ZERO)).expect("a turn"));
}

#[test]
fn it_tells_its_embedder_when_a_shutdown_has_begun() {
    let mut server = Server::bind(config(&Store::Memory), Chat).expect("a free port");
    let deadline = now() + PATIENCE;
    while !server.is_ready() {
        assert!(server.turn(Some(ms(5))).expect("a turn"));
        assert!(now() < deadline, "it is never ready");
    }
    server.handle().shutdown();
    // Asked for, and seen by the next turn.
    assert!(!server.is_shutting_down());
    while server.turn(None).expect("a turn") {
        assert!(server.is_shutting_down() && !server.is_ready());
    }
    assert!(server.is_shutting_down());
}

#[test]
fn a_turn_ends_when_nothing_happens() {
    let mut server = Server::bind(config(&Store::Memory), Chat).expect("a free port");
    for timeout in [Duration::ZERO, ms(1), ms(30)] {
        let began = now();
        while server.turn(Some(timeout)).expect("a turn") && now() - began < timeout {}
        assert!(
            now() - began < PATIENCE,
            "a turn of {timeout:?} did not end"
        );
    }
    // And one without a timeout, when a handle asks for something.
    server.handle().shutdown();
    while server.turn(None).expect("a turn") {}
}

#[test]
fn a_client_that_came_before_the_first_turn_is_served() {
    let mut server = Server::bind(config(&Store::Memory), Chat).expect("a free port");
    let mut stream = Stream::connect(server.local_addr().tcp().expect("TCP"));
    stream.queue(http::upgrade("/ws/chat/", &[]).as_bytes());
    stream.flush();
    let deadline = now() + PATIENCE;
    while !stream.unread().ends_with(b"\r\n\r\n") {
        assert!(server.turn(Some(ms(5))).expect("a turn"));
        stream.pump(now());
        assert!(now() < deadline, "no answer to the handshake");
    }
    assert!(stream.unread().starts_with(b"HTTP/1.1 101"));
}

// What is said to everybody.

#[test]
fn a_handle_says_something_to_every_client() {
    let server = Running::start(config(&Store::Memory), Echo);
    let mut clients = [server.plain("/a"), server.plain("/b")];
    let handle = server.handle.clone();
    let said = thread::spawn(move || handle.broadcast("{\"a\":1}"));
    assert_eq!(said.join().expect("no panic"), Ok(()));
    for client in &mut clients {
        let expected = "{\"broadcast\":{\"a\":1}}".to_owned();
        assert_eq!(client.meet(), Event::Text(expected));
    }
    let refused = server.handle.broadcast("hello");
    assert!(
        matches!(refused, Err(BroadcastError::NotJson(_))),
        "{refused:?}"
    );
    let large = format!("\"{}\"", "a".repeat(64 << 10));
    assert_eq!(
        server.handle.broadcast(&large),
        Err(BroadcastError::TooLarge)
    );
    server.handle.shutdown();
    for client in clients {
        assert_farewell(client, 0);
    }
    server.outcome();
}

/// `Ok` is a promise, however many come at once, and whatever comes next.
#[test]
fn what_a_handle_was_promised_is_said_in_a_burst_and_before_the_goodbye() {
    for ends_at_once in [false, true] {
        let server = Running::start(config(&Store::Memory), Echo);
        let mut client = server.plain("/a");
        let mut promised = Vec::new();
        for n in 0..200 {
            let said = server.handle.broadcast(&n.to_string());
            assert!(
                matches!(said, Ok(()) | Err(BroadcastError::TooMany)),
                "{said:?}"
            );
            promised.extend(said.is_ok().then_some(n));
        }
        if ends_at_once {
            server.handle.shutdown();
        }
        for n in &promised {
            let expected = format!("{{\"broadcast\":{n}}}");
            assert_eq!(client.meet(), Event::Text(expected));
        }
        server.handle.shutdown();
        assert_farewell(client, 0);
        assert_eq!(
            server.handle.broadcast("1"),
            Err(BroadcastError::ShuttingDown)
        );
        server.outcome();
    }
}

#[test]
fn what_a_handle_says_to_a_loop_that_does_not_turn_is_bounded() {
    let server = Server::bind(config(&Store::Memory), Chat).expect("a server");
    let handle = server.handle();
    let taken = (0..100)
        .take_while(|_| handle.broadcast("1").is_ok())
        .count();
    assert_eq!(taken, sundown::Limits::default().broadcasts_max);
    assert_eq!(handle.broadcast("1"), Err(BroadcastError::TooMany));
}

// More than one server in a process.

#[test]
fn two_servers_do_not_disturb_each_other() {
    let with_admin = || Config {
        admin: Some(([127, 0, 0, 1], 0).into()),
        ..config(&Store::Memory)
    };
    let (first, second) = (
        Running::start(with_admin(), Chat),
        Running::start(with_admin(), Echo),
    );
    let (mut counted, _) = first.v1("shared-name");
    let mut echoed = second.plain("/ws/chat/?session=shared-name");
    for count in 1..=3 {
        assert_eq!(counted.say("one more"), count);
    }
    echoed.text("as it came");
    assert_eq!(echoed.meet(), Event::Text("as it came".to_owned()));
    assert_eq!(received(&first), 3);
    assert_eq!(received(&second), 1);

    first.handle.shutdown();
    assert!(matches!(counted.hear(), Said::Notice(_)));
    assert_farewell(counted, 3);
    let outcome = first.outcome();
    assert_eq!((outcome.connections, outcome.byes), (1, 1));

    echoed.text("still here");
    assert_eq!(echoed.meet(), Event::Text("still here".to_owned()));
    assert_eq!(http::get(second.address, "/readyz").status, 200);
    second.handle.shutdown();
    assert_farewell(echoed, 2);
    let outcome = second.outcome();
    assert_eq!((outcome.connections, outcome.byes), (1, 1));
}

/// Messages that this server has counted, as it tells operators.
#[track_caller]
fn received(server: &Running) -> u64 {
    let page = http::get(server.admin.expect("an admin listener"), "/metrics").body;
    let line = page
        .lines()
        .find_map(|line| line.strip_prefix("sundown_messages_received_total "));
    line.and_then(|count| count.parse().ok())
        .unwrap_or_else(|| panic!("no count of messages in:\n{page}"))
}

#[test]
fn two_servers_on_one_store_know_whose_session_it_is() {
    let store = Store::sqlite();
    let (first, second) = (
        Running::start(config(&store), Chat),
        Running::start(config(&store), Chat),
    );
    let (mut older, _) = first.v1("a");
    assert_eq!(older.say("one"), 1);
    let (mut newer, hello) = second.v1("a");
    assert_eq!((hello.count, hello.resumed), (1, true));
    assert_eq!(older.until_close().0, 4001);
    assert_eq!(newer.say("two"), 2);
    first.handle.shutdown();
    assert!(first.outcome().is_safe());
    second.handle.shutdown();
    assert!(matches!(newer.hear(), Said::Notice(_)));
    assert_farewell(newer, 2);
    assert!(second.outcome().is_safe());
}

// What does not run, and what does not start.

#[track_caller]
fn check_dropped(store: &Store) {
    // The second is bound where the first was: nothing of it is left.
    let mut config = config(store);
    for _ in 0..2 {
        let server = Server::bind(config.clone(), Chat).expect("nothing in the way");
        config.listen = server.local_addr();
        let handle = server.handle();
        drop(server);
        // There is nobody to hear it, and that is no error.
        handle.shutdown();
    }
    let mut server = Server::bind(config, Chat).expect("nothing in the way");
    let mut stream = Stream::connect(server.local_addr().tcp().expect("TCP"));
    assert!(server.turn(Some(ms(5))).expect("a turn"));
    drop(server);
    let deadline = now() + PATIENCE;
    while stream.end().is_none() {
        assert!(now() < deadline, "the socket outlives its server");
        stream.pump(deadline);
    }
}

#[test]
fn a_server_that_never_runs_leaves_nothing_behind() {
    check_dropped(&Store::Memory);
    check_dropped(&Store::sqlite());
    check_dropped(&Store::redis());
}

#[test]
fn a_server_that_cannot_start_says_why() {
    let taken = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let address = taken.local_addr().expect("its address");
    let bind = |config| Server::bind(config, Chat).err().expect("an error");

    let error = bind(Config {
        listen: address.into(),
        ..config(&Store::Memory)
    });
    assert!(matches!(error, Error::Bind { .. }), "{error:?}");
    assert!(error.to_string().contains(&address.to_string()), "{error}");

    let error = bind(Config {
        session_ttl: Duration::ZERO,
        ..config(&Store::Memory)
    });
    assert!(matches!(error, Error::Config(_)), "{error:?}");
    assert!(error.to_string().contains("--session-ttl"), "{error}");

    let error = bind(Config {
        store: StoreConfig::Sqlite("no/such/directory/sundown.db".into()),
        ..config(&Store::Memory)
    });
    assert!(matches!(error, Error::Store(_)), "{error:?}");
    assert!(error.to_string().contains("no/such/directory"), "{error}");
}

// Signals, which an embedder may pass on.

/// The loop asks for signals when it is woken by one: one that came before there was a loop wakes
/// it, too.
#[test]
fn a_signal_that_is_older_than_the_loop_counts() {
    let signals = Signals::register().expect("handlers");
    raise(SIGINT).expect("a signal to this thread");
    let server = Server::bind(config(&Store::Memory), Chat).expect("free ports");
    let mut server = server.with_signals(signals).expect("a pipe to watch");
    assert!(!server.is_shutting_down());
    let deadline = now() + PATIENCE;
    while server.turn(Some(ms(5))).expect("a turn") {
        assert!(now() < deadline, "nobody has asked for signals");
    }
    let outcome = server.outcome();
    assert_eq!(outcome.trigger, Some(Trigger::Sigint));
    assert_eq!(outcome.unsaved, []);
}
