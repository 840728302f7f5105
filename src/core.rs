//! What the event loop and the simulation share: the engine, and the order of a turn.
//!
//! A [`Core`] owns the engine and drives a [`Shell`], which has the sockets and the store: real
//! ones in `event_loop`, fake ones in tests/simulation. It passes what comes in to the engine, and
//! what the engine asks for to the shell. It decides nothing, never waits, and reads no clock.

use std::time::Instant;

use crate::engine::Engine;
use crate::engine::app::{Admission, Upgrade};
use crate::engine::io::{Commit, ConnId, Input, Levels, Now, Output, StoreCommand, StoreEvent};

/// The engine, and how far the end of its shell has come.
pub struct Core {
    engine: Engine,
    /// The clock at the beginning of the turn.
    now: Now,
    /// The levels that the engine goes by.
    levels: Levels,
    /// The accept queues are shut: a connection that is still in one delays the end.
    is_sweeping: bool,
    /// The last turn has asked more of the store, or heard more of it, than a turn may.
    owes_store: bool,
    /// The engine has nothing left to do.
    is_stopped: bool,
}

/// What a core drives. Whatever comes in is passed to [`Core::handle_input`].
pub trait Shell: Sized {
    /// The next connection whose push the kernel has taken.
    fn poll_taken(&mut self) -> Option<ConnId>;
    /// Passes on requests to shut down.
    fn dispatch_requests(&mut self, core: &mut Core);
    /// The store may have something to read.
    fn handle_store_ready(&mut self, now: Now);
    /// Passes on what other nodes, and connections, have sent, within a turn's budget.
    fn read(&mut self, core: &mut Core);

    /// Whether a connection waits to be accepted, and there is room for it.
    fn may_accept(&self) -> bool;
    /// Accepts connections, within a turn's budget.
    fn accept(&mut self, now: Instant);
    /// Shuts the accept queues: no new connection gets in.
    fn shut_queues(&mut self);

    /// Does what is due, but for the store, and passes on what comes of it.
    fn handle_timeout(&mut self, core: &mut Core);
    /// Does what is due for the store.
    fn handle_store_timeout(&mut self, now: Now);
    /// When something is due: at once, if there is something to read that no event will tell of.
    fn poll_timeout(&self, now: Instant) -> Option<Instant>;

    /// Lengths of lists. Those who wait to be accepted are not among the sockets.
    fn levels(&self) -> Levels;

    /// Puts a batch aside. Returns the answer, if it is known at once.
    fn spill(&mut self, batch: Vec<Commit>) -> Option<StoreEvent>;
    /// Asks the store, for what `flush_store` carries out or sends.
    fn ask(&mut self, command: StoreCommand);
    /// Carries out, or sends, what was asked.
    fn flush_store(&mut self, now: Now);
    /// Tries for the last time what could not be carried out yet; the process is to end at `end`.
    fn finish_store(&mut self, _end: Option<Instant>) {}
    /// The store's next answer.
    fn poll_store_event(&mut self, now: Now) -> Option<StoreEvent>;

    /// The engine has taken an input in, and nothing that comes of it has been performed yet.
    fn observe(&mut self, _engine: &Engine) {}
    /// Does what the engine asks for; `false`: there was no room for the message. Accept queues are
    /// shut before, where that is asked for.
    fn perform(&mut self, output: &Output, core: &Core) -> bool;
    /// Writes what was queued, each connection once.
    fn flush(&mut self, core: &mut Core);
    /// Frees connections that are over.
    fn reap(&mut self);
}

/// Store answers may ask for more of the store (a claim that waited for a save): so often in one
/// turn, then in the next.
const STORE_ROUNDS_MAX: usize = 4;

/// Deferred steps that come back in one turn: the others, in the next.
const COMPLETIONS_MAX: usize = 256;

impl Core {
    /// A core before its first turn.
    pub fn new(engine: Engine, now: Now) -> Self {
        Self {
            engine,
            now,
            levels: Levels::default(),
            is_sweeping: false,
            owes_store: false,
            is_stopped: false,
        }
    }

    /// How many steps a turn has.
    pub const STEPS: usize = 6;

    /// A turn after the wait and the clock, in the order that src/turn.md gives reasons for. A
    /// process that is killed takes the first `steps` only.
    pub fn turn<S: Shell>(&mut self, now: Now, steps: usize, shell: &mut S) {
        let all: [fn(&mut Self, &mut S); Self::STEPS] = [
            Self::dispatch,
            Self::handle_timers,
            Self::report_levels,
            Self::flush_store,
            |core, shell| shell.flush(core),
            |_, shell| shell.reap(),
        ];
        self.now = now;
        for step in all.into_iter().take(steps) {
            step(self, shell);
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
        let now = self.now.instant;
        // What the last steps of the turn have changed may be what a phase waits for.
        let is_told = !self.engine.is_shutting_down() || self.levels == self.read_levels(shell);
        let at_once = (shell.may_accept() || !is_told || self.owes_store).then_some(now);
        let times = [at_once, shell.poll_timeout(now), self.engine.poll_timeout()];
        times.into_iter().flatten().min()
    }

    /// Asks the application whether a client is let in. If it panics, that is logged with the outputs
    /// of the next input.
    pub fn admit(&mut self, request: &Upgrade<'_>) -> Admission {
        self.engine.admit(request)
    }

    /// What wakes the loop when a deferred step comes back.
    pub fn wake_by(&mut self, wake: impl Fn() + Send + Sync + 'static) {
        self.engine.wake_by(wake);
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
        // Before anything that may push more.
        while let Some(conn) = shell.poll_taken() {
            self.handle_input(Input::Taken { conn }, shell);
        }
        shell.dispatch_requests(self);
        shell.handle_store_ready(self.now);
        self.dispatch_store_events(shell);
        for _ in 0..COMPLETIONS_MAX {
            if !self.engine.has_completions() {
                break;
            }
            self.handle_input(Input::Completed, shell);
        }
        shell.read(self);
        shell.accept(self.now.instant);
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

    fn handle_timers<S: Shell>(&mut self, shell: &mut S) {
        shell.handle_timeout(self);
        shell.handle_store_timeout(self.now);
        self.dispatch_store_events(shell);
        self.engine.handle_timeout(self.now);
        self.perform_outputs(shell);
    }

    fn report_levels<S: Shell>(&mut self, shell: &mut S) {
        self.levels = self.read_levels(shell);
        self.handle_input(Input::Levels(self.levels), shell);
    }

    fn read_levels<S: Shell>(&self, shell: &S) -> Levels {
        let mut levels = shell.levels();
        // A connection in an accept queue is waited for, too.
        levels.sockets += usize::from(self.is_sweeping && shell.may_accept());
        levels
    }

    fn flush_store<S: Shell>(&mut self, shell: &mut S) {
        self.owes_store = true;
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
                self.owes_store = false;
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
        while let Some(output) = self.engine.poll_output() {
            let stops = matches!(output, Output::Stop);
            if stops || matches!(output, Output::CloseListener) {
                self.shut_queues(shell);
            }
            self.is_stopped |= stops;
            let is_done = shell.perform(&output, self);
            if !is_done && let Output::Send { conn, message, .. } = &output {
                let (conn, now) = (*conn, self.now);
                self.engine
                    .handle_input(Input::SlowReader { conn, message }, now);
            }
        }
    }

    /// Shuts the accept queues, and accepts what is still in them.
    fn shut_queues<S: Shell>(&mut self, shell: &mut S) {
        if !self.is_sweeping {
            self.is_sweeping = true;
            shell.shut_queues();
        }
        shell.accept(self.now.instant);
    }
}
