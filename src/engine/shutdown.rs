//! The shutdown machine: which phase, until when, and what each transition asks for.
//!
//! It owns the phase and the deadlines of docs/shutdown.md. It never sees a connection, a session
//! or a store: it is given levels ([`Census`]), and returns [`Action`]s. The whole table and its
//! graph are committed in docs/ and compared with this code by the tests.
//!
//! ```text
//! Serving → Delaying → Notifying → Draining → Persisting → Closing → Sweeping → Stopped
//! ```
//!
//! A phase ends when its work is done, or when its deadline is due; it never goes back. A second
//! request skips to Persisting, a third to Stopped.

mod outcome;
mod timeline;

use std::fmt;
use std::time::{Duration, Instant};

pub use self::outcome::Outcome;
pub use self::timeline::{Phase, Timeline};
use crate::config::ShutdownBudget;

/// The source of a request to shut down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// SIGTERM.
    Sigterm,
    /// SIGINT.
    Sigint,
    /// SIGHUP, since the terminal has gone.
    Sighup,
    /// `Handle::shutdown`.
    Handle,
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sigterm => "SIGTERM",
            Self::Sigint => "SIGINT",
            Self::Sighup => "SIGHUP",
            Self::Handle => "handle",
        })
    }
}

/// A request to shut down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Its source.
    pub trigger: Trigger,
    /// When the request came, which may be long before the loop has seen it.
    pub at: Instant,
}

/// The phase, with its deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No shutdown is under way.
    Serving,
    /// Readiness is 503, all else goes on: balancers take their time to notice.
    Delaying {
        /// When the shutdown proper begins.
        deadline: Instant,
    },
    /// Every client is told.
    Notifying {
        /// When the phase ends, notified or not.
        deadline: Instant,
    },
    /// Still reads, processes, answers.
    Draining {
        /// When the phase ends, drained or not.
        deadline: Instant,
        /// When it began: the quiet time begins here at the earliest.
        since: Instant,
    },
    /// Every session is saved; nothing is read.
    Persisting {
        /// When the phase ends, saved or not.
        deadline: Instant,
    },
    /// Goodbye and Close 1001 to each, then read on until the peer's Close.
    Closing {
        /// When the rest is cut.
        deadline: Instant,
    },
    /// The accept queue is shut; connections in it, or half through the TCP handshake, are
    /// answered.
    Sweeping {
        /// When the rest is cut.
        deadline: Instant,
        /// When those half through the TCP handshake are in the queue.
        settled: Instant,
    },
    /// Listener and sockets are gone.
    Stopped,
}

impl State {
    /// The phase.
    pub fn phase(self) -> Phase {
        match self {
            Self::Serving => Phase::Serving,
            Self::Delaying { .. } => Phase::Delaying,
            Self::Notifying { .. } => Phase::Notifying,
            Self::Draining { .. } => Phase::Draining,
            Self::Persisting { .. } => Phase::Persisting,
            Self::Closing { .. } => Phase::Closing,
            Self::Sweeping { .. } => Phase::Sweeping,
            Self::Stopped => Phase::Stopped,
        }
    }
}

/// What moves the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The first request to shut down.
    Begin,
    /// The second: skip the drain.
    Hurry,
    /// The third, or any later one: at once.
    Quit,
    /// The census says that the phase's work is done.
    Done,
    /// The phase's deadline has come.
    Due,
}

/// What a transition asks the engine to do, in the order in which it is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Readiness answers 503 from here on.
    Unready,
    /// Background tasks stop, upgrades are answered 503, the notice goes to all.
    Notify,
    /// Stop reading; hand every unsaved session to the store, and sync it.
    Persist,
    /// The store has had its time: what it has not confirmed goes into the spill.
    GiveUp,
    /// Goodbye and Close to each, spread out; then read what comes late.
    SayGoodbye,
    /// Cut the peers that have not closed: in slices, or all at once if this is the end.
    CutPeers,
    /// Shut the accept queue: nobody new gets in, whoever is in is still answered.
    CloseListener,
    /// Nothing is left to do.
    Stop,
}

