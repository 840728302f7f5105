//! What only shows from the inside: the sweep, the share of a turn, a store that goes down.

use super::sweep::SWEEP_PERIOD_BUSY;
use super::*;
use crate::clock;
use crate::engine::io::{
    Claim, Commit, Mail, Push, Pushed, Refused, SessionId, SessionKey, Snapshot,
};

const TTL: Duration = Duration::from_secs(100);

struct Fixture {
    store: SqliteStore,
    now: Now,
    dir: tempfile::TempDir,
    poll: mio::Poll,
}

fn fixture() -> Fixture {
    fixture_of(TTL)
}

fn fixture_of(ttl: Duration) -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let poll = mio::Poll::new().unwrap();
    let waker = Arc::new(mio::Waker::new(poll.registry(), mio::Token(0)).unwrap());
    let mut store = SqliteStore::open(&dir.path().join("s.db"), ttl, waker).unwrap();
    store.events.clear();
    // So that a test can write epochs down.
    let sql = "UPDATE meta SET epoch_floor = 0";
    store.conn.execute(sql, []).unwrap();
    Fixture {
        store,
        now: clock::now(),
        dir,
        poll,
    }
}

fn id(session: usize) -> SessionId {
    SessionId::parse(&format!("{session:0>100}")).unwrap()
}

fn commit(session: usize, epoch: u64) -> Commit {
    Commit {
        key: SessionKey {
            slot: 0,
            generation: 0,
        },
        session: id(session),
        epoch,
        snapshot: Snapshot::counted(1),
        mail: None,
    }
}

impl Fixture {
    /// Lets time pass, with turns in which nothing is asked.
    fn advance(&mut self, by: Duration) {
        let mut left = by;
        while !left.is_zero() {
            let step = left.min(TTL / 4);
            left -= step;
            self.now.instant += step;
            self.now.unix_ms += u64::try_from(step.as_millis()).unwrap();
            self.store.flush(self.now);
        }
    }

    fn save(&mut self, sessions: std::ops::Range<usize>, epoch: u64) {
        let commit = |i| commit(i, epoch);
        self.store
            .ask(StoreCommand::Commit(sessions.map(commit).collect()));
    }

    fn ask_claim(&mut self, session: usize) {
        let claim = Claim {
            key: SessionKey {
                slot: 0,
                generation: 0,
            },
            session: id(session),
            token: 1,
        };
        self.store.ask(StoreCommand::Claim(claim));
    }

    /// The next epoch, the count, and whether it was found.
    fn claim(&mut self, session: usize) -> (u64, u64, bool) {
        self.ask_claim(session);
        self.store.flush(self.now);
        match self.store.events.pop_back() {
            Some(StoreEvent::Claimed { grant, .. }) => {
                (grant.epoch, grant.snapshot.count, grant.found)
            }
            other => panic!("{other:?}"),
        }
    }

    fn turn(&mut self) -> Vec<StoreEvent> {
        self.store.handle_timeout(self.now);
        self.store.flush(self.now);
        self.store.events.drain(..).collect()
    }

    /// A checkpoint takes real time, and none by this clock.
    fn turn_until_event(&mut self) -> Vec<StoreEvent> {
        let mut ready = mio::Events::with_capacity(1);
        loop {
            let mut events = self.turn();
            events.retain(|event| !matches!(event, StoreEvent::Stalled | StoreEvent::Resumed));
            if !events.is_empty() {
                return events;
            }
            let wait = Some(Duration::from_millis(1));
            self.poll.poll(&mut ready, wait).unwrap();
            if !self.store.checkpointer.is_busy() {
                self.now.instant = self.store.poll_timeout().unwrap().max(self.now.instant);
            }
        }
    }

