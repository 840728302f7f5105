//! Goal: a client that connects in the middle of a shutdown is answered, 101 before it and 503 in
//! it, and never sees a reset, until the process is gone and the connection is refused.
//! Method: several threads that each connect every 5 ms, from before the signal to the end, while
//! one client keeps the drain busy and another holds up the closing.

use std::io::{self, ErrorKind};
use std::sync::mpsc::{Sender, channel};

use rustix::thread::{CapabilitySet, capabilities, remove_capability_from_bounding_set};

use crate::support::client::Client;
use crate::support::crowd::{Crowd, Guest, Habit};
use crate::support::http;
use crate::support::server::Server;
use crate::support::stream::{End, Stream};
use crate::support::{PATIENCE, ms, now, pause};

/// A shutdown that takes 2.5 s, if somebody holds it up.
const BRISK: [&str; 3] = [
    "--drain-timeout=1s",
    "--persist-timeout=2s",
    "--shutdown-timeout=3s",
];

#[derive(Debug, Default)]
pub(super) struct Answers {
    welcomed: u32,
    refused: u32,
    /// Everything that must not be.
    pub(super) broken: Vec<String>,
}

/// Connects every 5 ms until nobody listens; says so each time it has been let in.
pub(super) fn knock(connect: impl Fn() -> io::Result<Stream>, inside: &Sender<()>) -> Answers {
    let mut answers = Answers::default();
    let begun = now();
    loop {
        let mut stream = match connect() {
            Ok(stream) => stream,
            Err(error) => {
                if matches!(
                    error.kind(),
                    ErrorKind::ConnectionRefused | ErrorKind::NotFound
                ) {
                    return answers;
                }
                answers.broken.push(format!("connect: {error}"));
                continue;
            }
        };
        stream.queue(http::upgrade("/ws/chat/", &[]).as_bytes());
        match http::answer(&mut stream, PATIENCE) {
            None => answers
                .broken
                .push(format!("{:?} without an answer", stream.end())),
            Some(response) if response.status == 101 => {
                answers.welcome(Client::over(stream));
                inside.send(()).expect("the test listens to the end");
            }
            Some(response) => {
                let polite = response.status == 503
                    && response.end == Some(End::Eof)
                    && response.header("Connection") == Some("close")
                    && response
                        .header("Retry-After")
                        .is_some_and(|at| at.parse::<u64>().is_ok());
                if polite {
                    answers.refused += 1;
                } else {
                    answers.broken.push(format!("{response:?}"));
                }
            }
        }
        assert!(begun.elapsed() < PATIENCE, "the server is never gone");
        pause(ms(5));
    }
}

impl Answers {
    /// Inside: says a word and leaves, or is sent away with the others.
    fn welcome(&mut self, mut client: Client) {
        client.text("hello");
        client.close(1000);
        let end = client.until_end();
        if end == End::Eof {
            self.welcomed += 1;
        } else {
            self.broken.push(format!("{end:?} after 101"));
        }
    }
}

#[track_caller]
fn check(flags: &[&str]) {
    check_among(0, flags);
}

