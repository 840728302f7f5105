//! A node: a place where one process after the other runs the core of `src/core.rs`, over fake
//! sockets and a fake store. It keeps the book of what goes in and what comes out.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use sundown::core::{Core, Shell};
use sundown::engine::Engine;
use sundown::engine::io::{
    Commit, ConnId, Input, Levels, Now, Output, Received, Refused, SessionKey, StoreCommand,
    StoreEvent, Tells,
};
use sundown::engine::message::Message;
use sundown::engine::shutdown::{Outcome, Phase, Request, Trigger};

use mailing::Pending;

use super::book::Book;
use super::common::Common;
use super::network::{Ask, ServerFrame, Side, SockId};
use super::service::{Call, Counter, Deferral};
use super::sockets::{Brought, Sockets};
use super::store::Link;
use super::telling::Telling;

mod mailing;

/// One life of a node.
pub(crate) struct Process {
    pub(crate) life: u32,
    core: Core,
    /// How many clients the service knows.
    known_len: Arc<AtomicUsize>,
    pub(crate) parts: Parts,
    idle_turns: VecDeque<Instant>,
    /// It is killed after so many steps of its next turn.
    pub(crate) dies_after: Option<usize>,
}

/// What a process has beside its core, and the book that is kept of both.
pub(crate) struct Parts {
    name: String,
    calls: Receiver<Call>,
    /// For steps that are completed later.
    called: Sender<Call>,
    deferred: Receiver<Deferral>,
    /// The steps that other threads have, and until when.
    open_steps: Vec<(Instant, Deferral)>,
    sockets: Sockets,
    pub(crate) link: Link,
    book: Book,
    telling: Telling,
    accept_queue: VecDeque<SockId>,
    is_shut: bool,
    /// What the kernel has said since the last turn: `true` is readable, `false` writable.
    ready: Vec<(SockId, bool)>,
    pub(crate) signals: Vec<Trigger>,
    signals_read: u32,
    /// Something has happened in this turn.
    progress: bool,
    /// The phase that the book knows of.
    phase: Phase,
    /// This message has just been handed over.
    handed_over: Option<(ConnId, Ask)>,
    /// The claim of this session has just been refused.
    refused_claim: Option<SessionKey>,
    /// How often it has pushed from outside of a step, and what it was not told of yet.
    pushes: u64,
    pending: Vec<Pending>,
}

/// The parts in the world, for one turn.
struct Attached<'a> {
    parts: &'a mut Parts,
    common: &'a mut Common,
}

/// What came of a turn.
#[derive(Debug)]
pub(crate) enum Turned {
    /// Again at that time.
    Again(Option<Instant>),
    Killed,
    Stopped(Box<Outcome>),
}

/// Turns in a second in which nothing happens: timers, and walks over all clients in slices.
const IDLE_TURNS_MAX: usize = 200;

impl Process {
    pub(crate) fn new(common: &mut Common, node: usize, life: u32) -> Self {
        let (sender, calls) = mpsc::channel();
        let (deferrals, deferred) = mpsc::channel();
        let (tells, told) = mpsc::channel();
        let known_len = Arc::new(AtomicUsize::new(0));
        let counter = Counter {
            calls: sender.clone(),
            deferrals,
            told: tells,
            known: HashSet::new(),
            known_len: Arc::clone(&known_len),
        };
        let seed = common.dice.seed();
        let (config, now) = (&common.options.config, common.now);
        let engine = Engine::new(config, Box::new(counter), seed, now);
        let phase = engine.phase();
        let name = format!("node {node}.{life}");
        Self {
            core: Core::new(engine, now),
            life,
            idle_turns: VecDeque::new(),
            dies_after: None,
            known_len,
            parts: Parts {
                calls,
                called: sender,
                deferred,
                open_steps: Vec::new(),
                sockets: Sockets::new(config.limits),
                link: Link::new(common, node, life),
                book: Book::new(name.clone(), common),
                telling: Telling::new(told),
                name,
                accept_queue: VecDeque::new(),
                is_shut: false,
                ready: Vec::new(),
                signals: Vec::new(),
                signals_read: 0,
                progress: false,
                phase,
                handed_over: None,
                refused_claim: None,
                pushes: 0,
                pending: Vec::new(),
            },
        }
    }

