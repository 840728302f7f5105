//! Nodes on one store, which are killed, stopped and frozen by turns, and clients that hop from
//! one to the other all the time.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rustix::process::Signal;

use super::fleet::letters::Says;
use super::fleet::session::Habit;
use super::fleet::{Fleet, Orders, Plan, plans};
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

/// So many clients, every fifth in a hurry. Every other one speaks `sundown.v2`, and says when it has
/// no more to send; the others' last messages arrive late.
pub(crate) fn numbers(clients: usize) -> Vec<Plan> {
    let mut crowd = plans("steady", clients - clients / 5, Habit::Steady);
    crowd.extend(plans("blasting", clients / 5, Habit::Blasting));
    for plan in crowd.iter_mut().step_by(2) {
        plan.answers_notice = true;
    }
    crowd
}

/// So many clients that push to so many others.
pub(crate) fn letters(senders: usize, readers: usize) -> Vec<Plan> {
    let mut crowd = plans("reader", readers, Habit::Steady);
    crowd.extend(plans("sender", senders, Habit::Steady));
    for (at, plan) in crowd.iter_mut().enumerate() {
        plan.answers_notice = true;
        plan.says = if at < readers {
            Says::Nothing
        } else {
            let readers = readers as u64;
            Says::Letters { readers }
        };
    }
    crowd
}

pub(crate) struct Hops {
    store: String,
    flags: Vec<String>,
    nodes: Vec<Server>,
    pub(crate) fleet: Fleet,
    rng: StdRng,
}

impl Hops {
    /// So many nodes with these flags, besides short phases, and these clients.
    #[track_caller]
    pub(crate) fn begin(store: &Store, flags: &[&str], nodes: usize, crowd: Vec<Plan>) -> Self {
        let flags = FLAGS.iter().chain(flags);
        let flags: Vec<String> = flags.map(|&flag| flag.to_owned()).collect();
        let store = store.url();
        let nodes = (0..nodes).map(|_| start(&store, node::address(), &flags));
        let nodes: Vec<Server> = nodes.collect();
        let addresses: Vec<SocketAddr> = nodes.iter().map(|node| node.address).collect();
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
        self.fleet.until_all_open();
        faults
    }

    #[track_caller]
    fn strike(&mut self) {
        let at = self.rng.random_range(0..self.nodes.len());
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
