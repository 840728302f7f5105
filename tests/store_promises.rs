//! Goal: the stores in this process keep the same promises, so that the engine need not know which
//! one it has; so can one from outside of the crate. Method: every behaviour is checked on each of
//! them, through the interface alone, with a clock that the test moves.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test may fail wherever it likes"
)]

use std::sync::Arc;
use std::time::Duration;

use sundown::clock;
use sundown::engine::io::{
    Claim, Commit, Grant, Now, SessionId, SessionKey, Snapshot, State, StoreCommand, StoreEvent,
};
use sundown::store::SessionStore;
use sundown::store::memory::MemoryStore;
use sundown::store::sqlite::SqliteStore;

#[path = "support/journal.rs"]
mod journal;
#[path = "support/steps.rs"]
mod steps;

use journal::Journal;
use steps::Promising;

const TTL: Duration = Duration::from_secs(3_600);

struct Fixture {
    name: &'static str,
    store: Box<dyn SessionStore>,
    now: Now,
    poll: mio::Poll,
    waker: Arc<mio::Waker>,
    /// Of the store's files; lives as long as they.
    dir: tempfile::TempDir,
}

/// Runs a test on a new store of each kind, after its first `Up`.
fn check(test: impl Fn(&mut Fixture)) {
    for name in ["memory", "sqlite", "journal"] {
        let poll = mio::Poll::new().unwrap();
        let waker = Arc::new(mio::Waker::new(poll.registry(), mio::Token(0)).unwrap());
        let dir = tempfile::tempdir().unwrap();
        let mut fixture = Fixture {
            name,
            store: open(name, &dir, &waker),
            now: clock::now(),
            poll,
            waker,
            dir,
        };
        fixture.wait_up();
        test(&mut fixture);
        assert!(fixture.store.poll_event().is_none(), "{name}: too many");
    }
}

fn open(name: &str, dir: &tempfile::TempDir, waker: &Arc<mio::Waker>) -> Box<dyn SessionStore> {
    let (path, waker) = (dir.path().join("sessions"), Arc::clone(waker));
    match name {
        "memory" => Box::new(MemoryStore::new(TTL)),
        "sqlite" => Box::new(SqliteStore::open(&path, TTL, waker).unwrap()),
        _ => Box::new(Journal::open(&path, TTL, waker).unwrap()),
    }
}

impl Promising for Fixture {
    fn grant(&mut self, session: &str, token: u64) -> Grant {
        self.store
            .ask(StoreCommand::Claim(claim(0, session, token)));
        self.store.flush(self.now);
        match self.event() {
            StoreEvent::Claimed { grant, .. } => grant,
            other => panic!("{}: {other:?}", self.name),
        }
    }

    fn commit(&mut self, session: &str, epoch: u64, snapshot: &Snapshot) -> bool {
        let commit = Commit {
            key: key(0),
            session: SessionId::parse(session).unwrap(),
            epoch,
            snapshot: snapshot.clone(),
        };
        self.store.ask(StoreCommand::Commit(vec![commit.clone()]));
        self.store.flush(self.now);
        match self.event() {
            StoreEvent::Committed { batch, fenced } => {
                assert_eq!(batch, [commit]);
                fenced.is_empty()
            }
            other => panic!("{}: {other:?}", self.name),
        }
    }

    fn reopen(&mut self) {
        if self.name != "memory" {
            self.store = open(self.name, &self.dir, &self.waker);
            self.wait_up();
        }
    }
}

impl Fixture {
    #[track_caller]
    fn wait_up(&mut self) {
        let first = self.event();
        assert!(matches!(first, StoreEvent::Up), "{}: {first:?}", self.name);
    }

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

    /// The same with all that a turn does, the sweep among it.
    fn turns(&mut self, by: Duration) {
        self.store.handle_timeout(self.now);
        self.advance(by);
        self.store.handle_timeout(self.now);
        self.store.flush(self.now);
    }

    /// Epoch, count, found.
    fn claim(&mut self, session: &str, token: u64) -> (u64, u64, bool) {
        let grant = self.grant(session, token);
        (grant.epoch, grant.snapshot.count, grant.found)
    }

    /// Whether it was taken.
    fn save(&mut self, session: &str, epoch: u64, count: u64) -> bool {
        self.commit(session, epoch, &Snapshot::counted(count))
    }

    /// The next event, even if a thread has to bring it.
    fn event(&mut self) -> StoreEvent {
        let mut events = mio::Events::with_capacity(4);
        loop {
            if let Some(event) = self.store.poll_event() {
                return event;
            }
            let patience = Some(Duration::from_secs(60));
            self.poll.poll(&mut events, patience).unwrap();
            assert!(!events.is_empty(), "{}: no answer", self.name);
            self.store.handle_ready(self.now);
        }
    }
}

fn key(slot: u32) -> SessionKey {
    SessionKey {
        slot,
        generation: 7,
    }
}

