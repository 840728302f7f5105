//! A node: a place where one process after the other runs a real engine, with the loop around it
//! that `src/event_loop.rs` is: the same seven steps, in the same order, over fake sockets.

use std::collections::VecDeque;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use sundown::engine::Engine;
use sundown::engine::io::{
    CloseReason, ConnId, Input, Levels, Output, Refused, Save, SessionId, StoreCommand, StoreEvent,
};
use sundown::engine::message::Message;
use sundown::engine::shutdown::{Outcome, Request, Trigger};
use sundown::{Application, Context};

use super::book::Book;
use super::common::Common;
use super::network::{Ask, ServerFrame, Side, SockId};
use super::sockets::{Brought, Sockets};
use super::store::Link;

/// What the application was called with.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) conn: ConnId,
    pub(crate) session: Option<SessionId>,
    pub(crate) count: u64,
    /// The message's own number; 0 if it has none.
    pub(crate) index: u64,
}

/// The service: counts, sends back what it is asked to, closes when it is asked to, and tells the
/// simulation what it was called with.
struct Counter(Sender<Call>);

/// How the service closes.
pub(crate) const CLOSED_BY_SERVICE: CloseReason = CloseReason::of(3000, "as you wish");

impl Application for Counter {
    fn on_message(&mut self, message: Message<'_>, context: &mut Context<'_>) {
        let Message::Text(text) = message else {
            panic!("{message:?}");
        };
        let mut words = text.split(' ').map(str::parse::<u64>);
        let mut next = || words.next().and_then(Result::ok).expect("three numbers");
        let (index, text, close) = (next(), next(), next());
        context.reply_count();
        if text > 0 {
            context.reply_text("x".repeat(text as usize));
        }
        if close == 1 {
            context.close(CLOSED_BY_SERVICE);
        }
        let call = Call {
            conn: context.conn(),
            session: context.session().cloned(),
            count: context.count(),
            index,
        };
        self.0
            .send(call)
            .expect("the simulation lives as long as its engines");
    }
}

/// One life of a node.
pub(crate) struct Process {
    name: String,
    pub(crate) life: u32,
    engine: Engine,
    calls: Receiver<Call>,
    sockets: Sockets,
    pub(crate) link: Link,
    book: Book,
    accept_queue: VecDeque<SockId>,
    /// What the kernel has said since the last turn: `true` is readable, `false` writable.
    ready: Vec<(SockId, bool)>,
    pub(crate) signals: Vec<Trigger>,
    is_sweeping: bool,
    is_stopped: bool,
    signals_read: u32,
    /// Something has happened in this turn.
    progress: bool,
    idle_turns: VecDeque<Instant>,
    /// It is killed before this step of its next turn.
    pub(crate) dies_at: Option<u32>,
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

/// As in the loop.
const STORE_ROUNDS_MAX: usize = 4;

impl Process {
    pub(crate) fn new(common: &mut Common, node: usize, life: u32) -> Self {
        let (sender, calls) = mpsc::channel();
        let seed = common.dice.seed();
        let name = format!("node {node}.{life}");
        Self {
            engine: Engine::new(
                &common.options.config,
                Box::new(Counter(sender)),
                seed,
                common.now,
            ),
            calls,
            sockets: Sockets::new(common.options.config.limits),
            link: Link::new(common, node, life),
            book: Book::new(name.clone(), common),
            name,
            life,
            accept_queue: VecDeque::new(),
            ready: Vec::new(),
            signals: Vec::new(),
            is_sweeping: false,
            is_stopped: false,
            signals_read: 0,
            progress: false,
            idle_turns: VecDeque::new(),
            dies_at: None,
        }
    }

    /// A connection has come; `false`: it is not let in.
    pub(crate) fn handle_connect(&mut self, sock: SockId) -> bool {
        if !self.is_sweeping {
            self.accept_queue.push_back(sock);
        }
        !self.is_sweeping
    }

