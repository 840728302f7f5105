//! Goal: stores of version 0.1.0 open, their sessions go on, and a process of 0.1.0 that goes on with
//! the same file neither acts for a session that a newer one has, nor loses what that has saved.
//! Method: a file and the statements of 0.1.0 (tests/fixtures/0.1.0), against today's stores. The
//! same for Redis is in `tests/redis_store/version_0_1_0.rs`, and for the spill in
//! `src/store/spill/tests/rollback.rs`.

#![expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test may fail wherever it likes"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, named_params, params};
use sundown::clock;
use sundown::engine::io::{
    Body, Claim, Commit, Grant, Mail, Mailbox, Now, Push, Pushed, SessionId, SessionKey, Snapshot,
    State, StoreCommand, StoreEvent,
};
use sundown::store::SessionStore;
use sundown::store::sqlite::SqliteStore;

const TTL: Duration = Duration::from_secs(3_600);

const KEY: SessionKey = SessionKey {
    slot: 3,
    generation: 4,
};

/// A process, with a store.
struct Process {
    store: SqliteStore,
    now: Now,
    poll: mio::Poll,
}

/// With the file at `path`, at a time when its rows have not expired.
fn open(path: &Path) -> Process {
    let poll = mio::Poll::new().unwrap();
    let waker = Arc::new(mio::Waker::new(poll.registry(), mio::Token(0)).unwrap());
    let now = Now {
        unix_ms: 4_000_000_000_000,
        ..clock::now()
    };
    let mut process = Process {
        store: SqliteStore::open(path, TTL, waker).unwrap(),
        now,
        poll,
    };
    process.store.flush(now);
    let first = process.answer();
    assert!(matches!(first, StoreEvent::Up), "{first:?}");
    process
}

impl Process {
    fn claim(&mut self, session: &str, token: u64) -> Grant {
        let session = id(session);
        let key = KEY;
        self.store.ask(StoreCommand::Claim(Claim {
            key,
            session,
            token,
        }));
        self.store.flush(self.now);
        match self.answer() {
            StoreEvent::Claimed { grant, .. } => grant,
            other => panic!("{other:?}"),
        }
    }

    /// Whether it was taken.
    fn commit(&mut self, session: &str, epoch: u64, snapshot: &Snapshot) -> bool {
        self.store.ask(StoreCommand::Commit(vec![Commit {
            key: KEY,
            session: id(session),
            epoch,
            snapshot: snapshot.clone(),
            mail: None,
        }]));
        self.store.flush(self.now);
        match self.answer() {
            StoreEvent::Committed { fenced, .. } => fenced.is_empty(),
            other => panic!("{other:?}"),
        }
    }

    /// Pushes, with this step, from "from" under epoch 9.
    fn push(&mut self, session: &str, step: u64) -> Pushed {
        let push = Push {
            step,
            to: id(session),
            body: "push".into(),
        };
        self.store.ask(StoreCommand::Commit(vec![Commit {
            key: KEY,
            session: id("from"),
            epoch: 9,
            snapshot: Snapshot::counted(step),
            mail: Some(Box::new(Mail {
                confirmed: 0,
                pushes: vec![push],
            })),
        }]));
        self.store.flush(self.now);
        match self.answer() {
            StoreEvent::Committed { pushed, .. } => pushed[0],
            other => panic!("{other:?}"),
        }
    }

    /// The next answer, and no news of other processes.
    fn answer(&mut self) -> StoreEvent {
        let mut events = mio::Events::with_capacity(4);
        loop {
            match self.store.poll_event() {
                Some(StoreEvent::TakenOver { .. }) => {}
                Some(event) => return event,
                None => {
                    let wait = Some(Duration::from_millis(1));
                    self.poll.poll(&mut events, wait).unwrap();
                    self.store.handle_ready(self.now);
                    self.store.flush(self.now);
                }
            }
        }
    }
}

/// A process of version 0.1.0 with the same file.
struct Former(Connection);

impl Former {
    fn open(path: &Path) -> Self {
        Self(Connection::open(path).unwrap())
    }

    /// Claims as it does, with what it has found.
    fn claim(&self, session: &str, epoch: u64, count: u64, found: bool) {
        let sql = include_str!("fixtures/0.1.0/claim.sql");
        let written = self.0.execute(
            sql,
            named_params! {
                ":id": session, ":epoch": epoch.cast_signed(), ":count": count.cast_signed(),
                ":expires_ms": 4_100_000_000_000_i64, ":token": 77, ":found": found,
                ":claim_seq": 99, ":node": 99,
            },
        );
        assert_eq!(written, Ok(1));
    }

    /// Whether it was taken.
    fn save(&self, session: &str, epoch: u64, count: u64) -> bool {
        let sql = include_str!("fixtures/0.1.0/save.sql");
        let (epoch, count) = (epoch.cast_signed(), count.cast_signed());
        let written = self
            .0
            .execute(sql, params![session, epoch, count, 4_100_000_000_000_i64]);
        written.unwrap() == 1
    }
}

