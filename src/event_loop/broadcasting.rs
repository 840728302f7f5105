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
                // Nothing more is read from it: it waits.
                self.connections.set_paused(conn, true);
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
                BusEvent::Heard(json) => match broadcast::message(&json) {
                    Ok(text) => {
                        self.metrics.broadcasts.remote += 1;
                        self.tell_all(text, None);
                    }
                    Err(error) => log::warn!("another node's broadcast is let pass: {error}"),
                },
            }
        }
        self.metrics.broadcasts.is_linked = bus.is_up();
        self.bus = Some(bus);
    }

    /// How many were told, for whoever asked.
    pub(super) fn broadcast_told(&mut self, asker: Option<ConnId>, told: Option<usize>) {
        let broadcasts = &mut self.metrics.broadcasts;
        if told.is_some() {
            broadcasts.watch.stop(clock::now().instant);
        } else {
            // The last to come is the one that is refused; in a shutdown, all are.
            broadcasts.refused += 1;
            broadcasts.watch.cancel();
        }
        let Some(conn) = asker else { return };
        let answer = match told {
            Some(told) => Answer::object(200, &format!("{{\"queued\":{told}}}\n")),
            None if self.engine.is_shutting_down() => Answer::unavailable("shutting down"),
            None => Answer::unavailable("too many broadcasts wait already"),
        };
        self.answer_broadcast(conn, &answer);
    }

    /// To the clients of this node and, if it is taken here, of all others.
    fn broadcast(&mut self, text: Arc<str>, asker: Option<ConnId>) {
        self.metrics.broadcasts.local += 1;
        if self.engine.takes_broadcasts()
            && let Some(bus) = &mut self.bus
        {
            bus.publish(broadcast::json_of(&text));
        }
        self.tell_all(text, asker);
    }

    fn tell_all(&mut self, text: Arc<str>, asker: Option<ConnId>) {
        self.metrics.broadcasts.watch.start(clock::now().instant);
        self.handle_input(Input::Broadcast(Broadcast { text, asker }));
    }

    fn answer_broadcast(&mut self, conn: ConnId, answer: &Answer) {
        self.metrics.answered("admin", answer.status, false);
        self.connections
            .answer(conn, answer, true, self.now.instant);
    }
}