    pub(crate) fn handle_ready(&mut self, sock: SockId, readable: bool) {
        self.ready.push((sock, readable));
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.engine.outcome().timeline.began.is_some()
    }

    /// It serves, and its store has all that it has.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.engine.gate().ready && self.engine.unsaved() == 0
    }

    /// The store has lost all its records.
    pub(crate) fn records_lost(&mut self) {
        self.book.records_lost();
    }

    /// The store holds all that is open here.
    pub(crate) fn is_stored(&self, common: &Common) -> bool {
        self.book.is_stored(common)
    }

    pub(crate) fn describe(&self) -> String {
        format!(
            "{}: {} connections, {} sockets, {} unsaved, {:?}",
            self.name,
            self.engine.connections(),
            self.sockets.len(),
            self.engine.unsaved(),
            self.engine.outcome().timeline
        )
    }

    /// One turn: dispatch, timers, levels, flush, reap.
    pub(crate) fn turn(&mut self, common: &mut Common) -> Turned {
        self.progress = !self.ready.is_empty() || !self.signals.is_empty();
        let steps: [fn(&mut Self, &mut Common); 7] = [
            Self::dispatch,
            Self::handle_timers,
            Self::report_levels,
            Self::flush_store,
            Self::flush_sockets,
            Self::reap,
            Self::check,
        ];
        for (number, step) in steps.into_iter().enumerate() {
            if self.dies_at == Some(number as u32) {
                return Turned::Killed;
            }
            step(self, common);
        }
        if self.is_stopped {
            let outcome = self.engine.outcome();
            self.book.stopped(common, &outcome);
            return Turned::Stopped(Box::new(outcome));
        }
        Turned::Again(self.poll_timeout(common))
    }

