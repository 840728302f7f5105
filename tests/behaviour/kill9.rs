//! Goal: in `acked` mode `kill -9` loses no acknowledged message and counts none twice.
//! Method: clients that send without pause, SIGKILL to the server in the middle of it, and each
//! session resumed on a new process: at least the last count that its client saw, at most what
//! its client had sent.

use std::sync::mpsc::{Sender, channel};

use crate::support::client::{Client, Event};
use crate::support::http;
use crate::support::said::Said;
use crate::support::server::Server;
use crate::support::store::Store;
use crate::support::{PATIENCE, ms};

struct Witness {
    session: String,
    seen: u64,
    sent: u64,
}

/// Sends without pause until the connection breaks; says once that it has seen 200 counts.
fn blast(mut client: Client, session: String, rolling: &Sender<()>) -> Witness {
    let mut seen = 0;
    let mut announced = false;
    loop {
        while client.stream.unwritten() < 4 << 10 {
            client.text("on the record");
        }
        let mut event = client.next(ms(1));
        while let Some(met) = event {
            match met {
                Event::Text(text) => match Said::parse(&text) {
                    Said::Count(count) => seen = count,
                    other @ (Said::Time(_) | Said::Bye(_) | Said::Hello(_) | Said::Notice(_)) => {
                        panic!("nobody asked for {other:?}")
                    }
                },
                // The server was killed: a reset is as good as an end.
                Event::End(_) => {
                    return Witness {
                        session,
                        seen,
                        sent: client.sent,
                    };
                }
                other @ (Event::Binary(_) | Event::Ping(_) | Event::Pong(_) | Event::Close(..)) => {
                    panic!("nobody asked for {other:?}")
                }
            }
            event = client.take();
        }
        if seen >= 200 && !announced {
            announced = rolling.send(()).is_ok();
        }
    }
}

#[track_caller]
fn check(store: &Store) {
    let mut expected: Vec<Witness> = Vec::new();
    for round in 0..3 {
        let mut server = Server::start(&store.url(), &[]);
        for witness in &expected {
            let (client, hello) = Client::v1(&server, &witness.session);
            let (count, seen, sent) = (hello.count, witness.seen, witness.sent);
            assert!((seen..=sent).contains(&count), "{seen} ≤ {count} ≤ {sent}");
            client.leave();
        }
        let (rolling, rolled) = channel();
        let blasters: Vec<_> = (0..8)
            .map(|at| {
                let session = format!("round-{round}-{at}");
                let head = http::upgrade(&format!("/ws/chat/?session={session}"), &[]);
                let client = Client::dial(server.address, &head).expect("101");
                let rolling = rolling.clone();
                std::thread::spawn(move || blast(client, session, &rolling))
            })
            .collect();
        for _ in &blasters {
            rolled
                .recv_timeout(PATIENCE * 2)
                .expect("everyone has seen 200 counts");
        }
        server.kill();
        let join = |blaster: std::thread::JoinHandle<Witness>| blaster.join().expect("a witness");
        expected = blasters.into_iter().map(join).collect();
    }
}

#[test]
fn over_sqlite() {
    check(&Store::sqlite());
}

#[test]
fn over_redis() {
    check(&Store::redis());
}