    /// A connection has come; `false`: it is not let in.
    pub(crate) fn handle_connect(&mut self, sock: SockId) -> bool {
        let parts = &mut self.parts;
        if !parts.is_shut {
            parts.accept_queue.push_back(sock);
        }
        !parts.is_shut
    }

    pub(crate) fn handle_ready(&mut self, sock: SockId, readable: bool) {
        self.parts.ready.push((sock, readable));
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.core.engine().is_shutting_down()
    }

    /// It serves, and its store has all that it has.
    pub(crate) fn is_at_rest(&self) -> bool {
        let engine = self.core.engine();
        engine.gate().ready && engine.unsaved() == 0 && self.parts.pending.is_empty()
    }

    /// The store has lost all its records.
    pub(crate) fn records_lost(&mut self) {
        self.parts.book.records_lost();
    }

    /// The store holds all that is open here.
    pub(crate) fn is_stored(&self, common: &Common) -> bool {
        self.parts.book.is_stored(common)
    }

    pub(crate) fn describe(&self) -> String {
        let engine = self.core.engine();
        format!(
            "{}: {} connections, {} sockets, {} unsaved, {:?}",
            self.parts.name,
            engine.connections(),
            self.parts.sockets.len(),
            engine.unsaved(),
            engine.outcome().timeline
        )
    }

    pub(crate) fn turn(&mut self, common: &mut Common) -> Turned {
        let now = common.now;
        let parts = &mut self.parts;
        parts.progress = !parts.ready.is_empty() || !parts.signals.is_empty();
        let mut shell = Attached { parts, common };
        for (sock, readable) in std::mem::take(&mut shell.parts.ready) {
            let sockets = &mut shell.parts.sockets;
            sockets.handle_ready(shell.common, sock, readable);
        }
        let steps = self.dies_after.unwrap_or(Core::STEPS);
        self.core.turn(now, steps, &mut shell);
        if self.dies_after.is_some() {
            return Turned::Killed;
        }
        let is_flushed = shell.parts.sockets.is_flushed();
        assert!(
            is_flushed,
            "{}: output waits for another turn",
            shell.parts.name
        );
        shell.look_at_receipts();
        let at = self.core.poll_timeout(&shell);
        shell.look_at_phases(self.core.engine());
        shell.parts.book.check_left(shell.common);
        self.check_idle(now.instant);
        if self.core.is_stopped() {
            let outcome = self.core.engine().outcome();
            let known = self.known_len.load(Relaxed);
            assert_eq!(known, 0, "{}: clients that never went", self.parts.name);
            self.parts.book.stopped(common, &outcome);
            self.parts.telling.check_end();
            return Turned::Stopped(Box::new(outcome));
        }
        Turned::Again(at)
    }

    fn check_idle(&mut self, now: Instant) {
        let turns = &mut self.idle_turns;
        if self.parts.progress {
            return turns.clear();
        }
        turns.push_back(now);
        turns.retain(|at| now - *at <= Duration::from_secs(1));
        let (name, turns) = (&self.parts.name, turns.len());
        assert!(
            turns <= IDLE_TURNS_MAX,
            "{name}: turns in which nothing happens: {turns} in a second"
        );
    }
}

