//! Clients that leave before the others: who has answered the notice with `q` goes at a slot of its
//! own, as soon as all of it is committed, while others are still served.
//!
//! It owns when each client's slot is: counted from the notice, in the order of the table. It never
//! decides on a phase: whoever has not left when Closing begins gets its goodbye there.

use std::time::{Duration, Instant};

use super::Engine;
use super::clients::Client;
use super::io::{ConnId, Now};
use super::session::ClientSession;
use super::shutdown::Phase;
use super::timers::Timer;

/// The slots, once the notice is due.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slots {
    began: Instant,
    /// From the first slot to behind the last one.
    window: Duration,
    /// How many rows the table of clients had.
    rows: u32,
    /// Nobody in a row before this one waits for its slot.
    cursor: usize,
}

/// Slots are so far apart if every row of the table has a client: clients come back at that rate,
/// one after the other.
const EACH: Duration = Duration::from_micros(700);

/// The last slot, however many there are.
const WINDOW_MAX: Duration = Duration::from_secs(10);

impl Slots {
    /// For so many clients in so many rows.
    pub(super) fn new(began: Instant, clients: usize, rows: usize) -> Self {
        let clients = u32::try_from(clients).unwrap_or(u32::MAX);
        Self {
            began,
            window: EACH.saturating_mul(clients).min(WINDOW_MAX),
            rows: u32::try_from(rows).unwrap_or(u32::MAX).max(1),
            cursor: 0,
        }
    }

    /// How long after the notice the slot of a row is.
    pub(super) fn after_notice(&self, row: u32) -> Duration {
        // Whoever was let in later shares the slots of those who were there.
        let share = f64::from(row % self.rows) / f64::from(self.rows);
        self.window.mul_f64(share)
    }

    /// When it is.
    pub(super) fn at(&self, row: u32) -> Instant {
        self.began + self.after_notice(row)
    }
}

impl Engine {
    /// A client sends no more messages. Once the notice is out, that asks for its goodbye.
    pub(super) fn leave_at_slot(&mut self, conn: ConnId) {
        self.clients.leave(conn);
        let Some(slots) = self.slots.as_mut() else {
            return;
        };
        slots.cursor = slots.cursor.min(conn.slot as usize);
        let at = slots.at(conn.slot);
        if self.phase() < Phase::Closing {
            self.prepare_to_leave(conn);
            self.timers.set_at_latest(Timer::Goodbye, at);
        }
    }

    /// The notice is due: slots are counted from here.
    pub(super) fn begin_slots(&mut self, now: Now) {
        let (clients, rows) = (self.clients.len(), self.clients.slots_end());
        self.slots = Some(Slots::new(now.instant, clients, rows));
        if self.clients.waiting_len() > 0 {
            self.for_each_client(|engine, conn| {
                if engine.clients.waits_for_slot(conn) {
                    engine.prepare_to_leave(conn);
                }
            });
            self.timers.set(Timer::Goodbye, now.instant);
        }
    }

    /// Its session is saved once more, changed or not: the store may have lost what it has
    /// confirmed, and nobody looks at it again when the others are saved.
    fn prepare_to_leave(&mut self, conn: ConnId) {
        let session = self.clients.get(conn).map(Client::session);
        if let Some(key) = session.and_then(ClientSession::key) {
            self.sessions.save_for_the_last_time(key);
            self.saving.save_soon();
        }
    }

    /// Lets go whose slots have come, up to this turn's limit.
    pub(super) fn let_go(&mut self, now: Now) {
        let Some(mut slots) = self.slots else { return };
        let mut asked = 0;
        while slots.cursor < self.clients.slots_end() {
            let next = self.clients.at(slots.cursor).map(|(conn, _)| conn);
            if let Some(conn) = next.filter(|conn| self.clients.waits_for_slot(*conn)) {
                let at = slots.at(conn.slot);
                if at > now.instant || asked == self.fanout_max {
                    self.timers.set(Timer::Goodbye, at.max(now.instant));
                    break;
                }
                self.depart(conn);
                asked += 1;
            }
            slots.cursor += 1;
        }
        self.slots = Some(slots);
    }

    /// More of a session is saved: maybe its client has waited for that alone.
    pub(super) fn depart_if_due(&mut self, conn: ConnId) {
        if self.clients.waits_for_slot(conn)
            && let Some(slots) = self.slots
            && slots.at(conn.slot) <= self.now.instant
        {
            self.depart(conn);
        }
    }

    /// Goodbye to a client whose slot has come, if all that it has sent is committed.
    fn depart(&mut self, conn: ConnId) {
        let Some(client) = self.clients.get(conn) else {
            return;
        };
        let is_done = self.sessions.is_confirmed(client.session()) && client.open_step().is_none();
        if is_done && self.clients.waits_for_slot(conn) && self.phase() < Phase::Closing {
            self.closing.count_departed();
            self.say_goodbye(conn.slot as usize);
        }
    }
}

#[cfg(test)]
mod tests;