    /// Session 0, which was saved at step 1, pushes to session 1, for the time of this number. Session 2
    /// is saved. Returns whether the push was accepted; otherwise its commit was refused for want of
    /// room.
    fn push_beside_a_save(&mut self, number: u64) -> bool {
        let step = number + 1;
        let push = Push {
            step,
            to: id(1),
            body: vec![0; 4 * 1024].into(),
        };
        let mail = Mail {
            confirmed: 0,
            pushes: vec![push],
        };
        let (mut pushing, other) = (commit(0, 1), commit(2, 1));
        pushing.snapshot.step = step;
        pushing.mail = Some(Box::new(mail));
        self.store.ask(StoreCommand::Commit(vec![pushing, other]));
        self.store.flush(self.now);
        let events: Vec<_> = self.store.events.drain(..).collect();
        let (answer, refused) = events.split_last().unwrap();
        let StoreEvent::Committed { batch, pushed, .. } = answer else {
            panic!("{events:?}");
        };
        let last = batch.last().map(|commit| &commit.session);
        assert_eq!(last, Some(&id(2)));
        match refused {
            [] => assert_eq!(pushed, &[Pushed::Accepted(number)]),
            [
                StoreEvent::Refused {
                    request: Refused::Commit(commit),
                    reason,
                },
            ] => {
                assert_eq!((&commit.session, reason.as_str()), (&id(0), sessions::FULL));
                assert_eq!((batch.len(), pushed.len()), (1, 0));
            }
            other => panic!("{other:?}"),
        }
        refused.is_empty()
    }

    /// Session 1 has received so many pushes.
    fn confirm(&mut self, confirmed: u64) {
        let mut commit = commit(1, 1);
        let pushes = Vec::new();
        commit.mail = Some(Box::new(Mail { confirmed, pushes }));
        self.store.ask(StoreCommand::Commit(vec![commit]));
        self.store.flush(self.now);
        self.store.events.clear();
    }

    /// How often session 0 has pushed, by its step, and session 1 was pushed to.
    fn pushes(&self) -> [u64; 2] {
        let (_, step) = mailbox::held(&self.store.conn, &id(0)).unwrap().unwrap();
        let mailbox = mailbox::read(&self.store.conn, &id(1), self.now.unix_ms);
        let mailbox = mailbox.unwrap().unwrap();
        [step - 1, mailbox.sent()]
    }

    fn empty_wal(&self) {
        let sql = "PRAGMA wal_checkpoint(TRUNCATE)";
        let blocked = self.store.conn.query_row(sql, [], |row| row.get(0));
        assert_eq!(blocked, Ok(false));
    }

    fn rows(&self) -> usize {
        let sql = "SELECT count(*) FROM session";
        let rows: i64 = self
            .store
            .conn
            .query_row(sql, [], |row| row.get(0))
            .unwrap();
        usize::try_from(rows).unwrap()
    }
}

#[test]
fn the_sweep_deletes_what_has_expired_in_slices() {
    let mut f = fixture();
    f.save(0..250, 1);
    f.turn();
    f.advance(TTL / 2);
    f.save(0..30, 1);
    f.turn();
    f.advance(TTL / 2);
    let mut rows = Vec::new();
    for _ in 0..4 {
        f.turn();
        rows.push(f.rows());
        f.advance(SWEEP_PERIOD_BUSY);
    }
    // The first slice meets the 30 that were saved again.
    assert_eq!(rows, [180, 80, 30, 30]);
    f.advance(TTL);
    f.turn();
    assert_eq!(f.rows(), 0);
}

/// 6,000 new sessions a second, for three times as long as they are kept.
#[test]
fn the_sweep_keeps_up_with_new_sessions() {
    const TURN: Duration = Duration::from_millis(10);
    let mut f = fixture_of(Duration::from_secs(2));
    let mut ready = mio::Events::with_capacity(1);
    let (mut claimed, mut rows) = (0, 0);
    for turn in 0..600 {
        for _ in 0..60 {
            f.ask_claim(claimed);
            claimed += 1;
        }
        f.turn();
        while !f.store.asked.is_empty() {
            // A checkpoint, which takes real time, has the lock.
            f.poll
                .poll(&mut ready, Some(Duration::from_millis(1)))
                .unwrap();
            f.now.instant = f.store.poll_timeout().unwrap().max(f.now.instant);
            f.turn();
        }
        f.now.instant += TURN;
        f.now.unix_ms += 10;
        if turn == 250 {
            // The first look comes after a minute.
            f.store.sweep.hurry(f.now.instant);
        }
        if turn % 100 == 0 {
            rows = f.rows();
        }
    }
    // Once it has found the end, it rests for a second.
    assert!(rows < 20_000, "{rows} rows, and 12,000 are kept");
}