impl Attached<'_> {
    /// What the other threads do until now: they complete steps, drop some, and give up those that
    /// were cancelled.
    fn work(&mut self) {
        let now = self.common.now.instant;
        let steps = std::mem::take(&mut self.parts.open_steps);
        for (until, deferral) in steps {
            if until > now {
                self.parts.open_steps.push((until, deferral));
                continue;
            }
            self.parts.progress = true;
            let Deferral {
                conn, step, job, ..
            } = deferral;
            if step.is_cancelled() {
                self.common.seen.note("deferred step cancelled");
            }
            if self.common.dice.chance(0.05) {
                self.say(|| format!("{conn:?}: its step is dropped"));
                drop(step);
            } else {
                self.say(|| format!("{conn:?}: its step is completed"));
                let calls = self.parts.called.clone();
                step.complete(move |session| job.run(session, &calls));
            }
        }
    }

    fn say(&mut self, words: impl FnOnce() -> String) {
        let name = &self.parts.name;
        self.common.say(|| format!("{name}: {}", words()));
    }

    fn handle_brought(&mut self, core: &mut Core, conn: ConnId, brought: Brought) {
        self.parts.progress = true;
        self.say(|| format!("{conn:?} brings {brought:?}"));
        match brought {
            Brought::Request {
                protocol,
                session,
                received,
            } => {
                let gate = core.engine().gate();
                if gate.admit(protocol, session.is_some()).is_err() {
                    self.common.seen.note("refused with 503");
                    return self.parts.sockets.refuse(self.common, conn);
                }
                self.parts.sockets.upgrade(conn);
                self.parts
                    .book
                    .opened(conn, protocol, session.clone(), received);
                let opened = Input::Opened {
                    conn,
                    protocol,
                    tells: Tells::ALL,
                    session,
                    received: Received {
                        number: received,
                        incarnation: None,
                    },
                };
                core.handle_input(opened, self);
            }
            Brought::Message(ask) => {
                let Ask {
                    index,
                    text,
                    close,
                    defer_ms,
                    push_to,
                } = ask;
                let kind = self.parts.book.kind(conn);
                let words = format!(
                    "{kind}{index} {text} {} {defer_ms} {push_to}",
                    u8::from(close)
                );
                let message = Message::Text(&words);
                self.parts.handed_over = Some((conn, ask));
                core.handle_input(Input::Message { conn, message }, self);
            }
            Brought::Received(number) => {
                self.parts.book.confirmed(conn);
                let words = format!("a{number}");
                let message = Message::Text(&words);
                core.handle_input(Input::Message { conn, message }, self);
            }
            Brought::Leave => {
                self.common.seen.note("client says that it leaves");
                self.parts.book.leaves(conn);
                let message = Message::Text("q");
                core.handle_input(Input::Message { conn, message }, self);
            }
            Brought::PeerClosed { by_frame } => {
                self.parts.book.peer_closed(conn);
                core.handle_input(Input::PeerClosed { conn, by_frame }, self);
            }
            Brought::Gone => {
                self.parts.book.gone(conn);
                core.handle_input(Input::Gone { conn }, self);
            }
        }
    }

    fn look_at_phases(&mut self, engine: &Engine) {
        if engine.is_shutting_down() {
            self.parts.phase = engine.phase();
            let (outcome, unsaved) = (engine.outcome(), engine.unsaved());
            self.parts.book.turned(self.common, &outcome, unsaved);
        }
    }
}

