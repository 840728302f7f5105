//! Goal: the limits that no flag sets hold too: how long a peer may take to part, and how many
//! replies may wait for the store before reading stops, at no cost to what was sent.
//! Method: the library in this process with a small limit, and clients that reach it.

use std::net::SocketAddr;
use std::thread::JoinHandle;

use sundown::{Chat, Config, Handle, Server};

use crate::support::client::{Client, Event};
use crate::support::frame::{TEXT, masked};
use crate::support::redis::Redis;
use crate::support::said::Said;
use crate::support::stream::{End, Stream};
use crate::support::{PATIENCE, eventually, http, ms, now, pause};

/// A server on a thread of its own, which ends with this.
struct Inside {
    address: SocketAddr,
    admin: SocketAddr,
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

impl Inside {
    #[track_caller]
    fn start(store: &str, set: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config {
            listen: ([127, 0, 0, 1], 0).into(),
            admin: Some(([127, 0, 0, 1], 0).into()),
            store: store.parse().expect("a store"),
            // No file of the defaults lands in the repository.
            spill: "/nowhere/spill.db".into(),
            ..Config::default()
        };
        set(&mut config);
        let server = Server::bind(config, Chat).expect("free ports");
        let inside = Self {
            address: server.local_addr().tcp().expect("TCP"),
            admin: server.admin_addr().expect("an admin listener"),
            handle: server.handle(),
            thread: Some(std::thread::spawn(move || {
                server.run().expect("a loop that does not fail");
            })),
        };
        inside.until_ready();
        inside
    }

    #[track_caller]
    fn until_ready(&self) {
        eventually("readiness 200", || {
            http::get(self.address, "/readyz").status == 200
        });
    }

    #[track_caller]
    fn client(&self, session: &str) -> (Client, u64) {
        let (client, hello) = Client::v1_to(self.address, session);
        (client, hello.count)
    }

    /// Waits until a gauge has this value. The question itself is a socket.
    #[track_caller]
    fn until_gauge(&self, name: &str, value: u64) {
        eventually(name, || http::metric(self.admin, name) == Some(value));
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        (0..3).for_each(|_| self.handle.shutdown());
        let ended = self.thread.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            assert!(matches!(ended, Some(Ok(()))), "the loop panicked");
        }
    }
}

/// Reading stops after each message here, while the next ones wait inside the server, where no
/// event of the kernel's tells of them; nor does the peer's end overtake them.
#[test]
fn messages_that_came_in_one_piece_outlive_each_pause() {
    let server = Inside::start("memory:", |config| config.limits.held_replies_max = 1);
    for (session, hangs_up) in [("stays", false), ("hangs-up", true)] {
        let (mut client, _) = server.client(session);
        (0..20).for_each(|_| client.text("x"));
        if hangs_up {
            client.answers_close = false;
            client.stream.finish();
        }
        for n in 1..=20 {
            assert_eq!(client.count(), n, "{session}");
        }
        if hangs_up {
            assert_eq!(client.until_end(), End::Eof);
        } else {
            client.leave();
        }
        assert_eq!(server.client(session).1, 20, "{session}");
    }
}

/// Others have their turn after some of them; what is left waits inside the server, where no event
/// of the kernel's tells of it, and where the peer's end must not overtake it.
#[test]
fn messages_that_came_in_one_piece_are_all_answered() {
    let server = Inside::start("memory:", |_| {});
    for count in [63, 64, 65, 128, 1_000] {
        let mut client =
            Client::dial(server.address, &http::upgrade("/ws/chat/", &[])).expect("101");
        (0..count).for_each(|_| client.text("x"));
        client.answers_close = false;
        client.stream.finish();
        for n in 1..=count {
            assert_eq!(client.count(), n, "of {count}");
        }
        assert_eq!(client.until_end(), End::Eof);
    }
}

#[test]
fn who_does_not_answer_our_close_is_cut() {
    let server = Inside::start("memory:", |config| config.limits.close_timeout = ms(300));
    let (mut old, _) = server.client("a");
    old.answers_close = false;
    let (new, _) = server.client("a");
    old.until_closed(4001);
    server.until_gauge("connections", 1);
    new.leave();
    server.until_gauge("connections", 0);
}

