//! Goal: one address has so many connections and so many requests, and no more; another address is
//! served all the same. The address that the server is told is the client's own.
//! Method: clients from two loopback addresses; a backend of the test's own that keeps what it is
//! sent.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::mpsc::channel;
use std::thread;

use crate::proxy::Kind;
use crate::site::{Ground, Site};
use crate::support::client::Client;
use crate::support::stream::Stream;
use crate::support::{PATIENCE, eventually, http};

/// Of the configurations.
const OPEN_MAX: usize = 100;
const REQUESTS_MAX: usize = 400;

#[track_caller]
fn check(kind: Kind) {
    let site = Site::start(kind);
    let (here, elsewhere) = (site.ground.doors.here, site.ground.doors.elsewhere);
    let head = http::upgrade("/ws/chat/", &[]);
    let mut crowd = Vec::new();
    for _ in 0..OPEN_MAX + 20 {
        let mut stream = Stream::connect(elsewhere);
        stream.queue(head.as_bytes());
        // Cut before it has said anything, or told 429.
        if http::head(&mut stream, PATIENCE).is_some_and(|answer| answer.status == 101) {
            crowd.push(Client::over(stream));
        }
    }
    assert_eq!(crowd.len(), OPEN_MAX);
    Client::dial(here, &head)
        .expect("another address is served")
        .leave();
    crowd.into_iter().for_each(Client::leave);

    let refused = (0..REQUESTS_MAX).find(|_| http::get(elsewhere, "/healthz").status == 429);
    assert!(
        refused.is_some(),
        "{REQUESTS_MAX} requests, and none too many"
    );
    assert_eq!(http::get(here, "/healthz").status, 200);
}

#[test]
fn haproxy_limits_each_address() {
    check(Kind::HaProxy);
}

#[test]
fn nginx_limits_each_address() {
    check(Kind::Nginx);
}

#[test]
fn the_proxy_of_the_compose_file_limits_each_address() {
    check(Kind::Compose);
}

/// The head of a request that comes with an address of the client's own invention.
#[track_caller]
fn check_address(kind: Kind) {
    let ground = Ground::prepare(kind, &[]);
    let (keep, kept) = channel();
    for backend in ground.backends {
        for address in [backend.listen, backend.admin] {
            let listener = TcpListener::bind(address).expect("nobody else has it");
            let keep = keep.clone();
            thread::spawn(move || {
                for socket in listener.incoming() {
                    let mut socket = socket.expect("a connection");
                    let mut head = vec![0; 4096];
                    let len = socket.read(&mut head).unwrap_or(0);
                    head.truncate(len);
                    let answer =
                        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
                    drop(socket.write_all(answer));
                    drop(keep.send(String::from_utf8_lossy(&head).into_owned()));
                }
            });
        }
    }
    let forged = "GET /forged HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 192.0.2.1\r\n\
                  Connection: close\r\n\r\n";
    eventually("the proxy has found the backend", || {
        http::exchange(ground.doors.elsewhere, forged.as_bytes()).status == 200
    });
    let head = kept.iter().find(|head| head.starts_with("GET /forged"));
    let head = head.expect("it was passed on").to_ascii_lowercase();
    let lines: Vec<&str> = head
        .lines()
        .filter(|line| line.starts_with("x-forwarded-for"))
        .collect();
    assert_eq!(lines, ["x-forwarded-for: 127.0.0.2"]);
}

#[test]
fn haproxy_tells_the_clients_address() {
    check_address(Kind::HaProxy);
}

#[test]
fn nginx_tells_the_clients_address() {
    check_address(Kind::Nginx);
}

#[test]
fn caddy_tells_the_clients_address() {
    check_address(Kind::Caddy);
}