/// The same among so many sockets that were answered, and do not close.
#[track_caller]
fn check_among(lingering: usize, flags: &[&str]) {
    let mut server = Server::start("memory:", flags);
    let linger = |_| {
        let mut stream = Stream::connect(server.address);
        stream.queue(b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n");
        stream.flush();
        stream
    };
    let _lingering: Vec<_> = (0..lingering).map(linger).collect();
    let guest = |habit| Guest {
        habit,
        session: None,
        v1: false,
    };
    let crowd = Crowd::gather(
        server.address,
        vec![guest(Habit::Steady), guest(Habit::NeverReading)],
    );
    let address = server.address;
    let knocker = |()| {
        let (inside, is_inside) = channel();
        (
            std::thread::spawn(move || knock(|| Stream::try_connect(address), &inside)),
            is_inside,
        )
    };
    let knockers = [(); 4].map(knocker);
    for (_, is_inside) in &knockers {
        is_inside
            .recv_timeout(PATIENCE)
            .expect("everyone is let in at first");
    }
    server.terminate();
    server.exits_with(0);
    let (mut welcomed, mut refused) = (0, 0);
    for (knocker, _is_inside) in knockers {
        let answers = knocker.join().expect("a knocker only notes");
        assert!(answers.broken.is_empty(), "{answers:?}");
        welcomed += answers.welcomed;
        refused += answers.refused;
    }
    assert!(
        welcomed > 0 && refused > 0,
        "{welcomed} welcomed, {refused} refused"
    );
    for one in crowd.disperse() {
        one.assert_farewell();
    }
}

/// Most of the time goes by in Draining and Closing, and the end comes by the deadline.
#[test]
fn through_a_long_shutdown() {
    check(&BRISK);
}

/// There is no room for them but that of sockets which linger, before the shutdown and in it.
#[test]
fn in_a_crowd_that_leaves_no_room() {
    check_among(
        300,
        &[
            "--max-connections=20",
            "--drain-timeout=1s",
            "--persist-timeout=1500ms",
            "--shutdown-timeout=2s",
        ],
    );
}

/// The end of the listener is where resets come from: many ends in a row.
#[test]
fn at_many_ends() {
    many_ends();
}

/// Recent kernels take a filter on TCP from nobody who may not administer the network, and in a
/// container or under systemd the server may not.
#[test]
fn at_many_ends_without_privileges() {
    // What a thread has given up, the processes that it starts cannot have either.
    let powerless = std::thread::spawn(|| {
        let capabilities = capabilities(None).expect("our own can be asked for");
        if capabilities.effective.contains(CapabilitySet::NET_ADMIN) {
            remove_capability_from_bounding_set(CapabilitySet::NET_ADMIN).expect("we have it");
        }
        many_ends();
    });
    powerless.join().expect("as kind as with them");
}

fn many_ends() {
    for _ in 0..15 {
        check(&[
            "--notify-timeout=50ms",
            "--drain-timeout=60ms",
            "--drain-quiet=10ms",
            "--persist-timeout=300ms",
            "--shutdown-timeout=700ms",
        ]);
    }
}

/// Those who were connected, or half through their request, when the listener closed.
#[test]
fn with_connections_that_say_nothing_at_the_end() {
    for _ in 0..15 {
        let mut server = Server::start("memory:", &[]);
        let mut silent: Vec<_> = (0..20).map(|_| Stream::connect(server.address)).collect();
        for half in silent.iter_mut().step_by(2) {
            half.queue(b"GET /ws/chat/ HTTP/1.1\r\n");
            half.flush();
        }
        server.terminate();
        assert_eq!(server.exit().code, Some(0));
        for stream in &mut silent {
            // Nobody is left without a word.
            let answer = stream.hear_out();
            assert!(answer.starts_with("HTTP/1.1 503"), "{answer:?}");
        }
    }
}

/// Health, readiness, metrics and the page answer until the end, on both listeners.
#[test]
fn operators_are_answered_throughout() {
    let mut server = Server::start("memory:", &BRISK);
    let guest = Guest {
        habit: Habit::NeverReading,
        session: None,
        v1: false,
    };
    let crowd = Crowd::gather(server.address, vec![guest]);
    server.terminate();
    let (mut rounds, begun) = (0, now());
    loop {
        let status = |address, path: &str| -> Option<u16> {
            let mut stream = match Stream::try_connect(address) {
                Ok(stream) => stream,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{path}");
                    return None;
                }
            };
            stream.queue(http::head_of("GET", path).as_bytes());
            let response = http::answer(&mut stream, PATIENCE);
            let response = response.unwrap_or_else(|| panic!("{path}: {:?}", stream.end()));
            assert_eq!(response.end, Some(End::Eof), "{path}");
            Some(response.status)
        };
        // Until the signal has been read, readiness is still 200.
        match status(server.address, "/readyz") {
            Some(200 | 503) => {}
            None => break,
            Some(other) => panic!("readyz says {other}"),
        }
        let answers = [
            status(server.address, "/healthz"),
            status(server.address, "/"),
            status(server.admin, "/healthz"),
            status(server.admin, "/metrics"),
        ];
        if answers.contains(&None) {
            break;
        }
        if answers != [Some(200); 4] {
            // The listeners are closing: whoever was still in their queues is sent away.
            assert!(begun.elapsed() > ms(2_000), "{answers:?}");
            break;
        }
        rounds += 1;
        pause(ms(20));
    }
    // The never reading client held the closing up until the cut, 500 ms before the deadline.
    assert!(
        begun.elapsed() > ms(2_000) && rounds > 10,
        "{rounds} in {:?}",
        begun.elapsed()
    );
    assert_eq!(server.exit().code, Some(0));
    crowd
        .disperse()
        .iter()
        .for_each(|one| one.assert_farewell());
}
