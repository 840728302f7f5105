//! What a link needs of what is said on it: how it begins, what comes of what is heard, and what is
//! awaited. Two conversations are held with Redis: about sessions (`pipeline`), and between nodes
//! (`subscription`).

use std::collections::VecDeque;
use std::time::Instant;

use super::outbound::Outbound;

/// One side of what is said on a link. Pure: no socket, no clock.
pub(crate) trait Conversation {
    /// What comes of it.
    type Event;

    /// What it is about, for the log.
    const ABOUT: &'static str;

    /// How the link is, as an event.
    fn told(health: Health) -> Self::Event;

    /// Begins on a new link.
    fn greet(&mut self);

    /// The link is gone: forgets everything that was asked, said and half heard.
    fn forget(&mut self);

    /// Whether the greeting is over.
    fn is_ready(&self) -> bool;

    /// Takes what Redis has sent. An error is the reason why the link must go; what was answered
    /// before it is in `events` all the same.
    fn receive(&mut self, bytes: &[u8], events: &mut VecDeque<Self::Event>) -> Result<(), String>;

    /// What is to be sent.
    fn outbound(&mut self) -> &mut Outbound;

    /// What was asked since the last call is on its way.
    fn mark_asked(&mut self, now: Instant);

    /// Since when the oldest reply is awaited.
    fn waiting_since(&self) -> Option<Instant>;

    /// Whether nothing is awaited.
    fn is_idle(&self) -> bool;

    /// Asks for a sign of life.
    fn ping(&mut self);
}

/// How a link is, once it has been up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// It is gone, for this reason.
    Down(String),
    /// It does not answer in good time.
    Stalled,
    /// It answers again.
    Resumed,
}
