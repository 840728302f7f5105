//! What happens when Redis is frozen for good and the server has to leave: what is unsaved goes to
//! the spill, and from there to Redis before the next server is ready; or the spill fails, too,
//! and the report says what that means.

use super::campaign::{Row, Tally};
use super::deploys::busy;
use super::disk::Disk;
use super::fleet::Fleet;
use super::holdings;
use super::node;
use crate::support::eventually;
use crate::support::redis::Redis;
use crate::support::server::{Report, Server};

/// The wait for Redis is short here: what comes after it is the matter.
const SHORT: [&str; 3] = [
    "--notify-timeout=200ms",
    "--drain-timeout=500ms",
    "--persist-timeout=1s",
];

struct Scene {
    redis: Redis,
    server: Server,
    fleet: Fleet,
    flags: Vec<String>,
}

impl Scene {
    /// Clients in full traffic before a Redis that freezes, and stays so.
    #[track_caller]
    fn freeze(row: &Row, spill: &str, flags: &[&str], before: impl FnOnce()) -> Self {
        let redis = Redis::durable();
        let flags = [&["--spill", spill], &SHORT[..], flags].concat();
        let flags: Vec<String> = flags.iter().map(|&flag| flag.to_owned()).collect();
        let address = node::address();
        let server = start(&redis, address, &flags);
        let fleet = Fleet::gather(&[address], busy(100 * row.scale));
        fleet.flow(500);
        before();
        redis.freeze();
        eventually("every client has sent what cannot be saved", || {
            server.metric("unsaved_sessions") == Some(fleet.clients() as u64)
        });
        Self {
            redis,
            server,
            fleet,
            flags,
        }
    }

    /// SIGTERM, and the exit.
    #[track_caller]
    fn stop(&mut self, row: &mut Row, code: i32) -> Report {
        self.server.terminate();
        let report = self.server.exits_with(code);
        let (spilled, unsaved) = (report.spilled, report.unsaved.len());
        assert_eq!(
            spilled as usize + unsaved,
            self.fleet.clients(),
            "{report:?}"
        );
        row.note(format!(
            "exit {code}, {spilled} spilled, {unsaved} named as unsaved"
        ));
        report
    }

    /// Nothing of what waits in the sockets of Redis is ever carried out.
    #[track_caller]
    fn restart_redis(&mut self) {
        self.redis.kill();
        self.redis.restart();
    }

    #[track_caller]
    fn serve_again(&mut self) {
        self.server = start(&self.redis, self.server.address, &self.flags);
    }

    #[track_caller]
    fn settle(self, row: &mut Row) -> Tally {
        self.fleet.flow(500);
        row.settle_with_redis(self.fleet, &self.redis)
    }
}

#[track_caller]
fn start(redis: &Redis, address: std::net::SocketAddr, flags: &[String]) -> Server {
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    node::start(&redis.url(), address, &flags)
}

/// Frozen, and back with all that it had.
pub(crate) fn thawed(row: &mut Row) -> Tally {
    replay(row, &[], |scene| scene.redis.thaw())
}

pub(crate) fn restarted(row: &mut Row) -> Tally {
    replay(row, &[], Scene::restart_redis)
}

/// Replies went on while Redis was frozen: only the replay keeps what they have promised.
pub(crate) fn relaxed(row: &mut Row) -> Tally {
    replay(row, &["--durability", "relaxed"], Scene::restart_redis)
}

#[track_caller]
fn replay(row: &mut Row, flags: &[&str], redis_returns: impl FnOnce(&mut Scene)) -> Tally {
    let dir = tempfile::TempDir::new().expect("a temporary directory");
    let spill = format!("sqlite:{}", dir.path().join("spill.db").display());
    let mut scene = Scene::freeze(row, &spill, flags, || {});
    let report = scene.stop(row, 0);
    assert_eq!(report.unsaved, []);
    redis_returns(&mut scene);
    scene.serve_again();
    let words = format!("{} sessions replayed, 0 dropped", report.spilled);
    scene.server.log().until(&words);
    row.note("all replayed");
    scene.settle(row)
}

/// The clients are back before the spill is: their new claims count, its rows do not.
pub(crate) fn elsewhere(row: &mut Row) -> Tally {
    let dir = tempfile::TempDir::new().expect("a temporary directory");
    let spill = format!("sqlite:{}", dir.path().join("spill.db").display());
    let mut scene = Scene::freeze(row, &spill, &[], || {});
    let report = scene.stop(row, 0);
    assert_eq!(report.unsaved, []);
    scene.restart_redis();
    let elsewhere = node::address();
    let _elsewhere = start(&scene.redis, elsewhere, &[]);
    scene.fleet.redirect(&[elsewhere]);
    scene.fleet.until_all_open();
    scene.fleet.flow(500);
    scene.serve_again();
    let words = format!("0 sessions replayed, {} dropped", report.spilled);
    scene.server.log().until(&words);
    scene.server.log().until("had been claimed anew since");
    row.note("all dropped");
    scene.settle(row)
}

/// There is no room for the spill: the report names all that is unsaved.
pub(crate) fn disk_full(row: &mut Row) -> Tally {
    let disk = Disk::mount();
    let scene = Scene::freeze(row, &disk.sqlite(), &[], || disk.fill());
    let tally = name(row, scene, || disk.free());
    drop(disk);
    tally
}

/// The spill cannot be made: a warning at the start, and the report names all that is unsaved.
pub(crate) fn read_only(row: &mut Row) -> Tally {
    let disk = Disk::mount();
    disk.remount("ro");
    let scene = Scene::freeze(row, &disk.sqlite(), &[], || {});
    scene.server.log().until("no spill");
    let tally = name(row, scene, || {});
    drop(disk);
    tally
}

#[track_caller]
fn name(row: &mut Row, mut scene: Scene, repair: impl FnOnce()) -> Tally {
    let report = scene.stop(row, 1);
    assert_ne!(report.unsaved, []);
    scene.restart_redis();
    let sessions = report.unsaved.iter().map(|one| one.session.as_str());
    let stored = holdings::in_redis(scene.redis.port(), sessions);
    for one in &report.unsaved {
        // What Redis had carried out and not yet confirmed may be in it.
        let stored = stored[&one.session].count;
        assert!(stored <= one.count, "{one:?}, and {stored} in the store");
    }
    repair();
    scene.serve_again();
    scene.settle(row)
}
