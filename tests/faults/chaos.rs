//! Everything at once: two nodes with a spill each, clients that move between them all the time,
//! and one fault after the other, drawn from a seed that the row prints.

use std::net::SocketAddr;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rustix::process::Signal;
use tempfile::TempDir;

use super::campaign::{Row, Tally};
use super::deploys::busy;
use super::fleet::{Fleet, Orders};
use super::node;
use super::resp::Resp;
use crate::support::redis::Redis;
use crate::support::server::Server;
use crate::support::{PATIENCE, ms, pause};

/// Short phases: there is much to do.
const FLAGS: [&str; 4] = [
    "--notify-timeout=100ms",
    "--drain-timeout=300ms",
    "--persist-timeout=800ms",
    "--close-spread=50ms",
];

#[derive(Clone, Copy, Debug)]
enum Fault {
    KillServer,
    StopServer,
    FreezeRedis,
    KillRedis,
    /// The server has to leave while Redis is frozen; then Redis goes on, or is killed.
    StopServerBeforeFrozenRedis {
        killed: bool,
    },
    KillServerBeforeFrozenRedis,
    /// What was spilled is being replayed when the server is killed.
    KillServerAtStart,
    RefuseWrites,
}

struct Scene {
    redis: Redis,
    servers: [Server; 2],
    spills: TempDir,
    rng: StdRng,
}

pub(crate) fn everything(row: &mut Row) -> Tally {
    let redis = Redis::durable();
    let spills = TempDir::new().expect("a temporary directory");
    let start = |at| start(&redis, &spills, at, node::address());
    let mut scene = Scene {
        servers: [start(0), start(1)],
        redis,
        spills,
        rng: StdRng::seed_from_u64(SEED),
    };
    let addresses = [scene.servers[0].address, scene.servers[1].address];
    let fleet = Fleet::gather(&addresses, busy(100 * row.scale));
    fleet.order(Orders::Storm);
    let faults = 15 * row.scale;
    for _ in 0..faults {
        fleet.flow(200);
        scene.strike();
    }
    fleet.order(Orders::Flow);
    fleet.flow(500);
    row.note(format!("{faults} faults, seed {SEED:#x}"));
    row.settle_with_redis(fleet, &scene.redis)
}

#[track_caller]
fn start(redis: &Redis, spills: &TempDir, at: usize, address: SocketAddr) -> Server {
    let spill = spill(spills, at);
    let flags = [&[spill.as_str()], &FLAGS[..]].concat();
    node::start(&redis.url(), address, &flags)
}

fn spill(spills: &TempDir, at: usize) -> String {
    let path = spills.path().join(format!("{at}.db"));
    format!("--spill=sqlite:{}", path.display())
}

impl Scene {
    #[track_caller]
    fn strike(&mut self) {
        let at = self.rng.random_range(0..2);
        let fault = match self.rng.random_range(0..9) {
            0 => Fault::KillServer,
            1 => Fault::StopServer,
            2 => Fault::FreezeRedis,
            3 => Fault::KillRedis,
            4 => Fault::StopServerBeforeFrozenRedis { killed: false },
            5 => Fault::StopServerBeforeFrozenRedis { killed: true },
            6 => Fault::KillServerBeforeFrozenRedis,
            7 => Fault::KillServerAtStart,
            _ => Fault::RefuseWrites,
        };
        eprintln!("    {fault:?}, server {at}");
        let length = ms(self.rng.random_range(0..1_500));
        match fault {
            Fault::KillServer => self.servers[at].kill(),
            Fault::StopServer => drop(self.servers[at].stop()),
            Fault::FreezeRedis => {
                self.redis.freeze();
                pause(length);
                return self.redis.thaw();
            }
            Fault::KillRedis => {
                self.redis.kill();
                pause(length / 4);
                return self.redis.restart();
            }
            Fault::StopServerBeforeFrozenRedis { killed } => {
                self.redis.freeze();
                pause(length / 4);
                self.servers[at].stop();
                self.redis_returns(killed);
            }
            Fault::KillServerBeforeFrozenRedis => {
                self.redis.freeze();
                pause(length / 4);
                self.servers[at].kill();
                self.redis_returns(false);
            }
            Fault::KillServerAtStart => {
                self.redis.freeze();
                self.servers[at].stop();
                self.redis_returns(true);
                self.start_and_kill(at, length / 30);
            }
            Fault::RefuseWrites => {
                let mut control = Resp::connect(self.redis.port());
                control.ask("CONFIG SET maxmemory 1");
                pause(length / 2);
                return drop(control.ask("CONFIG SET maxmemory 0"));
            }
        }
        let address = self.servers[at].address;
        self.servers[at] = start(&self.redis, &self.spills, at, address);
    }

    #[track_caller]
    fn redis_returns(&mut self, killed: bool) {
        if killed {
            self.redis.kill();
            self.redis.restart();
        } else {
            self.redis.thaw();
        }
    }

    /// It may have replayed nothing, all, or some of it.
    #[track_caller]
    fn start_and_kill(&self, at: usize, after: Duration) {
        let spill = spill(&self.spills, at);
        let (mut process, _dir) = Server::spawn(node::program(), &self.redis.url(), &[&spill]);
        pause(after);
        process.signal(Signal::KILL);
        process.wait(PATIENCE);
    }
}

const SEED: u64 = 0x5344_574e;