/// The levels that end a phase, counted anew for each turn from the lists that hold the work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// WebSocket connections that are not closed yet.
    pub connections: usize,
    /// Those of them that leave at a slot of their own, and wait for it, or for what they have sent
    /// to be committed.
    pub leaving: usize,
    /// Those of them that have left: what is said to them is said.
    pub left: usize,
    /// Whether the notice or a broadcast is still to be queued for some connection.
    pub untold: usize,
    /// Connections with bytes that the kernel has not taken.
    pub unsent: usize,
    /// Connections with input that is not processed.
    pub unread: usize,
    /// Saves, claims and syncs that the store has not confirmed.
    pub unsaved: usize,
    /// Sockets that are not WebSocket connections, or not any more.
    pub strangers: usize,
    /// When a peer was last heard.
    pub heard_at: Option<Instant>,
}

impl Census {
    /// Nothing is buffered in or out, and no save is pending.
    fn is_idle(&self) -> bool {
        self.unread == 0 && self.unsent == 0 && self.unsaved == 0
    }

    /// All sockets are closed, and everything is saved.
    fn is_swept(&self) -> bool {
        self.sockets() == 0 && self.unsaved == 0
    }

    /// Sockets of every kind.
    fn sockets(&self) -> usize {
        self.connections + self.strangers
    }
}

/// What a delay leaves at least for telling, draining and saving, if the timeout allows.
const LEAST_TIME: Duration = Duration::from_secs(1);

/// What the goodbyes have at least before the rest is cut, if the timeout allows: a round trip and
/// some turns. Cut in the moment in which they are sent, they would be lost to a reset.
const CLOSE_TIME: Duration = Duration::from_millis(250);

/// How long other sockets have to read their answer, once the accept queue is shut.
const SWEEP_TIME: Duration = Duration::from_millis(250);

/// How long a TCP handshake may take that was half through when the queue was shut: a few round
/// trips within a data centre.
const SETTLE_TIME: Duration = Duration::from_millis(10);

/// The time to cut one socket, with its goodbye, if this process has a tenth of a core. The cut
/// begins so much earlier for each socket beyond `CUT_AT_ONCE_MAX`, and at most by a third of the
/// timeout.
const CUT_TIME: Duration = Duration::from_micros(250);
const CUT_AT_ONCE_MAX: usize = 1_000;

/// A signal that comes so soon after one that counted is the same one: `timeout` signals the
/// process and then its group, and so do some supervisors.
const REPEAT_WITHIN: Duration = Duration::from_millis(500);

/// The machine.
#[derive(Debug)]
pub struct Shutdown {
    budget: ShutdownBudget,
    state: State,
    requests: u32,
    /// When the last signal came that counted.
    signalled_at: Option<Instant>,
    repeats: u32,
    timeline: Timeline,
    /// Those of the last turn: connections, and sockets of every kind.
    connections: usize,
    sockets: usize,
}

impl Shutdown {
    /// A server that serves.
    pub fn new(budget: ShutdownBudget) -> Self {
        Self {
            budget,
            state: State::Serving,
            requests: 0,
            signalled_at: None,
            repeats: 0,
            timeline: Timeline::default(),
            connections: 0,
            sockets: 0,
        }
    }

    /// The phase.
    pub fn state(&self) -> State {
        self.state
    }

    /// When each phase began.
    pub fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    /// Signals that were taken for the one before.
    pub fn repeats(&self) -> u32 {
        self.repeats
    }