#[test]
fn whoever_still_saves_under_a_deleted_row_is_fenced_by_the_next_claim() {
    let mut f = fixture();
    f.save(0..1, 8);
    f.turn();
    f.advance(TTL);
    f.turn();
    assert_eq!(f.rows(), 0);
    assert_eq!(f.claim(0), (9, 0, false));
    f.save(0..1, 8);
    let events = f.turn();
    assert!(
        matches!(&events[..], [StoreEvent::Committed { fenced, .. }] if *fenced == [0]),
        "{events:?}"
    );
    // One that comes back after the floor has risen is not fenced by itself, only by a claim.
    f.advance(TTL);
    f.turn();
    f.save(0..1, 9);
    let events = f.turn();
    assert!(
        matches!(&events[..], [StoreEvent::Committed { fenced, .. }] if fenced.is_empty()),
        "{events:?}"
    );
    assert_eq!(f.claim(0), (10, 1, true));
}

#[test]
fn a_turn_takes_its_share_and_the_rest_comes_next() {
    let mut f = fixture();
    for i in 0..9 {
        f.save(i * 512..(i + 1) * 512, 1);
    }
    f.save(0..asked::ROWS_PER_TURN_MAX + 1, 1);
    let mut answers = Vec::new();
    while !f.store.asked.is_empty() {
        answers.push(f.turn().len());
        let due = f.store.poll_timeout().unwrap();
        assert_eq!(due <= f.now.instant, !f.store.asked.is_empty());
    }
    assert_eq!(answers, [4, 4, 1, 1]);
}

#[test]
fn a_full_disk_takes_the_store_down_until_there_is_room() {
    let mut f = fixture();
    f.save(0..10, 1);
    f.turn();
    let pages: i64 = {
        let conn = &f.store.conn;
        conn.pragma_query_value(None, "page_count", |row| row.get(0))
            .unwrap()
    };
    let set_max = |f: &Fixture, pages: i64| {
        let name = "max_page_count";
        let set = f
            .store
            .conn
            .pragma_update_and_check(None, name, pages, |row| row.get::<_, i64>(0));
        set.unwrap();
    };
    set_max(&f, pages);
    f.save(0..500, 1);
    f.store.ask(StoreCommand::Sync);
    let events = f.turn_until_event();
    let [StoreEvent::Down { reason }] = &events[..] else {
        panic!("{events:?}");
    };
    assert!(reason.starts_with("sqlite:/"), "{reason}");
    assert!(reason.ends_with("database or disk is full"), "{reason}");
    // All of the transaction is undone, and what is asked meanwhile is dropped.
    assert_eq!(f.rows(), 10);
    f.save(0..20, 1);
    assert!(f.store.asked.is_empty());
    // There is room for the probe, but not for the work: the pause grows from one fall to the next.
    let mut pauses = Vec::new();
    for _ in 0..7 {
        let probe_at = f.store.poll_timeout().unwrap();
        pauses.push((probe_at - f.now.instant).as_millis());
        f.now.instant = probe_at;
        let events = f.turn_until_event();
        assert!(matches!(&events[..], [StoreEvent::Up]), "{events:?}");
        // The sweep has found room on the real disk.
        set_max(&f, pages);
        f.save(0..500, 1);
        let events = f.turn_until_event();
        assert!(
            matches!(&events[..], [StoreEvent::Down { .. }]),
            "{events:?}"
        );
    }
    assert_eq!(pauses, [100, 200, 400, 800, 1_600, 2_000, 2_000]);
    set_max(&f, 1_000_000);
    f.now.instant = f.store.poll_timeout().unwrap();
    assert!(matches!(&f.turn_until_event()[..], [StoreEvent::Up]));
    f.save(0..500, 1);
    assert!(matches!(
        &f.turn_until_event()[..],
        [StoreEvent::Committed { .. }]
    ));
    assert_eq!(f.rows(), 500);
    assert_eq!(f.store.down_pause, DOWN_PAUSE_MIN);
}