fn id(session: &str) -> SessionId {
    SessionId::parse(session).unwrap()
}

fn state(bytes: &[u8]) -> State {
    State::new(bytes).unwrap()
}

/// A copy of a fixture.
fn copy(name: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/0.1.0");
    std::fs::copy(fixtures.join(name), &path).unwrap();
    (dir, path)
}

/// A record of 0.1.0, as it is claimed now.
fn granted(epoch: u64, count: u64, found: bool) -> Grant {
    let snapshot = Snapshot {
        incarnation: epoch,
        count,
        ..Snapshot::default()
    };
    Grant {
        epoch,
        found,
        snapshot,
        mailbox: Mailbox::default(),
    }
}

#[test]
fn a_store_is_opened_and_its_sessions_go_on() {
    let (_dir, path) = copy("store.sqlite");
    let mut process = open(&path);
    assert_eq!(process.claim("seven", 11), granted(3, 7, true));
    assert_eq!(process.claim("none", 12), granted(2, 0, true));
    assert_eq!(process.claim("made-again", 13), granted(7, 12, true));
    assert_eq!(process.claim("expired", 14), granted(2, 0, false));
    let held = Snapshot {
        incarnation: 3,
        step: 1,
        count: 8,
        state: state(b"state"),
    };
    assert!(process.commit("seven", 3, &held));
    drop(process);
    let mut process = open(&path);
    let grant = process.claim("seven", 15);
    let held = Snapshot { step: 0, ..held };
    assert_eq!((grant.epoch, grant.snapshot), (4, held));
}

#[test]
fn a_store_that_0_1_0_still_has_open_fences_both() {
    let (_dir, path) = copy("store.sqlite");
    let former = Former::open(&path);
    assert!(former.save("seven", 2, 8), "its statements are prepared");
    let mut process = open(&path);
    let grant = process.claim("seven", 11);
    assert_eq!(grant, granted(3, 8, true));
    assert!(!former.save("seven", 2, 9));
    let held = Snapshot {
        step: 5,
        count: 9,
        state: state(b"five"),
        ..grant.snapshot
    };
    assert!(process.commit("seven", 3, &held));
    former.claim("seven", 4, 9, true);
    assert!(!process.commit(
        "seven",
        3,
        &Snapshot {
            step: 6,
            ..held.clone()
        }
    ));
    assert!(former.save("seven", 4, 11));
    // The count is up, and nothing is lost.
    let next = process.claim("seven", 12);
    let held = Snapshot {
        step: 0,
        count: 11,
        ..held
    };
    assert_eq!((next.epoch, next.found, next.snapshot), (5, true, held));
    assert!(!former.save("seven", 4, 12));
}

#[test]
fn a_mailbox_outlives_what_0_1_0_does_to_its_session_and_ends_with_it() {
    let (_dir, path) = copy("store.sqlite");
    let former = Former::open(&path);
    let mut process = open(&path);
    let epoch = process.claim("seven", 11).epoch;
    assert_eq!(process.push("seven", 1), Pushed::Accepted(1));
    former.claim("seven", epoch + 1, 7, true);
    assert!(former.save("seven", epoch + 1, 8));
    assert_eq!(process.push("seven", 2), Pushed::Accepted(2));
    let both = Mailbox::new(2, ["push", "push"].map(Body::from));
    assert_eq!(process.claim("seven", 12).mailbox, both);
    // It has expired, and begins anew.
    former.claim("seven", epoch + 3, 0, false);
    assert_eq!(process.push("seven", 3), Pushed::Accepted(1));
    let one = Mailbox::new(1, [Body::from("push")]);
    assert_eq!(process.claim("seven", 13).mailbox, one);
    // It has expired, and is deleted.
    let deleted = former
        .0
        .execute("DELETE FROM session WHERE id = 'seven'", []);
    assert_eq!(deleted, Ok(1));
    let sql = "SELECT count(*) FROM mailbox";
    assert_eq!(former.0.query_row(sql, [], |row| row.get(0)), Ok(0));
}

#[test]
fn a_store_where_0_1_0_begins_an_expired_session_anew_drops_the_incarnation_and_the_state() {
    let (_dir, path) = copy("store.sqlite");
    let former = Former::open(&path);
    for claims in [1, 2] {
        let session = format!("claimed-{claims}");
        let mut process = open(&path);
        let first = process.claim(&session, 1);
        let held = Snapshot {
            step: 1,
            count: 30,
            state: state(b"old"),
            ..first.snapshot
        };
        assert!(process.commit(&session, first.epoch, &held));
        let mut epoch = first.epoch;
        for claim in 1..=claims {
            epoch += 1;
            former.claim(&session, epoch, 0, claim > 1);
        }
        assert!(former.save(&session, epoch, 2));
        let grant = process.claim(&session, 2);
        assert_eq!(grant, granted(epoch + 1, 2, true));
    }
}
