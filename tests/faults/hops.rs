//! Two nodes on one store, which are killed, stopped and frozen by turns, and clients that hop from
//! one to the other all the time.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rustix::process::Signal;

use super::fleet::session::Habit;
use super::fleet::{Fleet, Orders, plans};
use super::node;
use crate::support::server::Server;
use crate::support::store::Store;
use crate::support::{ms, now, pause};

/// Short phases: there is much to do.
const FLAGS: [&str; 4] = [
    "--notify-timeout=100ms",
    "--drain-timeout=300ms",
    "--persist-timeout=5s",
    "--close-spread=50ms",
];

#[derive(Clone, Copy, Debug)]
enum Fault {
    Kill,
    Stop,
    Freeze(Duration),
}

pub(crate) struct Hops {
    store: String,
    flags: Vec<String>,
    nodes: [Server; 2],
    pub(crate) fleet: Fleet,
    rng: StdRng,
}

impl Hops {
    /// So many clients on two nodes with these flags, besides short phases. Every other one speaks
    /// `sundown.v2`, and says when it has no more to send; the others' last messages arrive late.
    #[track_caller]
    pub(crate) fn begin(store: &Store, flags: &[&str], clients: usize) -> Self {
        let flags = FLAGS.iter().chain(flags);
        let flags: Vec<String> = flags.map(|&flag| flag.to_owned()).collect();
        let store = store.url();
        let nodes = [(); 2].map(|()| start(&store, node::address(), &flags));
        let addresses = [nodes[0].address, nodes[1].address];
        let mut crowd = plans("steady", clients - clients / 5, Habit::Steady);
        crowd.extend(plans("blasting", clients / 5, Habit::Blasting));
        for plan in crowd.iter_mut().step_by(2) {
            plan.answers_notice = true;
        }
        let fleet = Fleet::gather(&addresses, crowd);
        fleet.order(Orders::Storm);
        Self {
            store,
            flags,
            nodes,
            fleet,
            rng: StdRng::seed_from_u64(SEED),
        }
    }

    /// One fault after the other, until then. Returns how many.
    #[track_caller]
    pub(crate) fn strike_until(&mut self, end: Instant) -> usize {
        let mut faults = 0;
        while now() < end {
            self.fleet.flow(200);
            self.strike();
            faults += 1;
        }
        // Everybody is where the last one has left them, and goes on.
        self.fleet.order(Orders::Flow);
        self.fleet.flow(500);
        faults
    }

    #[track_caller]
    fn strike(&mut self) {
        let at = self.rng.random_range(0..2);
        let fault = match self.rng.random_range(0..3) {
            0 => Fault::Kill,
            1 => Fault::Stop,
            _ => Fault::Freeze(ms(self.rng.random_range(0..1_500))),
        };
        eprintln!("    {fault:?}, node {at}");
        let node = &mut self.nodes[at];
        match fault {
            Fault::Kill => node.kill(),
            Fault::Stop => drop(node.stop()),
            Fault::Freeze(length) => {
                node.signal(Signal::STOP);
                pause(length);
                return node.signal(Signal::CONT);
            }
        }
        *node = start(&self.store, node.address, &self.flags);
    }
}

#[track_caller]
fn start(store: &str, address: SocketAddr, flags: &[String]) -> Server {
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    node::start(store, address, &flags)
}

const SEED: u64 = 0x5344_574e;
