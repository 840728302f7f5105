//! Goal: the barrier. For every client that completes the closing handshake, blasting ones too,
//! the count on resume is the number of messages that it had put on the wire before its own Close.
//! Method: a crowd over one store, SIGTERM in full traffic, and each session resumed on a second
//! server, whose hello is compared with what its client had counted for itself.

use crate::support::client::Client;
use crate::support::crowd::{Crowd, Guest, Habit};
use crate::support::server::Server;
use crate::support::store::Store;

#[track_caller]
fn check(store: &Store, flags: &[&str]) {
    let mut first = Server::start(&store.url(), flags);
    let habits = [
        Habit::Steady,
        Habit::Idle,
        Habit::Blasting,
        Habit::Blasting,
        Habit::Blasting,
    ];
    let guest = |at: usize| Guest {
        habit: habits[at % habits.len()],
        session: Some(format!("guest-{at}")),
        v1: at.is_multiple_of(3),
    };
    let crowd = Crowd::gather(first.address, (0..40).map(guest).collect());
    let report = first.stop();
    let seen = crowd.disperse();

    let second = Server::start(&store.url(), &[]);
    for one in &seen {
        one.assert_farewell();
        assert!(one.parted(), "{one:?}");
        let session = one.session.as_deref().expect("everyone has a session");
        let (client, hello) = Client::v1(&second, session);
        assert_eq!(hello.count, one.sent, "{one:?} {report:?}");
        client.leave();
    }
    let late: u64 = seen.iter().map(|one| one.sent - one.last_count).sum();
    assert_eq!(report.late, late, "{report:?}");
}

#[test]
fn over_sqlite() {
    check(&Store::sqlite(), &[]);
}

#[test]
fn over_redis() {
    check(&Store::redis(), &[]);
}

#[test]
fn over_redis_relaxed() {
    check(&Store::redis(), &["--durability", "relaxed"]);
}

/// All goodbyes at once, and a drain too short for anybody: everything is late.
#[test]
fn without_any_drain() {
    let flags = [
        "--drain-timeout=501ms",
        "--drain-quiet=10ms",
        "--close-spread=0s",
    ];
    check(&Store::sqlite(), &flags);
    check(&Store::redis(), &flags);
}
