//! A crowd: many hostile peers on one thread, which does as its plan says until it is sent home,
//! and what became of each of them.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread::JoinHandle;

use crate::peer::{Fate, Peer};
use crate::plans::{Habit, Plan, Script};
use crate::support::{PATIENCE, ms, now, pause};

/// How many peers met each fate.
pub(crate) type Tally = BTreeMap<Fate, usize>;

pub(crate) struct Crowd {
    thread: JoinHandle<Host>,
    go_home: Arc<AtomicBool>,
}

impl Crowd {
    /// Returns when everyone has come and is at it.
    #[track_caller]
    pub(crate) fn gather(address: SocketAddr, plan: &Plan) -> Self {
        let go_home = Arc::new(AtomicBool::new(false));
        let theirs = Arc::clone(&go_home);
        let (ready, readied) = channel();
        let (habit, sockets) = (plan.habit, plan.sockets);
        let is_websocket = plan.bound.is_websocket;
        let scripts = plan.scripts.clone();
        let thread = std::thread::spawn(move || {
            let mut host = Host {
                address,
                habit,
                scripts: scripts.into_iter().map(Arc::new).collect(),
                is_websocket,
                sockets,
                came: 0,
                peers: VecDeque::new(),
                tally: Tally::new(),
            };
            host.welcome();
            // The good client shares its core, and must not wait for the crowd there: it is the
            // server's fairness that is asked for.
            rustix::process::nice(19).expect("nicer is always allowed");
            ready.send(()).expect("the test waits");
            while !theirs.load(Ordering::Relaxed) {
                host.round();
            }
            host
        });
        readied
            .recv_timeout(PATIENCE * 3)
            .expect("the whole crowd gets there");
        Self { thread, go_home }
    }

    #[track_caller]
    pub(crate) fn disperse(self) -> Tally {
        self.go_home.store(true, Ordering::Relaxed);
        match self.thread.join() {
            Ok(host) => host.send_home(),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

struct Host {
    address: SocketAddr,
    habit: Habit,
    scripts: Vec<Arc<Script>>,
    is_websocket: bool,
    sockets: usize,
    came: usize,
    peers: VecDeque<Peer>,
    tally: Tally,
}

impl Host {
    fn invite(&mut self) -> Peer {
        let script = &self.scripts[self.came % self.scripts.len()];
        self.came += 1;
        Peer::connect(self.address, script)
    }

    fn welcome(&mut self) {
        while self.peers.len() < self.sockets {
            let mut peer = self.invite();
            if self.is_websocket || self.habit != Habit::Trickling {
                peer.write_once();
            }
            self.peers.push_back(peer);
        }
        while self.habit == Habit::Trickling && !self.is_websocket && self.came < 2 * self.sockets {
            // In its stride: everyone has been sent away once.
            self.round();
        }
        if self.is_websocket {
            let deadline = now() + PATIENCE;
            for peer in &mut self.peers {
                while !peer.is_upgraded() && peer.read().is_none() {
                    assert!(now() < deadline, "no 101");
                    pause(ms(1));
                }
            }
        }
    }

    fn round(&mut self) {
        match self.habit {
            Habit::Holding => pause(ms(1)),
            Habit::Arriving => {
                let mut peer = self.invite();
                peer.write_once();
                self.peers.push_back(peer);
                if let Some(oldest) = self.peers.pop_front() {
                    drop(oldest);
                }
            }
            Habit::Trickling => {
                // Each of a thousand once a second.
                if let Some(mut peer) = self.peers.pop_front() {
                    peer.write(1);
                    self.keep_or_replace(peer);
                }
                pause(ms(1_000) / u32::try_from(self.sockets).expect("a crowd"));
            }
            Habit::Sending | Habit::Deaf => self.flood(),
        }
    }

    fn flood(&mut self) {
        let mut moved = 0;
        for _ in 0..self.peers.len() {
            let Some(mut peer) = self.peers.pop_front() else {
                return;
            };
            match peer.write(ROUND_BYTES) {
                Some(len) => {
                    moved += len;
                    self.keep_or_replace(peer);
                }
                None => self.replace(Fate::Reset),
            }
        }
        if moved == 0 {
            pause(ms(1));
        }
    }

    fn keep_or_replace(&mut self, mut peer: Peer) {
        let listens = self.habit != Habit::Deaf;
        let fate = if listens { peer.read() } else { None };
        match fate {
            None => self.peers.push_back(peer),
            Some(fate) => self.replace(fate),
        }
    }

    fn replace(&mut self, fate: Fate) {
        *self.tally.entry(fate).or_default() += 1;
        let next = self.invite();
        self.peers.push_back(next);
    }

    fn send_home(mut self) -> Tally {
        // A flood takes its time to be read to its end, and nothing depends on it.
        let is_flood = self.is_websocket && matches!(self.habit, Habit::Sending | Habit::Deaf);
        let deadline = now() + if is_flood { ms(1_000) } else { PATIENCE };
        self.peers.iter().for_each(Peer::finish);
        for peer in self.peers {
            *self.tally.entry(peer.hear_out(deadline)).or_default() += 1;
        }
        self.tally
    }
}

/// What one peer may write before the next has its turn.
const ROUND_BYTES: usize = 64 << 10;
