//! Goal: the Redis store keeps its promises (next epoch, fencing, counts that never go down)
//! against a real Redis, whatever happens to the way there. Method: each test starts its own
//! `redis-server` and drives the store with a small poll loop; it waits for events, never for time.

mod driver;
mod server;

use self::driver::Driver;
use self::server::RedisServer;

#[test]
fn claims_give_the_next_epoch_and_the_same_one_to_the_same_token() {
    let redis = RedisServer::start(&[]);
    let mut store = Driver::up(&redis.url());
    assert_eq!(store.claim("s", 1), (1, 0, false));
    assert_eq!(store.claim("s", 1), (1, 0, false));
    assert_eq!(store.save(&[("s", 1, 5)]), []);
    assert_eq!(store.claim("s", 2), (2, 5, true));
    assert_eq!(store.claim("s", 2), (2, 5, true));
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
