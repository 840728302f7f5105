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
use crate::support::http::exchange;
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
    server.metric("broadcast_link_up") == Some(1)
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

#[test]
fn an_outage_has_one_line_and_its_end_another() {
    let redis = Redis::start();
    let server = Server::start(&redis.url(), &[]);
    eventually("its links are up", || is_linked(&server));
    let (mut client, _) = Client::v1(&server, "a");
    redis.command(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    client.send("not taken");
    eventually("readiness 503", || server.readiness() == 503);
    // Ours count, too.
    let (mut ours, before) = (0, redis.connections());
    eventually("it has tried again and again", || {
        ours += 1;
        assert_eq!(server.readiness(), 503, "it is not up in between");
        redis.connections() > before + ours + 5
    });
    redis.command(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
    assert_eq!(client.count(), 1);
    eventually("readiness 200", || server.readiness() == 200);
    eventually("its links are up", || is_linked(&server));
    // The log is written by a thread of its own.
    let log = server.log();
    eventually("it is logged", || log.count("the store is up") == 2);
    assert_eq!(log.count("the store is down: NOREPLICAS"), 1);
    assert_eq!(log.count("NOREPLICAS"), 1);
    assert_eq!(log.count("attempts to reach Redis had failed"), 1);
    assert_eq!(log.count("broadcasts reach"), 1);
}
