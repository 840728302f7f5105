//! What a name with several addresses comes to. The rest of a link's life is tested from outside,
//! against a real Redis.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use mio::{Events, Poll, Waker};

use super::*;
use crate::clock;
use crate::engine::io::StoreEvent;
use crate::redis::target::Target;
use crate::store::redis::pipeline::Pipeline;

/// A link and its loop; the link is left alone until `turn`.
struct Bench {
    poll: Poll,
    link: Link<Pipeline>,
}

impl Bench {
    fn new() -> Self {
        let poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
        let target = Target::parse("redis://several.invalid").unwrap();
        let link = Link::new(Parts {
            place: target.place,
            conversation: Pipeline::new(target.login, Duration::from_secs(1), 7),
            tls: None,
            registry: poll.registry().try_clone().unwrap(),
            token: Token(1),
            resolver: Resolver::new(waker),
            backoff: Backoff::new(7),
            now: clock::now().instant,
        });
        Self { poll, link }
    }

    fn try_addresses(&mut self, addresses: &[SocketAddr]) {
        let addresses = addresses.iter().copied().map(Address::Tcp).collect();
        self.link.try_addresses(addresses, Vec::new());
    }

    fn until_connected(&mut self) {
        while !matches!(&self.link.state, State::Opening(opening) if opening.connected) {
            self.turn();
        }
    }

    fn turn(&mut self) {
        let mut events = Events::with_capacity(4);
        let wait = Some(Duration::from_secs(60));
        self.poll.poll(&mut events, wait).unwrap();
        assert!(!events.is_empty(), "nothing happens");
        self.link.handle_ready(clock::now().instant);
    }
}

fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Addresses where nobody listens. What was bound is kept, so that nobody else can take it.
fn refusing() -> (rustix::fd::OwnedFd, SocketAddr) {
    use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = SocketAddr::try_from(getsockname(&socket).unwrap()).unwrap();
    (socket, address)
}

#[test]
fn addresses_are_tried_until_one_answers() {
    let ((_one, first), (_two, second)) = (refusing(), refusing());
    let (listener, third) = listen();
    let mut bench = Bench::new();
    bench.try_addresses(&[first, second, third]);
    bench.until_connected();
    listener.accept().unwrap();
    assert!(
        bench.link.poll_event().is_none(),
        "two refusals are not yet a reason"
    );
}

#[test]
fn when_none_answers_each_has_its_reason() {
    let ((_one, first), (_two, second)) = (refusing(), refusing());
    let mut bench = Bench::new();
    bench.try_addresses(&[first, second]);
    let reason = loop {
        if let Some(StoreEvent::Down { reason }) = bench.link.poll_event() {
            break reason;
        }
        bench.turn();
    };
    for address in [first, second] {
        assert!(
            reason.contains(&format!("{address}: Connection refused")),
            "{reason}"
        );
    }
}

#[test]
fn an_address_that_connects_and_does_not_greet_is_not_the_last_word() {
    let ((mute, first), (listener, second)) = (listen(), listen());
    let mut bench = Bench::new();
    bench.try_addresses(&[first, second]);
    bench.until_connected();
    mute.accept().unwrap();
    let due = bench.link.poll_timeout().unwrap();
    bench.link.handle_timeout(due);
    bench.until_connected();
    listener.accept().unwrap();
    assert!(bench.link.poll_event().is_none());
}
