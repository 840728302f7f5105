//! What the event loop and the simulation share: the engine, and the order of a turn.
//!
//! A [`Core`] owns the engine and drives a [`Shell`], which has the sockets and the store: real ones
//! in `event_loop`, fake ones in tests/simulation. It passes what comes in to the engine, and what
//! the engine asks for to the shell. It decides nothing, never waits, and reads no clock.

use std::sync::Arc;
use std::time::Instant;

use crate::config::Limits;
use crate::engine::Engine;
use crate::engine::io::{
    CloseReason, ConnId, Input, Levels, Now, Origin, Output, Save, StoreCommand, StoreEvent,
};
use crate::engine::message::ServerMessage;

/// The engine, and how far the end of its shell has come.
pub struct Core {
    engine: Engine,
    accepts_max: usize,
    /// The clock at the beginning of the turn.
    now: Now,
    /// The accept queues are shut: whoever is still in one is a stranger to wait for.
    is_sweeping: bool,
    /// The engine has nothing left to do.
    is_stopped: bool,
}

/// A step of a turn. Before them come the wait and the clock; docs/ARCHITECTURE.md says why they
/// come in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Requests, the store's answers, other nodes, connections, then accepts.
    Dispatch,
    /// Every deadline that has come.
    Timers,
    /// The levels drive the shutdown.
    Levels,
    /// The store carries out what it is asked.
    FlushStore,
    /// What was queued is written.
    FlushSockets,
    /// What is over is freed.
    Reap,
}

impl Step {
    /// All of them, in the order of a turn.
    pub const ALL: [Self; 6] = [
        Self::Dispatch,
        Self::Timers,
        Self::Levels,
        Self::FlushStore,
        Self::FlushSockets,
        Self::Reap,
    ];
}

/// What a core drives. Whatever brings something in passes it to [`Core::handle_input`].
pub trait Shell: Sized {
    /// Where connections come in.
    type Entrance: Copy + 'static;
    /// All of those, in the order in which they are served.
    const ENTRANCES: &'static [Self::Entrance];

    /// Passes on what is asked of the process: shutdowns.
    fn dispatch_requests(&mut self, core: &mut Core);
    /// Reads from connections, within a turn's budget, and passes on what they have sent.
    fn read(&mut self, core: &mut Core);
    /// Passes on what other nodes and threads have to say.
    fn dispatch_bus(&mut self, _core: &mut Core) {}
    /// The same, at a deadline of the link to other nodes.
    fn handle_bus_timeout(&mut self, _core: &mut Core) {}
    /// The same, once what is for other nodes has been sent.
    fn flush_bus(&mut self, _core: &mut Core) {}

    /// The store may have something to read.
    fn handle_store_ready(&mut self, now: Now);
    /// The time that `store_timeout` gave has come.
    fn handle_store_timeout(&mut self, now: Now);
    /// When the store has something to do.
    fn store_timeout(&self) -> Option<Instant>;
    /// Asks the store, for what `flush_store` carries out or sends.
    fn ask(&mut self, command: StoreCommand);
    /// Puts a batch aside. Returns the answer, if it is known at once.
    fn spill(&mut self, batch: Vec<Save>) -> Option<StoreEvent>;
    /// Carries out, or sends, what was asked.
    fn flush_store(&mut self, now: Now);
    /// Tries for the last time what could not be carried out yet; the process is to end at `end`.
    fn finish_store(&mut self, _end: Option<Instant>) {}
    /// The store's next answer.
    fn poll_store_event(&mut self, now: Now) -> Option<StoreEvent>;

    /// Whether connections may wait to be accepted there.
    fn has_waiting(&self, entrance: Self::Entrance) -> bool;
    /// Whether one more socket may come in there.
    fn has_room(&self, entrance: Self::Entrance) -> bool;
    /// Closes what can be closed there, for others.
    fn make_room(&mut self, entrance: Self::Entrance, now: Instant);
    /// Accepts one connection; `false` if there is none.
    fn accept(&mut self, entrance: Self::Entrance, now: Instant) -> bool;
    /// Nobody new gets into the accept queues.
    fn shut_queues(&mut self);

