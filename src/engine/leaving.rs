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
    /// Nobody in a row before this one is to be looked at.
    cursor: usize,
    /// Those whose slots have passed follow each other no faster than this.
    pace: Duration,
    /// When the next may go.
    next: Instant,
}

/// Slots are so far apart if every row of the table has a client: clients come back at that rate,
/// one after the other.
const EACH: Duration = Duration::from_micros(700);

/// The last slot, however many there are.
const WINDOW_MAX: Duration = Duration::from_secs(10);

/// From a client's slot to when it is to come back: for the goodbye, the closing handshake and what
/// delays them, so that clients come back as evenly as they were told to.
const REST: Duration = Duration::from_millis(40);

/// So much of the pace may be made up for: a turn takes its time.
const CREDIT: Duration = Duration::from_millis(10);

impl Slots {
    /// For so many clients in so many rows.
    pub(super) fn new(began: Instant, clients: usize, rows: usize) -> Self {
        let clients = u32::try_from(clients).unwrap_or(u32::MAX);
        let window = EACH.saturating_mul(clients).min(WINDOW_MAX);
        Self {
            began,
            window,
            rows: u32::try_from(rows).unwrap_or(u32::MAX).max(1),
            cursor: 0,
            pace: window / clients.max(1) * 3 / 4,
            next: began,
        }
    }

    /// How long after the notice the client in a row is to come back.
    pub(super) fn until_back(&self, row: u32) -> Duration {
        self.until_slot(row) + REST
    }

    /// How long that is from now on.
    pub(super) fn until_back_from(&self, now: Instant, row: u32) -> Duration {
        (self.began + self.until_back(row)).saturating_duration_since(now)
    }

    fn until_slot(&self, row: u32) -> Duration {
        // Whoever was let in later shares the slots of those who were there.
        let share = f64::from(row % self.rows) / f64::from(self.rows);
        self.window.mul_f64(share)
    }

    /// When the client in a row may go.
    fn at(&self, row: u32) -> Instant {
        self.next.max(self.began + self.until_slot(row))
    }

    /// One goes.
    fn go(&mut self, now: Instant) {
        let earliest = now.checked_sub(CREDIT).unwrap_or(now);
        self.next = self.next.max(earliest) + self.pace;
    }
}

impl Engine {
    /// A client sends no more messages. Once the notice is out, that asks for its goodbye.
    pub(super) fn ask_to_leave(&mut self, conn: ConnId) {
        self.clients.leave(conn);
        if self.slots.is_some() {
            self.prepare_to_leave(conn);
            self.look_at_slot(conn);
        }
    }

    /// A client may go now, or when its slot comes.
    pub(super) fn look_at_slot(&mut self, conn: ConnId) {
        if let Some(slots) = &mut self.slots
            && self.clients.waits_for_slot(conn)
            && self.shutdown.state().phase() < Phase::Closing
        {
            slots.cursor = slots.cursor.min(conn.slot as usize);
            self.timers
                .set_at_latest(Timer::Goodbye, slots.at(conn.slot));
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

    /// Lets go whose slots have come, and all of whose messages are committed.
    pub(super) fn let_go(&mut self, now: Now) {
        let Some(mut slots) = self.slots else { return };
        while slots.cursor < self.clients.slots_end() {
            let row = slots.cursor;
            let next = self.clients.at(row).map(|(conn, _)| conn);
            if let Some(conn) = next.filter(|conn| self.clients.waits_for_slot(*conn)) {
                let at = slots.at(conn.slot);
                if at > now.instant {
                    self.timers.set_at_latest(Timer::Goodbye, at);
                    break;
                }
                if self.may_leave(conn) {
                    slots.go(now.instant);
                    self.closing.count_departed();
                    self.say_goodbye(row);
                }
            }
            slots.cursor += 1;
        }
        self.slots = Some(slots);
    }

    fn may_leave(&self, conn: ConnId) -> bool {
        !self.owes_farewell()
            && self.clients.get(conn).is_some_and(|client| {
                self.sessions.is_confirmed(client.session()) && client.open_step().is_none()
            })
    }
}

#[cfg(test)]
mod tests;