    fn poll_timeout(&self, common: &Common) -> Option<Instant> {
        if self.sockets.reads_len() > 0 || !self.accept_queue.is_empty() {
            return Some(common.now.instant);
        }
        [
            self.engine.poll_timeout(&self.levels()),
            self.sockets.poll_timeout(),
            self.link.poll_timeout(common),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn dispatch(&mut self, common: &mut Common) {
        for (sock, readable) in std::mem::take(&mut self.ready) {
            self.sockets.handle_ready(common, sock, readable);
        }
        for trigger in std::mem::take(&mut self.signals) {
            common.say(|| format!("{}: {trigger}", self.name));
            self.signals_read += 1;
            let at = common.now.instant;
            let repeats = self.engine.outcome().repeats;
            self.handle_input(common, Input::Shutdown(Request { trigger, at }));
            if self.engine.outcome().repeats > repeats {
                common.seen.note("signals that are one");
                self.signals_read -= 1;
                continue;
            }
            common.seen.note(match self.signals_read {
                1 => "first signal",
                2 => "second signal",
                _ => "third signal",
            });
        }
        self.link.handle_ready(common);
        self.dispatch_store_events(common);
        self.serve_ready(common);
        self.accept(common);
    }

    fn dispatch_store_events(&mut self, common: &mut Common) -> bool {
        let mut any = false;
        while let Some(event) = self.link.poll_event() {
            common.say(|| format!("{}: {event:?}", self.name));
            self.book.answered(common, &event);
            let mut refused_claim = None;
            if let StoreEvent::Refused { request, .. } = &event
                && let Refused::Claim(key) = request
            {
                refused_claim = Some(*key);
            }
            self.handle_input(common, Input::Store(event));
            if let Some(key) = refused_claim {
                self.book.check_told(key);
            }
            any = true;
        }
        self.progress |= any;
        any
    }

    fn serve_ready(&mut self, common: &mut Common) {
        let mut budget = common.options.turn_frames_max;
        for _ in 0..self.sockets.reads_len() {
            if budget == 0 {
                return;
            }
            let Some(conn) = self.sockets.next_ready() else {
                return;
            };
            let frames = common.options.read_frames_max;
            for _ in 0..common.dice.among(1, frames) {
                budget = budget.saturating_sub(1);
                if let Some(brought) = self.sockets.next_brought(common, conn) {
                    self.handle_brought(common, conn, brought);
                }
            }
            self.sockets.put_back(conn);
        }
    }

    fn handle_brought(&mut self, common: &mut Common, conn: ConnId, brought: Brought) {
        self.progress = true;
        common.say(|| format!("{}: {conn:?} brings {brought:?}", self.name));
        match brought {
            Brought::Request { protocol, session } => {
                let gate = self.engine.gate();
                // As `net::handshake` decides.
                let needs_store =
                    session.is_some() || protocol == sundown::engine::io::Protocol::V1;
                if !gate.upgrades || needs_store && !gate.sessions {
                    common.seen.note("refused with 503");
                    return self.sockets.refuse(common, conn);
                }
                self.sockets.upgrade(conn);
                self.book.opened(conn, protocol, session.clone());
                self.handle_input(
                    common,
                    Input::Opened {
                        conn,
                        protocol,
                        session,
                    },
                );
            }
            Brought::Message(Ask { index, text, close }) => {
                let words = format!("{index} {text} {}", u8::from(close));
                let message = Message::Text(&words);
                // The replies that leave at once are looked at after the call that made them.
                self.engine
                    .handle_input(Input::Message { conn, message }, common.now);
                let calls: Vec<Call> = self.calls.try_iter().collect();
                self.book.message(common, conn, index, &calls);
                if close && !calls.is_empty() {
                    common.seen.note("closed by the service");
                    self.book.app_closes(conn);
                }
                self.perform(common);
            }
            Brought::PeerClosed { by_frame } => {
                self.book.peer_closed(conn);
                self.handle_input(common, Input::PeerClosed { conn, by_frame });
            }
            Brought::Gone => self.handle_gone(common, conn),
        }
    }

    fn handle_gone(&mut self, common: &mut Common, conn: ConnId) {
        self.book.gone(conn);
        self.handle_input(common, Input::Gone { conn });
    }

    fn accept(&mut self, common: &mut Common) {
        for _ in 0..common.options.config.limits.accepts_max {
            let Some(sock) = self.accept_queue.pop_front() else {
                return;
            };
            self.progress = true;
            self.sockets.insert(common, sock);
        }
    }

    fn shut_queue(&mut self, common: &mut Common) {
        self.is_sweeping = true;
        self.accept(common);
    }

    fn handle_timers(&mut self, common: &mut Common) {
        let now = common.now.instant;
        for conn in self.sockets.handle_timeout(now) {
            common.seen.note("peer did not close in time");
            self.handle_gone(common, conn);
        }
        if self.link.poll_timeout(common).is_some_and(|at| at <= now) {
            self.link.handle_timeout(common);
            self.dispatch_store_events(common);
        }
        self.engine.handle_timeout(common.now);
        self.perform(common);
    }

    fn report_levels(&mut self, common: &mut Common) {
        let levels = Input::Levels(self.levels());
        self.engine.handle_input(levels, common.now);
        // Whether the store was given up is decided here: the goodbyes' totals depend on it.
        self.look_at_phases(common);
        self.perform(common);
    }

    fn levels(&self) -> Levels {
        Levels {
            unsent: self.sockets.unsent_len(),
            unread: self.sockets.ready_len(),
            sockets: self.sockets.len()
                + usize::from(self.is_sweeping && !self.accept_queue.is_empty()),
            heard_at: self.sockets.heard_at,
            promised: 0,
        }
    }

    fn flush_store(&mut self, common: &mut Common) {
        for _ in 0..STORE_ROUNDS_MAX {
            let mut asked = false;
            while let Some(batch) = self.engine.poll_spill() {
                asked = true;
                self.spill(common, batch);
            }
            while let Some(command) = self.engine.poll_store() {
                asked = true;
                self.ask(common, command);
            }
            self.progress |= asked;
            self.link.flush(common);
            let answered = self.dispatch_store_events(common);
            if !asked && !answered {
                break;
            }
        }
    }

    fn ask(&mut self, common: &mut Common, command: StoreCommand) {
        common.say(|| format!("{}: asks {command:?}", self.name));
        self.book.asked(&command);
        self.link.ask(command);
    }

    fn spill(&mut self, common: &mut Common, batch: Vec<Save>) {
        common.say(|| format!("{}: spills {batch:?}", self.name));
        self.book.spill_asked(&batch);
        if let Some(batch) = self.link.spill(common, batch) {
            let event = StoreEvent::Spilled { batch, kept: false };
            self.book.answered(common, &event);
            self.handle_input(common, Input::Store(event));
        }
    }

    fn flush_sockets(&mut self, common: &mut Common) {
        self.progress |= self.sockets.flush(common);
        let texts = common.options.clients.iter().map(|client| client.text_max);
        let texts_max = texts.max().unwrap_or(0);
        self.book
            .check_outbound(self.sockets.unsent_bytes_max(), texts_max);
    }

    fn reap(&mut self, common: &mut Common) {
        self.sockets.reap(common);
    }

    fn look_at_phases(&mut self, common: &mut Common) {
        let outcome = self.engine.outcome();
        if outcome.timeline.began.is_some() {
            self.book.turned(common, &outcome, self.engine.unsaved());
        }
    }

    fn check(&mut self, common: &mut Common) {
        self.look_at_phases(common);
        if self.progress {
            self.idle_turns.clear();
            return;
        }
        let now = common.now.instant;
        self.idle_turns.push_back(now);
        while self
            .idle_turns
            .front()
            .is_some_and(|at| now - *at > Duration::from_secs(1))
        {
            self.idle_turns.pop_front();
        }
        assert!(
            self.idle_turns.len() <= IDLE_TURNS_MAX,
            "{}: turns in which nothing happens: {} in a second",
            self.name,
            self.idle_turns.len()
        );
    }

    fn handle_input(&mut self, common: &mut Common, input: Input<'_>) {
        self.engine.handle_input(input, common.now);
        self.perform(common);
    }

    fn perform(&mut self, common: &mut Common) {
        while let Some(output) = self.engine.poll_output() {
            self.progress = true;
            common.say(|| format!("{}: {output:?}", self.name));
            match output {
                Output::Send { conn, message } => {
                    // The connection may have been over when this was decided.
                    if self.book.is_open(conn) {
                        self.book.sent(common, conn, &message);
                    }
                    if !self.sockets.send(common, conn, message) {
                        self.sockets.fail(common, conn, &CloseReason::TooSlow);
                        self.book.too_slow(conn);
                        self.engine.handle_input(Input::Gone { conn }, common.now);
                    }
                }
                Output::Close {
                    conn,
                    reason,
                    bounded,
                } => {
                    if self.book.is_open(conn) {
                        self.book.closed(common, conn, &reason);
                    }
                    self.sockets.close(common, conn, &reason, bounded);
                }
                Output::Finish { conn } => {
                    if self.book.finished(common, conn) {
                        common.promised.extend(self.sockets.sock(conn));
                    }
                    self.sockets.finish(common, conn);
                }
                Output::Pause { conn } => {
                    if self.book.is_open(conn) {
                        self.book.paused(conn, true);
                    }
                    self.sockets.set_paused(common, conn, true);
                }
                Output::Resume { conn } => {
                    if self.book.is_open(conn) {
                        self.book.paused(conn, false);
                    }
                    self.sockets.set_paused(common, conn, false);
                }
                // Nobody has anything to say to everybody here.
                Output::Publish { .. } | Output::Broadcast { .. } => {}
                Output::CloseListener => self.shut_queue(common),
                Output::Cut { conn } => {
                    self.book.cut(common, conn, self.signals_read > 2);
                    self.sockets.cut(conn);
                }
                Output::Stop => {
                    self.shut_queue(common);
                    self.sockets.dismiss_strangers(common);
                    self.is_stopped = true;
                }
            }
        }
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
        process.link.end(common);
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