    /// Queues a message; `false`: the peer reads too slowly.
    fn send(&mut self, conn: ConnId, message: &ServerMessage) -> bool;
    /// See [`Output::Close`].
    fn close(&mut self, conn: ConnId, reason: &CloseReason, bounded: bool, now: Instant);
    /// See [`Output::Fail`].
    fn fail(&mut self, conn: ConnId, reason: &CloseReason, now: Instant);
    /// See [`Output::Finish`].
    fn finish(&mut self, conn: ConnId, now: Instant);
    /// See [`Output::Pause`] and [`Output::Resume`].
    fn set_paused(&mut self, conn: ConnId, paused: bool, now: Instant);
    /// See [`Output::Cut`].
    fn cut(&mut self, conn: ConnId);
    /// Answers whoever has not got as far as a WebSocket.
    fn dismiss_strangers(&mut self, now: Instant);
    /// See [`Output::Publish`].
    fn publish(&mut self, _text: Arc<str>, _origin: Origin, _now: Instant) {}
    /// See [`Output::BroadcastDone`].
    fn broadcast_done(&mut self, _origin: Origin, _queued: Option<usize>, _core: &Core) {}

    /// Does what is due for sockets. Returns the WebSocket connections that are over by that.
    fn handle_timeout(&mut self, now: Instant) -> Vec<ConnId>;
    /// When sockets have something to do, or the link to other nodes.
    fn poll_timeout(&self) -> Option<Instant>;
    /// Whether anything can be read that no event will tell of.
    fn has_reads(&self) -> bool;
    /// Lengths of lists. Those who wait to be accepted are not among the sockets.
    fn levels(&self) -> Levels;
    /// Writes what was queued, each connection once.
    fn flush(&mut self, now: Instant);
    /// Frees what is over.
    fn reap(&mut self);

    /// The engine has taken an input in, and nothing that comes of it has been performed yet.
    fn observe(&mut self, _engine: &Engine) {}
    /// This is performed next.
    fn observe_output(&mut self, _output: &Output) {}
}

/// Store answers may ask for more of the store (a claim that waited for a save): so often in one
/// turn, then in the next.
const STORE_ROUNDS_MAX: usize = 4;

impl Core {
    /// A core before its first turn.
    pub fn new(engine: Engine, limits: &Limits, now: Now) -> Self {
        Self {
            engine,
            accepts_max: limits.accepts_max,
            now,
            is_sweeping: false,
            is_stopped: false,
        }
    }

    /// Takes one step of the turn that began at `now`.
    pub fn step<S: Shell>(&mut self, step: Step, now: Now, shell: &mut S) {
        self.now = now;
        match step {
            Step::Dispatch => self.dispatch(shell),
            Step::Timers => self.handle_timers(shell),
            Step::Levels => self.handle_input(Input::Levels(self.levels(shell)), shell),
            Step::FlushStore => self.flush_store(shell),
            Step::FlushSockets => {
                shell.flush_bus(self);
                shell.flush(now.instant);
            }
            Step::Reap => shell.reap(),
        }
    }

    /// Passes an input to the engine, and performs what comes of it.
    pub fn handle_input<S: Shell>(&mut self, input: Input<'_>, shell: &mut S) {
        self.engine.handle_input(input, self.now);
        shell.observe(&self.engine);
        self.perform_outputs(shell);
    }

    /// The earliest deadline; the present if there is work that no event will tell of.
    pub fn poll_timeout<S: Shell>(&self, shell: &S) -> Option<Instant> {
        if shell.has_reads() || may_accept(shell) {
            return Some(self.now.instant);
        }
        let engine = self.engine.poll_timeout(&self.levels(shell));
        let times = [engine, shell.poll_timeout(), shell.store_timeout()];
        times.into_iter().flatten().min()
    }

    /// The engine, to look at.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The clock at the beginning of the turn.
    pub fn now(&self) -> Now {
        self.now
    }

    /// Whether the last turn was the last.
    pub fn is_stopped(&self) -> bool {
        self.is_stopped
    }

    fn dispatch<S: Shell>(&mut self, shell: &mut S) {
        shell.dispatch_requests(self);
        shell.handle_store_ready(self.now);
        self.dispatch_store_events(shell);
        shell.dispatch_bus(self);
        shell.read(self);
        self.accept(shell);
    }

