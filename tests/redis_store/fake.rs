//! A Redis that is played by the test, in the same thread: it decides what arrives when.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use sundown::engine::io::{StoreCommand, StoreEvent};
use sundown::store::SessionStore;

use crate::driver::{Driver, PATIENCE, claim};

const HELLO: &str = "%2\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n";
const GREETING: &str = "$3\r\nc1c\r\n$3\r\n5a5\r\n$3\r\nc03\r\n$3\r\nead\r\n:0\r\n\
                        >3\r\n$9\r\nsubscribe\r\n$17\r\nsundown:claimed:0\r\n:1\r\n";

struct Fake {
    listener: TcpListener,
    peer: Option<TcpStream>,
}

impl Fake {
    fn listen() -> (Self, Driver) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let store = Driver::open(&format!("redis://{}", listener.local_addr().unwrap()));
        let peer = None;
        (Self { listener, peer }, store)
    }

    /// Turns the store until it has connected and sent something that ends like this.
    fn expect(&mut self, store: &mut Driver, end: &str) {
        self.listen_until(store, |heard| heard.ends_with(end.as_bytes()));
    }

    fn listen_until(&mut self, store: &mut Driver, is_whole: impl Fn(&[u8]) -> bool) {
        let mut heard = Vec::new();
        let deadline = sundown::clock::now().instant + PATIENCE;
        while !is_whole(&heard) {
            assert!(sundown::clock::now().instant < deadline, "{heard:?}");
            store.turn(Duration::from_millis(1));
            if self.peer.is_none() {
                self.peer = self.listener.accept().ok().map(|(peer, _)| peer);
            }
            if let Some(peer) = &mut self.peer {
                peer.set_nonblocking(true).unwrap();
                let mut buffer = [0; 16 << 10];
                while let Ok(count @ 1..) = peer.read(&mut buffer) {
                    heard.extend_from_slice(&buffer[..count]);
                }
            }
        }
    }

    /// From the connection to `Up`.
    #[track_caller]
    fn greet(&mut self, store: &mut Driver) {
        self.peer = None;
        self.expect(store, "\r\nsundown\r\n");
        self.say(store, HELLO.as_bytes());
        self.expect(store, "\r\nsundown:claimed:0\r\n");
        self.say(store, GREETING.as_bytes());
        store.wait_up();
    }

    /// Sends, and turns the store until the bytes have made it ready.
    fn say(&mut self, store: &mut Driver, text: &[u8]) {
        if text.is_empty() {
            return;
        }
        self.peer.as_mut().unwrap().write_all(text).unwrap();
        while !store.turn(Duration::from_secs(5)) {}
    }
}

#[test]
fn a_peer_that_says_nothing_or_nonsense_is_no_redis() {
    let (mut fake, mut store) = Fake::listen();
    fake.expect(&mut store, "\r\nsundown\r\n");
    store.skip(Duration::from_secs(5));
    let reason = store.wait_down();
    assert!(reason.contains("timed out while greeting"), "{reason}");
    fake.peer = None;
    store.skip(Duration::from_secs(2));
    fake.expect(&mut store, "\r\nsundown\r\n");
    fake.say(&mut store, b"HTTP/1.1 400 Bad Request\r\n\r\n");
    assert!(store.heard().is_none(), "still down");
    store.skip(Duration::from_secs(2));
    fake.greet(&mut store);
}

#[test]
fn a_link_that_ends_at_its_first_request_is_made_again_ever_more_slowly() {
    let (mut fake, mut store) = Fake::listen();
    let mut waits = Vec::new();
    for held in [0; 12].into_iter().chain([5]) {
        store.skip(Duration::from_secs(2));
        fake.greet(&mut store);
        store.store.ask(StoreCommand::Claim(claim("a", 1)));
        // Its last argument is the store's own name, which each test has another of.
        fake.listen_until(&mut store, |heard| {
            let mut words = heard.split(|byte| *byte == b'\n');
            words.any(|word| word == b"a\r") && heard.ends_with(b"\r\n")
        });
        let peer = fake.peer.as_mut().unwrap();
        peer.write_all(b"-READONLY a replica\r\n").unwrap();
        store.skip(Duration::from_secs(held));
        store.wait_down();
        waits.push(store.wait());
    }
    let (after_holding, series) = waits.split_last().unwrap();
    let first_ceiling = Duration::from_millis(50);
    assert!(
        series.iter().max() > Some(&(first_ceiling * 10)),
        "{waits:?}"
    );
    assert!(*after_holding <= first_ceiling, "{waits:?}");
}

#[test]
fn a_flood_has_its_turn_and_no_more_but_all_of_it_is_heard() {
    let (mut fake, mut store) = Fake::listen();
    fake.greet(&mut store);
    let news = ">3\r\n$7\r\nmessage\r\n$17\r\nsundown:claimed:0\r\n$3\r\ns 5\r\n";
    let flood = news.repeat(100_000);
    let peer = fake.peer.as_mut().unwrap();
    let mut sent = 0;
    while let Ok(count) = peer.write(&flood.as_bytes()[sent..]) {
        sent += count;
    }
    assert!(
        sent > 1 << 20,
        "the kernel takes more than a megabyte: {sent}"
    );
    store.turn(PATIENCE);
    assert!(
        store.wait().is_zero(),
        "the rest is due at once: no edge will tell of it"
    );
    for heard in 0..sent / news.len() {
        let event = store.next();
        assert!(
            matches!(event, StoreEvent::TakenOver { .. }),
            "{heard}: {event:?}"
        );
    }
}
