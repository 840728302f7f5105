//! What every store promises, and what Redis holds afterwards: the hash of a session, its epoch,
//! and when it expires.

use redis::Value;
use sundown::engine::io::{StoreCommand, StoreEvent};
use sundown::store::SessionStore;

use crate::driver::{Driver, claim, commit};
use crate::support::redis::Redis;
use crate::{mailboxes, steps};

#[test]
fn what_is_promised_of_incarnation_step_and_state_holds() {
    let redis = Redis::start();
    steps::keeps_all(&mut Driver::up(&redis.url()));
}

#[test]
fn what_is_promised_of_mailboxes_holds() {
    let redis = Redis::start();
    mailboxes::keeps_all(&mut Driver::up(&redis.url()));
}

#[test]
fn claims_give_the_next_epoch_and_the_same_one_to_the_same_token() {
    let redis = Redis::start();
    let mut store = Driver::up(&redis.url());
    let first = store.claim_above(0, "s", 1, (0, false));
    assert_eq!(store.claim("s", 1), (first, 0, false));
    assert!(store.save(&[("s", first, 5)]).is_empty());
    let second = store.claim_above(first, "s", u64::MAX, (5, true));
    assert_eq!(store.claim("s", u64::MAX), (second, 5, true));
    store.claim_above(0, "other", 2, (0, false));
    // All digits, for those who look, and for the scripts, which compare them.
    let held = redis.command(&["HGET", KEY, "e"]);
    assert_eq!(held, Value::BulkString(second.to_string().into_bytes()));
}

#[test]
fn saves_are_fenced_by_a_newer_claim_each_for_itself() {
    let redis = Redis::start();
    let mut store = Driver::up(&redis.url());
    let (a, ..) = store.claim("a", 1);
    let (old_b, ..) = store.claim("b", 2);
    let (b, ..) = store.claim("b", 3);
    let batch = [("b", old_b, 9), ("a", a, 7), ("b", old_b, 10), ("b", b, 3)];
    assert_eq!(store.save(&batch), [0, 2]);
    store.claim_above(a, "a", 4, (7, true));
    store.claim_above(b, "b", 5, (3, true));
}

#[test]
fn a_count_never_goes_down_within_an_epoch() {
    let redis = Redis::start();
    let mut store = Driver::up(&redis.url());
    let (first, ..) = store.claim("s", 1);
    assert!(store.save(&[("s", first, 10), ("s", first, 9)]).is_empty());
    assert!(store.save(&[("s", first, 2)]).is_empty());
    let second = store.claim_above(first, "s", 2, (10, true));
    // A newer epoch may begin anywhere: its owner knows.
    let batch = [("s", second, 10), ("s", second, 11)];
    assert!(store.save(&batch).is_empty());
    store.claim_above(second, "s", 3, (11, true));
}

#[test]
fn a_lost_session_is_claimed_above_every_epoch_that_it_had() {
    let redis = Redis::start();
    let mut store = Driver::up(&redis.url());
    let mut former = 0;
    for round in 0..100 {
        // As fast as it can be done, so that the epochs would overtake a clock that is too coarse.
        for token in 1..=4 {
            store
                .store
                .ask(StoreCommand::Claim(claim("s", round * 10 + token)));
        }
        for _ in 1..=4 {
            match store.answer() {
                StoreEvent::Claimed { grant, .. } => {
                    let epoch = grant.epoch;
                    assert!(epoch > former, "{epoch} after {former}");
                    former = epoch;
                }
                other => panic!("{other:?}"),
            }
        }
        redis.command(&["DEL", KEY]);
    }
    let newcomer = store.claim_above(former, "s", 5, (0, false));
    assert_eq!(store.save(&[("s", former, 20), ("s", newcomer, 3)]), [0]);
    store.claim_above(newcomer, "s", 6, (3, true));
}

#[test]
fn a_lost_session_is_made_again_by_its_owner() {
    let redis = Redis::start();
    let mut store = Driver::up(&redis.url());
    let (owner, ..) = store.claim("s", 1);
    redis.command(&["DEL", KEY]);
    assert!(store.save(&[("s", owner, 20)]).is_empty());
    // It is as if it had never been away: who claims it fences the owner and hears its count.
    let newcomer = store.claim_above(owner, "s", 2, (20, true));
    assert_eq!(store.save(&[("s", owner, 21)]), [0]);
    assert_eq!(store.claim("s", 2), (newcomer, 20, true));
}

#[test]
fn a_session_that_has_gone_back_in_time_is_brought_up_by_its_owner() {
    let redis = Redis::start();
    let mut store = Driver::up(&redis.url());
    let (lower, ..) = store.claim("s", 1);
    redis.command(&["COPY", KEY, "snapshot"]);
    let (higher, ..) = store.claim("s", 2);
    redis.command(&["RENAME", "snapshot", KEY]);
    // What a crash of Redis has left of two claims is the first one, and now the owner of the
    // second one saves. The first one, repeated, must not be given the other's epoch.
    assert!(store.save(&[("s", higher, 20)]).is_empty());
    assert_eq!(store.save(&[("s", lower, 30)]), [0]);
    store.claim_above(higher, "s", 1, (20, true));
}

