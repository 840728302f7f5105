//! Many clients in one thread, each with an outbox exactly as docs/protocol.md says, and what they
//! have to say of it when all is over. The test decides where they may go and when
//! they are to finish; they find their own way back after whatever happens to them.

pub(crate) mod journal;
pub(crate) mod ledger;
pub(crate) mod letters;
mod link;
pub(crate) mod session;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use mio::{Events, Poll, Token};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use crate::support::{eventually, ms, now};
use journal::Break;
use ledger::Ledger;
use letters::{Received, Says};
use session::{Habit, Session, Shell};

/// A client to be.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) session: String,
    pub(crate) habit: Habit,
    /// It comes back when the server has asked it to, and not at once.
    pub(crate) heeds_wait: bool,
    /// It speaks `sundown.v2`: it answers a notice with `q`, and holds what it has to say then.
    pub(crate) answers_notice: bool,
    pub(crate) says: Says,
}

/// What a client has to say when all is over.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    pub(crate) ledger: Ledger,
    pub(crate) says: Says,
    pub(crate) received: Received,
    pub(crate) breaks: Vec<Break>,
}

/// What the test says to the clients, and what it sees of them.
#[derive(Debug)]
pub(crate) struct Shared {
    nodes: Mutex<Vec<SocketAddr>>,
    orders: Mutex<Orders>,
    /// The sum of all counts that were acknowledged.
    acknowledged: AtomicU64,
    /// Clients that can send.
    open: AtomicUsize,
    hellos: AtomicU64,
    /// Messages that clients want to be counted, and pushes that have reached them; unknown while there
    /// is a storm, in which both grow.
    posted: Mutex<Option<(u64, u64)>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Orders {
    /// New messages all the time.
    Flow,
    /// The same, and each client moves to another connection again and again.
    Storm,
    /// Good manners, no new messages, and a Close when everything is acknowledged.
    Finish,
    /// Drop everything.
    Abandon,
}

pub(crate) struct Fleet {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Vec<Account>>>,
    clients: usize,
    sessions: usize,
}

/// Clients of one habit, with a session each.
pub(crate) fn plans(name: &str, count: usize, habit: Habit) -> Vec<Plan> {
    let plan = |at| Plan {
        session: format!("{name}-{at}"),
        habit,
        heeds_wait: true,
        answers_notice: false,
        says: Says::Numbers,
    };
    (0..count).map(plan).collect()
}

impl Fleet {
    /// Connects everyone, and returns when each can send.
    #[track_caller]
    pub(crate) fn gather(nodes: &[SocketAddr], plans: Vec<Plan>) -> Self {
        let shared = Arc::new(Shared {
            nodes: Mutex::new(nodes.to_vec()),
            orders: Mutex::new(Orders::Flow),
            acknowledged: AtomicU64::new(0),
            open: AtomicUsize::new(0),
            hellos: AtomicU64::new(0),
            posted: Mutex::new(None),
        });
        let clients = plans.len();
        let is_open = |plan: &&Plan| plan.habit != Habit::HalfOpen;
        let sessions = plans.iter().filter(is_open).count();
        let theirs = Arc::clone(&shared);
        let thread = std::thread::spawn(move || drive(plans, &theirs));
        let fleet = Self {
            shared,
            thread: Some(thread),
            clients,
            sessions,
        };
        fleet.until_all_open();
        fleet
    }

    pub(crate) fn clients(&self) -> usize {
        self.clients
    }

    /// Waits until every client but the half-open ones can send.
    #[track_caller]
    pub(crate) fn until_all_open(&self) {
        eventually("every client can send", || {
            self.shared.open.load(Ordering::Relaxed) == self.sessions
        });
    }

    /// Waits until so many more messages are acknowledged.
    #[track_caller]
    pub(crate) fn flow(&self, messages: u64) {
        let acknowledged = || self.shared.acknowledged.load(Ordering::Relaxed);
        let goal = acknowledged() + messages;
        eventually("messages are acknowledged", || acknowledged() >= goal);
    }

    /// Hellos so far.
    pub(crate) fn hellos(&self) -> u64 {
        self.shared.hellos.load(Ordering::Relaxed)
    }

