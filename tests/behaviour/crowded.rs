//! Goal: sockets that hold no seat lock nobody out. Whoever comes while they are there is served,
//! or is refused with 503, and neither a newcomer nor they are reset; nor do those of one listener
//! cost the other anything.
//! Method: more sockets than there is room for, which linger behind an answer or never complete
//! their request, and clients and operators that come while they stay.

use std::net::SocketAddr;

use crate::support::client::Client;
use crate::support::http::{self, get, upgrade};
use crate::support::server::Server;
use crate::support::stream::{End, Stream};
use crate::support::{PATIENCE, eventually};

/// More than `--max-connections` and the strangers beside them; fewer than wait to be accepted.
const CROWD: usize = 250;
const NOT_FOUND: &[u8] = b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n";
const HALF: &[u8] = b"GET /ws/chat/ HTTP/1.1\r\nHost: loc";

/// Sockets that send this, and neither read nor close.
#[track_caller]
fn crowd(address: SocketAddr, bytes: &[u8]) -> Vec<Stream> {
    let arrive = |_| {
        let mut stream = Stream::connect(address);
        stream.queue(bytes);
        stream.flush();
        stream
    };
    (0..CROWD).map(arrive).collect()
}

/// How it ends for them, once they listen: an answer with one of these statuses if there is one,
/// and a FIN.
#[track_caller]
fn assert_polite(crowd: Vec<Stream>, statuses: &[&str]) {
    for mut stream in crowd {
        stream.finish();
        let answer = stream.hear_out();
        let status = answer.get(9..12).unwrap_or_default();
        assert!(statuses.contains(&status), "{answer:?}");
    }
}

#[track_caller]
fn assert_refused(address: SocketAddr) {
    let Err(refusal) = Client::dial(address, &upgrade("/ws/chat/", &[])) else {
        panic!("there was no seat for it")
    };
    assert_eq!((refusal.status, refusal.end), (503, Some(End::Eof)));
}

#[test]
fn newcomers_are_served_among_sockets_that_linger() {
    let server = Server::start("memory:", &["--max-connections", "60"]);
    let mut inside = Vec::new();
    for _ in 0..3 {
        // They take their time, and were there first.
        let head = upgrade("/ws/chat/", &[]);
        let (half, rest) = head.split_at(HALF.len());
        let mut slow = [(); 5].map(|()| Stream::connect(server.address));
        for stream in &mut slow {
            stream.queue(half.as_bytes());
            stream.flush();
        }
        let lingering = crowd(server.address, NOT_FOUND);
        for _ in 0..10 {
            inside.push(Client::plain(&server, "/ws/chat/"));
            assert_eq!(get(server.address, "/healthz").status, 200);
            server.assert_healthy();
        }
        for mut stream in slow {
            stream.queue(rest.as_bytes());
            let response = http::answer(&mut stream, PATIENCE).expect("an answer");
            assert_eq!(response.status, 101);
            inside.push(Client::over(stream));
        }
        assert_polite(lingering, &["404"]);
    }
    for client in &mut inside {
        assert_eq!(client.say("unaffected"), 1);
    }
}

#[test]
fn newcomers_are_refused_politely_when_all_seats_are_taken() {
    let server = Server::start("memory:", &["--max-connections", "3"]);
    let mut inside: Vec<_> = (0..3)
        .map(|_| Client::plain(&server, "/ws/chat/"))
        .collect();
    for (bytes, statuses) in [(NOT_FOUND, &["404"][..]), (HALF, &["503", ""])] {
        let strangers = crowd(server.address, bytes);
        for _ in 0..10 {
            assert_refused(server.address);
            assert_eq!(get(server.admin, "/healthz").status, 200);
        }
        for client in &mut inside {
            client.say("unaffected");
        }
        assert_eq!(server.readiness(), 503);
        inside.pop().expect("a client").leave();
        eventually("readiness", || server.readiness() == 200);
        inside.push(Client::plain(&server, "/ws/chat/"));
        assert_refused(server.address);
        // A half head that ends before its turn has come gets no answer.
        assert_polite(strangers, statuses);
    }
}

/// Those who have sent a whole request, which nobody has read yet, are not reset either.
#[test]
fn a_crowd_that_leaves_no_room_is_answered() {
    let server = Server::start("memory:", &["--max-connections", "1"]);
    let _inside = Client::plain(&server, "/ws/chat/");
    for _ in 0..5 {
        let crowd = crowd(server.address, upgrade("/ws/chat/", &[]).as_bytes());
        assert_polite(crowd, &["503"]);
    }
}

#[test]
fn operators_are_served_among_operators_that_linger() {
    let server = Server::start("memory:", &["--max-connections", "3"]);
    for (bytes, statuses) in [(NOT_FOUND, &["404"][..]), (HALF, &["503", ""])] {
        let strangers = crowd(server.admin, bytes);
        for _ in 0..10 {
            server.assert_healthy();
            // 64 of operators, the oldest of which make room, and none of clients.
            let sockets = server.metric("sockets").expect("a gauge");
            assert!((57..=65).contains(&sockets), "{sockets} sockets");
        }
        let mut client = Client::plain(&server, "/ws/chat/");
        assert_eq!(client.say("unaffected"), 1);
        client.leave();
        assert_polite(strangers, statuses);
    }
}
