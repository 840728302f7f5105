//! What every store promises of incarnation, step and state, for the stores of this process
//! (`tests/store_promises.rs`) and for Redis (`tests/redis_store`). No epoch is expected here: those of
//! Redis are times.

use sundown::store::{Commit, Grant, Pushed, SessionKey, Snapshot};
use sundown::{Mailbox, SessionId, State};

/// A store, and what a test does with it.
pub(crate) trait Promising {
    /// Claims, and waits for the answer.
    fn grant(&mut self, session: &str, token: u64) -> Grant;

    /// Commits. What was fenced, and what became of the pushes.
    fn commit_batch(&mut self, batch: Vec<Commit>) -> (Vec<usize>, Vec<Pushed>);

    /// Reads what a session's mailbox holds.
    fn read(&mut self, session: &str) -> Mailbox;

    /// Commits, without mail. Whether it was taken.
    fn commit(&mut self, session: &str, epoch: u64, snapshot: &Snapshot) -> bool {
        let commit = Commit {
            key: SessionKey {
                slot: 3,
                generation: 4,
            },
            session: SessionId::parse(session).expect("an id"),
            epoch,
            snapshot: snapshot.clone(),
            mail: None,
        };
        let (fenced, pushed) = self.commit_batch(vec![commit]);
        assert!(pushed.is_empty());
        fenced.is_empty()
    }

    /// The process is killed, and another one opens the store; nothing where it does not outlive
    /// the process.
    fn reopen(&mut self);
}

/// All of them, each with a session of its own.
pub(crate) fn keeps_all(store: &mut impl Promising) {
    let promises = [
        comes_back_with_the_next_claim,
        takes_only_a_later_step,
        takes_a_step_that_does_not_count,
        repeats_a_claim_with_what_is_held_by_then,
        changes_nothing_when_fenced,
        makes_a_missing_record_again_as_a_whole,
        begins_a_higher_epoch_with_its_owner_s_word,
        raises_the_count_without_a_step,
        gives_an_incarnation_to_a_record_without,
        keeps_a_state_at_its_limit,
    ];
    for (at, promise) in promises.into_iter().enumerate() {
        promise(store, &format!("session-{at}"));
    }
}

/// In the incarnation of this grant.
fn after(grant: &Grant, step: u64, count: u64, state: &[u8]) -> Snapshot {
    Snapshot {
        incarnation: grant.snapshot.incarnation,
        step,
        count,
        state: State::new(state).expect("it is short enough"),
    }
}

fn comes_back_with_the_next_claim(store: &mut impl Promising, session: &str) {
    let first = store.grant(session, 1);
    assert_eq!(first.snapshot, after(&first, 0, 0, b""));
    assert_eq!(first.snapshot.incarnation, first.epoch);
    let binary = b"\0\r\n\xff \xc3 $5\r\n";
    assert!(store.commit(session, first.epoch, &after(&first, 7, 5, binary)));
    store.reopen();
    let second = store.grant(session, 2);
    assert!(second.epoch > first.epoch && second.found);
    assert_eq!(second.snapshot, after(&first, 0, 5, binary));
    store.reopen();
    let third = store.grant(session, 3);
    assert_eq!(third.snapshot, second.snapshot);
}

fn takes_only_a_later_step(store: &mut impl Promising, session: &str) {
    let grant = store.grant(session, 1);
    // What is committed, and what is held after that.
    let commits = [
        ((2, 2, "two"), (2, 2, "two")),
        // Repeated, and late.
        ((2, 2, "again"), (2, 2, "two")),
        ((1, 1, "one"), (2, 2, "two")),
        // The answer was lost: with newer steps.
        ((4, 3, "four"), (4, 3, "four")),
        ((2, 2, "two"), (4, 3, "four")),
        ((0, 0, ""), (4, 3, "four")),
    ];
    let snapshot =
        |(step, count, state): (u64, u64, &str)| after(&grant, step, count, state.as_bytes());
    for (commit, held) in commits {
        assert!(store.commit(session, grant.epoch, &snapshot(commit)));
        // The same token: it is no new claim.
        assert_eq!(
            store.grant(session, 1).snapshot,
            snapshot(held),
            "{commit:?}"
        );
    }
    store.reopen();
    let held = store.grant(session, 2).snapshot;
    assert_eq!(held, after(&grant, 0, 3, b"four"));
    // A new epoch's first step is 1 again.
    let grant = store.grant(session, 3);
    assert!(store.commit(session, grant.epoch, &after(&grant, 1, 4, b"five")));
    let held = store.grant(session, 4).snapshot;
    assert_eq!(held, after(&grant, 0, 4, b"five"));
}

fn takes_a_step_that_does_not_count(store: &mut impl Promising, session: &str) {
    let first = store.grant(session, 1);
    assert!(store.commit(session, first.epoch, &after(&first, 1, 0, b"set")));
    store.reopen();
    let second = store.grant(session, 2);
    assert_eq!(second.snapshot, after(&first, 0, 0, b"set"));
    assert!(store.commit(session, second.epoch, &after(&first, 1, 0, b"")));
    store.reopen();
    let third = store.grant(session, 3);
    assert_eq!(third.snapshot, after(&first, 0, 0, b""));
}

