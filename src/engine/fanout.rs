//! Messages to every client: heartbeats, the notice of a shutdown, and broadcasts. One is under way
//! at a time, and goes out in slices, so that no turn is long.
//!
//! It owns which message that is, how far it has come, and what waits.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use super::Engine;
use super::app::Tells;
use super::clients::Stage;
use super::io::{Broadcast, Now, Origin, Output};
use super::message::ServerMessage;
use super::timers::Timer;

/// A message to every client.
#[derive(Clone, Debug)]
enum ToAll {
    /// The timestamp.
    Heartbeat,
    /// A shutdown has begun.
    Notice,
    Broadcast(Broadcast),
}

/// The message that is under way.
#[derive(Debug)]
struct Pass {
    message: ToAll,
    /// The slot at which it goes on.
    cursor: usize,
    /// How many clients it was queued for.
    queued: usize,
}

/// What is under way and what waits.
#[derive(Debug)]
pub(super) struct Fanout {
    pass: Option<Pass>,
    /// A broadcast that the notice of a shutdown has interrupted.
    interrupted: Option<Pass>,
    /// A broadcast that this step has queued for the last clients.
    finished: Option<(Origin, usize)>,
    heartbeat_due: bool,
    broadcasts: VecDeque<Broadcast>,
    broadcasts_max: usize,
}

impl Fanout {
    /// Nothing is under way; at most `broadcasts_max` broadcasts wait.
    pub(super) fn new(broadcasts_max: usize) -> Self {
        Self {
            pass: None,
            interrupted: None,
            finished: None,
            heartbeat_due: false,
            broadcasts: VecDeque::new(),
            broadcasts_max,
        }
    }

    /// A heartbeat is due. It goes before the broadcasts that wait: clients rely on its interval.
    pub(super) fn handle_heartbeat(&mut self) {
        self.heartbeat_due = true;
    }

    /// The notice goes before whatever is under way, and a broadcast goes on after it.
    pub(super) fn begin_notice(&mut self) {
        let pass = self.pass.replace(Pass::new(ToAll::Notice));
        self.interrupted = pass.filter(Pass::is_broadcast);
        self.heartbeat_due = false;
    }

    fn has_room(&self) -> bool {
        self.broadcasts.len() < self.broadcasts_max
    }

    /// A shutdown has begun: operators' broadcasts that wait are refused. Those that were promised
    /// still go out.
    pub(super) fn refuse_operators(&mut self, outputs: &mut VecDeque<Output>) {
        let is_operator = |broadcast: &Broadcast| matches!(broadcast.origin, Origin::Operator(_));
        let all = std::mem::take(&mut self.broadcasts).into_iter();
        let (refused, kept): (VecDeque<_>, _) = all.partition(is_operator);
        self.broadcasts = kept;
        outputs.extend(refused.iter().map(refusal));
    }

    /// Whether broadcasts are under way, or wait.
    pub(super) fn has_broadcasts(&self) -> bool {
        let under_way = self.pass.as_ref().is_some_and(Pass::is_broadcast);
        under_way || self.interrupted.is_some() || !self.broadcasts.is_empty()
    }

    /// Bytes of the broadcasts that are under way, and of those that wait.
    pub(super) fn held_bytes(&self) -> usize {
        let begun = [&self.pass, &self.interrupted].into_iter().flatten();
        let begun = begun.filter_map(|pass| match &pass.message {
            ToAll::Broadcast(broadcast) => Some(broadcast),
            ToAll::Heartbeat | ToAll::Notice => None,
        });
        let all = begun.chain(&self.broadcasts);
        all.map(|broadcast| broadcast.text.len()).sum()
    }

    /// Up to which slot the notice has come, if it is under way.
    pub(super) fn notice_cursor(&self) -> Option<usize> {
        let pass = self.pass.as_ref();
        let notice = pass.filter(|pass| matches!(pass.message, ToAll::Notice));
        notice.map(|pass| pass.cursor)
    }

    /// Begins what comes next, if nothing is under way. Returns whether something is.
    fn begin_next(&mut self, outputs: &mut VecDeque<Output>) -> bool {
        if self.pass.is_none() {
            self.pass = self.interrupted.take();
        }
        if self.pass.is_none() && std::mem::take(&mut self.heartbeat_due) {
            self.pass = Some(Pass::new(ToAll::Heartbeat));
        }
        if self.pass.is_none()
            && let Some(broadcast) = self.broadcasts.pop_front()
        {
            let (text, origin) = (Arc::clone(&broadcast.text), broadcast.origin);
            if origin != Origin::Node {
                outputs.push_back(Output::Publish { text, origin });
            }
            self.pass = Some(Pass::new(ToAll::Broadcast(broadcast)));
        }
        self.pass.is_some()
    }

