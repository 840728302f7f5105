//! Requests and their replies, whatever they are about: what is to be sent, what Redis owes for it,
//! in order, and the replies as they become whole. Pure: no socket, no clock.

use std::collections::VecDeque;
use std::time::Instant;

use redis::{Cmd, Value};

use super::framing::{Framing, Unusable};
use super::outbound::Outbound;

/// One link's requests; `R` says what each reply is for.
pub(crate) struct Exchange<R> {
    framing: Framing,
    pub(crate) outbound: Outbound,
    pub(crate) awaited: VecDeque<Awaited<R>>,
}

/// One reply that Redis owes.
pub(crate) struct Awaited<R> {
    /// When its request was on its way at the latest; `None` until then.
    pub(crate) asked_at: Option<Instant>,
    pub(crate) reply: R,
}

impl<R> Default for Exchange<R> {
    fn default() -> Self {
        Self {
            framing: Framing::default(),
            outbound: Outbound::default(),
            awaited: VecDeque::new(),
        }
    }
}

impl<R> Exchange<R> {
    /// Asks; the reply comes when all before it have come.
    pub(crate) fn ask(&mut self, command: &Cmd, reply: R) {
        self.outbound.push(command);
        self.await_reply(reply);
    }

    /// What is awaited without a command of its own.
    pub(crate) fn await_reply(&mut self, reply: R) {
        self.awaited.push_back(Awaited {
            asked_at: None,
            reply,
        });
    }

    /// Takes in what Redis has sent.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.framing.push(bytes);
    }

    /// The next whole reply. After an error, which is why the link must go, there is none.
    pub(crate) fn next(&mut self) -> Result<Option<Value>, String> {
        self.framing.next().map_err(|unusable| match unusable {
            Unusable::Garbage => "no Redis: garbage received".to_owned(),
            Unusable::Endless => "no Redis: an endless reply".to_owned(),
        })
    }

    /// What was asked since the last call is on its way.
    pub(crate) fn mark_asked(&mut self, now: Instant) {
        let unmarked = |entry: &&mut Awaited<R>| entry.asked_at.is_none();
        for entry in self.awaited.iter_mut().rev().take_while(unmarked) {
            entry.asked_at = Some(now);
        }
    }

    /// Since when the oldest reply is awaited.
    pub(crate) fn waiting_since(&self) -> Option<Instant> {
        self.awaited.front()?.asked_at
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.framing.clear();
        self.outbound.clear();
        self.awaited.clear();
    }
}
