//! A Redis that is played by the test, in the same thread: it decides what arrives when.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use sundown::engine::io::StoreEvent;
use sundown::store::SessionStore;

use crate::driver::{Driver, PATIENCE, claim, save};

const HELLO: &str = "%2\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n";
const GREETING: &str = "$3\r\nc1c\r\n$3\r\n5a5\r\n\
                        >3\r\n$9\r\nsubscribe\r\n$17\r\nsundown:claimed:0\r\n:1\r\n";
const ANSWERS: &str = "*3\r\n:4\r\n:9\r\n:1\r\n\
                       >3\r\n$7\r\nmessage\r\n$17\r\nsundown:claimed:0\r\n$3\r\ns 5\r\n\
                       *1\r\n:1\r\n";

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
        let mut heard = Vec::new();
        let deadline = sundown::clock::now().instant + PATIENCE;
        while !heard.ends_with(end.as_bytes()) {
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

    /// Sends, and turns the store until the bytes have made it ready.
    fn say(&mut self, store: &mut Driver, text: &[u8]) {
        if text.is_empty() {
            return;
        }
        self.peer.as_mut().unwrap().write_all(text).unwrap();
        while !store.turn(Duration::from_secs(5)) {}
    }
}

/// The conversation, with its stream of replies cut in two at one place.
fn converse(cut: usize) -> Vec<String> {
    let (mut fake, mut store) = Fake::listen();
    let mut from = 0;
    for (index, reply) in [HELLO, GREETING, ANSWERS].into_iter().enumerate() {
        match index {
            0 => fake.expect(&mut store, "\r\nsundown\r\n"),
            1 => fake.expect(&mut store, "\r\nsundown:claimed:0\r\n"),
            _ => {
                store.wait_up();
                store.store.claim(claim("a", 1));
                store.store.save(vec![save("x", 3, 7), save("y", 3, 8)]);
                fake.expect(&mut store, "\r\n8\r\n");
            }
        }
        let at = cut.saturating_sub(from).min(reply.len());
        from += reply.len();
        let (first, second) = reply.as_bytes().split_at(at);
        fake.say(&mut store, first);
        fake.say(&mut store, second);
    }
    (0..3).map(|_| format!("{:?}", store.next())).collect()
}

#[test]
fn a_reply_may_be_cut_in_two_anywhere() {
    let whole = converse(0);
    assert!(
        whole[0].starts_with("Claimed") && whole[1].starts_with("TakenOver"),
        "{whole:?}"
    );
    assert!(whole[2].ends_with("fenced: [1] }"), "{whole:?}");
    for cut in 1..HELLO.len() + GREETING.len() + ANSWERS.len() {
        assert_eq!(converse(cut), whole, "cut at {cut}");
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
    fake.peer = None;
    store.skip(Duration::from_secs(2));
    fake.expect(&mut store, "\r\nsundown\r\n");
    fake.say(&mut store, HELLO.as_bytes());
    fake.expect(&mut store, "\r\nsundown:claimed:0\r\n");
    fake.say(&mut store, GREETING.as_bytes());
    store.wait_up();
}

#[test]
fn an_error_to_a_request_ends_the_link_after_the_answers_before_it() {
    let (mut fake, mut store) = Fake::listen();
    fake.expect(&mut store, "\r\nsundown\r\n");
    fake.say(&mut store, HELLO.as_bytes());
    fake.expect(&mut store, "\r\nsundown:claimed:0\r\n");
    fake.say(&mut store, GREETING.as_bytes());
    store.wait_up();
    store.store.claim(claim("a", 1));
    store.store.claim(claim("b", 2));
    fake.expect(&mut store, "\r\nb\r\n");
    fake.say(
        &mut store,
        b"*3\r\n:1\r\n:0\r\n:0\r\n-OOM command not allowed\r\n",
    );
    assert!(matches!(store.next(), StoreEvent::Claimed { epoch: 1, .. }));
    assert_eq!(store.wait_down(), "OOM command not allowed");
    // The Down of a link that has just come up is one of a series: it comes again, more slowly.
    assert!(store.heard().is_none());
}