fn claim(slot: u32, session: &str, token: u64) -> Claim {
    Claim {
        key: key(slot),
        session: SessionId::parse(session).unwrap(),
        token,
    }
}

fn commit(slot: u32, session: &str, epoch: u64, count: u64) -> Commit {
    Commit {
        key: key(slot),
        session: SessionId::parse(session).unwrap(),
        epoch,
        snapshot: Snapshot::counted(count),
    }
}

#[test]
fn what_is_promised_of_incarnation_step_and_state_holds_and_outlives_a_process() {
    check(steps::keeps_all);
}

#[test]
fn an_expired_session_begins_anew() {
    check(|f| {
        let first = f.grant("a", 1);
        let state = State::new(b"state").unwrap();
        let held = Snapshot {
            step: 1,
            count: 3,
            state,
            ..first.snapshot
        };
        assert!(f.commit("a", first.epoch, &held));
        f.advance(TTL);
        let grant = f.grant("a", 2);
        let begun = Snapshot {
            incarnation: grant.epoch,
            ..Snapshot::default()
        };
        assert_eq!((grant.found, grant.snapshot), (false, begun), "{}", f.name);
        assert_ne!(grant.epoch, first.epoch);
    });
}

#[test]
fn every_claim_gives_the_next_epoch_and_the_saved_count() {
    check(|f| {
        assert_eq!(f.claim("a", 1), (1, 0, false));
        assert!(f.save("a", 1, 17));
        assert_eq!(f.claim("a", 2), (2, 17, true));
        assert_eq!(f.claim("a", 3), (3, 17, true));
        assert_eq!(f.claim("b", 4), (1, 0, false));
    });
}

#[test]
fn the_same_token_gets_the_same_answer_again() {
    check(|f| {
        assert_eq!(f.claim("a", u64::MAX), (1, 0, false));
        assert_eq!(f.claim("a", u64::MAX), (1, 0, false));
        assert!(f.save("a", 1, 5));
        assert_eq!(f.claim("a", 0), (2, 5, true));
        assert_eq!(f.claim("a", 0), (2, 5, true));
        assert!(f.save("a", 2, 9));
        // With what is held by then.
        assert_eq!(f.claim("a", 0), (2, 9, true));
        assert!(f.save("a", 2, 9));
        assert_eq!(f.claim("a", 1), (3, 9, true));
    });
}

#[test]
fn a_save_under_an_older_epoch_is_refused() {
    check(|f| {
        f.claim("a", 1);
        assert!(f.save("a", 1, 5));
        f.claim("a", 2);
        assert!(!f.save("a", 1, 6));
        assert!(f.save("a", 2, 6));
        assert!(!f.save("a", 1, 100));
        assert_eq!(f.claim("a", 3), (3, 6, true));
    });
}

#[test]
fn within_an_epoch_the_count_never_goes_down() {
    check(|f| {
        f.claim("a", 1);
        for count in [5, 9, 7, 0] {
            assert!(f.save("a", 1, count));
        }
        assert_eq!(f.claim("a", 2), (2, 9, true));
    });
}

#[test]
fn a_save_under_a_newer_epoch_starts_it_with_its_count() {
    check(|f| {
        f.claim("a", 1);
        assert!(f.save("a", 1, 9));
        assert!(f.save("a", 4, 3));
        assert!(!f.save("a", 1, 10));
        // The claim of the epoch before is not repeated any more.
        assert_eq!(f.claim("a", 1), (5, 3, true));
    });
}

#[test]
fn a_save_makes_a_missing_record_again() {
    check(|f| {
        assert!(f.save("a", 6, 12));
        assert!(!f.save("a", 5, 13));
        assert_eq!(f.claim("a", 1), (7, 12, true));
    });
}

#[test]
fn an_expired_session_is_new_but_its_epoch_goes_on() {
    check(|f| {
        f.claim("a", 1);
        assert!(f.save("a", 1, 9));
        f.advance(TTL);
        assert_eq!(f.claim("a", 2), (2, 0, false));
        assert!(!f.save("a", 1, 10));
    });
}

#[test]
fn an_expired_session_is_claimed_above_every_epoch_that_it_had() {
    check(|f| {
        for deleted in [false, true] {
            let former = (1..=5).map(|token| f.claim("a", token).0).max().unwrap();
            assert!(f.save("a", former, 9));
            f.advance(TTL);
            if deleted {
                f.store.handle_timeout(f.now);
                f.store.flush(f.now);
            }
            let (epoch, count, found) = f.claim("a", 6);
            assert!(epoch > former, "{}: {epoch} after {former}", f.name);
            assert_eq!((count, found), (0, false), "{}", f.name);
            // Whoever slept over it is refused, and the newcomer is not.
            assert!(!f.save("a", former, 10));
            assert!(f.save("a", epoch, 1));
        }
    });
}

