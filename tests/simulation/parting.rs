//! How a client and the server part: who closes first, and what each must have said before.

use std::time::Duration;

use sundown::engine::io::Protocol;

use super::{Client, Conn, Stage};
use crate::common::Common;
use crate::network::{ClientFrame, Side, SockId};

impl Client {
    /// Ends its side, by a Close or a bare FIN.
    pub(super) fn close(&mut self, common: &mut Common, sock: SockId, by_frame: bool) {
        let number = self.number;
        let Some(conn) = self.conns.iter_mut().find(|conn| conn.sock == sock) else {
            return;
        };
        let frame = if by_frame {
            ClientFrame::Close
        } else {
            ClientFrame::End
        };
        if conn.closed || !common.send_up(sock, frame, 8) {
            return;
        }
        common.say(|| format!("client {number}: closes {sock}, by a frame: {by_frame}"));
        conn.closed = true;
        conn.by_frame = by_frame;
        self.fall_back(sock);
    }

    /// The answer of `sundown.v2` to a notice, once the outbox is empty.
    pub(super) fn say_that_it_leaves(&mut self, common: &mut Common) {
        let may = self.habits.protocol == Protocol::V2 && self.habits.heeds_notice;
        for conn in self.conns.iter_mut().filter(|conn| may && !conn.closed) {
            let is_told = conn.retry_ms.is_some() && conn.close.is_none();
            let is_done = conn.stage == Stage::Live && conn.replied == Some(conn.sent);
            if is_told && is_done && !conn.leaving {
                conn.leaving = common.send_up(conn.sock, ClientFrame::Leave, 7);
            }
        }
    }

    pub(super) fn answer_closes(&mut self, common: &mut Common) {
        let now = common.now.instant;
        let due = |conn: &Conn| conn.answer_at.is_some_and(|at| at <= now) && !conn.closed;
        let socks: Vec<_> = self
            .conns
            .iter()
            .filter(|conn| due(conn))
            .map(|conn| conn.sock)
            .collect();
        for sock in socks {
            self.close(common, sock, true);
        }
    }

    pub(super) fn closed(&mut self, common: &mut Common, sock: SockId, code: u16, text: &str) {
        let never = common.dice.chance(self.habits.never_answers_close);
        let delay = common
            .dice
            .time(Duration::ZERO, self.habits.close_delay_max);
        let is_numbered = self.is_numbered();
        let number = self.number;
        let conn = self.conn(sock);
        assert_eq!(conn.close, None, "client {number}: a second Close: {code}");
        conn.close = Some(code);
        let retry = text.strip_prefix("server shutdown; retry-after-ms=");
        if let Some(retry) = retry {
            assert!(
                conn.bye.is_some() || conn.stage == Stage::Greeting || !is_numbered,
                "client {number}: Close 1001 without a goodbye: {conn:?}"
            );
            let retry = retry.parse().ok();
            // Who has said that it leaves hears what remains.
            let fits = |told| Some(told) == retry || conn.leaving && retry < Some(told);
            let told = conn.retry_ms.is_none_or(fits);
            assert!(told, "client {number}: {retry:?} after {:?}", conn.retry_ms);
            conn.retry_ms = retry;
        }
        if never {
            common.seen.note("Close never answered");
        } else {
            conn.answer_at = Some(common.now.instant + delay);
        }
        if !never && delay == Duration::ZERO {
            self.answer_closes(common);
        }
    }

    /// The server has ended its side in order.
    pub(super) fn ended(&mut self, common: &mut Common, sock: SockId) {
        let number = self.number;
        let (numbered, session) = (self.is_numbered(), self.session.clone());
        let conn = self.conn(sock);
        let promised = common.promised.remove(&sock);
        if promised && conn.by_frame && numbered && conn.stage == Stage::Live {
            let session = session.expect("a session");
            let kept = common.truth.count(&session);
            assert!(
                kept >= conn.sent,
                "client {number}: {} sent before its Close, {kept} stored: {conn:?}",
                conn.sent
            );
            common.seen.note("barrier kept");
        }
        common.send_up(sock, ClientFrame::End, 0);
        common.close_sock(sock, Side::Client, true);
        self.forget(common, sock);
    }
}
