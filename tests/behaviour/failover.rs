//! Goal: after a failover that leaves old links open, a node leaves the Redis that has become a
//! replica, with sessions and broadcasts, though both links work and nobody has closed them; and an
//! outage is a line in the log, however many attempts it takes.
//! Method: two redis-servers that change their roles, behind a proxy that sends new connections to
//! the one and keeps the old ones at the other.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;

use crate::support::client::{Client, Event};
use crate::support::eventually;
use crate::support::http::{exchange, get};
use crate::support::redis::Redis;
use crate::support::server::Server;

/// Sends each new connection to the port that is the target at that moment, and keeps it there.
struct Proxy {
    port: u16,
    target: Arc<AtomicU16>,
}

impl Proxy {
    fn to(target: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let target = Arc::new(AtomicU16::new(target));
        let theirs = Arc::clone(&target);
        // They end with the test's process.
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let far = connect(theirs.load(Ordering::Relaxed));
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let (from, to) = (from.try_clone(), to.try_clone());
                    let (mut from, mut to) = (from.expect("a copy"), to.expect("a copy"));
                    thread::spawn(move || drop(std::io::copy(&mut from, &mut to)));
                }
            }
        });
        Self { port, target }
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the ban is for the server's loop; this is a thread of the test"
)]
fn connect(port: u16) -> TcpStream {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("redis-server listens")
}

fn is_linked(server: &Server) -> bool {
    let page = get(server.admin, "/metrics").body;
    page.contains("\nsundown_broadcast_link_up 1\n")
}

#[test]
fn a_broadcast_reaches_the_nodes_of_the_new_primary() {
    let (old, new) = (Redis::start(), Redis::start());
    let port = |redis: &Redis| redis.port().to_string();
    new.command(&["REPLICAOF", "127.0.0.1", &port(&old)]);
    let info = |redis: &Redis| format!("{:?}", redis.command(&["INFO", "replication"]));
    eventually("the replica is in step", || {
        info(&new).contains("master_link_status:up")
    });
    let proxy = Proxy::to(old.port());
    let first = Server::start(&proxy.url(), &[]);
    eventually("its links are up", || is_linked(&first));
    let (mut before, _) = Client::v1(&first, "before");
    assert_eq!(before.say("on the old primary"), 1);
    new.command(&["REPLICAOF", "NO", "ONE"]);
    old.command(&["REPLICAOF", "127.0.0.1", &port(&new)]);
    proxy.target.store(new.port(), Ordering::Relaxed);
    let second = Server::start(&proxy.url(), &[]);
    eventually("its links are up", || is_linked(&second));
    let mut client = Client::plain(&second, "/ws/chat/");
    let request = "POST /broadcast HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\n7";
    let response = exchange(first.admin, request.as_bytes());
    assert_eq!(response.body, "{\"queued\":1}\n");
    assert_eq!(client.meet(), Event::Text("{\"broadcast\":7}".into()));
    assert_eq!(before.meet(), Event::Text("{\"broadcast\":7}".into()));
    assert_eq!(before.say("on the new one"), 2);
    assert_eq!(client.say("it came once"), 1);
    eventually("the first node has moved", || {
        info(&new).contains("role:master") && is_linked(&first) && first.readiness() == 200
    });
}

/// The lines of the log that say this.
fn logged(server: &Server, words: &str) -> usize {
    let lines = server.process.stderr.all();
    lines.iter().filter(|line| line.contains(words)).count()
}

#[test]
fn an_outage_has_one_line_and_its_end_another() {
    let redis = Redis::start();
    let server = Server::start(&redis.url(), &[]);
    eventually("its links are up", || is_linked(&server));
    let (mut client, _) = Client::v1(&server, "a");
    redis.command(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    client.text("not taken");
    client.stream.flush();
    eventually("readiness 503", || server.readiness() == 503);
    let attempts = || {
        let stats = format!("{:?}", redis.command(&["INFO", "stats"]));
        let (_, rest) = stats
            .split_once("total_connections_received:")
            .expect("a line");
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse::<u64>().expect("a number")
    };
    // Ours count, too.
    let (mut ours, before) = (0, attempts());
    eventually("it has tried again and again", || {
        ours += 1;
        assert_eq!(server.readiness(), 503, "it is not up in between");
        attempts() > before + ours + 5
    });
    redis.command(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
    assert_eq!(client.count(), 1);
    eventually("readiness 200", || server.readiness() == 200);
    eventually("its links are up", || is_linked(&server));
    // The log is written by a thread of its own.
    eventually("it is logged", || logged(&server, "the store is up") == 2);
    assert_eq!(logged(&server, "the store is down: NOREPLICAS"), 1);
    assert_eq!(logged(&server, "NOREPLICAS"), 1);
    assert_eq!(logged(&server, "attempts to reach Redis had failed"), 1);
    assert_eq!(logged(&server, "broadcasts reach"), 1);
}

#[test]
fn a_wrong_password_is_logged_once() {
    let redis = Redis::with(&["--requirepass", "secret"]);
    let url = format!("redis://:wrong@127.0.0.1:{}", redis.port());
    let server = Server::start_unready(&url, &[]);
    let wrong = |line: &str| line.contains("WRONGPASS").then_some(());
    let seen = server
        .process
        .stderr
        .wait_for(crate::support::PATIENCE, wrong);
    assert!(seen.is_some());
    let authenticated = redis::Client::open(format!("redis://:secret@127.0.0.1:{}", redis.port()));
    let mut onlooker = authenticated
        .expect("a URL")
        .get_connection()
        .expect("it listens");
    let mut attempts = || {
        let stats: String = redis::cmd("INFO")
            .arg("stats")
            .query(&mut onlooker)
            .expect("INFO");
        let (_, rest) = stats
            .split_once("total_connections_received:")
            .expect("a line");
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse::<u64>().expect("a number")
    };
    let before = attempts();
    eventually("it has tried again and again", || attempts() > before + 5);
    assert_eq!(logged(&server, "WRONGPASS"), 1);
}
