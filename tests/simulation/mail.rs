//! What a client does with pushes: `sundown.v2` has their numbers, and counts by them.

use sundown::engine::io::Protocol;
use sundown::engine::message::Delivery;

use super::Client;
use crate::common::Common;
use crate::network::ClientFrame;
use crate::posted::{body_of, text_of};

impl Client {
    /// A push has come: the store has accepted it. Of those with numbers none is left out, and one
    /// that comes once more is known by its number.
    pub(super) fn pushed(&mut self, common: &mut Common, push: &Delivery) {
        let (number, session) = (self.number, self.session.clone());
        let session = session.expect("a session");
        if !common.truth.is_lost {
            let text = text_of(&push.body);
            common.truth.posted.check(&session, push.number, &text);
        }
        if self.habits.protocol != Protocol::V2 {
            return common.seen.note("bare push received");
        }
        if push.number <= self.received {
            return common.seen.note("push received once more");
        }
        let last = self.received;
        assert_eq!(push.number, last + 1, "client {number}: a push is left out");
        self.received = push.number;
        common.seen.note("push received");
    }

    /// Says what it has received, on its latest connection.
    pub(super) fn confirm(&mut self, common: &mut Common) {
        let is_told = self.confirmed >= self.received;
        if self.habits.protocol != Protocol::V2 || is_told {
            return;
        }
        let Some(sock) = self.current else { return };
        let may = |conn: &super::Conn| !conn.closed && !conn.leaving && conn.close.is_none();
        let may = self.conns.iter().any(|conn| conn.sock == sock && may(conn));
        if may && common.dice.chance(self.habits.confirms) {
            let frame = ClientFrame::Received(self.received);
            if common.send_up(sock, frame, 8) {
                self.confirmed = self.received;
            }
        }
    }

    /// It has all that was pushed to it; and what it has asked for was pushed, or refused.
    pub(super) fn has_all_mail(&self, common: &Common) -> bool {
        let posted = &common.truth.posted;
        let Some(session) = self.session.as_ref() else {
            return true;
        };
        if common.truth.is_lost {
            return true;
        }
        let is_v2 = self.habits.protocol == Protocol::V2;
        if self.is_numbered() {
            let clients = common.options.clients.len();
            for index in 1..=self.habits.messages {
                let pushes = self.habits.pushes_to(self.number, index, clients).is_some();
                let text = body_of(session, index);
                assert!(
                    !pushes || posted.is_done(&text),
                    "counted, and not pushed: {text}"
                );
            }
        }
        !is_v2 || self.received == posted.sent(session)
    }
}