    /// Someone asks for the shutdown. All times are counted from when the first request came.
    pub fn handle_request(&mut self, request: Request, now: Instant) -> &'static [Action] {
        let at = request.at.min(now);
        if request.trigger != Trigger::Handle {
            let since = |counted| at.saturating_duration_since(counted);
            if self
                .signalled_at
                .is_some_and(|it| since(it) < REPEAT_WITHIN)
            {
                self.repeats = self.repeats.saturating_add(1);
                return &[];
            }
            self.signalled_at = Some(at);
        }
        self.requests = self.requests.saturating_add(1);
        self.timeline.began.get_or_insert(at);
        let event = match self.requests {
            1 => Event::Begin,
            2 => Event::Hurry,
            _ => Event::Quit,
        };
        self.step(event, now)
    }

    /// A turn has passed. Call it again until it returns nothing: a phase without work ends at
    /// once.
    pub fn handle_census(&mut self, census: &Census, now: Instant) -> &'static [Action] {
        (self.connections, self.sockets) = (census.connections, census.sockets());
        let cut_at = self.timeline.began.map(|began| self.cut_at(began));
        if let (State::Closing { deadline }, Some(at)) = (&mut self.state, cut_at) {
            // The fewer sockets are left, the later the cut begins.
            *deadline = at;
        }
        if self.done_at(census).is_some_and(|at| now >= at) {
            self.step(Event::Done, now)
        } else if self.deadline().is_some_and(|deadline| now >= deadline) {
            self.step(Event::Due, now)
        } else {
            &[]
        }
    }

    /// When `handle_census` must be called again at the latest, if nothing changes until then.
    pub fn poll_timeout(&self, census: &Census) -> Option<Instant> {
        self.deadline()
            .into_iter()
            .chain(self.done_at(census))
            .min()
    }

    /// When the whole must be over. `None` while serving.
    pub fn end(&self) -> Option<Instant> {
        self.timeline.began.map(|began| began + self.budget.timeout)
    }

    /// When draining ends at the latest. `None` while serving.
    pub fn drain_end(&self) -> Option<Instant> {
        self.timeline
            .began
            .map(|began| self.clamped(began, self.budget.drain))
    }

    /// Over how long the goodbyes are spread, if they begin now: at most half of the time left.
    pub fn close_spread(&self, now: Instant) -> Duration {
        let left = self
            .deadline()
            .map_or(Duration::ZERO, |d| d.saturating_duration_since(now));
        self.budget.close_spread.min(left / 2)
    }

    fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Serving | State::Stopped => None,
            State::Delaying { deadline }
            | State::Notifying { deadline }
            | State::Draining { deadline, .. }
            | State::Persisting { deadline }
            | State::Closing { deadline }
            | State::Sweeping { deadline, .. } => Some(deadline),
        }
    }

    /// When the phase's work is done, if the levels stay as they are; `None` while some is left.
    fn done_at(&self, census: &Census) -> Option<Instant> {
        let began = self.timeline.began?;
        match self.state {
            State::Serving | State::Delaying { .. } | State::Stopped => None,
            State::Notifying { .. } => (census.untold == 0 && census.unsent == 0).then_some(began),
            State::Draining { since, .. } if census.connections == census.left => Some(since),
            State::Draining { .. } if census.leaving > 0 => None,
            State::Draining { since, .. } => census.is_idle().then(|| self.quiet_at(since, census)),
            State::Persisting { .. } => (census.unsaved == 0).then_some(began),
            State::Closing { .. } => (census.connections == 0).then_some(began),
            State::Sweeping { settled, .. } => census.is_swept().then_some(settled),
        }
    }

    fn quiet_at(&self, since: Instant, census: &Census) -> Instant {
        census.heard_at.map_or(since, |heard| heard.max(since)) + self.budget.drain_quiet
    }

    /// The whole table. An event that means nothing to a phase leaves it as it is.
    fn step(&mut self, event: Event, now: Instant) -> &'static [Action] {
        use Action::{CloseListener, CutPeers, GiveUp, Notify, Persist, SayGoodbye, Stop, Unready};
        use Event::{Begin, Done, Due, Hurry, Quit};
        use State::{
            Closing, Delaying, Draining, Notifying, Persisting, Serving, Stopped, Sweeping,
        };
        let began = self.timeline.began.unwrap_or(now);
        let (next, actions): (State, &'static [Action]) = match (self.state, event) {
            (Serving, Begin) if self.budget.delay > Duration::ZERO => (
                Delaying {
                    deadline: self.clamped(began, Duration::ZERO),
                },
                &[Unready],
            ),
            (Serving, Begin) => (self.notifying(began), &[Unready, Notify]),
            (Delaying { .. }, Done | Due) => (self.notifying(began), &[Notify]),
            (Delaying { .. }, Hurry) => (self.persisting(began), &[Notify, Persist]),
            (Notifying { .. }, Done | Due) => (self.draining(began, now), &[]),
            (Draining { .. }, Done | Due) | (Notifying { .. } | Draining { .. }, Hurry) => {
                (self.persisting(began), &[Persist])
            }
            (Persisting { .. }, Done) => (self.closing(began), &[SayGoodbye]),
            (Persisting { .. }, Due) => (self.closing(began), &[GiveUp, SayGoodbye]),
            (Closing { .. }, Done) => (self.sweeping(began, now), &[CloseListener]),
            (Closing { .. }, Due) => (
                self.sweeping(began, now),
                &[GiveUp, CutPeers, CloseListener],
            ),
            (Sweeping { .. }, Done) => (Stopped, &[Stop]),
            (
                Delaying { .. }
                | Notifying { .. }
                | Draining { .. }
                | Persisting { .. }
                | Closing { .. }
                | Sweeping { .. },
                Quit,
            )
            | (Sweeping { .. }, Due) => (Stopped, &[GiveUp, CutPeers, Stop]),
            (Serving, Hurry | Quit | Done | Due)
            | (Persisting { .. } | Closing { .. } | Sweeping { .. }, Begin | Hurry)
            | (Delaying { .. } | Notifying { .. } | Draining { .. }, Begin)
            | (Stopped, Begin | Hurry | Quit | Done | Due) => return &[],
        };
        self.enter(next, now);
        actions
    }

    fn enter(&mut self, next: State, now: Instant) {
        self.state = next;
        let mark = match next {
            State::Serving | State::Delaying { .. } => return,
            State::Notifying { .. } => &mut self.timeline.notifying,
            State::Draining { .. } => &mut self.timeline.draining,
            State::Persisting { .. } => &mut self.timeline.persisting,
            State::Closing { .. } => &mut self.timeline.closing,
            State::Sweeping { .. } => &mut self.timeline.sweeping,
            State::Stopped => &mut self.timeline.stopped,
        };
        debug_assert!(mark.is_none(), "no phase is entered twice");
        *mark = Some(now);
    }

    fn notifying(&self, began: Instant) -> State {
        State::Notifying {
            deadline: self.clamped(began, self.budget.notify),
        }
    }

    fn draining(&self, began: Instant, now: Instant) -> State {
        State::Draining {
            deadline: self.clamped(began, self.budget.drain),
            since: now,
        }
    }

    fn persisting(&self, began: Instant) -> State {
        State::Persisting {
            deadline: self.clamped(began, self.budget.persist),
        }
    }

    fn closing(&self, began: Instant) -> State {
        State::Closing {
            deadline: self.cut_at(began),
        }
    }

    fn sweeping(&self, began: Instant, now: Instant) -> State {
        // After that there is little time left, and the exit itself needs most of it.
        let last = began
            + self
                .budget
                .timeout
                .saturating_sub(self.cut_margin() / 5 * 4);
        let soon = now + SWEEP_TIME;
        State::Sweeping {
            // All peers are cut by then.
            deadline: if self.connections > 0 {
                last
            } else {
                soon.min(last)
            },
            settled: (now + SETTLE_TIME).min(last),
        }
    }

    /// A phase's own deadline. The phases follow the delay; if not all of them have room before
    /// the goodbyes, each gets its share of what there is.
    fn clamped(&self, began: Instant, phase: Duration) -> Instant {
        let ShutdownBudget {
            timeout,
            delay,
            persist,
            close_spread,
            ..
        } = self.budget;
        let goodbyes = close_spread.max(CLOSE_TIME).min(timeout / 4);
        let latest = timeout.saturating_sub(self.cut_time() + goodbyes);
        let delay = delay.min(latest.saturating_sub(LEAST_TIME.min(latest / 4)));
        let room = latest.saturating_sub(delay);
        let phase = if persist > room {
            phase.mul_f64(room.as_secs_f64() / persist.as_secs_f64())
        } else {
            phase
        };
        began + (delay + phase).min(latest)
    }

    fn cut_at(&self, began: Instant) -> Instant {
        began + self.budget.timeout.saturating_sub(self.cut_time())
    }

    /// How long before the end the cut begins.
    fn cut_time(&self) -> Duration {
        let more = self.sockets.saturating_sub(CUT_AT_ONCE_MAX);
        let more = CUT_TIME.saturating_mul(u32::try_from(more).unwrap_or(u32::MAX));
        self.cut_margin() + more.min(self.budget.timeout / 3)
    }

    fn cut_margin(&self) -> Duration {
        ShutdownBudget::CUT_BEFORE_END.min(self.budget.timeout / 4)
    }
}

#[cfg(test)]
mod tests;
