//! The loop: one thread, one mio `Poll`, and the [`Shell`] of a [`Core`], which owns the order of a
//! turn.
//!
//! It waits for events, and performs what the engine decides, with real sockets, the store, the log
//! and metrics. It decides nothing itself, and nothing in it blocks but the wait.

mod answering;
mod binding;
mod broadcasting;
mod promises;
mod reading;
mod recording;
mod request_log;
mod requests;
mod shutdown_requests;
mod store_log;

use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Events, Poll};

use crate::clock;
use crate::config::{AdminHosts, AllowedOrigins, Limits};
use crate::core::{Core, Shell};
use crate::engine::io::{Commit, ConnId, Input, Levels, Now, Output, StoreCommand, StoreEvent};
use crate::engine::message::{Message, ServerMessage};
use crate::error::Error;
use crate::metrics::Metrics;
use crate::net::connection::Entrance;
use crate::net::connections::Connections;
use crate::net::connections::inbound::Event;
use crate::net::event_source::Source;
use crate::net::handshake::Pages;
use crate::net::http::Answer;
use crate::net::listener::Listener;
use crate::signals::Signals;
use crate::store::OpenedStore;
use broadcasting::Broadcasting;
use reading::ReadBuffer;
use request_log::Names;
use requests::Pushes;
pub(crate) use requests::Requests;
use store_log::StoreLog;

/// The loop and everything it drives.
pub(crate) struct EventLoop {
    poll: Poll,
    events: Events,
    told: Told,
    /// When this turn's second step began, and its fifth.
    dispatched_at: Instant,
    stored_at: Instant,
    connections: Connections,
    listener: Listener,
    admin: Option<Listener>,
    signals: Option<Signals>,
    requests: Arc<Requests>,
    broadcasting: Broadcasting,
    pushes: Pushes,
    store: OpenedStore,
    /// Rows that the spill leaves behind and that are not from this shutdown, as far as is known.
    spill_rows_waiting: Option<u64>,
    metrics: Metrics,
    store_log: StoreLog,
    limits: Limits,
    allowed_origins: AllowedOrigins,
    admin_hosts: AdminHosts,
    paths: Vec<String>,
    subprotocols: Vec<String>,
    /// What sessions are called in the log.
    names: Names,
    /// The page of a path, if pages are served.
    page: Box<Pages>,
    read_buffer: ReadBuffer,
    /// Scratch for outgoing payloads.
    scratch: Vec<u8>,
}

/// What the kernel has told of in this turn, beside sockets.
#[derive(Debug, Default)]
struct Told {
    woken: bool,
    store_ready: bool,
    bus_ready: bool,
}

/// How long the spill, and the closing of files, may take after the last turn: no more than half of
/// what is left of the shutdown, since the report and the exit come after it.
const FILES_WAIT_MAX: Duration = Duration::from_millis(500);

impl EventLoop {
    /// One turn. `false` once all is over. Waits no longer than `timeout`, if there is one.
    pub(crate) fn turn(
        &mut self,
        core: &mut Core,
        timeout: Option<Duration>,
    ) -> Result<bool, Error> {
        self.wait(core, timeout)?;
        let now = clock::now();
        self.connections.handle_clock(now.unix_ms);
        self.take_events();
        core.turn(now, Core::STEPS, self);
        self.count_turn(now.instant);
        Ok(!core.is_stopped())
    }

    /// Whether readiness is 200.
    pub(crate) fn is_ready(&self, core: &Core) -> bool {
        core.engine().gate().ready && !self.listener.is_lost()
    }

