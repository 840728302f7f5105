//! The loop: one thread, one mio `Poll`, one turn in seven steps.
//!
//! It performs what the engine decides: it carries bytes between `net`, `store` and `engine`, which
//! never see each other, and owns the order in which that happens. It decides nothing itself, and
//! nothing in it blocks but the wait.

mod broadcasting;
mod counting;
mod noting;
mod promises;
mod reading;
mod stopping;
mod store_log;

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::{Duration, Instant};

use mio::{Events, Poll, Waker};

use crate::bus::Bus;
use crate::clock;
use crate::config::{self, AdminHosts, AllowedOrigins, Limits};
use crate::engine::Engine;
use crate::engine::io::{CloseReason, ConnId, Input, Levels, Now, Output, Save, StoreEvent};
use crate::engine::message::{Message, ServerMessage};
use crate::error::Error;
use crate::metrics::Metrics;
use crate::net::connection::Entrance;
use crate::net::connections::Connections;
use crate::net::handshake::{self, Decision, Pages, Rules};
use crate::net::http::{Answer, Head};
use crate::net::inbound::Event;
use crate::net::listener::Listener;
use crate::net::token::Source;
use crate::signals::Signals;
use crate::store::SessionStore;
pub(crate) use broadcasting::Announced;
pub(crate) use noting::Names;
pub(crate) use promises::Promises;
pub(crate) use store_log::StoreLog;

/// The loop and everything it drives.
pub(crate) struct EventLoop {
    pub(crate) poll: Poll,
    pub(crate) events: Events,
    pub(crate) engine: Engine,
    pub(crate) connections: Connections,
    pub(crate) listener: Listener,
    pub(crate) admin: Option<Listener>,
    pub(crate) signals: Option<Signals>,
    pub(crate) requests: Arc<Requests>,
    /// What other threads say to everybody.
    pub(crate) broadcasts: Receiver<Arc<str>>,
    pub(crate) store: Box<dyn SessionStore>,
    /// The way to other nodes, where there is one.
    pub(crate) bus: Option<Bus>,
    /// What was said on it, and not answered.
    pub(crate) announced: Announced,
    pub(crate) metrics: Metrics,
    pub(crate) store_log: StoreLog,
    pub(crate) limits: Limits,
    pub(crate) allowed_origins: AllowedOrigins,
    pub(crate) admin_hosts: AdminHosts,
    pub(crate) paths: Vec<String>,
    /// What sessions are called in the log.
    pub(crate) names: Names,
    /// The page of a path, if pages are served.
    pub(crate) page: Box<Pages>,
    /// The clock at the beginning of the turn.
    pub(crate) now: Now,
    /// The accept queues are shut: whoever is still in one is a stranger to wait for.
    pub(crate) sweeping: bool,
    /// The engine has nothing left to do.
    pub(crate) stopped: bool,
    /// One receive buffer for all connections.
    pub(crate) buffer: Vec<u8>,
    /// Scratch for outgoing payloads.
    pub(crate) scratch: String,
}

/// What other threads ask of the loop.
#[derive(Debug)]
pub(crate) struct Requests {
    pub(crate) waker: Arc<Waker>,
    pub(crate) shutdowns: AtomicU32,
    pub(crate) broadcasts: SyncSender<Arc<str>>,
    /// How many of those are not queued for all clients yet.
    pub(crate) promises: Promises,
}

/// Store answers may ask for more of the store (a claim that waited for a save): so often in one
/// turn, then in the next.
const STORE_ROUNDS_MAX: usize = 4;

impl EventLoop {
    /// One turn. `false` once all is over. Waits no longer than `timeout`, if there is one.
    ///
    #[doc = include_str!("turn.md")]
    pub(crate) fn turn(&mut self, timeout: Option<Duration>) -> Result<bool, Error> {
        self.wait(timeout)?;
        self.now = clock::now();
        self.connections.handle_clock(self.now.unix_ms);
        self.dispatch();
        let dispatched = clock::instant();
        self.handle_timers();
        self.report_levels();
        self.flush_store();
        let stored = clock::instant();
        self.flush_sockets();
        self.connections.reap();
        self.count_turn(dispatched, stored);
        Ok(!self.stopped)
    }

    /// Whether readiness is 200.
    pub(crate) fn is_ready(&self) -> bool {
        self.engine.gate().ready && self.has_seats() && !self.listener.is_lost()
    }

    /// Whether a shutdown has begun.
    pub(crate) fn is_shutting_down(&self) -> bool {
        self.engine.is_shutting_down()
    }

