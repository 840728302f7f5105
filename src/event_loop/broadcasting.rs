//! What is said to every client of every node: from an operator's request, from another thread or
//! from another node, to the engine; and back to the operator, how many were told.

use std::sync::Arc;

use super::EventLoop;
use crate::broadcast::{self, BroadcastError};
use crate::clock;
use crate::engine::io::{Broadcast, ConnId, Input};
use crate::net::http::Answer;
use crate::store::BusEvent;

impl EventLoop {
    /// `POST /broadcast`. Answered when all clients of this node have been told.
    pub(super) fn broadcast_asked(&mut self, conn: ConnId, body: &[u8]) {
        match broadcast::message(body) {
            Ok(text) => {
                self.connections.await_answer(conn);
                self.broadcast(text, Some(conn));
            }
            Err(error) => {
                let status = match error {
                    BroadcastError::TooLarge => 413,
                    BroadcastError::NotJson(_) => 400,
                    BroadcastError::TooMany => 503,
                };
                self.answer_broadcast(conn, &Answer::error(status, &error.to_string()));
            }
        }
    }

    /// From other threads: what they have said since the last look.
    pub(super) fn dispatch_broadcasts(&mut self) {
        while let Ok(text) = self.broadcasts.try_recv() {
            self.broadcast(text, None);
        }
    }

    /// From other nodes, and whether they are in reach.
    pub(super) fn dispatch_bus_events(&mut self) {
        let Some(mut bus) = self.bus.take() else {
            return;
        };
        while let Some(event) = bus.poll_event() {
            match event {
                BusEvent::Up => log::info!("broadcasts reach other nodes"),
                BusEvent::Down(reason) => {
                    log::warn!("broadcasts reach only this node: {reason}");
                }
                BusEvent::Stalled => log::warn!("broadcasts wait: Redis does not answer"),
                BusEvent::Resumed => log::info!("broadcasts reach other nodes again"),
                BusEvent::Published(done) => {
                    self.metrics.broadcasts.unpublished += u64::from(!done);
                }
                BusEvent::Heard(json) => match broadcast::message(&json) {
                    Ok(text) => {
                        self.metrics.broadcasts.remote += 1;
                        self.tell_all(text, None, false);
                    }
                    // Once: whoever else is on the channel may say much.
                    Err(error) => {
                        if self.metrics.broadcasts.unreadable == 0 {
                            log::warn!("what is on the broadcast channel is let pass: {error}");
                        }
                        self.metrics.broadcasts.unreadable += 1;
                    }
                },
            }
        }
        self.bus = Some(bus);
    }

    /// After the store, which the way to other nodes follows.
    pub(super) fn flush_bus(&mut self) {
        if let Some(bus) = &mut self.bus {
            bus.follow(self.store.peer(), self.now.instant);
            bus.flush(self.now.instant);
            self.dispatch_bus_events();
        }
    }

    /// How many were told, for whoever asked.
    pub(super) fn broadcast_told(&mut self, asker: Option<ConnId>, told: Option<usize>) {
        let broadcasts = &mut self.metrics.broadcasts;
        // One goes after the other: whoever was missed since the last was missed by this one.
        let missed = std::mem::take(&mut broadcasts.missed);
        if told.is_some() {
            broadcasts.watch.stop(clock::now().instant);
        } else {
            // The last to come is the one that is refused; in a shutdown, all are.
            broadcasts.refused += 1;
            broadcasts.watch.cancel();
        }
        let Some(conn) = asker else { return };
        let answer = match told {
            Some(told) => {
                let queued = told.saturating_sub(missed);
                Answer::object(200, &format!("{{\"queued\":{queued}}}\n"))
            }
            None if self.engine.is_shutting_down() => Answer::unavailable("shutting down"),
            None => Answer::unavailable("too many broadcasts wait already"),
        };
        self.answer_broadcast(conn, &answer);
    }

    /// To the other nodes, now that it begins here.
    pub(super) fn publish(&mut self, text: &str) {
        if let Some(bus) = &mut self.bus
            && !bus.publish(broadcast::json_of(text), self.now.instant)
        {
            self.metrics.broadcasts.unpublished += 1;
        }
    }

    /// A client had no room for it, and is closed: it was counted, and is not told.
    pub(super) fn broadcast_missed(&mut self) {
        self.metrics.broadcasts.missed += 1;
    }

    fn broadcast(&mut self, text: Arc<str>, asker: Option<ConnId>) {
        self.metrics.broadcasts.local += 1;
        self.tell_all(text, asker, true);
    }

    fn tell_all(&mut self, text: Arc<str>, asker: Option<ConnId>, is_local: bool) {
        self.metrics.broadcasts.watch.start(clock::now().instant);
        self.handle_input(Input::Broadcast(Broadcast {
            text,
            asker,
            is_local,
        }));
    }

    fn answer_broadcast(&mut self, conn: ConnId, answer: &Answer) {
        let (number, status) = (conn.generation, answer.status);
        log::debug!("connection {number}: {status} for POST /broadcast");
        self.metrics.answered("admin", answer.status, false);
        self.connections
            .answer(conn, answer, true, self.now.instant);
    }
}