#[test]
fn an_epoch_that_redis_has_forgotten_is_not_given_to_anyone_else() {
    let redis = Redis::start();
    let mut store = Driver::up(&redis.url());
    store.claim("s", 1);
    redis.command(&["COPY", KEY, "snapshot"]);
    let (forgotten, ..) = store.claim("s", 2);
    redis.command(&["RENAME", "snapshot", KEY]);
    // As after a failover to a replica that had not heard of the second claim, whose owner is slow
    // to come back: the next one to claim must fence it.
    let newest = store.claim_above(forgotten, "s", 3, (0, true));
    assert_eq!(store.save(&[("s", forgotten, 9), ("s", newest, 4)]), [0]);
    store.claim_above(newest, "s", 4, (4, true));
}

#[test]
fn a_clock_that_is_set_back_does_not_stop_the_epochs() {
    let redis = Redis::start();
    let mut store = Driver::up(&redis.url());
    let (now, ..) = store.claim("s", 1);
    let ahead = now + 3_600_000_000;
    assert!(store.save(&[("s", ahead, 9)]).is_empty());
    assert_eq!(store.claim("s", 2), (ahead + 1, 9, true));
    assert_eq!(store.claim("s", 3), (ahead + 2, 9, true));
}

#[test]
fn a_node_that_sleeps_while_its_session_is_lost_and_claimed_elsewhere_is_fenced() {
    for loss in [
        &["PEXPIRE", KEY, "1"][..],
        &["DEL", KEY],
        &["FLUSHALL"],
        &["RENAME", KEY, "elsewhere"],
    ] {
        let redis = Redis::start();
        let mut asleep = Driver::up(&redis.url());
        let mut awake = Driver::up(&redis.url());
        let (old, ..) = asleep.claim("s", 1);
        assert!(asleep.save(&[("s", old, 5)]).is_empty());
        redis.command(loss);
        while redis.command(&["EXISTS", KEY]) != Value::Int(0) {}
        let new = awake.claim_above(old, "s", 2, (0, false));
        assert!(awake.save(&[("s", new, 1)]).is_empty());
        assert_eq!(asleep.taken_over(old), ("s".to_owned(), new), "{loss:?}");
        assert_eq!(asleep.save(&[("s", old, 6)]), [0], "{loss:?}");
        assert!(awake.save(&[("s", new, 2)]).is_empty());
        awake.claim_above(new, "s", 3, (2, true));
    }
}

#[test]
fn sessions_live_as_long_as_they_are_touched() {
    let redis = Redis::start();
    let mut store = Driver::up(&redis.url());
    let touched = |redis: &Redis| {
        let Value::Int(left_ms) = redis.command(&["PTTL", KEY]) else {
            panic!("PTTL");
        };
        redis.command(&["PEXPIRE", KEY, "100000"]);
        (3_000_000..=3_600_000).contains(&left_ms)
    };
    let (epoch, ..) = store.claim("s", 1);
    assert!(touched(&redis), "claim");
    store.claim("s", 1);
    assert!(touched(&redis), "the same claim");
    store.save(&[("s", epoch, 5)]);
    assert!(touched(&redis), "save");
    store.save(&[("s", epoch, 4)]);
    assert!(touched(&redis), "a save that is covered");
    redis.command(&["DEL", KEY]);
    store.save(&[("s", epoch, 5)]);
    assert!(touched(&redis), "a save of a lost session");
    store.claim("s", 2);
    assert!(touched(&redis), "a second claim");
    store.save(&[("s", epoch, 9)]);
    assert!(!touched(&redis), "a fenced save");
}

#[test]
fn answers_come_in_the_order_of_the_requests() {
    let redis = Redis::start();
    let mut store = Driver::up(&redis.url());
    let mut former = 0;
    for round in 1..=20 {
        store.store.ask(StoreCommand::Commit(Vec::new()));
        store.store.ask(StoreCommand::Claim(claim("a", round)));
        // The former owner is refused, since the claim comes before it.
        store.store.ask(StoreCommand::Commit(vec![
            commit("a", former, 1),
            commit("b", 1, 1),
        ]));
        store.store.ask(StoreCommand::Sync);
        let mut kinds = Vec::new();
        while kinds.len() < 4 {
            match store.answer() {
                StoreEvent::Committed { batch, fenced, .. } => {
                    assert_eq!(fenced, [0][..batch.len() / 2]);
                    kinds.push(["save none", "", "save two"][batch.len()]);
                }
                StoreEvent::Claimed { grant, .. } => {
                    let epoch = grant.epoch;
                    assert!(epoch > former, "{epoch} after {former}");
                    former = epoch;
                    kinds.push("claim");
                }
                StoreEvent::Synced => kinds.push("sync"),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(kinds, ["save none", "claim", "save two", "sync"]);
    }
}

const KEY: &str = "sundown:session:s";
