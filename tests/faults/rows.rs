//! The rows of the campaign as data: each fault, on which store, with what durability, and what the
//! store itself promises there.

use super::campaign::{Fault, Promise, Row, Tally};
use super::{chaos, deploys, disks, full_disk, hopping, outages, spills};

type Run = fn(&mut Row) -> Tally;

pub(crate) const FAULTS: &[Fault] = &[
    sqlite("SIGTERM, the next node takes over", deploys::sigterm),
    redis("SIGTERM, the next node takes over", deploys::sigterm),
    relaxed("SIGTERM, the next node takes over", deploys::sigterm),
    sqlite("SIGTERM, 1,000 clients of all habits", deploys::all_habits),
    sqlite("`kill -9`", deploys::kill),
    redis("`kill -9`", deploys::kill),
    sqlite(
        "50 restarts, SIGTERM and `kill -9` by turns",
        deploys::restarts,
    ),
    redis(
        "50 restarts, SIGTERM and `kill -9` by turns",
        deploys::restarts,
    ),
    sqlite("takeover storm on one node", deploys::storm_on_one_node),
    sqlite(
        "takeover storm between two nodes",
        deploys::storm_between_nodes,
    ),
    redis(
        "takeover storm between two nodes",
        deploys::storm_between_nodes,
    ),
    Fault {
        promise: Promise::MayBreak,
        ..relaxed(
            "takeover storm between two nodes",
            deploys::storm_between_nodes,
        )
    },
    redis(
        "takeover storm, no news of claims",
        deploys::storm_without_news,
    ),
    sqlite(
        "two nodes killed, stopped, frozen in a storm",
        hopping::at_once,
    ),
    redis(
        "two nodes killed, stopped, frozen in a storm",
        hopping::at_once,
    ),
    sqlite("the same, steps completed by threads", hopping::deferred),
    redis("the same, steps completed by threads", hopping::deferred),
    redis(
        "the same, five nodes push to 1,000 sessions",
        hopping::pushes,
    ),
    redis("Redis `kill -9`, restarted", outages::kill_redis_always),
    Fault {
        store: "Redis, AOF everysec",
        promise: Promise::MayBreak,
        ..redis("Redis `kill -9`, restarted", outages::kill_redis_everysec)
    },
    Fault {
        store: "Redis without persistence",
        promise: Promise::Breaks,
        ..redis("Redis and server `kill -9`, restarted", outages::kill_both)
    },
    redis("Redis SIGSTOP for 1 s", outages::freeze_1s),
    redis("Redis SIGSTOP for 5 s", outages::freeze_5s),
    redis("Redis SIGSTOP for good, SIGTERM, SIGCONT", spills::thawed),
    redis(
        "Redis SIGSTOP for good, SIGTERM, both restarted",
        spills::restarted,
    ),
    relaxed(
        "Redis SIGSTOP for good, SIGTERM, both restarted",
        spills::relaxed,
    ),
    redis(
        "the same, clients back elsewhere before the replay",
        spills::elsewhere,
    ),
    redis("the same, disk of the spill full", spills::disk_full),
    redis(
        "the same, directory of the spill read-only",
        spills::read_only,
    ),
    redis("Redis answers `-LOADING`", outages::loading),
    redis("Redis answers `-OOM`", outages::out_of_memory),
    redis("Redis answers `-READONLY`", outages::read_only),
    redis("Redis answers `-NOAUTH`", outages::no_auth),
    redis("cut in the middle of a reply of Redis", outages::cuts),
    sqlite("disk full, SIGTERM, `kill -9`; tmpfs", full_disk::tmpfs),
    sqlite("disk full, SIGTERM, `kill -9`; ext4", full_disk::ext4),
    sqlite("disk full, clients push to each other", full_disk::pushes),
    sqlite("disk full at a start", full_disk::start),
    sqlite("directory read-only at a start", disks::read_only),
    sqlite(
        "disk becomes read-only under the server",
        disks::becomes_read_only,
    ),
    redis(
        "all of it, two nodes, in a storm of takeovers",
        chaos::everything,
    ),
];

const fn sqlite(name: &'static str, run: Run) -> Fault {
    Fault {
        name,
        store: "SQLite",
        durability: "acked",
        promise: Promise::Kept,
        run,
    }
}

const fn redis(name: &'static str, run: Run) -> Fault {
    Fault {
        store: "Redis, AOF always",
        ..sqlite(name, run)
    }
}

const fn relaxed(name: &'static str, run: Run) -> Fault {
    Fault {
        durability: "relaxed",
        ..redis(name, run)
    }
}
