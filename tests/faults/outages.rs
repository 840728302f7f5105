//! What happens to Redis: killed, frozen, out of memory, demoted, locked, cut off.

use std::time::Duration;

use super::campaign::{Row, Tally};
use super::deploys::busy;
use super::fleet::Fleet;
use super::node;
use super::proxy::Proxy;
use super::resp::Resp;
use crate::support::redis::Redis;
use crate::support::server::Server;
use crate::support::{eventually, ms, pause};

/// A server before this Redis, with clients in full traffic.
#[track_caller]
fn serve(row: &Row, url: &str) -> (Server, Fleet) {
    let address = node::address();
    let server = node::start(url, address, &[]);
    let fleet = Fleet::gather(&[address], busy(100 * row.scale));
    fleet.flow(500);
    (server, fleet)
}

#[track_caller]
fn until_readiness(server: &Server, status: u16) {
    eventually(&format!("readiness {status}"), || {
        server.readiness() == status
    });
}

/// A clean end of the server: nothing is left to save.
#[track_caller]
fn stop(row: &mut Row, server: &mut Server) {
    server.stop();
    row.note("exit 0");
}

pub(crate) fn kill_redis_always(row: &mut Row) -> Tally {
    kill_redis(row, Redis::durable())
}

pub(crate) fn kill_redis_everysec(row: &mut Row) -> Tally {
    let options = ["--appendonly", "yes", "--appendfsync", "everysec"];
    kill_redis(row, Redis::with(&options))
}

fn kill_redis(row: &mut Row, mut redis: Redis) -> Tally {
    let (server, fleet) = serve(row, &redis.url());
    let kills = 5 * row.scale;
    for _ in 0..kills {
        redis.kill();
        until_readiness(&server, 503);
        redis.restart();
        until_readiness(&server, 200);
        fleet.flow(500);
    }
    row.note(format!("{kills} kills"));
    row.settle_with_redis(fleet, &redis)
}

/// Nobody has the counts any more. The accounts must show it.
pub(crate) fn kill_both(row: &mut Row) -> Tally {
    let mut redis = Redis::start();
    let (mut server, fleet) = serve(row, &redis.url());
    server.kill();
    redis.kill();
    redis.restart();
    let _server = node::start(&redis.url(), server.address, &[]);
    fleet.flow(500);
    row.note("the control: a store that forgets");
    row.settle_with_redis(fleet, &redis)
}

pub(crate) fn freeze_1s(row: &mut Row) -> Tally {
    freeze(row, Duration::from_secs(1))
}

pub(crate) fn freeze_5s(row: &mut Row) -> Tally {
    freeze(row, Duration::from_secs(5))
}

fn freeze(row: &mut Row, length: Duration) -> Tally {
    let redis = Redis::durable();
    let (server, fleet) = serve(row, &redis.url());
    for _ in 0..row.scale {
        redis.freeze();
        // The fault itself: not a wait for anything.
        pause(length);
        redis.thaw();
        until_readiness(&server, 200);
        fleet.flow(500);
    }
    row.settle_with_redis(fleet, &redis)
}

/// A big snapshot to load, slowly: Redis answers every request with an error meanwhile.
pub(crate) fn loading(row: &mut Row) -> Tally {
    let mut redis = Redis::durable();
    let (mut server, fleet) = serve(row, &redis.url());
    for _ in 0..2 * row.scale {
        fatten(&redis);
        redis.kill();
        until_readiness(&server, 503);
        // Half a millisecond for each key, and a look at what clients ask after each kilobyte.
        redis.restart_with(&[
            "--key-load-delay",
            "500",
            "--loading-process-events-interval-bytes",
            "1024",
        ]);
        until_readiness(&server, 200);
        fleet.flow(500);
    }
    let tally = row.settle_with_redis(fleet, &redis);
    stop(row, &mut server);
    assert_log(&server, "LOADING");
    tally
}

