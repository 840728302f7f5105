//! An error belongs to its request: a key that holds something else, and a Redis that has no room.

use redis::Value;

use crate::driver::Driver;
use crate::support::redis::Redis;

#[test]
fn a_key_that_is_no_session_is_refused_and_no_other() {
    let redis = Redis::start();
    let mut store = Driver::up(&redis.url());
    redis.command(&["SET", "sundown:session:evil", "x"]);
    for _ in 0..100 {
        let reason = store.refused_claim("evil");
        assert!(reason.starts_with("WRONGTYPE"), "{reason}");
    }
    let (a, ..) = store.claim("a", 1);
    let (z, ..) = store.claim("z", 1);
    let refused = store.refused_saves(&[("a", a, 1), ("evil", 5, 7), ("z", z, 2)]);
    assert!(
        matches!(&refused[..], [(name, why)] if name == "evil" && why.starts_with("WRONGTYPE")),
        "{refused:?}"
    );
    store.claim_above(a, "a", 2, (1, true));
    store.claim_above(z, "z", 2, (2, true));
    redis.command(&["DEL", "sundown:session:evil"]);
    store.claim("evil", 1);
}

#[test]
fn a_save_that_was_refused_is_taken_once_the_key_is_free_and_its_epoch_goes_on() {
    let redis = Redis::start();
    let mut store = Driver::up(&redis.url());
    let (epoch, ..) = store.claim("a", 1);
    assert!(store.save(&[("a", epoch, 3)]).is_empty());
    redis.command(&["SET", "sundown:session:a", "x"]);
    for _ in 0..3 {
        let refused = store.refused_saves(&[("a", epoch, 4)]);
        assert_eq!(refused.len(), 1, "{refused:?}");
        store.refused_claim("a");
    }
    redis.command(&["DEL", "sundown:session:a"]);
    assert!(store.save(&[("a", epoch, 4)]).is_empty());
    store.claim_above(epoch, "a", 2, (4, true));
}

#[test]
fn at_maxmemory_nothing_new_is_opened_and_what_is_open_is_saved() {
    let redis = Redis::with(&["--maxmemory-policy", "noeviction"]);
    let mut store = Driver::up(&redis.url());
    let (a, ..) = store.claim("a", 1);
    let (lost, ..) = store.claim("lost", 1);
    redis.command(&["DEL", "sundown:session:lost"]);
    redis.command(&["CONFIG", "SET", "maxmemory", "1"]);
    let reason = store.refused_claim("new");
    assert!(reason.starts_with("OOM"), "{reason}");
    assert!(store.save(&[("a", a, 1), ("lost", lost, 3)]).is_empty());
    let held = redis.command(&["HGET", "sundown:session:a", "n"]);
    assert_eq!(held, Value::BulkString(b"1".to_vec()));
    // The one that has the session may repeat its claim, and nobody may make a new one.
    assert_eq!(store.claim("a", 1), (a, 1, false));
    store.refused_claim("a");
    redis.command(&["CONFIG", "SET", "maxmemory", "0"]);
    store.claim_above(a, "a", 2, (1, true));
    store.claim_above(lost, "lost", 2, (3, true));
}

/// `NOREPLICAS` and `MISCONF` are the server's: the link is not up until they are over.
#[test]
fn a_redis_that_takes_no_writes_is_down_and_stays_so() {
    let redis = Redis::start();
    let mut store = Driver::up(&redis.url());
    let (a, ..) = store.claim("a", 1);
    redis.command(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    store.store_save("a", a, 1);
    let reason = store.wait_down();
    assert!(reason.starts_with("NOREPLICAS"), "{reason}");
    // Ours count, too.
    let (mut ours, before) = (0, redis.connections());
    while redis.connections() < before + ours + 5 {
        ours += 1;
        store.turn(std::time::Duration::from_millis(50));
        assert!(store.heard().is_none(), "it is told nothing twice");
    }
    redis.command(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
    store.wait_up();
    assert!(store.save(&[("a", a, 1)]).is_empty());
}