/// A commit that pushes needs room in the file. It is refused whole, and what is beside it in the batch
/// is saved. It goes through later, when a mailbox has been emptied or the disk has room.
#[test]
fn on_a_full_disk_a_push_is_refused_with_all_of_its_commit() {
    let mut f = fixture();
    f.save(0..3, 1);
    f.turn();
    f.store.begin_full("a test", Room::Little, f.now);
    let mut pushed = 0;
    let mut push_until_refused = |f: &mut Fixture| {
        let before = pushed;
        while f.push_beside_a_save(pushed + 1) {
            pushed += 1;
        }
        // Of the one that was refused there is nothing.
        assert_eq!(f.pushes(), [pushed; 2]);
        pushed - before
    };
    // The mailbox itself has room for 64 of them.
    let first = push_until_refused(&mut f);
    assert!((2..64).contains(&first), "{first}");
    assert_eq!(push_until_refused(&mut f), 0);
    f.confirm(first);
    let second = push_until_refused(&mut f);
    assert!((2..=first).contains(&second), "{second}");
    // The sweep finds out that the real disk has room.
    for _ in 0..100 {
        f.now.instant = f.store.poll_timeout().unwrap().max(f.now.instant);
        f.turn();
    }
    assert!(!f.store.is_full);
    assert!(f.push_beside_a_save(first + second + 1));
}

#[test]
fn a_sync_from_before_the_fall_is_not_answered_after_it() {
    let mut f = fixture();
    f.save(0..10, 1);
    f.store.ask(StoreCommand::Sync);
    f.store.flush(f.now);
    // However fast the disk is, nobody has asked yet whether it is done.
    f.store.go_down(&rusqlite::Error::InvalidQuery, f.now);
    f.store.events.clear();
    let mut ready = mio::Events::with_capacity(1);
    while ready.is_empty() {
        f.poll.poll(&mut ready, None).unwrap();
    }
    f.store.handle_ready(f.now);
    assert!(f.store.events.is_empty());
}

#[test]
fn a_drop_at_the_end_waits_until_the_wal_is_gone() {
    for _ in 0..10 {
        let mut f = fixture();
        f.save(0..10, 1);
        f.turn();
        f.store
            .handle_end(clock::now().instant + Duration::from_secs(60));
        drop(f.store);
        let files = std::fs::read_dir(f.dir.path()).unwrap();
        let names: Vec<_> = files.map(|file| file.unwrap().file_name()).collect();
        assert_eq!(names, ["s.db"]);
    }
}

#[test]
fn a_save_touches_no_index() {
    let f = fixture();
    let sql = "EXPLAIN INSERT INTO session
               SELECT 'a', 1, 1, 1, 1, NULL, 0, 0, 0, 0, 0, 0, x'', 0, 0, 0
               WHERE true
               ON CONFLICT (id) DO UPDATE SET count = 1, expires_ms = 2 WHERE true";
    let count = |sql: &str| {
        let mut statement = f.store.conn.prepare(sql).unwrap();
        let ops = statement
            .query_map([], |row| row.get::<_, String>(1))
            .unwrap();
        ops.filter(|op| op.as_ref().is_ok_and(|op| op == "IdxInsert"))
            .count()
    };
    // Three to insert a row (the table and two indexes), one to change it.
    assert_eq!(count(sql), 4);
}

#[test]
fn a_sync_finds_out_that_an_older_file_was_written_over_this_one() {
    let mut f = fixture();
    let (path, backup) = (f.dir.path().join("s.db"), f.dir.path().join("backup.db"));
    f.claim(1);
    f.empty_wal();
    std::fs::copy(&path, &backup).unwrap();
    f.claim(2);
    f.empty_wal();
    f.store.ask(StoreCommand::Sync);
    assert!(matches!(f.turn_until_event()[..], [StoreEvent::Synced]));
    std::fs::copy(&backup, &path).unwrap();
    f.store.ask(StoreCommand::Sync);
    let events = f.turn_until_event();
    assert!(
        matches!(
            events[..],
            [StoreEvent::Lost { .. }, StoreEvent::Down { .. }]
        ),
        "{events:?}"
    );
}