/// Two thousand keys more, in the snapshot with which the log begins.
#[track_caller]
fn fatten(redis: &Redis) {
    let mut control = Resp::connect(redis.port());
    let keys: Vec<String> = (0..2_000).map(|key| format!("ballast:{key} x")).collect();
    control.ask(&format!("MSET {}", keys.join(" ")));
    control.ask("BGREWRITEAOF");
    eventually("a new snapshot", || {
        let info = format!("{:?}", control.ask("INFO persistence"));
        ["in_progress", "scheduled"]
            .iter()
            .all(|what| info.contains(&format!("aof_rewrite_{what}:0")))
    });
}

#[track_caller]
fn assert_log(server: &Server, word: &str) {
    let log = server.log().all();
    assert!(log.iter().any(|line| line.contains(word)), "{log:?}");
}

/// Redis has no room for new sessions: those that are open go on.
pub(crate) fn out_of_memory(row: &mut Row) -> Tally {
    let redis = Redis::durable();
    let (mut server, fleet) = serve(row, &redis.url());
    let mut control = Resp::connect(redis.port());
    control.ask("CONFIG SET maxmemory 1");
    fleet.flow(500);
    until_readiness(&server, 200);
    // Whoever comes back now is refused until there is room.
    control.ask("CONFIG SET maxmemory 0");
    fleet.flow(500);
    let tally = row.settle_with_redis(fleet, &redis);
    stop(row, &mut server);
    tally
}

pub(crate) fn read_only(row: &mut Row) -> Tally {
    // Nobody listens on port 1, so that the primary has nothing to replace the data with.
    let into = |redis: &mut Resp| drop(redis.ask("REPLICAOF 127.0.0.1 1"));
    let out_of = |redis: &mut Resp| drop(redis.ask("REPLICAOF NO ONE"));
    refuse(row, into, out_of, "READONLY")
}

pub(crate) fn no_auth(row: &mut Row) -> Tally {
    let into = |redis: &mut Resp| {
        redis.ask("CONFIG SET requirepass secret");
        // Who is in stays in, so that they must be shown out.
        redis.ask("CLIENT KILL TYPE normal");
        redis.ask("CLIENT KILL TYPE pubsub");
    };
    let out_of = |redis: &mut Resp| drop(redis.ask("CONFIG SET requirepass \"\""));
    refuse(row, into, out_of, "NOAUTH")
}

/// Redis lives, and refuses.
#[track_caller]
fn refuse(
    row: &mut Row,
    into: impl Fn(&mut Resp),
    out_of: impl Fn(&mut Resp),
    word: &str,
) -> Tally {
    let redis = Redis::durable();
    let (mut server, fleet) = serve(row, &redis.url());
    let mut control = Resp::connect(redis.port());
    let times = 3 * row.scale;
    for _ in 0..times {
        into(&mut control);
        until_readiness(&server, 503);
        pause(ms(300));
        out_of(&mut control);
        until_readiness(&server, 200);
        fleet.flow(500);
    }
    row.note(format!("{times} times"));
    let tally = row.settle_with_redis(fleet, &redis);
    stop(row, &mut server);
    assert_log(&server, word);
    tally
}

pub(crate) fn cuts(row: &mut Row) -> Tally {
    let redis = Redis::durable();
    let proxy = Proxy::before(redis.port());
    // Each node waits longer after each cut, so that several make more of them.
    let nodes = [(); 4].map(|()| node::address());
    let servers = nodes.map(|address| node::start(&proxy.url(), address, &[]));
    let fleet = Fleet::gather(&nodes, busy(100 * row.scale));
    fleet.flow(500);
    proxy.cut(true);
    for round in 1..=row.scale {
        eventually("cuts", || proxy.cuts() >= CUTS * round);
    }
    let cuts = proxy.cuts();
    proxy.cut(false);
    for server in &servers {
        until_readiness(server, 200);
    }
    fleet.flow(500);
    row.note(format!("{cuts} cuts, each after another number of bytes"));
    row.settle_with_redis(fleet, &redis)
}

/// In a round; the waits between them grow to two seconds.
const CUTS: usize = 30;
