//! A process of version 0.1.0 with the same file, after a rollback: of what it does not know it takes
//! no half, and what it leaves is replayed or dropped as a whole. Its statements are in
//! tests/fixtures/0.1.0.

use rusqlite::Connection;

use super::*;
use crate::engine::io::{Body, Grant, Mail, Mailbox, Push, ReadMailbox};

/// A process of version 0.1.0.
struct Former(Connection);

impl Former {
    fn open(path: &Path) -> Self {
        Self(Connection::open(path).unwrap())
    }

    /// Replays all rows that it knows of: returns their counts, and deletes them.
    fn replay(&self) -> String {
        let rows = include_str!("../../../../tests/fixtures/0.1.0/spill_rows.sql");
        let mut rows = self.0.prepare(rows).unwrap();
        let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
        let rows = rows.query_map(("", 512), row).unwrap();
        let rows: Vec<(String, i64, i64)> = rows.collect::<Result<_, _>>().unwrap();
        let remove = include_str!("../../../../tests/fixtures/0.1.0/spill_remove.sql");
        for row in &rows {
            self.0.execute(remove, (&row.0, row.1, row.2)).unwrap();
        }
        let words = rows.iter().map(|(id, e, n)| format!("{id}:{e}={n}"));
        words.collect::<Vec<_>>().join(" ")
    }

    fn spill(&self, id: &str, epoch: i64, count: i64) {
        let put = include_str!("../../../../tests/fixtures/0.1.0/spill_put.sql");
        let put = self.0.execute(put, (id, epoch, count, i64::MAX));
        assert_eq!(put, Ok(1));
    }
}

/// A row of this step, whose count is as high.
fn row(id: &str, epoch: u64, step: u64, state: &str, mail: Option<Mail>) -> Commit {
    Commit {
        key: NOBODY,
        snapshot: Snapshot {
            incarnation: epoch,
            step,
            count: step,
            state: State::new(state.as_bytes()).unwrap(),
        },
        mail: mail.map(Box::new),
        ..commit(id, epoch, 0)
    }
}

fn mail(confirmed: u64, pushes: u64) -> Mail {
    let push = |step| Push {
        step,
        to: SessionId::parse("to").unwrap(),
        body: "push".into(),
    };
    let pushes = (1..=pushes).map(push).collect();
    Mail { confirmed, pushes }
}

/// What the next process replays, all of it taken.
#[track_caller]
fn replayed(path: &Path) -> Vec<Commit> {
    let mut rig = rig(path);
    let mut rows = Vec::new();
    rig.hear(StoreEvent::Up);
    while rig.is_asked() {
        rows.extend(rig.fake.0.lock().unwrap().saves.front().unwrap().clone());
        rig.answer(vec![]);
        rig.turn();
    }
    assert_eq!(rig.spilling.finish(soon()), Some(0));
    rows
}

#[test]
fn rows_that_are_more_than_a_count_are_none_of_0_1_0_s() {
    let (_dir, path) = spill_file();
    let whole = [
        row("confirms", 5, 7, "", Some(mail(1, 0))),
        row("keeps", 5, 7, "state", Some(mail(0, 0))),
        row("pushes", 5, 7, "", Some(mail(0, 1))),
    ];
    let mut first = rig(&path);
    let counts = row("counts", 5, 7, "", Some(mail(0, 0)));
    first.spilling.put([&whole[..], &[counts]].concat());
    first.turn();
    drop(first);
    let former = Former::open(&path);
    assert_eq!(former.replay(), "counts:5=7");
    assert_eq!(former.replay(), "");
    let mut expected = whole;
    expected[1].mail = Some(Box::default());
    assert_eq!(replayed(&path), expected);
}

#[test]
fn a_state_that_was_taken_away_is_more_than_a_count() {
    let (_dir, path) = spill_file();
    let grant = || StoreEvent::Claimed {
        key: NOBODY,
        grant: Grant {
            epoch: 5,
            found: true,
            snapshot: row("a", 5, 0, "state", None).snapshot,
            mailbox: Mailbox::default(),
        },
    };
    for is_granted in [true, false] {
        let mut rig = rig(&path);
        let plain = |step| vec![row("a", 5, step, "", None)];
        rig.spilling.put(plain(1));
        rig.turn();
        assert_eq!(Former::open(&path).replay(), "a:5=1");
        if is_granted {
            rig.fake.0.lock().unwrap().events.push_back(grant());
            assert!(matches!(
                rig.spilling.poll_event(),
                Some(StoreEvent::Claimed { .. })
            ));
        } else {
            let batch = vec![row("b", 5, 1, "", None), row("a", 5, 2, "state", None)];
            rig.spilling.ask(StoreCommand::Commit(batch));
        }
        rig.spilling.put(plain(3));
        rig.turn();
        drop(rig);
        assert_eq!(Former::open(&path).replay(), "");
        assert_eq!(replayed(&path), plain(3));
    }
}

