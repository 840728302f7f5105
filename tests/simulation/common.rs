//! What every part of the world shares: the time, the dice, the wire, the store behind it all, what
//! is going to happen when, and the account of what did.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use sundown::engine::io::{Now, SessionId};
use sundown::engine::shutdown::Timeline;

use super::dice::Dice;
use super::network::{Network, Side, SockId};
use super::options::{Fault, Options};
use super::store::{Request, Truth};
use super::trace::{Seen, Trace};

/// What is going to happen.
#[derive(Debug)]
pub(crate) enum Event {
    /// A connection reaches the node.
    Connect { sock: SockId },
    /// Frames reach a side.
    Arrived { sock: SockId, side: Side },
    /// A reset reaches a side.
    Reset { sock: SockId, side: Side },
    /// A side may send again.
    Room { sock: SockId, side: Side },
    /// A client looks what there is to do.
    Act { client: usize },
    /// A client reads one frame.
    Read { client: usize, sock: SockId },
    /// Requests reach the store.
    StoreWork { node: usize },
    /// Answers reach the node, or it is time to look.
    Poke { node: usize },
    /// A request comes out of the buffers of a link that is dead.
    CarriedOut { node: usize, request: Request },
    /// A node learns that its link is dead; of this number, counted over its life.
    LinkDown { node: usize, link: u32 },
    /// A node has a link again.
    LinkUp { node: usize, link: u32 },
    /// A node hears of a claim.
    News {
        node: usize,
        link: u32,
        session: SessionId,
        epoch: u64,
    },
    /// A node hears of a push.
    Mail {
        node: usize,
        link: u32,
        session: SessionId,
        sent: u64,
    },
    /// Something goes wrong.
    Fault(Fault),
    /// A process gets one more signal.
    Signal { node: usize, life: u32 },
    /// A process is killed.
    Crash { node: usize, life: u32 },
    /// A node's process starts again.
    Restart { node: usize },
    /// Nothing goes wrong from here on.
    FaultsEnd,
}

/// What all share.
pub(crate) struct Common {
    pub(crate) began: Instant,
    pub(crate) now: Now,
    pub(crate) dice: Dice,
    pub(crate) options: Options,
    pub(crate) network: Network,
    pub(crate) truth: Truth,
    pub(crate) trace: Trace,
    pub(crate) seen: Seen,
    /// Sockets that were let go with the promise that all they brought is stored.
    pub(crate) promised: BTreeSet<SockId>,
    /// Faults are over: everyone is at their best.
    pub(crate) is_calm: bool,
    /// Clients do not come back any more.
    pub(crate) is_ending: bool,
    agenda: BTreeMap<(Instant, u64), Event>,
    planned: u64,
}

/// The wall clock at the beginning, in milliseconds since 1970.
const UNIX_MS: u64 = 1_795_000_000_000;

impl Common {
    pub(crate) fn new(seed: u64, trace: Trace) -> Self {
        let mut dice = Dice::new(seed);
        let options = Options::draw(&mut dice);
        let began = sundown::clock::now().instant;
        Self {
            began,
            now: Now {
                instant: began,
                unix_ms: UNIX_MS,
            },
            dice,
            options,
            network: Network::default(),
            truth: Truth::default(),
            trace,
            seen: Seen::default(),
            promised: BTreeSet::new(),
            is_calm: false,
            is_ending: false,
            agenda: BTreeMap::new(),
            planned: 0,
        }
    }

    /// Time since the beginning.
    pub(crate) fn elapsed(&self) -> Duration {
        self.now.instant - self.began
    }

    pub(crate) fn set_now(&mut self, at: Instant) {
        assert!(at >= self.now.instant, "time goes back");
        self.now.instant = at;
        self.now.unix_ms = UNIX_MS + self.elapsed().as_millis() as u64;
    }

    pub(crate) fn say(&mut self, words: impl FnOnce() -> String) {
        let at = self.elapsed();
        self.trace.say(at, words);
    }

    pub(crate) fn plan(&mut self, at: Instant, event: Event) {
        self.planned += 1;
        self.agenda.insert((at, self.planned), event);
    }

    pub(crate) fn plan_after(&mut self, after: Duration, event: Event) {
        self.plan(self.now.instant + after, event);
    }

    /// When the next thing happens.
    pub(crate) fn next_at(&self) -> Option<Instant> {
        self.agenda.keys().next().map(|(at, _)| *at)
    }

    /// Whether a request may still come out of the buffers of a dead link.
    pub(crate) fn has_late_requests(&self) -> bool {
        let is_late = |event: &Event| matches!(event, Event::CarriedOut { .. });
        self.agenda.values().any(is_late)
    }

    /// What happens now.
    pub(crate) fn next_event(&mut self) -> Option<Event> {
        let entry = self.agenda.first_entry()?;
        (entry.key().0 <= self.now.instant).then(|| entry.remove())
    }
}

/// When each phase began.
pub(crate) fn marks(timeline: &Timeline) -> [(&'static str, Option<Instant>); 7] {
    [
        ("the shutdown", timeline.began),
        ("Notifying", timeline.notifying),
        ("Draining", timeline.draining),
        ("Persisting", timeline.persisting),
        ("Closing", timeline.closing),
        ("Sweeping", timeline.sweeping),
        ("Stopped", timeline.stopped),
    ]
}
