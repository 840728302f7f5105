//! What the messages of `sundown.v2` clients mean, by their kinds.
//!
//! It owns what a kind does beside the application, and what a client is closed for that sends
//! something else. It never sees a message that has no kind.

use super::Engine;
use super::app::Closed;
use super::io::{CloseReason, ConnId};
use super::message::Message;
use super::message::v2::{self, ClientMessage, Invalid};

impl Engine {
    /// Does what a message asks for; the body, if it is for the application.
    pub(super) fn body<'a>(&mut self, conn: ConnId, message: Message<'a>) -> Option<Message<'a>> {
        let is_leaving = self.clients.is_leaving(conn);
        let invalid = match v2::parse(message) {
            Ok(ClientMessage::Received(number)) => {
                self.received(conn, number);
                return None;
            }
            Ok(ClientMessage::Body(_) | ClientMessage::Leaving) if is_leaving => {
                Invalid::AfterLeaving
            }
            Ok(ClientMessage::Body(body)) => return Some(body),
            Ok(ClientMessage::Leaving) => {
                self.ask_to_leave(conn);
                return None;
            }
            Err(invalid) => invalid,
        };
        self.fail(conn, CloseReason::InvalidMessage(invalid), Closed::Lost);
        None
    }
}

#[cfg(test)]
mod tests;
