//! Deadlines that have passed: slow handshakes, peers that do not close, silent peers; and room for
//! new connections when there is none.

use std::time::Instant;

use super::Connections;
use crate::engine::io::{CloseReason, ConnId};
use crate::net::connection::Entrance;
use crate::net::deadlines::{Deadlines, Kind};
use crate::net::frame;
use crate::net::http::Answer;
use crate::net::silence::Verdict;

/// Places that are made in a turn. To close a socket takes the kernel as long as ten messages, and
/// the peer that has sent one waits meanwhile; and of the 128 that have room for a handshake, each
/// keeps its place for 32 turns at least.
const PLACES_MADE_MAX: usize = 4;

impl Connections {
    /// Handles the deadlines that have passed. Returns the WebSocket connections that are over by
    /// that.
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

    /// Makes room for connections that wait to be accepted there: the sockets that have lingered
    /// longest are closed. If none lingers, the oldest handshakes are answered 503, and linger from
    /// then on. There is room in the next turns.
    pub(crate) fn make_room(&mut self, entrance: Entrance, now: Instant) {
        let lingering: &[Kind] = match entrance {
            // Nothing is lost by closing those that have all of their output.
            Entrance::Public => &[Kind::Answered, Kind::HalfClosed, Kind::Sending],
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
                let why = " before its request was whole, for others";
                self.answer_early(conn, &Answer::unavailable("no room"), why, now);
            }
        }
    }

    /// Closes a socket before its peer has closed it, without a reset if that can be helped.
    fn release(&mut self, slot: u32) {
        if let Some(connection) = self.table.get_mut(slot) {
            connection.socket.drain();
        }
        self.kill(slot);
    }

    /// Returns the connection if it is a WebSocket connection that is over by that.
    fn expire(&mut self, slot: u32, kind: Kind, now: Instant) -> Option<ConnId> {
        let conn = self.id_at(slot)?;
        match kind {
            Kind::Handshake | Kind::AdminHandshake => {
                let request = self.table.get_mut(slot)?.request();
                if request.is_some_and(|request| request.is_empty()) {
                    self.release(slot);
                } else {
                    let answer = Answer::json(408, "request timeout");
                    self.answer_early(conn, &answer, ", its request took too long", now);
                }
                None
            }
            Kind::Sending
            | Kind::AdminSending
            | Kind::Answered
            | Kind::AdminAnswered
            | Kind::HalfClosed => {
                self.release(slot);
                None
            }
            Kind::Closing => {
                let connection = self.get_mut(conn)?;
                if connection.count_end() {
                    let number = conn.generation;
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
        match connection.check_silence() {
            Verdict::Wait => {}
            Verdict::Ping => {
                frame::encode_ping(connection.socket.outbound());
                self.to_flush.insert(conn.slot);
            }
            Verdict::Close => {
                self.fail(conn, &CloseReason::Idle, now);
                return Some(conn);
            }
        }
        self.deadlines.set(conn.slot, Kind::Idle, now);
        None
    }
}