    /// The next slots, at most `max`, and what goes to the clients there.
    fn next_slice(&mut self, slots_end: usize, max: usize) -> Option<(ToAll, Range<usize>)> {
        let pass = self.pass.as_mut()?;
        let begin = pass.cursor;
        pass.cursor = slots_end.min(begin + max);
        Some((pass.message.clone(), begin..pass.cursor))
    }

    /// A slice is queued, for so many clients.
    fn end_slice(&mut self, queued: usize, slots_end: usize) {
        let Some(pass) = &mut self.pass else { return };
        pass.queued += queued;
        if pass.cursor >= slots_end
            && let Some(Pass {
                message: ToAll::Broadcast(broadcast),
                queued,
                ..
            }) = self.pass.take()
        {
            self.finished = Some((broadcast.origin, queued));
        }
    }

    /// A client had no room for the broadcast that is under way, or has just been queued for all.
    pub(super) fn handle_missed(&mut self) {
        let pass = self.pass.as_mut().map(|pass| &mut pass.queued);
        let finished = self.finished.as_mut().map(|(_, queued)| queued);
        if let Some(queued) = finished.or(pass) {
            *queued = queued.saturating_sub(1);
        }
    }

    /// The broadcast that has been queued for all, once everything before it has been sent, so that
    /// it is known who had no room.
    pub(super) fn poll_output(&mut self) -> Option<Output> {
        let (origin, queued) = self.finished.take()?;
        let queued = Some(queued);
        Some(Output::BroadcastDone { origin, queued })
    }
}

fn refusal(broadcast: &Broadcast) -> Output {
    let (origin, queued) = (broadcast.origin, None);
    Output::BroadcastDone { origin, queued }
}

impl Pass {
    fn new(message: ToAll) -> Self {
        Self {
            message,
            cursor: 0,
            queued: 0,
        }
    }

    fn is_broadcast(&self) -> bool {
        matches!(self.message, ToAll::Broadcast(_))
    }
}

impl Engine {
    /// Sends the next slice of what goes to every client.
    pub(super) fn send_slice(&mut self, now: Now) {
        let slots_end = self.clients.slots_end();
        if let Some((message, slots)) = self.fanout.next_slice(slots_end, self.fanout_max) {
            let queued = slots
                .filter(|slot| self.send_to(*slot, &message, now))
                .count();
            self.fanout.end_slice(queued, slots_end);
            self.begin_pass(now);
        }
    }

    /// Begins the next message to every client, if none is under way.
    pub(super) fn begin_pass(&mut self, now: Now) {
        if self.fanout.begin_next(&mut self.outputs) {
            self.timers.set(Timer::Continue, now.instant);
        }
    }

    /// Whether one more broadcast may wait.
    pub fn has_room_for_broadcasts(&self) -> bool {
        self.fanout.has_room()
    }

    /// A broadcast waits for its turn. An operator's is refused in a shutdown, and when too many
    /// wait; of those that were promised, the shell hands over no more than there is room for.
    pub(super) fn broadcast(&mut self, broadcast: Broadcast, now: Now) {
        let takes = match broadcast.origin {
            Origin::Operator(_) => !self.is_shutting_down() && self.fanout.has_room(),
            Origin::Handle | Origin::Node => true,
        };
        if takes {
            self.fanout.broadcasts.push_back(broadcast);
            self.begin_pass(now);
        } else {
            self.outputs.push_back(refusal(&broadcast));
        }
    }

    /// Queues the message for the client at a slot. Returns whether there was one to queue it for.
    fn send_to(&mut self, slot: usize, message: &ToAll, now: Now) -> bool {
        let Some((conn, client)) = self.clients.at(slot) else {
            return false;
        };
        let (protocol, tells) = (client.protocol(), client.tells());
        let (is_told, message) = match message {
            ToAll::Heartbeat => (
                tells.includes(Tells::HEARTBEAT),
                ServerMessage::Timestamp(now.unix_ms),
            ),
            ToAll::Broadcast(Broadcast { text, .. }) => (
                tells.includes(Tells::BROADCASTS),
                ServerMessage::Broadcast(Arc::clone(text)),
            ),
            ToAll::Notice => {
                self.send_notice(slot, now);
                return true;
            }
        };
        let is_sent = is_told && client.stage() == Stage::Open;
        if is_sent {
            self.outputs.push_back(Output::Send {
                conn,
                protocol,
                message,
            });
        }
        is_sent
    }
}

#[cfg(test)]
mod tests;