    fn wait(&mut self, timeout: Option<Duration>) -> Result<(), Error> {
        // From the present, not from the last turn, which may be long ago for an embedder.
        let now = clock::instant();
        let due = self
            .poll_timeout()
            .map(|at| at.saturating_duration_since(now));
        let timeout = timeout.into_iter().chain(due).min();
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() != std::io::ErrorKind::Interrupted => {
                Err(Error::io("cannot wait for events")(error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// The earliest deadline; the present if there is work that no event will tell of.
    fn poll_timeout(&self) -> Option<Instant> {
        if self.connections.reads_len() > 0 || self.may_accept() {
            return Some(self.now.instant);
        }
        let admin = self.admin.as_ref().and_then(Listener::poll_timeout);
        [
            self.engine.poll_timeout(&self.levels()),
            self.connections.poll_timeout(),
            self.store.poll_timeout(),
            self.bus.as_ref().and_then(Bus::poll_timeout),
            self.listener.poll_timeout(),
            admin,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn dispatch(&mut self) {
        let (mut store_ready, mut woken, mut bus_ready) = <_>::default();
        for event in &self.events {
            match Source::of(event.token()) {
                Source::Listener => self.listener.handle_ready(),
                Source::Admin => self.admin.iter_mut().for_each(Listener::handle_ready),
                Source::Waker => woken = true,
                Source::Store => store_ready = true,
                Source::Bus => bus_ready = true,
                Source::Connection(slot) => self.connections.handle_ready(slot, event),
            }
        }
        if woken {
            self.dispatch_requests();
        }
        if self.engine.is_shutting_down() {
            self.requests.promises.close();
        }
        if store_ready || woken {
            self.store.handle_ready(self.now);
            self.dispatch_store_events();
        }
        if bus_ready || woken {
            let now = self.now.instant;
            self.bus.iter_mut().for_each(|bus| bus.handle_ready(now));
            self.dispatch_bus_events();
        }
        if woken {
            self.dispatch_broadcasts();
        }
        self.serve_ready();
        self.accept();
    }

    /// Whether there was any.
    fn dispatch_store_events(&mut self) -> bool {
        let mut any = false;
        while let Some(event) = self.store.poll_event() {
            self.store_log.tell(&event, self.now.instant);
            self.count_store_event(&event);
            self.handle_input(Input::Store(event));
            any = true;
        }
        any
    }

    fn handle_event(&mut self, conn: ConnId, event: Event<'_>) {
        match event {
            Event::Request(head, body) => self.handle_request(conn, &head, &body),
            Event::Message(message) => self.handle_message(conn, message),
            Event::Assembled(payload) => self.handle_message(conn, payload.as_message()),
            Event::PeerClosed { by_frame } => {
                self.handle_input(Input::PeerClosed { conn, by_frame });
            }
            Event::Control => {}
            Event::Gone => self.handle_input(Input::Gone { conn }),
        }
    }

    fn handle_message(&mut self, conn: ConnId, message: Message<'_>) {
        self.metrics.messages_received += 1;
        self.handle_input(Input::Message { conn, message });
    }

    fn handle_request(&mut self, conn: ConnId, head: &Head, body: &[u8]) {
        let Some(entrance) = self.connections.entrance(conn) else {
            return;
        };
        // Here and not by a timer: an idle server is not woken, and clients cost no look.
        if entrance == Entrance::Admin {
            self.listener.look_for_file();
        }
        let gate = self.engine.gate();
        let ready = self.is_ready();
        let decision = match entrance {
            Entrance::Admin => handshake::decide_admin(head, ready, &self.admin_hosts),
            Entrance::Public => handshake::decide(
                head,
                &Rules {
                    ready,
                    upgrades: gate.upgrades && self.has_seats(),
                    sessions: gate.sessions,
                    allowed_origins: &self.allowed_origins,
                    accepts: &|path| {
                        let listed = config::lists(&self.paths, path);
                        self.engine.accepts(path, listed)
                    },
                    page: &self.page,
                },
            ),
        };
        let now = self.now.instant;
        let answer = match decision {
            Decision::Upgrade(upgrade) => {
                self.count_answer(entrance, 101, true);
                self.connections.upgrade(conn, &upgrade.response, now);
                let (protocol, session) = (upgrade.protocol, upgrade.session);
                self.note_upgrade(conn, head, protocol, session.as_ref());
                self.handle_input(Input::Opened {
                    conn,
                    protocol,
                    session,
                });
                return;
            }
            Decision::Answer(answer) => answer,
            Decision::Metrics => self.metrics_page(ready),
            Decision::Broadcast => return self.broadcast_asked(conn, body),
        };
        let is_handshake = entrance == Entrance::Public && handshake::is_handshake(head);
        self.count_answer(entrance, answer.status, is_handshake);
        self.note_answer(conn, head, answer.status);
        self.connections
            .answer(conn, &answer, !handshake::is_head(head), now);
    }

    /// Whether one more client may come in.
    fn has_seats(&self) -> bool {
        self.engine.connections() < self.limits.connections_max
    }

    /// Whether one more socket may come in there.
    fn has_room(&self, entrance: Entrance) -> bool {
        let max = match entrance {
            Entrance::Public => self.limits.connections_max + Limits::STRANGERS_MAX,
            Entrance::Admin => Limits::OPERATORS_MAX,
        };
        self.connections.len_at(entrance) < max
    }

    fn may_accept(&self) -> bool {
        let admin = self.admin.as_ref().is_some_and(Listener::is_ready);
        admin && self.has_room(Entrance::Admin)
            || self.listener.is_ready() && self.has_room(Entrance::Public)
    }

    fn accept(&mut self) {
        self.accept_at(Entrance::Public);
        self.accept_at(Entrance::Admin);
    }

    fn accept_at(&mut self, entrance: Entrance) {
        let now = self.now.instant;
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
            self.metrics.accepted += u64::from(entrance == Entrance::Public);
            self.connections
                .insert(socket, entrance, self.poll.registry(), now);
        }
    }

    /// Closes the way in: nobody new gets into the queues, and whoever is there is taken out.
    fn shut_queues(&mut self) {
        if !self.sweeping {
            self.sweeping = true;
            self.listener.shut_queue();
            self.admin.iter_mut().for_each(Listener::shut_queue);
        }
        self.accept();
    }

    fn handle_timers(&mut self) {
        let now = self.now;
        self.listener.handle_timeout(now.instant);
        if let Some(admin) = &mut self.admin {
            admin.handle_timeout(now.instant);
        }
        for conn in self.connections.handle_timeout(now.instant) {
            self.handle_input(Input::Gone { conn });
        }
        if self
            .store
            .poll_timeout()
            .is_some_and(|at| at <= now.instant)
        {
            self.store.handle_timeout(now);
            self.dispatch_store_events();
        }
        if let Some(bus) = &mut self.bus
            && bus.poll_timeout().is_some_and(|at| at <= now.instant)
        {
            bus.handle_timeout(now.instant);
            self.dispatch_bus_events();
        }
        self.engine.handle_timeout(now);
        self.perform();
    }

    fn report_levels(&mut self) {
        self.handle_input(Input::Levels(self.levels()));
    }

    fn levels(&self) -> Levels {
        Levels {
            unsent: self.connections.unsent_len(),
            unread: self.connections.unread_len(),
            // Whoever waits in the queue is a stranger, too.
            sockets: self.connections.len() + usize::from(self.sweeping && self.may_accept()),
            heard_at: self.connections.heard_at(),
            promised: self.requests.promises.len(),
        }
    }

    fn flush_store(&mut self) {
        for _ in 0..STORE_ROUNDS_MAX {
            let mut asked = false;
            while let Some(batch) = self.engine.poll_spill() {
                asked = true;
                self.spill(batch);
            }
            while let Some(command) = self.engine.poll_store() {
                asked = true;
                self.count_command(&command);
                self.store.ask(command);
            }
            self.store.flush(self.now);
            let answered = self.dispatch_store_events();
            if !asked && !answered {
                break;
            }
        }
        if self.stopped {
            self.store.finish();
            self.dispatch_store_events();
        }
    }

    fn flush_sockets(&mut self) {
        self.flush_bus();
        self.connections.flush(self.now.instant);
    }

    fn spill(&mut self, batch: Vec<Save>) {
        if let Some(batch) = self.store.spill(batch) {
            let kept = false;
            self.handle_input(Input::Store(StoreEvent::Spilled { batch, kept }));
        }
    }

    fn handle_input(&mut self, input: Input<'_>) {
        self.engine.handle_input(input, self.now);
        self.perform();
    }

    /// Does everything that the engine asks for.
    fn perform(&mut self) {
        let now = self.now.instant;
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Send { conn, message } => {
                    let payload = message.payload(&mut self.scratch);
                    let (binary, reserved) = (message.is_binary(), message.is_reserved());
                    if self.connections.send(conn, payload, binary, reserved) {
                        self.metrics.messages_sent += 1;
                    } else {
                        if let ServerMessage::Broadcast(_) = message {
                            self.broadcast_missed();
                        }
                        self.connections.fail(conn, &CloseReason::TooSlow, now);
                        self.engine.handle_input(Input::Gone { conn }, self.now);
                    }
                }
                Output::Close {
                    conn,
                    reason,
                    bounded,
                } => {
                    self.connections.close(conn, &reason, bounded, now);
                }
                Output::Finish { conn } => self.connections.finish(conn, now),
                Output::Pause { conn } => self.connections.set_paused(conn, true, now),
                Output::Resume { conn } => self.connections.set_paused(conn, false, now),
                Output::Publish { text, origin } => self.publish(text, origin),
                Output::Broadcast { origin, told } => self.broadcast_told(origin, told),
                Output::CloseListener => self.shut_queues(),
                Output::Cut { conn } => self.connections.cut(conn),
                Output::Stop => {
                    self.shut_queues();
                    self.connections.dismiss_strangers(&going(), now);
                    self.stopped = true;
                }
            }
        }
    }
}

fn going() -> Answer {
    Answer::unavailable("try another instance")
}
