//! A node of version 0.1.0 on the same Redis: its scripts (tests/fixtures/0.1.0) and today's store
//! fence each other, and neither loses what the other has saved.

use redis::Value;
use sundown::engine::io::{Body, Mailbox, Pushed, Snapshot, State};

use crate::driver::Driver;
use crate::mailboxes::commit;
use crate::steps::Promising as _;
use crate::support::redis::Redis;

const KEY: &str = "sundown:session:s";

/// A node of version 0.1.0.
struct Former<'a>(&'a Redis);

impl Former<'_> {
    /// Epoch, count, found.
    fn claim(&self, token: &str) -> (u64, u64, bool) {
        let script = include_str!("../fixtures/0.1.0/claim.lua");
        let args = [token, "3600000", "sundown:claimed:0", "s"];
        let answer = self
            .0
            .command(&[&["EVAL", script, "1", KEY], &args[..]].concat());
        let (epoch, count, found): (u64, u64, u64) =
            redis::from_redis_value(answer).expect("three numbers");
        (epoch, count, found == 1)
    }

    /// Whether it was taken.
    fn save(&self, epoch: u64, count: u64) -> bool {
        let script = include_str!("../fixtures/0.1.0/save.lua");
        let (epoch, count) = (epoch.to_string(), count.to_string());
        let args = ["EVAL", script, "1", KEY, "3600000", &epoch, &count];
        let answer = self.0.command(&args);
        let none = || Value::Array(Vec::new());
        let (taken, fenced) = (
            vec![none(), none()],
            vec![Value::Array(vec![Value::Int(0)]), none()],
        );
        assert!(answer == Value::Array(taken.clone()) || answer == Value::Array(fenced));
        answer == Value::Array(taken)
    }
}

#[test]
fn nodes_of_both_versions_fence_each_other() {
    let redis = Redis::start();
    let former = Former(&redis);
    let mut store = Driver::up(&redis.url());
    let (first, count, found) = former.claim("1");
    assert_eq!((count, found), (0, false));
    assert!(former.save(first, 5));
    // What it has written goes on, and gets an incarnation.
    let second = store.grant("s", 2);
    assert!(second.epoch > first && second.found);
    let mut held = Snapshot {
        incarnation: second.epoch,
        count: 5,
        ..Snapshot::default()
    };
    assert_eq!(second.snapshot, held);
    assert!(!former.save(first, 6));
    (held.step, held.count) = (4, 8);
    held.state = State::new(b"eight").expect("it is short");
    assert!(store.commit("s", second.epoch, &held));
    let (third, count, found) = former.claim("3");
    assert!(third > second.epoch);
    assert_eq!((count, found), (8, true));
    assert!(!store.commit(
        "s",
        second.epoch,
        &Snapshot {
            step: 5,
            ..held.clone()
        }
    ));
    assert!(former.save(third, 11) && former.save(third, 10));
    // The count is up, and nothing is lost.
    let fourth = store.grant("s", 4);
    (held.step, held.count) = (0, 11);
    assert_eq!((fourth.found, &fourth.snapshot), (true, &held));
    assert!(!former.save(third, 12));
    // Its steps begin again at 1, whatever was held before.
    (held.step, held.count) = (1, 12);
    assert!(store.commit("s", fourth.epoch, &held));
    let fifth = store.grant("s", 5);
    assert_eq!(fifth.snapshot, Snapshot { step: 0, ..held });
}

#[test]
fn a_mailbox_outlives_what_0_1_0_does_to_its_session() {
    let redis = Redis::start();
    let former = Former(&redis);
    let mut store = Driver::up(&redis.url());
    let push = |store: &mut Driver, step| {
        let push = (step, "s", Body::from("push"));
        let (_, pushed) = store.commit_batch(vec![commit("from", 6, step, 0, &[push])]);
        pushed[0]
    };
    store.grant("s", 1);
    assert_eq!(push(&mut store, 1), Pushed::Accepted(1));
    let (epoch, count, found) = former.claim("2");
    assert_eq!((count, found), (0, true));
    assert!(former.save(epoch, 5));
    // And so do pushes to a session that it has.
    assert_eq!(push(&mut store, 2), Pushed::Accepted(2));
    let grant = store.grant("s", 3);
    assert_eq!(grant.snapshot.count, 5);
    let both = ["push", "push"].map(Body::from);
    assert_eq!(grant.mailbox, Mailbox::new(2, both));
}

