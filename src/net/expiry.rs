//! Who has had its time: slow handshakes, peers that do not close, peers that have fallen silent.

use std::time::Instant;

use super::connection::{Entrance, Phase};
use super::connections::{Connections, live};
use super::deadlines::Deadlines;
use super::http::Answer;
use super::websocket;
use crate::engine::io::{CloseReason, ConnId};

/// So few deadlines are not worth a search for those that mean nothing.
const DEADLINES_KEPT: usize = 64;

/// An idle peer is looked at so many times in an idle timeout.
pub(super) const IDLE_CHECKS: u32 = 4;

impl Connections {
    /// Cuts who has had its time; answers the WebSocket connections among them.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Vec<ConnId> {
        let mut lost = Vec::new();
        while let Some(conn) = self
            .handshakes
            .iter_mut()
            .find_map(|queue| queue.pop_due(now))
        {
            let Some(connection) = self.get_mut(conn) else {
                continue;
            };
            match &connection.phase {
                Phase::Handshake { head } if head.is_empty() => self.kill(conn.slot),
                Phase::Handshake { .. } => {
                    self.answer(conn, &Answer::json(408, "request timeout"), true, now);
                }
                Phase::Open(_) | Phase::Deaf(_) | Phase::Lingering { .. } | Phase::Dead => {}
            }
        }
        while let Some(conn) = self.lingerings.pop_due(now) {
            if self.get_mut(conn).is_some() {
                self.kill(conn.slot);
            }
        }
        while let Some(conn) = self.closings.pop_due(now) {
            if self
                .get_mut(conn)
                .is_some_and(|connection| connection.is_websocket())
            {
                self.kill(conn.slot);
                lost.push(conn);
            }
        }
        while let Some(conn) = self.idle.pop_due(now) {
            lost.extend(self.check_idle(conn, now));
        }
        lost
    }

    /// When `handle_timeout` wants to be called next.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        [
            &self.handshakes[0],
            &self.handshakes[1],
            &self.closings,
            &self.lingerings,
            &self.idle,
        ]
        .into_iter()
        .filter_map(Deadlines::next)
        .min()
    }

    /// The oldest handshake makes room: it has had the most time.
    pub(crate) fn evict_handshake(&mut self, entrance: Entrance) {
        while let Some(conn) = self.handshakes[entrance as usize].pop() {
            if let Some(connection) = self.get_mut(conn)
                && let Phase::Handshake { .. } = connection.phase
            {
                self.kill(conn.slot);
                return;
            }
        }
    }

    /// Forgets the deadlines of handshakes that are over, up to the first that is not: a server
    /// whose clients get in at once holds next to none.
    pub(super) fn forget_handshakes(&mut self, entrance: Entrance) {
        let queue = &mut self.handshakes[entrance as usize];
        while let Some(conn) = queue.first()
            && !live(&mut self.slab, conn)
                .is_some_and(|connection| matches!(connection.phase, Phase::Handshake { .. }))
        {
            queue.pop();
        }
    }

    /// Forgets the deadlines of connections that are gone, once they are the most. What this
    /// costs, many have been closed for since it was done last.
    pub(super) fn forget_deadlines(&mut self) {
        let worth = DEADLINES_KEPT + self.slab.len() * 4;
        let queues = self.handshakes.iter_mut().chain([
            &mut self.closings,
            &mut self.lingerings,
            &mut self.idle,
        ]);
        for queue in queues.filter(|queue| queue.len() > worth) {
            queue.retain(|conn| live(&mut self.slab, conn).is_some());
        }
    }

    fn check_idle(&mut self, conn: ConnId, now: Instant) -> Option<ConnId> {
        let timeout = self.limits.idle_timeout;
        let connection = self.get_mut(conn)?;
        let silent = now.saturating_duration_since(connection.heard_at);
        let Phase::Open(_) = connection.phase else {
            return None;
        };
        if connection.paused {
            // It is not read from: its silence says nothing.
            connection.heard_at = now;
        } else if silent >= timeout && connection.pinged {
            self.fail(conn, &CloseReason::IDLE, now);
            return Some(conn);
        } else if silent >= timeout / 2 && !connection.pinged {
            connection.pinged = true;
            websocket::encode_ping(&mut connection.outbound);
            self.mark_dirty(conn.slot);
        }
        self.idle.push(conn, now);
        None
    }
}
