//! Goal: a store on Postgres keeps every promise of a store, and its sessions go on at the exact
//! count and state when the server is killed, and when the database goes away.
//! Method: a Postgres of Debian's that each test starts in a directory of its own, the promises that
//! the stores of the crate are held to, and the built example with a client of the crate
//! `tungstenite`.

#![expect(clippy::expect_used, reason = "a test may fail wherever it likes")]

mod support;

#[macro_use]
#[path = "../../../tests/support/promises.rs"]
mod promises;

use std::thread;

use postgres::NoTls;
use postgres_store::PostgresStore;
use sundown::SessionId;
use sundown::store::expiry::Times;
use sundown::store::{Claim, Commit, Mail, Push, Pushed, SessionKey, Snapshot};
use sundown::{BlockingStore as _, Threaded};
use support::{Client, Postgres, Service};

macro_rules! hold_all {
    ($($name:ident)*) => {
        #[test]
        fn every_promise_of_a_store_is_kept() {
            let postgres = Postgres::start();
            $(
                println!("{}", stringify!($name));
                postgres.drop_tables();
                let config = postgres.config();
                promises::hold(promises::$name, "postgres", true, move |parts| {
                    let config = config.clone();
                    let connect = move || PostgresStore::connect(&config);
                    Box::new(Threaded::new(parts, "postgres", connect).expect("a thread"))
                });
            )*
        }
    };
}
all_promises!(hold_all);

const KILLS: u64 = 8;
/// Acknowledged between two of them, and under way when the next comes.
const STEP: u64 = 100;

/// Waits until the server has acknowledged so many. The n-th message is n, and the state is the sum
/// of all: a reply that is right shows that none was lost or applied twice.
fn follow(client: &mut Client, until: u64) {
    while client.count < until {
        let next = client.count + 1;
        assert_eq!(client.next_sum(), next * (next + 1) / 2);
    }
}

#[test]
fn a_server_that_is_killed_loses_no_message_and_counts_none_twice() {
    let postgres = Postgres::start();
    let mut possible = 0..=0;
    for _ in 0..KILLS {
        let service = Service::start(&postgres);
        let mut client = Client::connect(&service, "meter");
        assert!(
            possible.contains(&client.count),
            "{}, not in {possible:?}",
            client.count
        );
        let until = client.count + STEP;
        client.send(until + STEP);
        follow(&mut client, until);
        possible = client.count..=client.sent;
        service.kill();
    }
    let service = Service::start(&postgres);
    let mut client = Client::connect(&service, "meter");
    assert!(
        possible.contains(&client.count),
        "{}, not in {possible:?}",
        client.count
    );
    let last = client.count + 1;
    client.send(last);
    follow(&mut client, last);
    assert!(service.stop(client).success());
}

#[test]
fn a_database_that_goes_away_and_comes_back_has_every_session() {
    let mut postgres = Postgres::start();
    let service = Service::start(&postgres);
    let mut client = Client::connect(&service, "meter");
    client.send(10);
    follow(&mut client, 10);
    postgres.stop();
    // Processed, and not acknowledged.
    client.send(20);
    postgres.start_again();
    follow(&mut client, 20);
    assert!(service.stop(client).success());
}

#[test]
fn a_call_that_hangs_holds_up_no_exit() {
    let postgres = Postgres::start();
    let service = Service::start(&postgres);
    let mut client = Client::connect(&service, "meter");
    client.send(10);
    follow(&mut client, 10);
    let mut holding = postgres.config().connect(NoTls).expect("a connection");
    let mut hold = holding.transaction().expect("a transaction");
    let sessions = "LOCK TABLE sundown_sessions IN ACCESS EXCLUSIVE MODE";
    hold.batch_execute(sessions).expect("a table");
    client.send(20);
    postgres.wait_for_waiting(1);
    // Not all is safe, and it says so.
    assert_eq!(service.stop(client).code(), Some(1));
    hold.commit().expect("a lock to release");
}

const TIMES: Times = Times {
    expires_ms: 1_000,
    judged_ms: 0,
};

fn id(session: &str) -> SessionId {
    SessionId::parse(session).expect("an id")
}

/// A commit under epoch 1, with one push to each of these.
fn pushing(session: &str, step: u64, to: &[&str]) -> Commit {
    let push = |to: &&str| Push {
        step,
        to: id(to),
        body: "body".into(),
    };
    Commit {
        key: SessionKey {
            slot: 0,
            generation: 0,
        },
        session: id(session),
        epoch: 1,
        snapshot: Snapshot::counted(step),
        mail: Some(Box::new(Mail {
            confirmed: u64::MAX >> 1,
            pushes: to.iter().map(push).collect(),
        })),
    }
}

