//! Who may leave before Closing, and must: a client that has said that it sends no more messages,
//! once its slot has come and the store has all of it.

use std::time::{Duration, Instant};

use sundown::engine::io::{ConnId, Protocol, SessionKey};

use super::{Book, Conn, by_conn, by_key};
use crate::common::Common;

/// How it stands with a client that leaves.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    /// It has said so.
    said: bool,
    /// When the store has confirmed its session since.
    saved_at: Option<Instant>,
    /// How long after the notice its slot is, in whole milliseconds.
    slot: Option<Duration>,
}

/// A client is to come back so long after its slot.
const REST: Duration = Duration::from_millis(40);

/// A slot may be later than it was told by less than this, and one client goes so long after
/// another at the latest.
const MS: Duration = Duration::from_millis(1);

impl Book {
    /// A client says that it sends no more messages.
    pub(crate) fn leaves(&mut self, conn: ConnId) {
        let stopped = self.timeline.persisting.is_some();
        if let Some(conn) = self.conns.get_mut(&by_conn(conn)) {
            let is_open = conn.closed.is_none() && !conn.app_closes && !conn.peer_closed;
            assert!(!is_open || !stopped, "{conn:?} is read in Persisting");
            conn.leaving.said |= is_open;
        }
    }

    /// The store has a session, whatever it had lost before.
    pub(super) fn saved_once_more(&mut self, common: &Common, key: SessionKey) {
        for conn in self.conns.values_mut() {
            let is_it = conn.key == Some(key) && self.timeline.notifying.is_some();
            if is_it && conn.leaving.said {
                conn.leaving.saved_at = Some(common.now.instant);
            }
        }
    }

    /// A client is told when it is to come back.
    pub(super) fn told_slot(conn: &mut Conn, reconnect_ms: u64) {
        if conn.protocol == Protocol::V2 {
            let back = Duration::from_millis(reconnect_ms);
            conn.leaving.slot = Some(back.saturating_sub(REST));
        }
    }

    /// A goodbye is said: before Closing only to who has asked for it, and not before its slot.
    pub(super) fn check_goodbye(&mut self, common: &mut Common, to: ConnId) {
        if self.timeline.closing.is_some() {
            return;
        }
        let (name, conn) = (&self.name, &self.conns[&by_conn(to)]);
        let is_asked = conn.leaving.saved_at.is_some();
        assert!(is_asked, "{name}: goodbye to {conn:?}");
        let notice = self.timeline.notifying.expect("a notice");
        let slot = notice + conn.leaving.slot.unwrap_or_default();
        let now = common.now.instant;
        assert!(slot <= now, "{name}: goodbye to {conn:?} before its slot");
        let is_deferred = self.deferred.contains_key(&by_conn(to));
        assert!(!is_deferred, "{name}: goodbye to {conn:?} in its step");
        self.left_at = Some(now);
        common.seen.note(if self.timeline.persisting.is_some() {
            "left at its slot in Persisting"
        } else {
            "left at its slot"
        });
    }

    /// At the end of a turn: whoever may leave has left, one after the other.
    pub(crate) fn check_left(&mut self, common: &Common) {
        let now = common.now.instant;
        let Some(notice) = self.timeline.notifying else {
            return;
        };
        if self.timeline.closing.is_some() || self.left_at.is_some_and(|at| now < at + MS) {
            return;
        }
        let is_saved = |conn: &Conn| {
            let session = conn.key.and_then(|key| self.sessions.get(&by_key(key)));
            session.is_some_and(|it| it.confirmed == it.counted && !it.lost && !it.displaced)
        };
        for (key, conn) in &self.conns {
            let is_open = conn.closed.is_none() && !conn.app_closes && !conn.peer_closed;
            let slot = conn.leaving.slot.map(|slot| notice + slot + MS);
            let is_due = slot.is_some_and(|slot| slot <= now);
            // In this turn it was too late.
            let is_known = conn.leaving.saved_at.is_some_and(|at| at < now);
            let waits = is_known && is_open && is_due && is_saved(conn);
            assert!(
                !waits || self.deferred.contains_key(key),
                "{}: {conn:?} could have left",
                self.name
            );
        }
    }
}
