//! Who has had its time: slow handshakes, peers that do not close, peers that have fallen silent.

use std::time::{Duration, Instant};

use super::connection::{Entrance, Phase};
use super::connections::Connections;
use super::deadlines::Kind;
use super::http::Answer;
use super::websocket;
use crate::engine::io::{CloseReason, ConnId};

/// An idle peer is looked at so many times in an idle timeout.
pub(super) const IDLE_CHECKS: u8 = 4;

/// A peer that was just upgraded has been silent for no time. After one that was heard, the first
/// check does not count: it ends a time in which the peer was not silent throughout.
const SILENT_FROM: u8 = 1;

impl Connections {
    /// Cuts who has had its time; answers the WebSocket connections among them.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Vec<ConnId> {
        let mut lost = Vec::new();
        for kind in Kind::ALL {
            while let Some(slot) = self.deadlines.pop_due(kind, now) {
                lost.extend(self.expire(slot, kind, now));
            }
        }
        lost
    }

    /// When `handle_timeout` wants to be called next.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.deadlines.next()
    }

    /// The oldest handshake makes room: it has had the most time.
    pub(crate) fn evict_handshake(&mut self, entrance: Entrance) {
        if let Some(slot) = self.deadlines.first(entrance.handshake()) {
            self.kill(slot);
        }
    }

    /// From here on it is looked at, whether it is heard: it has done its handshake.
    pub(super) fn watch(&mut self, conn: ConnId, now: Instant) {
        let is_watched = self.deadlines.after(Kind::Idle) > Duration::ZERO;
        if let Some(connection) = self.get_mut(conn) {
            connection.silent = SILENT_FROM;
            if is_watched {
                self.deadlines.set(conn.slot, Kind::Idle, now);
            } else {
                self.deadlines.clear(conn.slot);
            }
        }
    }

    /// A WebSocket peer has to close in time: from the first on that it is told.
    pub(super) fn bound_closing(&mut self, conn: ConnId, now: Instant) {
        if let Some(connection) = self.get_mut(conn)
            && !std::mem::replace(&mut connection.closing, true)
        {
            self.deadlines.set(conn.slot, Kind::Closing, now);
        }
    }

    /// Answers the connection if it is a WebSocket connection that is over by that.
    fn expire(&mut self, slot: u32, kind: Kind, now: Instant) -> Option<ConnId> {
        let connection = self.table.get(slot)?;
        let conn = ConnId {
            slot,
            generation: connection.generation,
        };
        match kind {
            Kind::Handshake | Kind::AdminHandshake => {
                if matches!(&connection.phase, Phase::Handshake { head } if head.is_empty()) {
                    self.kill(slot);
                } else {
                    let entrance = connection.entrance;
                    self.tally.answered(entrance, 408);
                    self.answer(conn, &Answer::json(408, "request timeout"), true, now);
                }
                None
            }
            Kind::Lingering => {
                self.kill(slot);
                None
            }
            Kind::Closing => {
                self.kill(slot);
                Some(conn)
            }
            Kind::Idle => self.check_idle(conn, now),
        }
    }

    fn check_idle(&mut self, conn: ConnId, now: Instant) -> Option<ConnId> {
        let connection = self.get_mut(conn)?;
        connection.silent = if connection.paused {
            // It is not read from: its silence says nothing.
            0
        } else {
            connection.silent + 1
        };
        if connection.silent == SILENT_FROM + IDLE_CHECKS {
            self.fail(conn, &CloseReason::IDLE, now);
            return Some(conn);
        }
        if connection.silent == SILENT_FROM + IDLE_CHECKS / 2 {
            websocket::encode_ping(&mut connection.outbound);
            self.mark_dirty(conn.slot);
        }
        self.deadlines.set(conn.slot, Kind::Idle, now);
        None
    }
}