    fn wait(&mut self, core: &Core, timeout: Option<Duration>) -> Result<(), Error> {
        // From the present, not from the last turn, which may be long ago for an embedder.
        let now = clock::instant();
        let due = core
            .poll_timeout(self)
            .map(|at| at.saturating_duration_since(now));
        let timeout = timeout.into_iter().chain(due).min();
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() != std::io::ErrorKind::Interrupted => {
                Err(Error::io("cannot wait for events")(error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// What the kernel has told, for the steps of this turn.
    fn take_events(&mut self) {
        self.told = Told::default();
        for event in &self.events {
            match Source::of(event.token()) {
                Source::Listener => self.listener.handle_ready(),
                Source::Admin => self.admin.iter_mut().for_each(Listener::handle_ready),
                Source::Waker => self.told.woken = true,
                Source::Store => self.told.store_ready = true,
                Source::Bus => self.told.bus_ready = true,
                Source::Connection(slot) => self.connections.handle_ready(slot, event),
            }
        }
    }

    fn handle_event(&mut self, core: &mut Core, conn: ConnId, event: Event<'_>) {
        match event {
            Event::Request(head, body) => self.handle_request(core, conn, &head, &body),
            Event::Message(message) => self.handle_message(core, conn, message),
            Event::PeerClosed { by_frame } => {
                core.handle_input(Input::PeerClosed { conn, by_frame }, self);
            }
            Event::Control => {}
            Event::Gone => core.handle_input(Input::Gone { conn }, self),
        }
    }

    fn handle_message(&mut self, core: &mut Core, conn: ConnId, message: Message<'_>) {
        self.metrics.message_received();
        core.handle_input(Input::Message { conn, message }, self);
    }

    /// Whether one more socket may come in there.
    fn has_room(&self, entrance: Entrance) -> bool {
        let max = match entrance {
            Entrance::Public => self.limits.connections_max + Limits::STRANGERS_MAX,
            Entrance::Admin => Limits::OPERATORS_MAX,
        };
        self.connections.len_at(entrance) < max
    }

    fn accept_at(&mut self, entrance: Entrance, now: Instant) {
        for _ in 0..self.limits.accepts_max {
            let has_room = self.has_room(entrance);
            let listener = match entrance {
                Entrance::Public => Some(&mut self.listener),
                Entrance::Admin => self.admin.as_mut(),
            };
            let Some(listener) = listener.filter(|listener| listener.is_ready()) else {
                return;
            };
            if !has_room {
                return self.connections.make_room(entrance, now);
            }
            let Some(socket) = listener.accept(now) else {
                return;
            };
            if entrance == Entrance::Public {
                self.metrics.accepted();
            }
            self.connections
                .insert(socket, entrance, self.poll.registry(), now);
        }
    }
}

impl Shell for EventLoop {
    fn dispatch_requests(&mut self, core: &mut Core) {
        if self.told.woken {
            self.pass_requests(core);
        }
        if core.engine().is_shutting_down() {
            self.requests.promises().close();
        }
    }

    fn poll_taken(&mut self) -> Option<ConnId> {
        self.connections.poll_taken()
    }

    fn handle_store_ready(&mut self, now: Now) {
        if self.told.store_ready || self.told.woken {
            self.store.handle_ready(now);
        }
    }

    fn read(&mut self, core: &mut Core) {
        if self.told.bus_ready || self.told.woken {
            self.handle_bus_ready(core);
        }
        if self.told.woken {
            self.dispatch_broadcasts(core);
        }
        if self.told.woken || self.pushes.has_more {
            self.dispatch_pushes(core);
        }
        self.serve_ready(core);
    }

    fn may_accept(&self) -> bool {
        let admin = self.admin.as_ref().is_some_and(Listener::is_ready);
        admin && self.has_room(Entrance::Admin)
            || self.listener.is_ready() && self.has_room(Entrance::Public)
    }

    fn accept(&mut self, now: Instant) {
        self.accept_at(Entrance::Public, now);
        self.accept_at(Entrance::Admin, now);
    }

    fn shut_queues(&mut self) {
        self.listener.shut_queue();
        self.admin.iter_mut().for_each(Listener::shut_queue);
    }

    fn handle_timeout(&mut self, core: &mut Core) {
        self.dispatched_at = clock::instant();
        let now = core.now().instant;
        self.listener.handle_timeout(now);
        if let Some(admin) = &mut self.admin {
            admin.handle_timeout(now);
        }
        for conn in self.connections.handle_timeout(now) {
            core.handle_input(Input::Gone { conn }, self);
        }
        self.handle_bus_timeout(core);
    }

    fn handle_store_timeout(&mut self, now: Now) {
        let due = self.store.poll_timeout();
        if due.is_some_and(|at| at <= now.instant) {
            self.store.handle_timeout(now);
        }
    }

    fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        if self.connections.reads_len() > 0 || self.connections.has_taken() {
            return Some(now);
        }
        let admin = self.admin.as_ref().and_then(Listener::poll_timeout);
        [
            self.connections.poll_timeout(),
            self.store.poll_timeout(),
            self.broadcasting.poll_timeout(),
            self.listener.poll_timeout(),
            admin,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn levels(&self) -> Levels {
        Levels {
            unsent: self.connections.unsent_len(),
            unread: self.connections.unread_len(),
            sockets: self.connections.len(),
            heard_at: self.connections.heard_at(),
            promised: self.requests.promises().len(),
        }
    }

    fn spill(&mut self, batch: Vec<Commit>) -> Option<StoreEvent> {
        let Some(spill) = self.store.spill() else {
            return Some(StoreEvent::Spilled { batch, kept: false });
        };
        spill.put(batch);
        None
    }

    fn ask(&mut self, command: StoreCommand) {
        self.count_command(&command);
        self.store.ask(command);
    }

    fn flush_store(&mut self, now: Now) {
        self.store.flush(now);
    }

    fn finish_store(&mut self, end: Option<Instant>) {
        let left = end.map_or(Duration::ZERO, clock::left_until);
        let until = clock::instant() + FILES_WAIT_MAX.min(left / 2);
        self.store.handle_end(until);
        if let Some(spill) = self.store.spill() {
            self.spill_rows_waiting = spill.finish(until);
        }
    }

    fn poll_store_event(&mut self, now: Now) -> Option<StoreEvent> {
        let event = self.store.poll_event()?;
        self.store_log.tell(&event, now.instant);
        self.count_store_event(&event);
        Some(event)
    }

    fn perform(&mut self, output: &Output, core: &Core) -> bool {
        let (connections, now) = (&mut self.connections, core.now().instant);
        match *output {
            Output::Send {
                conn,
                protocol,
                ref message,
            } => {
                let payload = message.payload(protocol, &mut self.scratch);
                let (binary, reserved) = (message.is_binary(), message.is_reserved());
                let is_queued = connections.send(conn, payload, binary, reserved);
                if is_queued {
                    self.metrics.message_sent();
                    if let ServerMessage::Push(_) = message {
                        connections.push_queued(conn, protocol);
                    }
                }
                return is_queued;
            }
            Output::Close {
                conn,
                ref reason,
                bounded,
            } => connections.close(conn, reason, bounded, now),
            Output::Fail { conn, ref reason } => connections.fail(conn, reason, now),
            Output::Finish { conn } => connections.finish(conn, now),
            Output::Pause { conn } => connections.set_paused(conn, true, now),
            Output::Resume { conn } => connections.set_paused(conn, false, now),
            Output::Publish { ref text, origin } => self.publish(Arc::clone(text), origin, now),
            Output::BroadcastDone { origin, queued } => self.answer_done(origin, queued, core),
            Output::CloseListener => {}
            Output::Cut { conn } => connections.cut(conn),
            Output::Panicked(ref panicked) => self.note_panic(panicked),
            Output::Stop => {
                let answer = Answer::unavailable("try another instance");
                connections.dismiss_strangers(&answer, now);
            }
        }
        true
    }

    fn flush(&mut self, core: &mut Core) {
        self.stored_at = clock::instant();
        self.flush_bus(core);
        self.connections.flush(core.now().instant);
    }

    fn reap(&mut self) {
        self.connections.reap();
    }
}