fn repeats_a_claim_with_what_is_held_by_then(store: &mut impl Promising, session: &str) {
    let grant = store.grant(session, 7);
    assert_eq!(store.grant(session, 7), grant);
    let held = after(&grant, 3, 2, b"held");
    assert!(store.commit(session, grant.epoch, &held));
    let again = store.grant(session, 7);
    assert_eq!((again.epoch, again.found), (grant.epoch, grant.found));
    assert_eq!(again.snapshot, held);
    // Its steps go on.
    assert!(store.commit(session, grant.epoch, &after(&grant, 3, 2, b"again")));
    assert!(store.commit(session, grant.epoch, &after(&grant, 4, 3, b"next")));
    let next = store.grant(session, 8);
    assert_eq!(next.snapshot, after(&grant, 0, 3, b"next"));
}

fn changes_nothing_when_fenced(store: &mut impl Promising, session: &str) {
    let old = store.grant(session, 1);
    assert!(store.commit(session, old.epoch, &after(&old, 1, 1, b"old")));
    let new = store.grant(session, 2);
    assert!(!store.commit(session, old.epoch, &after(&old, 2, 2, b"fenced")));
    store.reopen();
    assert!(!store.commit(session, old.epoch, &after(&old, 3, 3, b"fenced")));
    assert!(store.commit(session, new.epoch, &after(&new, 1, 2, b"new")));
    let held = store.grant(session, 3).snapshot;
    assert_eq!(held, after(&old, 0, 2, b"new"));
}

fn makes_a_missing_record_again_as_a_whole(store: &mut impl Promising, session: &str) {
    let lost = Snapshot {
        incarnation: 3,
        step: 9,
        count: 12,
        state: State::new(b"kept").expect("it is short enough"),
    };
    assert!(store.commit(session, 6, &lost));
    store.reopen();
    // It knows which steps it has.
    let late = Snapshot {
        step: 8,
        count: 11,
        ..Snapshot::default()
    };
    assert!(store.commit(session, 6, &late));
    let grant = store.grant(session, 1);
    assert!(grant.epoch > 6 && grant.found);
    assert_eq!(grant.snapshot, Snapshot { step: 0, ..lost });
}

fn begins_a_higher_epoch_with_its_owner_s_word(store: &mut impl Promising, session: &str) {
    let grant = store.grant(session, 1);
    assert!(store.commit(session, grant.epoch, &after(&grant, 9, 9, b"lower")));
    // The store has lost the claim of that epoch, and its session had begun anew.
    let owned = Snapshot {
        incarnation: grant.epoch + 4,
        step: 1,
        count: 1,
        state: State::new(b"higher").expect("it is short enough"),
    };
    assert!(store.commit(session, grant.epoch + 4, &owned));
    assert!(!store.commit(session, grant.epoch, &after(&grant, 10, 10, b"fenced")));
    let next = store.grant(session, 1);
    assert!(
        next.epoch > grant.epoch + 4,
        "the token is of a lower epoch"
    );
    assert_eq!(next.snapshot, Snapshot { step: 0, ..owned });
}

/// A spill of version 0.1.0 has no steps.
fn raises_the_count_without_a_step(store: &mut impl Promising, session: &str) {
    let grant = store.grant(session, 1);
    assert!(store.commit(session, grant.epoch, &after(&grant, 2, 2, b"two")));
    for count in [5, 4] {
        let row = Snapshot {
            count,
            ..Snapshot::default()
        };
        assert!(store.commit(session, grant.epoch, &row));
    }
    let next = store.grant(session, 2);
    assert_eq!(next.snapshot, after(&grant, 0, 5, b"two"));
}

fn gives_an_incarnation_to_a_record_without(store: &mut impl Promising, session: &str) {
    let row = Snapshot {
        count: 8,
        ..Snapshot::default()
    };
    assert!(store.commit(session, 6, &row));
    store.reopen();
    let grant = store.grant(session, 1);
    assert_eq!(grant.snapshot.incarnation, grant.epoch);
    assert_eq!((grant.snapshot.count, grant.found), (8, true));
    let next = store.grant(session, 2);
    assert_eq!(next.snapshot, grant.snapshot);
}

fn keeps_a_state_at_its_limit(store: &mut impl Promising, session: &str) {
    let bytes: Vec<u8> = (0..State::MAX).map(|at| (at % 251) as u8).collect();
    let grant = store.grant(session, 1);
    assert!(store.commit(session, grant.epoch, &after(&grant, 1, 1, &bytes)));
    store.reopen();
    let next = store.grant(session, 2);
    assert_eq!(next.snapshot.state.as_bytes(), bytes);
    assert!(store.commit(session, next.epoch, &after(&grant, 1, 1, b"")));
    assert!(store.grant(session, 3).snapshot.state.is_empty());
}
