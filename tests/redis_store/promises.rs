//! What every store promises, and what Redis holds afterwards: the hash of a session, its epoch,
//! and when it expires.

use redis::Value;
use sundown::engine::io::StoreEvent;
use sundown::store::SessionStore;

use crate::driver::{Driver, claim, save};
use crate::server::RedisServer;

#[test]
fn claims_give_the_next_epoch_and_the_same_one_to_the_same_token() {
    let redis = RedisServer::start(&[]);
    let mut store = Driver::up(&redis.url());
    assert_eq!(store.claim("s", 1), (1, 0, false));
    assert_eq!(store.claim("s", 1), (1, 0, false));
    assert!(store.save(&[("s", 1, 5)]).is_empty());
    assert_eq!(store.claim("s", u64::MAX), (2, 5, true));
    assert_eq!(store.claim("s", u64::MAX), (2, 5, true));
    assert_eq!(store.claim("other", 2), (1, 0, false));
}

#[test]
fn saves_are_fenced_by_a_newer_claim_each_for_itself() {
    let redis = RedisServer::start(&[]);
    let mut store = Driver::up(&redis.url());
    store.claim("a", 1);
    store.claim("b", 2);
    store.claim("b", 3);
    let batch = [("b", 1, 9), ("a", 1, 7), ("b", 1, 10), ("b", 2, 3)];
    assert_eq!(store.save(&batch), [0, 2]);
    assert_eq!(store.claim("a", 4), (2, 7, true));
    assert_eq!(store.claim("b", 5), (3, 3, true));
}

#[test]
fn a_count_never_goes_down_within_an_epoch() {
    let redis = RedisServer::start(&[]);
    let mut store = Driver::up(&redis.url());
    store.claim("s", 1);
    assert!(store.save(&[("s", 1, 10), ("s", 1, 9)]).is_empty());
    assert!(store.save(&[("s", 1, 2)]).is_empty());
    assert_eq!(store.claim("s", 2), (2, 10, true));
    // A newer epoch may begin anywhere: its owner knows.
    assert!(store.save(&[("s", 2, 10), ("s", 2, 11)]).is_empty());
    assert_eq!(store.claim("s", 3), (3, 11, true));
}

#[test]
fn a_lost_session_is_made_again_by_its_owner() {
    let redis = RedisServer::start(&[]);
    let mut store = Driver::up(&redis.url());
    for token in 1..=4 {
        store.claim("s", token);
    }
    redis.command(&["DEL", "sundown:session:s"]);
    // Someone else claims what Redis has lost, and then the owner of the higher epoch saves: the
    // claim of the lower one, repeated, must not be given the higher.
    assert_eq!(store.claim("s", 5), (1, 0, false));
    assert!(store.save(&[("s", 4, 20)]).is_empty());
    assert_eq!(store.claim("s", 5), (5, 20, true));
    assert!(store.save(&[("gone", 7, 3)]).is_empty());
    assert_eq!(store.claim("gone", 6), (8, 3, true));
}

#[test]
fn sessions_live_as_long_as_they_are_touched() {
    let redis = RedisServer::start(&[]);
    let mut store = Driver::up(&redis.url());
    let key = "sundown:session:s";
    let touched = |redis: &RedisServer| {
        let Value::Int(left_ms) = redis.command(&["PTTL", key]) else {
            panic!("PTTL");
        };
        redis.command(&["PEXPIRE", key, "100000"]);
        (3_000_000..=3_600_000).contains(&left_ms)
    };
    store.claim("s", 1);
    assert!(touched(&redis), "claim");
    store.claim("s", 1);
    assert!(touched(&redis), "the same claim");
    store.save(&[("s", 1, 5)]);
    assert!(touched(&redis), "save");
    store.save(&[("s", 1, 4)]);
    assert!(touched(&redis), "a save that is covered");
    redis.command(&["DEL", key]);
    store.save(&[("s", 1, 5)]);
    assert!(touched(&redis), "a save of a lost session");
    store.claim("s", 2);
    assert!(touched(&redis), "a second claim");
    store.save(&[("s", 1, 9)]);
    assert!(!touched(&redis), "a fenced save");
}

#[test]
fn another_node_hears_of_a_claim() {
    let redis = RedisServer::start(&[]);
    let mut here = Driver::up(&redis.url());
    let mut there = Driver::up(&redis.url());
    let mut elsewhere = Driver::up(&format!("{}/1", redis.url()));
    here.claim("s", 1);
    elsewhere.claim("s", 8);
    elsewhere.claim("s", 9);
    there.claim("s", 2);
    let StoreEvent::TakenOver { session, epoch } = here.next() else {
        panic!("nothing heard of the claim");
    };
    assert_eq!((session.as_str(), epoch), ("s", 2));
    assert_eq!(here.save(&[("s", 1, 5)]), [0]);
}

#[test]
fn answers_come_in_the_order_of_the_requests() {
    let redis = RedisServer::start(&[]);
    let mut store = Driver::up(&redis.url());
    for round in 1..=20 {
        store.store.save(Vec::new());
        store.store.claim(claim("a", round));
        store.store.save(vec![save("a", round, 1), save("b", 1, 1)]);
        store.store.sync();
        let mut kinds = Vec::new();
        while kinds.len() < 4 {
            match store.next() {
                StoreEvent::Saved { batch, fenced } => {
                    assert!(fenced.is_empty());
                    kinds.push(["save none", "", "save two"][batch.len()]);
                }
                StoreEvent::Claimed { epoch, .. } => {
                    assert_eq!(epoch, round);
                    kinds.push("claim");
                }
                StoreEvent::Synced => kinds.push("sync"),
                // Also of one's own claims; the place among the answers is Redis's choice.
                StoreEvent::TakenOver { epoch, .. } => assert!(epoch <= round),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(kinds, ["save none", "claim", "save two", "sync"]);
    }
}