#[test]
fn a_claim_that_0_1_0_repeats_is_answered_as_before() {
    let redis = Redis::start();
    let former = Former(&redis);
    let mut store = Driver::up(&redis.url());
    let grant = store.grant("s", 1);
    assert!(store.commit("s", grant.epoch, &Snapshot::counted(3)));
    let claimed = former.claim("2");
    assert_eq!(former.claim("2"), claimed);
    assert_eq!((claimed.1, claimed.2), (3, true));
}

/// The row of a spill, which 0.1.0 or its successor replays.
#[test]
fn a_record_that_was_lost_is_made_again_by_0_1_0() {
    let redis = Redis::start();
    let former = Former(&redis);
    let mut store = Driver::up(&redis.url());
    let (epoch, ..) = former.claim("1");
    redis.command(&["DEL", KEY]);
    assert!(former.save(epoch, 5));
    assert!(store.commit(
        "s",
        epoch,
        &Snapshot {
            count: 6,
            ..Snapshot::default()
        }
    ));
    let grant = store.grant("s", 2);
    assert_eq!((grant.found, grant.snapshot.count), (true, 6));
    assert_eq!(grant.snapshot.incarnation, grant.epoch);
}

/// The row of a spill that 0.1.0 does not know of, with a state and a push: it is replayed after a
/// rollback, in which 0.1.0 has done nothing to the session, has replayed a count of the same epoch,
/// or has claimed it.
#[test]
fn a_row_that_0_1_0_has_not_replayed_is_taken_or_fenced_as_a_whole() {
    #[track_caller]
    fn check(happens: impl FnOnce(&Former<'_>, u64), expected: (u64, &[u8], u64)) {
        let redis = Redis::start();
        let former = Former(&redis);
        let mut store = Driver::up(&redis.url());
        store.grant("to", 1);
        let granted = store.grant("s", 1);
        let mut held = Snapshot {
            step: 1,
            count: 1,
            state: State::new(b"one").expect("it is short"),
            ..granted.snapshot
        };
        assert!(store.commit("s", granted.epoch, &held));
        (held.step, held.count) = (3, 3);
        held.state = State::new(b"three").expect("it is short");
        let push = (3, "to", Body::from("push"));
        let mut row = commit("s", granted.epoch, 3, 0, &[push]);
        row.snapshot = held;
        happens(&former, granted.epoch);
        // A replay that was cut off is repeated.
        for _ in 0..2 {
            store.commit_batch(vec![row.clone()]);
        }
        let pushes = store.read("to").sent();
        let held = store.grant("s", 9).snapshot;
        assert_eq!((held.count, held.state.as_bytes(), pushes), expected);
    }
    check(|_, _| {}, (3, b"three", 1));
    check(
        |former, epoch| assert!(former.save(epoch, 2)),
        (3, b"three", 1),
    );
    check(
        |former, _| {
            let (epoch, count, _) = former.claim("2");
            assert_eq!(count, 1);
            assert!(former.save(epoch, 2));
        },
        (2, b"one", 0),
    );
}

/// A node of 0.1.0 renews the hash alone, so that the list expires under a session that it keeps open.
#[test]
fn pushes_that_have_expired_on_0_1_0_do_not_lock_their_session_out() {
    let redis = Redis::start();
    let former = Former(&redis);
    let mut store = Driver::up(&redis.url());
    let push = |store: &mut Driver, step| {
        let push = (step, "s", Body::from("push"));
        let (_, pushed) = store.commit_batch(vec![commit("from", 6, step, 0, &[push])]);
        pushed[0]
    };
    for (step, is_pushed_to) in [(1, false), (4, true)] {
        let sent = store.grant("s", step).mailbox.sent();
        assert_eq!(push(&mut store, step), Pushed::Accepted(sent + 1));
        let (epoch, ..) = former.claim("77");
        redis.command(&["DEL", "sundown:mailbox:s"]);
        assert!(former.save(epoch, step));
        let left = if is_pushed_to {
            assert_eq!(push(&mut store, step + 1), Pushed::Accepted(sent + 2));
            Mailbox::new(sent + 2, [Body::from("push")])
        } else {
            Mailbox::new(sent + 1, [])
        };
        let grant = store.grant("s", step + 1);
        assert_eq!((grant.snapshot.count, grant.mailbox), (step, left.clone()));
        assert_eq!(store.read("s"), left);
        // The answer was lost.
        assert_eq!(store.grant("s", step + 1).mailbox, left);
        // What is lost from now on is lost.
        assert_eq!(
            push(&mut store, step + 2),
            Pushed::Accepted(left.sent() + 1)
        );
        redis.command(&["DEL", "sundown:mailbox:s"]);
        assert!(store.refused_claim("s").starts_with("LOST"));
        redis.command(&["DEL", "sundown:session:s"]);
    }
}