#[test]
fn of_two_rows_for_a_session_the_newer_is_kept_whatever_is_in_it() {
    #[track_caller]
    fn check(rows: &[Commit], expected: &[Commit]) {
        let (_dir, path) = spill_file();
        let mut rig = rig(&path);
        for row in rows {
            rig.spilling.put(vec![row.clone()]);
            rig.turn();
        }
        let waiting = Former::open(&path).0.query_row(
            "SELECT (SELECT count(*) FROM spilled) + (SELECT count(*) FROM spilled_whole)",
            [],
            |row| row.get::<_, i64>(0),
        );
        assert_eq!(waiting, Ok(i64::try_from(expected.len()).unwrap()));
        drop(rig);
        assert_eq!(replayed(&path), expected);
    }
    let count = |epoch, step| row("a", epoch, step, "", None);
    let push = |epoch, step| row("a", epoch, step, "", Some(mail(0, 1)));
    check(&[count(5, 7), push(5, 8)], &[push(5, 8)]);
    check(&[push(5, 7), count(5, 8)], &[count(5, 8)]);
    check(&[push(5, 7), count(6, 1)], &[count(6, 1)]);
    check(&[count(5, 7), push(6, 1)], &[push(6, 1)]);
    // The store's fence decides, or its step.
    check(&[push(6, 1), count(5, 7)], &[count(5, 7), push(6, 1)]);
    check(&[push(5, 8), count(5, 7)], &[count(5, 7), push(5, 8)]);
}

#[test]
fn what_0_1_0_has_spilled_of_the_same_session_is_replayed_too() {
    let (_dir, path) = spill_file();
    let mut first = rig(&path);
    first.spilling.put(vec![row("a", 5, 7, "state", None)]);
    first.turn();
    drop(first);
    Former::open(&path).spill("a", 6, 9);
    let rows = replayed(&path);
    assert_eq!(commits_in_words(&rows), "a:6=9 a:5=7");
}

/// A file of which the first development versions have made one table.
#[test]
fn rows_of_one_table_are_replayed_whole() {
    let (_dir, path) = spill_file();
    drop(rig(&path));
    let rows = [
        row("a", 5, 7, "state", Some(mail(0, 0))),
        row("b", 5, 7, "", Some(mail(2, 3))),
    ];
    let other = Connection::open(&path).unwrap();
    other.execute_batch("DROP TABLE spilled_whole").unwrap();
    for row in &rows {
        let mail = row.mail.as_deref().map(mail::encode);
        let put = other.execute(
            "INSERT INTO spilled (id, epoch, count, incarnation, step, state, mail)
             VALUES (?1, 5, 7, 5, 7, ?2, ?3)",
            (row.session.as_str(), row.snapshot.state.as_bytes(), mail),
        );
        assert_eq!(put, Ok(1));
    }
    assert_eq!(replayed(&path), rows);
}

/// While 0.1.0 serves, it claims the session, or does not.
#[test]
fn a_row_that_0_1_0_has_left_is_in_the_store_whole_or_not_at_all() {
    for is_claimed in [false, true] {
        let (_dir, path) = spill_file();
        let (_poll, waker) = waker();
        let now = clock::now();
        let open = |store: MemoryStore| {
            let store = OpenedStore::Alone(Box::new(store));
            SpillingStore::open(&path, store, TTL, Arc::clone(&waker), now).unwrap()
        };
        let mut memory = MemoryStore::new(TTL);
        let claim = |session: &str, token| {
            StoreCommand::Claim(Claim {
                key: NOBODY,
                session: SessionId::parse(session).unwrap(),
                token,
            })
        };
        memory.ask(claim("a", 1));
        memory.ask(claim("to", 1));
        {
            let mut leaving = open(MemoryStore::new(TTL));
            leaving.put(vec![row("a", 1, 3, "state", Some(mail(0, 2)))]);
            leaving.flush(now);
        }
        assert_eq!(Former::open(&path).replay(), "");
        if is_claimed {
            memory.ask(claim("a", 2));
        }
        memory.flush(now);
        let mut spilling = open(memory);
        for _ in 0..4 {
            while spilling.poll_event().is_some() {}
            spilling.flush(now);
        }
        let session = SessionId::parse("to").unwrap();
        let read = ReadMailbox {
            key: NOBODY,
            session,
        };
        spilling.ask(claim("a", 3));
        spilling.ask(StoreCommand::Read(read));
        spilling.flush(now);
        let mut answers = std::iter::from_fn(|| spilling.poll_event());
        let Some(StoreEvent::Claimed { grant, .. }) = answers.next() else {
            panic!("the claim is answered");
        };
        let Some(StoreEvent::Mailbox { mailbox, .. }) = answers.next() else {
            panic!("the read is answered");
        };
        let (held, pushes) = (&grant.snapshot, ["push", "push"].map(Body::from));
        if is_claimed {
            assert!(held.is_blank());
            assert_eq!(mailbox, Mailbox::default());
        } else {
            assert_eq!((held.count, held.state.as_bytes()), (3, &b"state"[..]));
            assert_eq!(mailbox, Mailbox::new(2, pushes));
        }
    }
}