impl Shell for Attached<'_> {
    fn poll_taken(&mut self) -> Option<ConnId> {
        let conn = self.parts.sockets.poll_taken()?;
        self.parts.progress = true;
        self.parts.book.confirmed(conn);
        Some(conn)
    }

    fn dispatch_requests(&mut self, core: &mut Core) {
        self.work();
        self.push_from_outside(core);
        for trigger in std::mem::take(&mut self.parts.signals) {
            self.say(|| trigger.to_string());
            self.parts.signals_read += 1;
            let at = core.now().instant;
            let repeats = core.engine().outcome().repeats;
            core.handle_input(Input::Shutdown(Request { trigger, at }), self);
            if core.engine().outcome().repeats > repeats {
                self.common.seen.note("signals that are one");
                self.parts.signals_read -= 1;
                continue;
            }
            self.common.seen.note(match self.parts.signals_read {
                1 => "first signal",
                2 => "second signal",
                _ => "third signal",
            });
        }
    }

    fn read(&mut self, core: &mut Core) {
        let mut budget = self.common.options.turn_frames_max;
        for _ in 0..self.parts.sockets.reads_len() {
            if budget == 0 {
                return;
            }
            let Some(conn) = self.parts.sockets.next_ready() else {
                return;
            };
            let frames = self.common.options.read_frames_max;
            for _ in 0..self.common.dice.among(1, frames) {
                budget = budget.saturating_sub(1);
                if let Some(brought) = self.parts.sockets.next_brought(self.common, conn) {
                    self.handle_brought(core, conn, brought);
                }
            }
            self.parts.sockets.put_back(conn);
        }
    }

    fn handle_store_ready(&mut self, _now: Now) {
        self.parts.link.handle_ready(self.common);
    }

    fn handle_store_timeout(&mut self, now: Now) {
        let due = self.parts.link.poll_timeout(self.common);
        if due.is_some_and(|at| at <= now.instant) {
            self.parts.link.handle_timeout(self.common);
        }
    }

    fn ask(&mut self, command: StoreCommand) {
        self.parts.progress = true;
        self.say(|| format!("asks {command:?}"));
        self.parts.book.asked(&command);
        self.parts.link.ask(command);
    }

    fn spill(&mut self, batch: Vec<Commit>) -> Option<StoreEvent> {
        self.parts.progress = true;
        self.say(|| format!("asks Spill({batch:?})"));
        self.parts.book.spill_asked(&batch);
        let batch = self.parts.link.spill(self.common, batch)?;
        let event = StoreEvent::Spilled { batch, kept: false };
        self.parts.book.answered(self.common, &event);
        Some(event)
    }

    fn flush_store(&mut self, _now: Now) {
        self.parts.link.flush(self.common);
    }

    fn poll_store_event(&mut self, _now: Now) -> Option<StoreEvent> {
        if let Some(key) = self.parts.refused_claim.take() {
            self.parts.book.check_told(key);
        }
        let event = self.parts.link.poll_event()?;
        self.parts.progress = true;
        self.say(|| format!("{event:?}"));
        self.parts.book.answered(self.common, &event);
        self.parts.telling.answered(&event);
        if let StoreEvent::Refused { request, .. } = &event
            && let Refused::Claim(key) = request
        {
            self.parts.refused_claim = Some(*key);
        }
        Some(event)
    }

    fn may_accept(&self) -> bool {
        !self.parts.accept_queue.is_empty()
    }

    fn accept(&mut self, _now: Instant) {
        for _ in 0..self.common.options.config.limits.accepts_max {
            let Some(sock) = self.parts.accept_queue.pop_front() else {
                return;
            };
            self.parts.progress = true;
            self.parts.sockets.insert(self.common, sock);
        }
    }

    fn shut_queues(&mut self) {
        self.parts.is_shut = true;
    }

    fn handle_timeout(&mut self, core: &mut Core) {
        for conn in self.parts.sockets.handle_timeout(core.now().instant) {
            self.common.seen.note("peer did not close in time");
            self.parts.book.gone(conn);
            core.handle_input(Input::Gone { conn }, self);
        }
    }

    fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let sockets = &self.parts.sockets;
        if sockets.reads_len() > 0 || sockets.has_taken() {
            return Some(now);
        }
        let times = [
            sockets.poll_timeout(),
            self.parts.link.poll_timeout(self.common),
            self.parts.open_steps.iter().map(|(until, _)| *until).min(),
        ];
        times.into_iter().flatten().min()
    }

    fn levels(&self) -> Levels {
        let sockets = &self.parts.sockets;
        Levels {
            unsent: sockets.unsent_len(),
            unread: sockets.ready_len(),
            sockets: sockets.len(),
            heard_at: sockets.heard_at,
            promised: 0,
        }
    }

    fn flush(&mut self, _core: &mut Core) {
        self.parts.progress |= self.parts.sockets.flush(self.common);
        let clients = self.common.options.clients.iter();
        let texts_max = clients.map(|client| client.text_max).max().unwrap_or(0);
        let bytes = self.parts.sockets.unsent_bytes_max();
        self.parts.book.check_outbound(bytes, texts_max);
    }

    fn reap(&mut self) {
        self.parts.sockets.reap(self.common);
    }

    /// What the book must know before it looks at what comes of an input.
    fn observe(&mut self, engine: &Engine) {
        if let Some((conn, ask)) = self.parts.handed_over.take() {
            let calls: Vec<Call> = self.parts.calls.try_iter().collect();
            let deferred: Vec<_> = self.parts.deferred.try_iter().collect();
            let book = &mut self.parts.book;
            book.message(self.common, conn, ask.index, &calls, deferred.len());
            let now = self.common.now.instant;
            let until = deferred.into_iter().map(|step| (now + step.after, step));
            self.parts.open_steps.extend(until);
            if calls.iter().any(|call| call.closes) {
                self.common.seen.note("closed by the service");
                book.app_closes(conn);
            }
        }
        for (_, deferral) in &self.parts.open_steps {
            if deferral.step.is_cancelled() {
                self.parts.book.step_ended(deferral.conn);
            }
        }
        // What another thread has completed.
        for call in self.parts.calls.try_iter().collect::<Vec<_>>() {
            self.parts.book.completed(self.common, &call);
        }
        self.parts.telling.check(&mut self.common.seen);
        // Whether the store was given up: the goodbyes' totals depend on it.
        if engine.phase() != self.parts.phase {
            self.look_at_phases(engine);
        }
    }

    fn perform(&mut self, output: &Output, _core: &Core) -> bool {
        self.parts.progress = true;
        self.say(|| format!("{output:?}"));
        let (parts, common) = (&mut *self.parts, &mut *self.common);
        let (book, sockets) = (&mut parts.book, &mut parts.sockets);
        match *output {
            Output::Send {
                conn,
                protocol,
                ref message,
            } => {
                // The connection may have been over when this was decided.
                if book.is_open(conn) {
                    book.sent(common, conn, protocol, message);
                }
                return sockets.send(common, conn, protocol, message.clone());
            }
            Output::Close {
                conn,
                ref reason,
                bounded,
            } => {
                if book.is_open(conn) {
                    book.closed(common, conn, reason);
                }
                sockets.close(common, conn, reason, bounded);
            }
            Output::Fail { conn, ref reason } => {
                book.too_slow(conn);
                sockets.fail(common, conn, reason);
            }
            Output::Finish { conn } => {
                if book.finished(common, conn) {
                    common.promised.extend(sockets.sock(conn));
                }
                sockets.finish(common, conn);
            }
            Output::Pause { conn } | Output::Resume { conn } => {
                let paused = matches!(output, Output::Pause { .. });
                if book.is_open(conn) {
                    book.paused(conn, paused);
                }
                sockets.set_paused(common, conn, paused);
            }
            Output::Publish { .. } | Output::BroadcastDone { .. } => {
                unreachable!("nobody has anything to say to everybody here")
            }
            Output::Panicked(ref panicked) => {
                let what = &panicked.what;
                assert!(what.contains("was dropped"), "{what}");
                book.step_failed(panicked.conn);
                common.seen.note("deferred step dropped");
            }
            Output::CloseListener => {}
            Output::Cut { conn } => {
                book.cut(common, conn, parts.signals_read > 2);
                sockets.cut(conn);
            }
            Output::Stop => sockets.dismiss_strangers(common),
        }
        true
    }
}

