//! Who has had its time: slow handshakes, peers that do not close, peers that have fallen silent.

use std::time::Instant;

use super::connection::{Connection, Entrance, Phase};
use super::connections::Connections;
use super::deadlines::{self, Deadlines};
use super::http::Answer;
use super::table::Table;
use super::websocket;
use crate::engine::io::{CloseReason, ConnId};

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
        queue.forget_first(|conn| is_meant(&self.table, conn, Connection::is_handshake));
    }

    /// Forgets the deadlines that mean nothing any more: the first ones always; all of them, once
    /// they are the most. What that costs, many have been closed for since it was done last.
    pub(super) fn forget_deadlines(&mut self) {
        let table = &self.table;
        let worth = deadlines::KEPT + table.len() * 4;
        let forget = |queue: &mut Deadlines, phase: fn(&Connection) -> bool| {
            queue.forget_first(|conn| is_meant(table, conn, phase));
            if queue.len() > worth {
                queue.retain(|conn| is_meant(table, conn, phase));
            }
            queue.shrink();
        };
        for queue in &mut self.handshakes {
            forget(queue, Connection::is_handshake);
        }
        forget(&mut self.closings, Connection::is_websocket);
        forget(&mut self.lingerings, Connection::is_lingering);
        forget(&mut self.idle, Connection::is_websocket);
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

/// Whether the connection is still there, in the phase that a deadline of its was set for.
fn is_meant(table: &Table<Connection>, conn: ConnId, phase: fn(&Connection) -> bool) -> bool {
    table
        .get(conn.slot)
        .is_some_and(|connection| connection.generation == conn.generation && phase(connection))
}
