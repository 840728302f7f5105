//! Claims of sessions by other processes, and their pushes: how far they were seen, and when to look
//! for more.

use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::{mailbox, sessions};
use crate::engine::io::StoreEvent;

/// How often to look for claims and pushes by other processes, and how many of each to take in one
/// turn.
const CLAIMS_PERIOD: Duration = Duration::from_secs(1);
const CLAIMS_PER_TURN_MAX: usize = 256;

/// The claims and pushes that have been seen, and when to look for more.
#[derive(Debug)]
pub(super) struct ClaimWatch {
    /// This opening of the file, which makes our claims ours.
    node: i64,
    /// The last claim that has been looked at.
    seen_seq: i64,
    /// The last claim of our own.
    own_seq: i64,
    /// The last push that has been looked at.
    seen_push_seq: i64,
    /// The file's version when it was last looked at to the end.
    data_version: Option<i64>,
    /// When to look; `None` before the first turn.
    look_at: Option<Instant>,
}

impl ClaimWatch {
    /// In a file that has claims up to `seq`, and pushes up to `push_seq`.
    pub(super) fn new(node: i64, seq: i64, push_seq: i64) -> Self {
        Self {
            node,
            seen_seq: seq,
            own_seq: seq,
            seen_push_seq: push_seq,
            data_version: None,
            look_at: None,
        }
    }

    pub(super) fn node(&self) -> i64 {
        self.node
    }

    /// The last claim of our own.
    pub(super) fn own_seq(&self) -> i64 {
        self.own_seq
    }

    /// When to look.
    pub(super) fn look_at(&self) -> Option<Instant> {
        self.look_at
    }

    /// The first look is due now. Returns whether this is the first call.
    pub(super) fn begin(&mut self, now: Instant) -> bool {
        let is_first = self.look_at.is_none();
        self.look_at.get_or_insert(now);
        is_first
    }

    /// A look begins: the next one is due after a while.
    pub(super) fn put_off(&mut self, now: Instant) {
        self.look_at = Some(now + CLAIMS_PERIOD);
    }

    /// A claim of our own was made.
    pub(super) fn handle_own(&mut self, seq: i64) {
        self.own_seq = seq;
    }

    /// Finds claims and pushes by others. If there are more than fit into a turn, the rest is due at
    /// once.
    pub(super) fn find(
        &mut self,
        conn: &Connection,
        now: Instant,
    ) -> rusqlite::Result<Vec<StoreEvent>> {
        // In this order: if nobody else has written until after it, all pushes are our own.
        let push_seq = mailbox::last_seq(conn)?;
        let data_version = sessions::data_version(conn)?;
        if self.data_version == Some(data_version) {
            // Nobody else has written, so that the claims since are all our own.
            self.seen_seq = self.own_seq.max(self.seen_seq);
            self.seen_push_seq = push_seq;
            return Ok(Vec::new());
        }
        let claims = sessions::claims_after(conn, self.seen_seq, CLAIMS_PER_TURN_MAX)?;
        let pushes = sessions::pushes_after(conn, self.seen_push_seq, CLAIMS_PER_TURN_MAX)?;
        if claims.len().max(pushes.len()) < CLAIMS_PER_TURN_MAX {
            self.data_version = Some(data_version);
        } else {
            self.look_at = Some(now);
        }
        let mut news = Vec::new();
        for claim in claims {
            self.seen_seq = claim.seq;
            if claim.node != self.node
                && let Some(session) = claim.session
            {
                let epoch = claim.number;
                news.push(StoreEvent::TakenOver { session, epoch });
            }
        }
        for push in pushes {
            self.seen_push_seq = push.seq;
            if push.node != self.node
                && let Some(session) = push.session
            {
                // Of several in a row to one session, the last says it all.
                let sent = push.number;
                news.pop_if(
                    |last| matches!(last, StoreEvent::Mail { session: s, .. } if *s == session),
                );
                news.push(StoreEvent::Mail { session, sent });
            }
        }
        Ok(news)
    }
}
