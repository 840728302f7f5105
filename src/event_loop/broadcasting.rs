//! What is said to every client of every node: from an operator's request, from another thread or
//! from another node, to the engine; and back to the operator, how many were told.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Instant;

use super::EventLoop;
use crate::broadcast::{self, BroadcastError};
use crate::bus::{Bus, BusEvent};
use crate::clock;
use crate::core::Core;
use crate::engine::io::{Broadcast, ConnId, Input, Origin};
use crate::net::http::Answer;

/// Where broadcasts come from and go to.
pub(super) struct Broadcasting {
    /// Broadcasts from other threads.
    said: Receiver<Arc<str>>,
    /// The way to other nodes, where there is one.
    bus: Option<Bus>,
    announced: Announced,
    /// The log has said that something else is on the channel. Whoever puts it there may do so often.
    has_told_unreadable: bool,
}

/// Broadcasts of this node that have begun, oldest first, until it is known what has come of them.
#[derive(Debug, Default)]
struct Announced(VecDeque<Announcement>);

#[derive(Debug)]
struct Announcement {
    origin: Origin,
    /// For how many clients of this node it is queued, once it is for all.
    told: Option<usize>,
    /// Whether other nodes hear it, once that is known.
    published: Option<bool>,
}

impl Broadcasting {
    pub(super) fn new(said: Receiver<Arc<str>>, bus: Option<Bus>) -> Self {
        Self {
            said,
            bus,
            announced: Announced::default(),
            has_told_unreadable: false,
        }
    }

    /// Whether they reach other nodes.
    pub(super) fn is_linked(&self) -> bool {
        self.bus.as_ref().is_some_and(Bus::is_up)
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.bus.as_ref().and_then(Bus::poll_timeout)
    }
}

impl Announced {
    fn handle_begun(&mut self, origin: Origin, published: Option<bool>) {
        self.0.push_back(Announcement {
            origin,
            told: None,
            published,
        });
    }

    /// The bus answers in order.
    fn handle_published(&mut self, done: bool) {
        let next = self.0.iter_mut().find(|next| next.published.is_none());
        if let Some(next) = next {
            next.published = Some(done);
        }
    }

    fn handle_told(&mut self, conn: ConnId, told: usize) {
        let asked = |one: &&mut Announcement| one.origin == Origin::Operator(conn);
        if let Some(asked) = self.0.iter_mut().find(asked) {
            asked.told = Some(told);
        }
    }

    /// The next operator to be answered: how many were told here, and whether other nodes are.
    fn poll_answer(&mut self) -> Option<(ConnId, usize, bool)> {
        loop {
            let next = self.0.front()?;
            let published = next.published?;
            let answer = match next.origin {
                Origin::Operator(conn) => Some((conn, next.told?, published)),
                Origin::Handle | Origin::Node => None,
            };
            self.0.pop_front();
            if answer.is_some() {
                return answer;
            }
        }
    }
}

impl EventLoop {
    /// `POST /broadcast`. Answered when all clients of this node have been told.
    pub(super) fn broadcast_asked(&mut self, core: &mut Core, conn: ConnId, body: &[u8]) {
        match broadcast::message(body) {
            Ok(text) => {
                self.connections.await_answer(conn);
                self.broadcast(core, text, Origin::Operator(conn));
            }
            Err(error) => {
                let status = match error {
                    BroadcastError::TooLarge => 413,
                    BroadcastError::NotJson(_) => 400,
                    BroadcastError::TooMany
                    | BroadcastError::ShuttingDown
                    | BroadcastError::OnlyHere => 503,
                };
                self.answer_broadcast(core, conn, &Answer::error(status, &error.to_string()));
            }
        }
    }

    /// From other threads: what they have said since the last look.
    pub(super) fn dispatch_broadcasts(&mut self, core: &mut Core) {
        while let Ok(text) = self.broadcasting.said.try_recv() {
            self.broadcast(core, text, Origin::Handle);
        }
    }

    /// The kernel has told of the link to other nodes, or a thread of the bus has woken the loop.
    pub(super) fn handle_bus_ready(&mut self, core: &mut Core) {
        let now = core.now().instant;
        self.drive_bus(core, |bus| bus.handle_ready(now));
    }

    pub(super) fn handle_bus_timeout(&mut self, core: &mut Core) {
        let now = core.now().instant;
        if self.broadcasting.poll_timeout().is_some_and(|at| at <= now) {
            self.drive_bus(core, |bus| bus.handle_timeout(now));
        }
    }

