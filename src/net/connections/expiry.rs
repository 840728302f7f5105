//! Who has had its time: slow handshakes, peers that do not close, peers that have fallen silent.

use std::time::{Duration, Instant};

use super::Connections;
use crate::engine::io::{CloseReason, ConnId};
use crate::net::connection::{Entrance, Phase};
use crate::net::deadlines::{Deadlines, IDLE_CHECKS, Kind};
use crate::net::http::Answer;
use crate::net::websocket;

/// A peer that has been silent for so many checks is pinged: by the default idle timeout after 30 to
/// 45 s, since proxies cut what has been silent for a minute.
const PING_CHECKS: u8 = 2;

/// So many places are made in a turn. To close a socket takes the kernel as long as ten messages, and
/// whoever has sent one waits meanwhile; and of the 128 that have room for a handshake, each keeps
/// its place for 32 turns at least.
const PLACES_MADE_MAX: usize = 4;

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

    /// Makes room for those who wait to be accepted there: the sockets that have lingered longest
    /// are closed. If there is none, the oldest handshakes are answered 503, and linger from then
    /// on. In the next turns there is room.
    pub(crate) fn make_room(&mut self, entrance: Entrance, now: Instant) {
        let lingering: &[Kind] = match entrance {
            // Nothing is lost by closing those that have all of their output.
            Entrance::Public => &[Kind::Answered, Kind::Parted, Kind::Sending],
            Entrance::Admin => &[Kind::AdminAnswered, Kind::AdminSending],
        };
        let oldest =
            |deadlines: &Deadlines| lingering.iter().find_map(|&kind| deadlines.first(kind));
        while self.dead_at(entrance) < PLACES_MADE_MAX
            && let Some(slot) = oldest(&self.deadlines)
        {
            self.release(slot);
        }
        for _ in self.dead_at(entrance)..PLACES_MADE_MAX {
            let Some(slot) = self.deadlines.first(entrance.handshake()) else {
                return;
            };
            if let Some(conn) = self.id_at(slot) {
                let number = conn.generation;
                log::debug!("connection {number}: 503 before its request was whole, for others");
                self.counters.answered(entrance, 503);
                self.answer(conn, &Answer::unavailable("no room"), true, now);
            }
        }
    }

    /// Closes a socket before its peer has closed it, without a reset if that can be helped.
    fn release(&mut self, slot: u32) {
        if let Some(connection) = self.table.get_mut(slot) {
            connection.drain();
        }
        self.kill(slot);
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
        let conn = self.id_at(slot)?;
        match kind {
            Kind::Handshake | Kind::AdminHandshake => {
                let connection = self.table.get(slot)?;
                if matches!(&connection.phase, Phase::Handshake { head } if head.is_empty()) {
                    self.release(slot);
                } else {
                    let entrance = connection.entrance;
                    let number = conn.generation;
                    log::debug!("connection {number}: 408, its request took too long");
                    self.counters.answered(entrance, 408);
                    self.answer(conn, &Answer::json(408, "request timeout"), true, now);
                }
                None
            }
            Kind::Sending
            | Kind::AdminSending
            | Kind::Answered
            | Kind::AdminAnswered
            | Kind::Parted => {
                self.release(slot);
                None
            }
            Kind::Closing => {
                let connection = self.get_mut(conn)?;
                if !std::mem::replace(&mut connection.tallied, true) {
                    let number = connection.generation;
                    log::debug!("connection {number}: lost, it did not close in time");
                    self.counters.lost();
                }
                self.kill(slot);
                Some(conn)
            }
            Kind::Idle => self.check_idle(conn, now),
        }
    }

    fn check_idle(&mut self, conn: ConnId, now: Instant) -> Option<ConnId> {
        let connection = self.get_mut(conn)?;
        connection.silent += 1;
        if connection.paused {
            // It is not read from: its silence says nothing.
            connection.silent = connection.silent.min(SILENT_FROM + PING_CHECKS);
        }
        if connection.silent == SILENT_FROM + IDLE_CHECKS {
            self.fail(conn, &CloseReason::Idle, now);
            return Some(conn);
        }
        if connection.silent == SILENT_FROM + PING_CHECKS {
            if connection.paused {
                // Its pong is not read either, and the next ping is for proxies.
                connection.silent = SILENT_FROM;
            }
            // Nothing follows a Close.
            if !connection.tallied {
                websocket::encode_ping(&mut connection.outbound);
                self.to_flush.insert(conn.slot);
            }
        }
        self.deadlines.set(conn.slot, Kind::Idle, now);
        None
    }
}
