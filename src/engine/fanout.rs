//! What goes to everyone, or through every session: in slices, so that no turn is long.

use super::Engine;
use super::clients::Stage;
use super::io::{Now, Output};
use super::message::ServerMessage;
use super::timers::Timer;

/// A message to all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fanout {
    /// The timestamp.
    Heartbeat,
    /// A shutdown has begun.
    Notice,
}

impl Engine {
    /// Goes on with what takes more than one turn.
    pub(super) fn go_on(&mut self, now: Now) {
        if let Some(cursor) = self.refresh {
            self.refresh = self.sessions.refresh(cursor, self.fanout_max);
            self.save_due = true;
        }
        if let Some((fanout, cursor)) = self.fanout {
            let end = self.clients.slots_end().min(cursor + self.fanout_max);
            for slot in cursor..end {
                match fanout {
                    Fanout::Heartbeat => self.send_timestamp(slot, now),
                    Fanout::Notice => self.send_notice(slot, now),
                }
            }
            self.fanout = (end < self.clients.slots_end()).then_some((fanout, end));
        }
        if self.refresh.is_some() || self.fanout.is_some() {
            self.timers.set(Timer::Continue, now.instant);
        }
    }

    fn send_timestamp(&mut self, slot: usize, now: Now) {
        if let Some((conn, client)) = self.clients.at(slot)
            && client.stage == Stage::Open
        {
            let message = ServerMessage::Timestamp(now.unix_ms);
            self.outputs.push_back(Output::Send { conn, message });
        }
    }
}
