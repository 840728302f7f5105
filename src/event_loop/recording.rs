//! Metrics of the loop: counters when something happens, and gauges of the other modules at a
//! scrape.

use std::time::{Duration, Instant};

use crate::clock;
use crate::core::Core;
use crate::engine::io::{Pushed, Refused, StoreCommand, StoreEvent};
use crate::engine::shutdown::Phase;
use crate::metrics::{Levels, StoreState};
use crate::net::connection::Entrance;
use crate::net::http::Answer;

use super::EventLoop;

/// A turn of this length is a fault of the disk, the application or the machine.
const LONG_TURN: Duration = Duration::from_secs(1);

impl EventLoop {
    /// A request has got an answer: this one, or a 101.
    pub(super) fn count_answer(&mut self, entrance: Entrance, status: u16, is_handshake: bool) {
        let listener = match entrance {
            Entrance::Admin => "admin",
            Entrance::Public => "public",
        };
        self.metrics.answered(listener, status, is_handshake);
    }

    /// The turn is over: when what came in had been dealt with, and when the store had its share.
    pub(super) fn count_turn(&self, begin: Instant) {
        let (dispatched, stored) = (self.dispatched_at, self.stored_at);
        let end = clock::instant();
        let since = |from, to: Instant| to.saturating_duration_since(from);
        let lasted = since(begin, end);
        self.metrics.turned(lasted);
        if lasted >= LONG_TURN {
            log::warn!(
                "a turn took {lasted:.1?}, in which nobody was served: {:.1?} for what came in and \
                 for the application, {:.1?} for timers and the store, {:.1?} to send and to free",
                since(begin, dispatched),
                since(dispatched, stored),
                since(stored, end)
            );
        }
    }

    /// The store is asked. A turn may be long: its beginning will not do.
    pub(super) fn count_command(&mut self, command: &StoreCommand) {
        let now = clock::instant();
        match command {
            StoreCommand::Claim(_) => self.metrics.store().claim_asked(now),
            StoreCommand::Commit(_) => self.metrics.store().commit_asked(now),
            StoreCommand::Read(_) | StoreCommand::Sync => {}
        }
    }

    /// The store has answered.
    pub(super) fn count_store_event(&mut self, event: &StoreEvent) {
        let store = self.metrics.store();
        match event {
            StoreEvent::Up | StoreEvent::Resumed => store.changed(StoreState::Up),
            StoreEvent::Stalled => store.changed(StoreState::Stalled),
            StoreEvent::Down { .. } => store.changed(StoreState::Down),
            StoreEvent::Claimed { .. } => store.claimed(clock::instant()),
            StoreEvent::Committed {
                batch,
                fenced,
                pushed,
            } => {
                let saved = batch.len() - fenced.len();
                store.committed(saved, fenced.len(), clock::instant());
                if !pushed.is_empty() {
                    let is = |of: fn(&Pushed) -> bool| pushed.iter().filter(|one| of(one)).count();
                    store.pushed(
                        is(|one| matches!(one, Pushed::Accepted(_))),
                        is(|one| matches!(one, Pushed::Refused(_))),
                    );
                }
            }
            StoreEvent::Refused { request, .. } => match request {
                Refused::Claim(_) => store.claim_refused(clock::instant()),
                Refused::Commit(_) => store.commit_refused(),
                Refused::Read(_) => {}
            },
            StoreEvent::Lost { .. }
            | StoreEvent::Mailbox { .. }
            | StoreEvent::Mail { .. }
            | StoreEvent::Synced
            | StoreEvent::Spilled { .. }
            | StoreEvent::TakenOver { .. } => {}
        }
    }

    pub(super) fn metrics_page(&self, core: &Core, ready: bool) -> Answer {
        let (counters, engine) = (self.connections.counters(), core.engine());
        let (body, media_type) = self.metrics.page(&Levels {
            connections: engine.connections(),
            sockets: self.connections.len(),
            sessions: engine.sessions(),
            unsaved_sessions: engine.unsaved(),
            waiting_replies: engine.waiting_replies(),
            open_steps: engine.open_steps(),
            ready_connections: self.connections.unread_len(),
            outbound_bytes: self.connections.unsent_bytes(),
            held: &(self.connections.memory() + engine.memory()).by_kind(),
            received_bytes: counters.received_bytes,
            sent_bytes: counters.sent_bytes,
            early_answers: &counters.early_answers,
            early_admin_answers: &counters.early_admin_answers,
            closes: counters.closes(),
            is_linked: self.broadcasting.is_linked(),
            ready,
            phases: &Phase::ALL.map(Phase::name),
            phase: engine.phase().name(),
            lasted: &engine
                .phases_lasted(core.now().instant)
                .map(|(phase, lasted)| (phase.name(), lasted)),
        });
        Answer {
            status: 200,
            fields: "".into(),
            media_type,
            body,
        }
    }
}