    /// Whether there was any.
    fn dispatch_store_events<S: Shell>(&mut self, shell: &mut S) -> bool {
        let mut any = false;
        while let Some(event) = shell.poll_store_event(self.now) {
            self.handle_input(Input::Store(event), shell);
            any = true;
        }
        any
    }

    fn accept<S: Shell>(&mut self, shell: &mut S) {
        let now = self.now.instant;
        for &entrance in S::ENTRANCES {
            for _ in 0..self.accepts_max {
                if !shell.has_waiting(entrance) {
                    break;
                }
                if !shell.has_room(entrance) {
                    shell.make_room(entrance, now);
                    break;
                }
                if !shell.accept(entrance, now) {
                    break;
                }
            }
        }
    }

    /// Closes the way in: nobody new gets into the queues, and whoever is there is taken out.
    fn shut_queues<S: Shell>(&mut self, shell: &mut S) {
        if !self.is_sweeping {
            self.is_sweeping = true;
            shell.shut_queues();
        }
        self.accept(shell);
    }

    fn handle_timers<S: Shell>(&mut self, shell: &mut S) {
        let now = self.now;
        for conn in shell.handle_timeout(now.instant) {
            self.handle_input(Input::Gone { conn }, shell);
        }
        if shell.store_timeout().is_some_and(|at| at <= now.instant) {
            shell.handle_store_timeout(now);
            self.dispatch_store_events(shell);
        }
        shell.handle_bus_timeout(self);
        self.engine.handle_timeout(now);
        self.perform_outputs(shell);
    }

    fn levels<S: Shell>(&self, shell: &S) -> Levels {
        let mut levels = shell.levels();
        // Whoever waits in a queue is a stranger, too.
        levels.sockets += usize::from(self.is_sweeping && may_accept(shell));
        levels
    }

    fn flush_store<S: Shell>(&mut self, shell: &mut S) {
        for _ in 0..STORE_ROUNDS_MAX {
            let mut asked = false;
            while let Some(batch) = self.engine.poll_spill() {
                asked = true;
                if let Some(event) = shell.spill(batch) {
                    self.handle_input(Input::Store(event), shell);
                }
            }
            while let Some(command) = self.engine.poll_store() {
                asked = true;
                shell.ask(command);
            }
            shell.flush_store(self.now);
            let answered = self.dispatch_store_events(shell);
            if !asked && !answered {
                break;
            }
        }
        if self.is_stopped {
            shell.finish_store(self.engine.end());
            self.dispatch_store_events(shell);
        }
    }

    /// Does everything that the engine asks for.
    fn perform_outputs<S: Shell>(&mut self, shell: &mut S) {
        let now = self.now.instant;
        while let Some(output) = self.engine.poll_output() {
            shell.observe_output(&output);
            match output {
                Output::Send { conn, message } => {
                    if !shell.send(conn, &message) {
                        let message = &message;
                        self.engine
                            .handle_input(Input::SlowReader { conn, message }, self.now);
                    }
                }
                Output::Close {
                    conn,
                    reason,
                    bounded,
                } => shell.close(conn, &reason, bounded, now),
                Output::Fail { conn, reason } => shell.fail(conn, &reason, now),
                Output::Finish { conn } => shell.finish(conn, now),
                Output::Pause { conn } => shell.set_paused(conn, true, now),
                Output::Resume { conn } => shell.set_paused(conn, false, now),
                Output::Publish { text, origin } => shell.publish(text, origin, now),
                Output::BroadcastDone { origin, queued } => {
                    shell.broadcast_done(origin, queued, self);
                }
                Output::CloseListener => self.shut_queues(shell),
                Output::Cut { conn } => shell.cut(conn),
                Output::Stop => {
                    self.shut_queues(shell);
                    shell.dismiss_strangers(now);
                    self.is_stopped = true;
                }
            }
        }
    }
}

fn may_accept<S: Shell>(shell: &S) -> bool {
    let mut entrances = S::ENTRANCES.iter();
    entrances.any(|&entrance| shell.has_waiting(entrance) && shell.has_room(entrance))
}
