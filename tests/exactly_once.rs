//! Goal: a message takes effect once, whatever happens to the node that has it: the state of each
//! session is the one that its client's messages make, in their order.
//! Method: `examples/chain.rs`, whose states are chains of hashes, on two nodes that are killed,
//! stopped and frozen by turns; clients with an outbox that hop between them; and in the end what
//! the store itself holds. `make test-faults` does the same for minutes.

#![expect(
    clippy::expect_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test stops at the first thing that is not as it should be"
)]

#[path = "support/example.rs"]
mod example;
#[path = "fleet/mod.rs"]
#[expect(dead_code, reason = "the campaign and deploys ask more of it")]
mod fleet;
#[path = "faults/holdings.rs"]
mod holdings;
#[path = "faults/hops.rs"]
mod hops;
#[path = "faults/node.rs"]
mod node;
#[path = "faults/resp.rs"]
mod resp;
#[path = "support/mod.rs"]
#[expect(
    dead_code,
    reason = "it is shared with the other tests, which use more of it"
)]
mod support;

use std::time::Duration;

use fleet::letters::{self, Says};
use fleet::{Account, Plan};
use hops::Hops;
use support::client::Client;
use support::now;
use support::server::Server;
use support::store::Store;

/// Some seconds of it. Returns what clients have to say in the end.
#[track_caller]
fn hop(store: &Store, flags: &[&str], nodes: usize, crowd: Vec<Plan>) -> Vec<Account> {
    let clients = crowd.len();
    let is_posted = crowd.iter().any(|plan| plan.says != Says::Numbers);
    let mut hops = Hops::begin(store, flags, nodes, crowd);
    hops.strike_until(now() + Duration::from_secs(8));
    if is_posted {
        hops.fleet.until_all_received();
    }
    let mut accounts = hops.fleet.finish();
    assert_eq!(accounts.len(), clients);
    let sessions = accounts.iter().map(|one| one.ledger.session.as_str());
    let holdings = holdings::of(store, sessions);
    for Account { ledger, says, .. } in &mut accounts {
        let held = &holdings[&ledger.session];
        ledger.settle(held.count);
        ledger.assert_clean();
        assert_eq!(held.seen, ledger.wanted, "{ledger:?}");
        assert!(
            held.is_whole(&ledger.session, *says),
            "{held:?}, {ledger:?}"
        );
    }
    accounts
}

#[track_caller]
fn check(store: &Store, flags: &[&str]) {
    hop(store, flags, 2, hops::numbers(20));
}

#[test]
fn over_redis() {
    check(&Store::redis(), &[]);
}

#[test]
fn over_redis_with_steps_that_other_threads_complete() {
    check(&Store::redis(), &["--workers", "64"]);
}

#[test]
fn on_one_sqlite_file() {
    check(&Store::sqlite(), &[]);
}

#[test]
fn on_one_sqlite_file_with_steps_that_other_threads_complete() {
    check(&Store::sqlite(), &["--workers", "64"]);
}

/// From five processes, to sessions that go from one to the other: each client has its pushes 1 to m,
/// without a gap or a repeat.
#[test]
fn pushes_to_clients_that_hop() {
    let accounts = hop(&Store::redis(), &[], 5, hops::letters(20, 100));
    assert!(letters::check(&accounts) > 100);
}

/// The process ends in time all the same, and what was not completed is not counted: the client sends
/// it again, to the next one.
#[test]
fn a_worker_that_never_completes() {
    let store = Store::sqlite();
    let flags = ["--workers", "2", "--work", "1day"];
    let mut server = Server::launch(node::program(), &store.url(), &flags);
    let (mut client, _) = Client::v2(&server, "a");
    client.text("mhangs");
    client.text("mwaits for it");
    client.stream.flush();
    server.turns();
    server.terminate();
    assert_eq!(client.until_close().0, 1001);
    server.exits_with(0);
    let mut server = Server::launch(node::program(), &store.url(), &["--workers", "2"]);
    let (mut client, hello) = Client::v2(&server, "a");
    assert_eq!(hello.count, 0);
    client.text("m1");
    client.text("m2");
    client.until_count(2);
    client.leave();
    server.stop();
    let held = &holdings::of(&store, ["a"].into_iter())["a"];
    assert!(held.is_whole("a", Says::Numbers), "{held:?}");
}