    /// Waits until so many hellos have come.
    #[track_caller]
    pub(crate) fn until_hellos(&self, hellos: u64) {
        eventually("hellos", || self.hellos() >= hellos);
    }

    /// Waits until every push has reached its client: of clients that say nothing else, after a storm.
    #[track_caller]
    pub(crate) fn until_all_received(&self) {
        eventually("every push is received", || {
            let posted = *self.shared.posted.lock().expect("no holder panics");
            posted.is_some_and(|(wanted, received)| received >= wanted)
        });
    }

    pub(crate) fn order(&self, orders: Orders) {
        *self.shared.orders.lock().expect("no holder panics") = orders;
    }

    /// Where clients go from now on when they connect.
    pub(crate) fn redirect(&self, nodes: &[SocketAddr]) {
        *self.shared.nodes.lock().expect("no holder panics") = nodes.to_vec();
    }

    /// Everyone comes back and finishes; the accounts of those with a session. Who cannot finish
    /// in good time is not complete, which its account says.
    pub(crate) fn finish(mut self) -> Vec<Account> {
        self.order(Orders::Finish);
        self.join()
    }

    fn join(&mut self) -> Vec<Account> {
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(accounts)) => accounts,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => Vec::new(),
        }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.order(Orders::Abandon);
        if let Some(thread) = self.thread.take() {
            // A panic of its own has been printed; a second one here would abort.
            drop(thread.join());
        }
    }
}

impl Shared {
    fn orders(&self) -> Orders {
        *self.orders.lock().expect("no holder panics")
    }
}

fn drive(plans: Vec<Plan>, shared: &Shared) -> Vec<Account> {
    let mut poll = Poll::new().expect("a poll");
    let mut events = Events::with_capacity(1_024);
    let each = plans.into_iter().enumerate();
    let mut sessions: Vec<Session> = each.map(|(at, plan)| Session::new(plan, at)).collect();
    let mut rng = StdRng::seed_from_u64(SEED);
    let mut give_up_at = None;
    let mut tick_at = now();
    loop {
        // Interrupted by a signal that a child's end brings: the next round waits again.
        drop(poll.poll(&mut events, Some(TICK)));
        for event in &events {
            let Token(token) = event.token();
            sessions[token / 2].ready(token % 2);
        }
        let time = now();
        if time < tick_at {
            continue;
        }
        tick_at = time + TICK;
        let orders = shared.orders();
        let nodes = shared.nodes.lock().expect("no holder panics").clone();
        for (at, session) in sessions.iter_mut().enumerate() {
            let registry = poll.registry();
            let mut shell = Shell {
                nodes: &nodes,
                orders,
                registry,
                token: at * 2,
                rng: &mut rng,
                now: time,
            };
            session.tick(&mut shell);
        }
        publish(&sessions, orders, shared);
        if orders == Orders::Finish {
            let deadline = *give_up_at.get_or_insert(time + FINISH_MAX);
            if time >= deadline || sessions.iter().all(Session::is_done) {
                break;
            }
        }
        if orders == Orders::Abandon {
            break;
        }
    }
    sessions.into_iter().filter_map(Session::account).collect()
}

fn publish(sessions: &[Session], orders: Orders, shared: &Shared) {
    let (mut acknowledged, mut open, mut hellos, mut posted) = (0, 0, 0, (0, 0));
    for session in sessions {
        acknowledged += session.ledger.acknowledged;
        open += usize::from(session.takes_part());
        hellos += session.ledger.hellos;
        posted.0 += session.ledger.wanted;
        posted.1 += session.received.last();
    }
    shared.acknowledged.store(acknowledged, Ordering::Relaxed);
    shared.open.store(open, Ordering::Relaxed);
    shared.hellos.store(hellos, Ordering::Relaxed);
    let posted = (orders != Orders::Storm).then_some(posted);
    *shared.posted.lock().expect("no holder panics") = posted;
}

const TICK: Duration = ms(2);
/// How long everyone may take to come back and finish.
const FINISH_MAX: Duration = Duration::from_secs(40);
/// Every run paces its clients alike.
const SEED: u64 = 0x5344_574e;
