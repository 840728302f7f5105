//! What goes to everyone, or through every session: in slices, so that no turn is long.
//!
//! One walk at a time goes over all clients. A reader that is slow does not hold it up: what does
//! not fit into its buffer closes it, as with any other message.

use std::sync::Arc;
use std::time::Duration;

use super::Engine;
use super::clients::Stage;
use super::io::{Broadcast, Levels, Now, Origin, Output};
use super::message::ServerMessage;
use super::timers::Timer;

/// A message to all.
#[derive(Clone, Debug)]
pub(super) enum Fanout {
    /// The timestamp.
    Heartbeat,
    /// A shutdown has begun.
    Notice,
    /// What somebody has to say to everybody.
    Broadcast(Broadcast),
}

/// A message to all that is under way.
#[derive(Debug)]
pub(super) struct Walk {
    pub(super) fanout: Fanout,
    /// The slot at which it goes on.
    pub(super) cursor: usize,
    /// How many clients it was queued for.
    told: usize,
}

impl Walk {
    pub(super) fn new(fanout: Fanout) -> Self {
        Self {
            fanout,
            cursor: 0,
            told: 0,
        }
    }
}

impl Engine {
    /// A wall clock that has stepped forward makes what is open look expired, to whoever starts now.
    pub(super) fn renew_after_step(&mut self, now: Now) {
        let last = std::mem::replace(&mut self.clock, now);
        let passed = now.instant.saturating_duration_since(last.instant);
        let on_the_wall = Duration::from_millis(now.unix_ms.saturating_sub(last.unix_ms));
        if on_the_wall > passed + self.refresh_every {
            self.refresh = Some(0);
        }
    }

    /// Goes on with what takes more than one turn.
    pub(super) fn go_on(&mut self, now: Now) {
        self.refresh_some(now);
        if let Some(mut walk) = self.walk.take() {
            let end = self.clients.slots_end().min(walk.cursor + self.fanout_max);
            for slot in walk.cursor..end {
                match &walk.fanout {
                    Fanout::Heartbeat => {
                        self.send_to(slot, ServerMessage::Timestamp(now.unix_ms));
                    }
                    Fanout::Notice => self.send_notice(slot, now),
                    Fanout::Broadcast(broadcast) => {
                        let message = ServerMessage::Broadcast(Arc::clone(&broadcast.text));
                        walk.told += usize::from(self.send_to(slot, message));
                    }
                }
            }
            walk.cursor = end;
            if end < self.clients.slots_end() {
                self.walk = Some(walk);
            } else {
                self.end_walk(&walk);
                self.begin_walk(now);
            }
        }
        self.go_on_cutting(now);
        if self.walk.is_some() {
            self.timers.set(Timer::Continue, now.instant);
        }
    }

    /// Goes on with the renewal of all sessions. Once nothing is read any more, it is the last.
    pub(super) fn refresh_some(&mut self, now: Now) {
        if let Some(cursor) = self.refresh {
            let is_last = self.parting.reading_stopped;
            self.refresh = self.sessions.refresh(cursor, self.fanout_max, is_last);
            self.save_due = true;
        }
        if self.refresh.is_some() {
            self.timers.set(Timer::Continue, now.instant);
        }
    }

    /// Whether one more broadcast may wait.
    pub fn has_room_for_broadcasts(&self) -> bool {
        self.broadcasts.len() < self.broadcasts_max
    }

    /// Somebody has something to say to everybody. It waits for its turn. An operator is refused in
    /// a shutdown, and when too many wait already; of what was promised, the shell hands over no
    /// more than there is room for.
    pub(super) fn broadcast(&mut self, broadcast: Broadcast, now: Now) {
        let takes = match broadcast.origin {
            Origin::Operator(_) => !self.is_shutting_down() && self.has_room_for_broadcasts(),
            Origin::Handle | Origin::Node => true,
        };
        if !takes {
            return self.refuse_broadcast(&broadcast);
        }
        self.broadcasts.push_back(broadcast);
        self.begin_walk(now);
    }

    /// A shutdown has begun: what an operator waits for is not said any more. What was promised is.
    pub(super) fn refuse_broadcasts(&mut self) {
        for broadcast in std::mem::take(&mut self.broadcasts) {
            match broadcast.origin {
                Origin::Operator(_) => self.refuse_broadcast(&broadcast),
                Origin::Handle | Origin::Node => self.broadcasts.push_back(broadcast),
            }
        }
    }

    /// Whether broadcasts are left that are to be said, come what may.
    pub(super) fn owes_broadcasts(&self, levels: &Levels) -> bool {
        let is_broadcast = |walk: &Walk| matches!(walk.fanout, Fanout::Broadcast(_));
        let under_way = self.walk.as_ref().is_some_and(is_broadcast);
        under_way
            || self.interrupted.is_some()
            || !self.broadcasts.is_empty()
            || levels.promised > 0
    }

    /// The notice goes before whatever is under way. A broadcast goes on behind it.
    pub(super) fn begin_notice_walk(&mut self, now: Now) {
        let walk = self.walk.replace(Walk::new(Fanout::Notice));
        self.interrupted = walk.filter(|walk| matches!(walk.fanout, Fanout::Broadcast(_)));
        self.heartbeat_due = false;
        self.timers.set(Timer::Continue, now.instant);
    }

    pub(super) fn begin_walk(&mut self, now: Now) {
        if self.walk.is_some() {
            return;
        }
        // Clients go by the heartbeat: it does not wait for all that is to be said.
        if self.interrupted.is_some() {
            self.walk = self.interrupted.take();
            self.timers.set(Timer::Continue, now.instant);
        } else if std::mem::take(&mut self.heartbeat_due) {
            self.walk = Some(Walk::new(Fanout::Heartbeat));
            self.timers.set(Timer::Continue, now.instant);
        } else if let Some(broadcast) = self.broadcasts.pop_front() {
            let origin = broadcast.origin;
            if origin != Origin::Node {
                let text = Arc::clone(&broadcast.text);
                self.outputs.push_back(Output::Publish { text, origin });
            }
            self.walk = Some(Walk::new(Fanout::Broadcast(broadcast)));
            self.timers.set(Timer::Continue, now.instant);
        }
    }

    fn end_walk(&mut self, walk: &Walk) {
        if let Fanout::Broadcast(broadcast) = &walk.fanout {
            self.outputs.push_back(Output::Broadcast {
                origin: broadcast.origin,
                told: Some(walk.told),
            });
        }
    }

    fn refuse_broadcast(&mut self, broadcast: &Broadcast) {
        self.outputs.push_back(Output::Broadcast {
            origin: broadcast.origin,
            told: None,
        });
    }

    /// Whether there was a client that can be told.
    fn send_to(&mut self, slot: usize, message: ServerMessage) -> bool {
        match self.clients.at(slot) {
            Some((conn, client)) if client.stage == Stage::Open => {
                self.outputs.push_back(Output::Send { conn, message });
                true
            }
            Some(_) | None => false,
        }
    }
}

#[cfg(test)]
mod tests;