    /// The link to other nodes goes where the store leads.
    pub(super) fn flush_bus(&mut self, core: &mut Core) {
        let (now, peer) = (core.now().instant, self.store.peer());
        self.drive_bus(core, |bus| {
            bus.follow(peer, now);
            bus.flush(now);
        });
    }

    /// Does something with the bus, if there is one, and passes on what comes of it.
    fn drive_bus(&mut self, core: &mut Core, drive: impl FnOnce(&mut Bus)) {
        if let Some(bus) = &mut self.broadcasting.bus {
            drive(bus);
            self.dispatch_bus_events(core);
        }
    }

    /// From other nodes, and whether they are in reach.
    fn dispatch_bus_events(&mut self, core: &mut Core) {
        // What other nodes have said waits in Redis while too much waits here.
        while core.engine().has_room_for_broadcasts()
            && let Some(event) = self.broadcasting.bus.as_mut().and_then(Bus::poll_event)
        {
            match event {
                BusEvent::Up => log::info!("broadcasts reach other nodes"),
                BusEvent::Down(reason) => {
                    log::warn!("broadcasts reach only this node: {reason}");
                }
                BusEvent::Stalled => log::warn!("broadcasts wait: Redis does not answer"),
                BusEvent::Resumed => log::info!("broadcasts reach other nodes again"),
                BusEvent::Published(done) => {
                    if !done {
                        self.metrics.broadcasts().unpublished();
                    }
                    self.broadcasting.announced.handle_published(done);
                }
                BusEvent::Heard(Ok(text)) => {
                    self.metrics.broadcasts().heard(clock::instant());
                    let origin = Origin::Node;
                    core.handle_input(Input::Broadcast(Broadcast { text, origin }), self);
                }
                BusEvent::Heard(Err(error)) => {
                    self.metrics.broadcasts().unreadable();
                    if !mem::replace(&mut self.broadcasting.has_told_unreadable, true) {
                        log::warn!("what is on the broadcast channel is let pass: {error}");
                    }
                }
            }
        }
        let is_linked = self.broadcasting.is_linked();
        self.requests.promises().set_reach(is_linked);
        self.answer_announced(core);
    }

    /// A broadcast is queued for so many clients, or was refused: an operator is answered.
    pub(super) fn answer_done(&mut self, origin: Origin, queued: Option<usize>, core: &Core) {
        let broadcasts = self.metrics.broadcasts();
        match queued {
            Some(_) => broadcasts.queued(clock::instant()),
            // The last to come is the one that is refused; in a shutdown, all are.
            None => broadcasts.refused(),
        }
        let conn = match origin {
            Origin::Operator(conn) => conn,
            Origin::Handle => return self.requests.promises().keep(),
            Origin::Node => return,
        };
        match queued {
            Some(queued) => {
                self.broadcasting.announced.handle_told(conn, queued);
                self.answer_announced(core);
            }
            None if core.engine().is_shutting_down() => {
                self.answer_broadcast(core, conn, &Answer::unavailable("shutting down"));
            }
            None => {
                let answer = Answer::unavailable("too many broadcasts wait already");
                self.answer_broadcast(core, conn, &answer);
            }
        }
    }

    /// To the other nodes, now that it begins here.
    pub(super) fn publish(&mut self, text: Arc<str>, origin: Origin, now: Instant) {
        let bus = self.broadcasting.bus.as_mut();
        let taken = bus.map(|bus| bus.publish(text, now));
        let published = match taken {
            None => Some(true),
            Some(true) => None,
            Some(false) => {
                self.metrics.broadcasts().unpublished();
                Some(false)
            }
        };
        self.broadcasting.announced.handle_begun(origin, published);
    }

    fn answer_announced(&mut self, core: &Core) {
        while let Some((conn, told, published)) = self.broadcasting.announced.poll_answer() {
            let answer = if published {
                Answer::object(200, &format!("{{\"queued\":{told}}}\n"))
            } else {
                let clients = if told == 1 { "client" } else { "clients" };
                Answer::unavailable(&format!(
                    "queued for {told} {clients} of this node only: other nodes are out of reach"
                ))
            };
            self.answer_broadcast(core, conn, &answer);
        }
    }

    fn broadcast(&mut self, core: &mut Core, text: Arc<str>, origin: Origin) {
        self.metrics.broadcasts().asked(clock::instant());
        core.handle_input(Input::Broadcast(Broadcast { text, origin }), self);
    }

    fn answer_broadcast(&mut self, core: &Core, conn: ConnId, answer: &Answer) {
        let (number, status) = (conn.generation, answer.status);
        log::debug!("connection {number}: {status} for POST /broadcast");
        self.metrics.answered("admin", answer.status, false);
        self.connections
            .answer(conn, answer, true, core.now().instant);
    }
}