/// A place for processes.
#[derive(Default)]
pub(crate) struct Node {
    pub(crate) process: Option<Process>,
    pub(crate) lives: u32,
    /// When it has its next turn.
    pub(crate) wake_at: Option<Instant>,
    /// It gets no processor until then.
    pub(crate) frozen_until: Option<Instant>,
    /// Its last turn takes until then.
    pub(crate) busy_until: Option<Instant>,
}

impl Node {
    /// It has something to do at that time.
    pub(crate) fn wake(&mut self, at: Instant) {
        let hindered = self.frozen_until.into_iter().chain(self.busy_until);
        let at = hindered.fold(at, Instant::max);
        self.wake_at = Some(self.wake_at.map_or(at, |earlier| earlier.min(at)));
    }

    /// Its process ends, in whatever way: what its sockets held is gone or on its way.
    pub(crate) fn end(&mut self, common: &mut Common, number: usize, in_order: bool) {
        let Some(mut process) = self.process.take() else {
            return;
        };
        process.parts.link.end(common);
        common.truth.links[number] += 1;
        self.wake_at = None;
        self.frozen_until = None;
        for sock in common.network.of_node(number) {
            let unread = common.network.is_readable(sock, Side::Server);
            let in_order = in_order && !unread;
            if in_order {
                common.put_down(sock, ServerFrame::End, 0);
            }
            common.close_sock(sock, Side::Server, in_order);
        }
    }
}