#[test]
fn a_save_puts_the_expiry_off() {
    check(|f| {
        f.claim("a", 1);
        f.advance(TTL / 2);
        assert!(f.save("a", 1, 9));
        f.advance(TTL / 2);
        assert_eq!(f.claim("a", 2), (2, 9, true));
    });
}

#[test]
fn answers_come_in_the_order_of_the_requests() {
    check(|f| {
        f.store.ask(StoreCommand::Claim(claim(1, "a", 1)));
        f.store.ask(StoreCommand::Commit(vec![
            commit(1, "a", 1, 4),
            commit(2, "b", 3, 5),
        ]));
        f.store.ask(StoreCommand::Claim(claim(3, "a", 2)));
        // In one batch, the first of "a" is refused, the second is not.
        f.store.ask(StoreCommand::Commit(vec![
            commit(1, "a", 1, 6),
            commit(3, "a", 2, 7),
            commit(2, "b", 2, 9),
        ]));
        f.store.ask(StoreCommand::Commit(Vec::new()));
        f.store.ask(StoreCommand::Claim(claim(4, "b", 3)));
        f.store.flush(f.now);
        let mut seen = Vec::new();
        for _ in 0..6 {
            let event = f.event();
            if let StoreEvent::Claimed { key, grant } = event {
                let (epoch, count) = (grant.epoch, grant.snapshot.count);
                seen.push(format!(
                    "claim {} {epoch} {count} {}",
                    key.slot, grant.found
                ));
            } else if let StoreEvent::Committed { batch, fenced } = event {
                let slots: Vec<_> = batch.iter().map(|commit| commit.key.slot).collect();
                seen.push(format!("save {slots:?} {fenced:?}"));
            } else {
                seen.push(format!("{event:?}"));
            }
        }
        let expected = [
            "claim 1 1 0 false",
            "save [1, 2] []",
            "claim 3 2 4 true",
            "save [1, 3, 2] [0, 2]",
            "save [] []",
            "claim 4 4 5 true",
        ];
        assert_eq!(seen, expected, "{}", f.name);
    });
}

#[test]
fn a_sync_is_answered_after_the_saves_before_it() {
    check(|f| {
        f.claim("a", 1);
        f.store
            .ask(StoreCommand::Commit(vec![commit(0, "a", 1, 4)]));
        f.store.ask(StoreCommand::Sync);
        f.store.ask(StoreCommand::Sync);
        f.store.flush(f.now);
        assert!(matches!(f.event(), StoreEvent::Committed { .. }));
        assert!(matches!(f.event(), StoreEvent::Synced));
        assert!(matches!(f.event(), StoreEvent::Synced));
    });
}

#[test]
fn ids_of_every_shape_are_kept_apart() {
    let longest = "x".repeat(SessionId::LEN_MAX);
    let ids = ["a", "A", "a.", "~", "-", "0", "00", &longest, &longest[1..]];
    check(|f| {
        for (i, id) in (1..).zip(ids) {
            assert!(f.save(id, i, i * 10));
        }
        for (i, id) in (1..).zip(ids) {
            assert_eq!(f.claim(id, 1), (i + 1, i * 10, true));
        }
    });
}

/// What is open is renewed every quarter of the time to live, by the monotonic clock.
#[test]
fn a_wall_clock_that_steps_takes_no_session_that_is_renewed() {
    check(|f| {
        let (epoch, _, _) = f.claim("open", 1);
        assert!(f.save("open", epoch, 7));
        // A board gets its time: from 1970, so to speak.
        f.now.unix_ms += u64::try_from(100 * TTL.as_millis()).unwrap();
        for _ in 0..4 {
            f.turns(TTL / 4);
            assert!(f.save("open", epoch, 7), "{}", f.name);
        }
        assert_eq!(f.claim("open", 2), (epoch + 1, 7, true), "{}", f.name);
    });
}

#[test]
fn a_wall_clock_that_steps_shortly_before_a_claim_takes_no_session() {
    check(|f| {
        let (epoch, _, _) = f.claim("open", 1);
        assert!(f.save("open", epoch, 7));
        f.turns(TTL / 8);
        f.now.unix_ms += u64::try_from(100 * TTL.as_millis()).unwrap();
        f.turns(TTL / 8);
        assert_eq!(f.claim("open", 2), (epoch + 1, 7, true), "{}", f.name);
    });
}

/// Stopped by a signal, or by the hypervisor: nothing was renewed meanwhile.
#[test]
fn a_process_that_stood_still_takes_no_session_that_is_open() {
    check(|f| {
        let (epoch, _, _) = f.claim("open", 1);
        assert!(f.save("open", epoch, 7));
        f.now.instant += 3 * TTL;
        f.now.unix_ms += u64::try_from(3 * TTL.as_millis()).unwrap();
        f.turns(Duration::ZERO);
        assert_eq!(f.claim("open", 2), (epoch + 1, 7, true), "{}", f.name);
    });
}