/// Rows that were locked in the order in which they are written would make a circle at once.
#[test]
fn nodes_that_push_crosswise_do_not_wait_for_each_other() {
    let postgres = Postgres::start();
    let connect = || PostgresStore::connect(&postgres.config()).expect("a connection");
    let mut first = connect();
    for session in ["a", "b", "c", "d"] {
        first
            .commit(&[pushing(session, 1, &[])], TIMES)
            .expect("a row");
    }
    let ways = [["a", "d", "c"], ["d", "a", "b"], ["c", "b", "d"]];
    thread::scope(|scope| {
        for [session, to, other] in ways {
            let mut store = connect();
            scope.spawn(move || {
                for step in 2..=200 {
                    let batch = [pushing(session, step, &[to, other, session])];
                    let committed = store.commit(&batch, TIMES).expect("no deadlock");
                    let is_full = |outcome: &Pushed| matches!(outcome, Pushed::Refused(_));
                    assert_eq!(committed.pushed.len(), 3);
                    assert!(!committed.pushed.iter().all(is_full));
                }
            });
        }
    });
}

#[test]
fn a_node_is_told_of_pushes_by_another() {
    let postgres = Postgres::start();
    let connect = || PostgresStore::connect(&postgres.config()).expect("a connection");
    let (mut owner, mut other) = (connect(), connect());
    let session = pushing("owned", 1, &[]);
    owner
        .commit(std::slice::from_ref(&session), TIMES)
        .expect("a row");
    assert_eq!(owner.news(), Ok(Vec::new()));
    let committed = other.commit(&[pushing("other", 1, &["owned", "owned"])], TIMES);
    let committed = committed.expect("two pushes");
    assert_eq!(committed.pushed, [1, 2].map(Pushed::Accepted));
    owner.maintain(TIMES).expect("a connection");
    let news = owner.news().expect("a connection");
    assert_eq!(news.last(), Some(&(id("owned"), 2)));
    assert_eq!(owner.news(), Ok(Vec::new()));
    // What was missed is found with the next commit, of either kind.
    let plain = Commit {
        mail: None,
        ..session.clone()
    };
    for commit in [plain, session] {
        let committed = connect().commit(&[commit], TIMES).expect("a row");
        assert_eq!(committed.mail, [(id("owned"), 2)]);
    }
}

/// The claim finds the row that the sweep deletes, and must not read the floor before the sweep has
/// raised it.
#[test]
fn a_claim_beside_a_sweep_gets_no_epoch_that_the_session_had() {
    let postgres = Postgres::start();
    let connect = || PostgresStore::connect(&postgres.config()).expect("a connection");
    let (mut store, mut sweeping, mut claiming) = (connect(), connect(), connect());
    let claim = |token| Claim {
        key: SessionKey {
            slot: 0,
            generation: 0,
        },
        session: SessionId::parse("a").expect("an id"),
        token,
    };
    let (expires_ms, judged_ms) = (1_000, 0);
    let times = Times {
        expires_ms,
        judged_ms,
    };
    let granted =
        (1..=5).map(|token| store.claim(&[claim(token)], times).expect("a grant")[0].epoch);
    assert_eq!(granted.last(), Some(5));

    let (expires_ms, judged_ms) = (3_000, 2_000);
    let times = Times {
        expires_ms,
        judged_ms,
    };
    let mut holding = postgres.config().connect(NoTls).expect("a connection");
    let mut hold = holding.transaction().expect("a transaction");
    let floor = "SELECT FROM sundown_floor FOR UPDATE";
    hold.batch_execute(floor).expect("a row");
    // The sweep has deleted the row, and waits for the floor; then the claim waits for the sweep.
    let sweep = thread::spawn(move || sweeping.maintain(times));
    postgres.wait_for_waiting(1);
    let claim = thread::spawn(move || claiming.claim(&[claim(6)], times));
    postgres.wait_for_waiting(2);
    hold.commit().expect("a lock to release");
    sweep.join().expect("no panic").expect("a sweep");
    let grants = claim.join().expect("no panic").expect("a grant");
    assert_eq!((grants[0].epoch, grants[0].found), (6, false));
}