#[test]
fn who_does_not_end_after_the_answer_is_cut() {
    let server = Inside::start("memory:", |config| config.limits.answered_timeout = ms(300));
    let mut stream = Stream::connect(server.address);
    stream.queue(b"garbage\r\n\r\n");
    let answer = http::answer(&mut stream, PATIENCE).expect("an answer");
    assert_eq!((answer.status, answer.end), (400, Some(End::Eof)));
    server.until_gauge("sockets", 1);
    drop(stream);
}

/// The peer has closed and waits for our Close, which waits for the store: not for ever, and what
/// it had sent is saved when the store is back.
#[test]
fn who_has_closed_is_not_kept_for_a_store_that_is_frozen() {
    let redis = Redis::start();
    let server = Inside::start(&redis.url(), |config| config.limits.close_timeout = ms(300));
    let (mut client, _) = server.client("a");
    redis.freeze();
    client.text("counts");
    client.close(1000);
    client.until_end();
    server.until_gauge("connections", 0);
    redis.thaw();
    server.until_ready();
    let (client, count) = server.client("a");
    assert_eq!(count, 1);
    client.leave();
}

/// It is the server that does not listen: the peer's silence is not its own.
#[test]
fn who_is_not_read_from_is_not_idle() {
    let redis = Redis::start();
    let server = Inside::start(&redis.url(), |config| {
        config.limits.held_replies_max = 1;
        config.limits.idle_timeout = ms(2_000);
    });
    let (mut client, _) = server.client("a");
    redis.freeze();
    client.send("held");
    // The passing of time is the event here.
    pause(ms(4_500));
    redis.thaw();
    let deadline = now() + PATIENCE;
    loop {
        assert!(now() < deadline, "no reply");
        match client.next(ms(100)) {
            None | Some(Event::Ping(_)) => {}
            Some(reply) => {
                assert_eq!(reply, Event::Text("{\"count\":1}".to_owned()));
                return;
            }
        }
    }
}

/// A client that waits for its hello is not read from, and neither is one whose replies wait. How
/// many of them a crowd leaves behind is not for the store to decide.
#[test]
fn who_leaves_while_it_is_not_read_from_frees_its_seat() {
    let redis = Redis::start();
    let server = Inside::start(&redis.url(), |config| {
        config.limits.held_replies_max = 1;
        config.limits.close_timeout = ms(300);
    });
    let (mut held, _) = server.client("held");
    let (mut other, _) = server.client("other");
    let waiting = [(); 3].map(|()| Stream::connect(server.address));
    // Before the server has noticed it: 1 s.
    redis.freeze();
    let waiting = waiting.map(|stream| {
        let request = http::upgrade_v1("/ws/chat/");
        Client::dial_over(stream, &request).expect("101").stream
    });
    for client in [&mut held, &mut other] {
        client.send("its reply waits");
    }
    server.until_gauge("waiting_replies", 2);
    // A reset, an end, and an end behind something that is not read.
    let [reset, mut ended, mut behind] = waiting;
    behind.queue(&masked(TEXT, b"never read"));
    reset.reset();
    other.stream.reset();
    ended.finish();
    behind.finish();
    held.text("never read");
    held.stream.finish();
    server.until_gauge("connections", 0);
    redis.thaw();
    server.until_ready();
    assert_eq!(server.client("held").1, 1, "what was read is saved");
}

/// Whoever has only closed its side is heard to the end, if the store is back in time.
#[test]
fn what_was_sent_before_the_end_is_read_after_a_pause() {
    let redis = Redis::start();
    let server = Inside::start(&redis.url(), |_| {});
    let stream = Stream::connect(server.address);
    redis.freeze();
    let head = http::upgrade_v1("/ws/chat/?session=a");
    let mut client = Client::dial_over(stream, &head).expect("101");
    (0..3).for_each(|_| client.text("x"));
    client.answers_close = false;
    client.stream.finish();
    http::get(server.address, "/healthz");
    redis.thaw();
    assert!(matches!(client.hear(), Said::Hello(_)));
    for n in 1..=3 {
        assert_eq!(client.count(), n);
    }
    assert_eq!(client.until_end(), End::Eof);
}
