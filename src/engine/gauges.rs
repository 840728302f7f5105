//! What operators ask of the engine: levels, read where they live at the moment of the question.

use std::time::{Duration, Instant};

use super::Engine;

impl Engine {
    /// WebSocket connections.
    pub fn connections(&self) -> usize {
        self.clients.len()
    }

    /// Sessions that neither the store nor the spill has confirmed.
    pub fn unsaved(&self) -> usize {
        self.sessions.unsafe_len()
    }

    /// Sessions that are open on this node.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// Replies that wait for a save; counts them one session after the other.
    pub fn waiting_replies(&self) -> usize {
        self.sessions.held_len()
    }

    /// The phase of the shutdown.
    pub fn phase(&self) -> &'static str {
        self.shutdown.state().name()
    }

    /// For how long each phase of the shutdown has lasted.
    pub fn phases_lasted(&self, now: Instant) -> [(&'static str, Duration); 6] {
        self.shutdown.timeline().lasted(now)
    }
}
