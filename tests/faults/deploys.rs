//! What an operator does to the server, and what clients do to each other: signals, restarts,
//! crowds and takeovers.

use std::net::SocketAddr;

use super::campaign::{Row, Tally};
use super::fleet::session::Habit;
use super::fleet::{Fleet, Orders, Plan, plans};
use super::node;
use crate::support::redis::Redis;
use crate::support::store::Store;

/// Clients that are in a hurry, and such that are not.
pub(crate) fn busy(count: usize) -> Vec<Plan> {
    let mut busy = plans("steady", count - count / 10, Habit::Steady);
    busy.extend(plans("blasting", count / 10, Habit::Blasting));
    busy
}

/// The next node is up before the old one is asked to go.
pub(crate) fn sigterm(row: &mut Row) -> Tally {
    let (store, flags) = (row.store(), row.flags());
    let nodes = [node::address(), node::address()];
    let mut old = node::start(&store.url(), nodes[0], flags);
    let fleet = Fleet::gather(&nodes[..1], busy(100 * row.scale));
    fleet.redirect(&nodes);
    let deploys = 2 * row.scale;
    for deploy in 1..=deploys {
        fleet.flow(500);
        let new = node::start(&store.url(), nodes[deploy % 2], flags);
        old.stop();
        old = new;
    }
    fleet.flow(500);
    row.note(format!("{deploys} deploys, all exit 0"));
    row.settle_with(fleet, &store)
}

pub(crate) fn kill(row: &mut Row) -> Tally {
    let (store, address) = (row.store(), node::address());
    let mut server = node::start(&store.url(), address, &[]);
    let fleet = Fleet::gather(&[address], busy(100 * row.scale));
    let kills = 5 * row.scale;
    for _ in 0..kills {
        fleet.until_all_open();
        fleet.flow(500);
        server.kill();
        server = node::start(&store.url(), address, &[]);
    }
    fleet.flow(500);
    row.note(format!("{kills} kills"));
    row.settle_with(fleet, &store)
}

/// Shutdowns that hurry, so that there is time for many.
pub(crate) fn restarts(row: &mut Row) -> Tally {
    let flags = [
        "--notify-timeout=100ms",
        "--drain-timeout=200ms",
        "--drain-quiet=20ms",
        "--close-spread=20ms",
    ];
    let (store, address) = (row.store(), node::address());
    let mut server = node::start(&store.url(), address, &flags);
    let clients = 50 * row.scale;
    let fleet = Fleet::gather(&[address], busy(clients));
    let restarts = 50;
    for at in 0..restarts {
        fleet.flow(100);
        let hellos = fleet.hellos();
        if at % 2 == 0 {
            server.stop();
        } else {
            server.kill();
        }
        server = node::start(&store.url(), address, &flags);
        // The next one finds clients at every step of their way back.
        fleet.until_hellos(hellos + clients as u64 / 2);
    }
    fleet.flow(100);
    row.note(format!("{} × exit 0, {} kills", restarts / 2, restarts / 2));
    row.settle_with(fleet, &store)
}

/// Everyone whom a server may meet, at once.
pub(crate) fn all_habits(row: &mut Row) -> Tally {
    let (store, address) = (row.store(), node::address());
    let mut server = node::start(&store.url(), address, &[]);
    let mut crowd = Vec::new();
    for habit in HABITS {
        crowd.extend(plans(&format!("{habit:?}"), 125, habit));
    }
    let fleet = Fleet::gather(&[address], crowd);
    fleet.flow(5_000);
    let report = server.stop();
    let (took, late) = (report.total_ms, report.late);
    row.note(format!("exit 0 after {took} ms, {late} late messages"));
    let _server = node::start(&store.url(), address, &[]);
    fleet.flow(1_000);
    row.settle_with(fleet, &store)
}

pub(crate) fn storm_on_one_node(row: &mut Row) -> Tally {
    storm(row, &row.store(), &[node::address()])
}

/// With `relaxed`, replies leave before the save: what another node's claim finds is up to 100 ms
/// old.
pub(crate) fn storm_between_nodes(row: &mut Row) -> Tally {
    storm(row, &row.store(), &[node::address(), node::address()])
}

/// With no right to the channel on which nodes tell each other of claims, only the fence in Redis
/// is left.
pub(crate) fn storm_without_news(row: &mut Row) -> Tally {
    let options = "--appendonly yes --appendfsync always \
                   --user default on nopass ~* resetchannels +@all";
    let redis = Redis::with(&options.split(' ').collect::<Vec<_>>());
    let store = Store::Redis(redis);
    storm(row, &store, &[node::address(), node::address()])
}

/// Each client opens its session on another connection while it still sends on the one it has, and
/// goes on there with the same outbox; again and again.
#[track_caller]
fn storm(row: &mut Row, store: &Store, nodes: &[SocketAddr]) -> Tally {
    let start = |address: &SocketAddr| node::start(&store.url(), *address, row.flags());
    let _servers: Vec<_> = nodes.iter().map(start).collect();
    let clients = 50 * row.scale;
    let fleet = Fleet::gather(nodes, busy(clients));
    fleet.flow(500);
    fleet.order(Orders::Storm);
    fleet.until_hellos(11 * clients as u64);
    fleet.order(Orders::Flow);
    fleet.flow(500);
    row.settle_with(fleet, store)
}

const HABITS: [Habit; 8] = [
    Habit::Steady,
    Habit::Blasting,
    Habit::SlowReader,
    Habit::NeverReading,
    Habit::DeafToClose,
    Habit::Dropping,
    Habit::HalfOpen,
    Habit::Plain,
];
