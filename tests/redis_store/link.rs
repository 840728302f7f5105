//! What may happen to a link, and what the engine hears of it: scripts flushed, Redis frozen or
//! killed, a kernel that takes no more bytes.

use std::time::Duration;

use sundown::engine::io::{StoreCommand, StoreEvent};
use sundown::store::SessionStore;

use crate::driver::{Driver, claim, commit};
use crate::support::redis::Redis;

#[test]
fn lost_scripts_are_loaded_again_with_requests_under_way() {
    let redis = Redis::start();
    let mut store = Driver::up(&redis.url());
    let (former, ..) = store.claim("s", 1);
    redis.command(&["SCRIPT", "FLUSH"]);
    for count in 1..=50 {
        store
            .store
            .ask(StoreCommand::Commit(vec![commit("s", former, count)]));
    }
    store.store.ask(StoreCommand::Claim(claim("s", 2)));
    let newest = former * 2; // Above what the claim will give.
    store.store.ask(StoreCommand::Commit(vec![
        commit("s", former, 99),
        commit("s", newest, 51),
    ]));
    for _ in 1..=50 {
        let event = store.answer();
        assert!(matches!(&event, StoreEvent::Committed { fenced, .. } if fenced.is_empty()));
    }
    match store.answer() {
        StoreEvent::Claimed { grant, .. } => {
            let (epoch, count) = (grant.epoch, grant.snapshot.count);
            assert!((former + 1..newest).contains(&epoch), "{epoch}");
            assert_eq!(count, 50);
        }
        other => panic!("{other:?}"),
    }
    let event = store.answer();
    assert!(matches!(&event, StoreEvent::Committed { fenced, .. } if *fenced == [0]));
}

#[test]
fn a_frozen_redis_stalls_and_then_answers_everything() {
    let redis = Redis::start();
    let mut store = Driver::up(&redis.url());
    redis.freeze();
    store.store.ask(StoreCommand::Claim(claim("s", 1)));
    store
        .store
        .ask(StoreCommand::Commit(vec![commit("other", 1, 5)]));
    assert!(matches!(store.next_of_all(), StoreEvent::Stalled));
    store.store.ask(StoreCommand::Sync);
    redis.thaw();
    let event = store.answer();
    assert!(matches!(event, StoreEvent::Claimed { grant, .. } if !grant.found));
    let event = store.answer();
    assert!(matches!(event, StoreEvent::Committed { fenced, .. } if fenced.is_empty()));
    assert!(matches!(store.answer(), StoreEvent::Synced));
    assert!(matches!(store.next_of_all(), StoreEvent::Resumed));
}

#[test]
fn a_freeze_is_noticed_without_requests() {
    let redis = Redis::start();
    let mut store = Driver::up(&redis.url());
    redis.freeze();
    assert!(matches!(store.next_of_all(), StoreEvent::Stalled));
    redis.thaw();
    assert!(matches!(store.next_of_all(), StoreEvent::Resumed));
    // An idle link that answers its PINGs has nothing to say.
    for _ in 0..20 {
        store.skip(Duration::from_secs(1));
        store.turn(Duration::ZERO);
        while !store.turn(Duration::from_secs(5)) {}
    }
    assert!(store.heard().is_none());
}

#[test]
fn a_redis_that_stays_frozen_is_given_up_and_found_again() {
    let redis = Redis::start();
    let mut store = Driver::up(&redis.url());
    redis.freeze();
    store.store.ask(StoreCommand::Claim(claim("s", 1)));
    store.turn(Duration::ZERO);
    store.skip(Duration::from_secs(2));
    assert!(matches!(store.next_of_all(), StoreEvent::Stalled));
    store.skip(Duration::from_secs(12));
    store.turn(Duration::ZERO);
    assert!(store.heard().is_none(), "14 s are not yet 15");
    store.skip(Duration::from_secs(1));
    let reason = store.wait_down();
    assert!(reason.contains("15 s"), "{reason}");
    // The kernel still connects, for a Redis that says nothing: that is no Up.
    for _ in 0..10 {
        store.skip(Duration::from_secs(5));
        store.turn(Duration::from_millis(20));
    }
    assert!(store.heard().is_none());
    redis.thaw();
    store.skip(Duration::from_secs(2));
    store.wait_up();
    // The claim that was given up may have been granted; the same token finds out.
    store.claim_above(0, "s", 1, (0, false));
}

#[test]
fn a_killed_redis_is_down_once_and_up_once_it_is_back() {
    let mut redis = Redis::start();
    let mut store = Driver::up(&redis.url());
    let mut former = 0;
    for round in 1..=3 {
        // This Redis keeps nothing, and still the epochs go on.
        former = store.claim_above(former, "s", round, (0, false));
        redis.kill();
        store.store.ask(StoreCommand::Claim(claim("lost", round)));
        store.wait_down();
        store
            .store
            .ask(StoreCommand::Claim(claim("dropped", round)));
        store
            .store
            .ask(StoreCommand::Commit(vec![commit("dropped", 1, 1)]));
        store.store.ask(StoreCommand::Sync);
        for _ in 0..10 {
            store.skip(Duration::from_secs(2));
            store.turn(Duration::from_millis(20));
        }
        assert!(store.heard().is_none(), "nothing is said while it is down");
        redis.restart();
        store.skip(Duration::from_secs(2));
        store.wait_up();
    }
    store.claim_above(former, "s", 9, (0, false));
}

#[test]
fn a_kernel_that_takes_no_more_costs_neither_time_nor_answers() {
    let redis = Redis::start();
    let mut store = Driver::up(&redis.url());
    let batch: Vec<_> = (0..512)
        .map(|n| commit(&format!("{n:0>128}"), 1, 1))
        .collect();
    redis.freeze();
    for _ in 0..200 {
        store.store.ask(StoreCommand::Commit(batch.clone())); // 29 MB in all
    }
    for token in 0..40_000 {
        store.store.ask(StoreCommand::Claim(claim("s", token))); // More answers than one turn reads
    }
    let mut turns = 0;
    loop {
        store.turn(Duration::from_secs(5));
        turns += 1;
        if let Some(event) = store.heard() {
            assert!(matches!(event, StoreEvent::Stalled), "{event:?}");
            break;
        }
    }
    assert!(turns < 50, "{turns} turns to wait for one second");
    redis.thaw();
    let (mut saved, mut claimed, mut resumed) = (0, 0, 0);
    let mut former = 0;
    while saved < 200 || claimed < 40_000 || resumed == 0 {
        match store.next_of_all() {
            StoreEvent::Committed { fenced, .. } => {
                assert_eq!((fenced, claimed), (vec![], 0));
                saved += 1;
            }
            StoreEvent::Claimed { grant, .. } => {
                let epoch = grant.epoch;
                claimed += 1;
                assert!(epoch > former, "{epoch} after {former}");
                former = epoch;
            }
            StoreEvent::Resumed => resumed += 1,
            // A slow machine may take more than a second for the backlog.
            StoreEvent::TakenOver { .. } | StoreEvent::Stalled => {}
            other => panic!("{other:?}"),
        }
    }
}
