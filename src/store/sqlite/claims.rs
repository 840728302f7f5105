//! Which claims by other processes have been seen, and the look for more of them.

use std::time::{Duration, Instant};

use super::{SqliteStore, sessions};
use crate::engine::io::{Now, StoreEvent};
use crate::store::sqlite_file::is_locked;

/// How often to look for claims by other processes, and how many to take in one turn.
const CLAIMS_PERIOD: Duration = Duration::from_secs(1);
const CLAIMS_PER_TURN_MAX: usize = 256;

/// Which claims have been seen.
#[derive(Debug)]
pub(super) struct ClaimWatch {
    /// This opening of the file, which makes our claims ours.
    pub(super) node: i64,
    /// The last claim that has been looked at.
    pub(super) seen_seq: i64,
    /// The last claim of our own.
    pub(super) own_seq: i64,
    /// The file's version when it was last looked at to the end.
    pub(super) data_version: Option<i64>,
    /// When to look; `None` before the first turn.
    pub(super) look_at: Option<Instant>,
}

impl SqliteStore {
    /// Looks for claims by other processes.
    pub(super) fn look_for_claims(&mut self, now: Now) {
        self.claims.look_at = Some(now.instant + CLAIMS_PERIOD);
        self.look_for_file(now);
        if self.is_down() {
            return;
        }
        match self.find_claims() {
            Ok(true) => {}
            // More than fits into a turn: the rest in the next one.
            Ok(false) => self.claims.look_at = Some(now.instant),
            Err(error) if is_locked(&error) => {}
            Err(error) => self.go_down(&error, now),
        }
    }

    /// Whether all have been found.
    fn find_claims(&mut self) -> rusqlite::Result<bool> {
        let watch = &mut self.claims;
        let data_version = sessions::data_version(&self.conn)?;
        if watch.data_version == Some(data_version) {
            // Nobody else has written, so that the claims since are all our own.
            watch.seen_seq = watch.own_seq.max(watch.seen_seq);
            return Ok(true);
        }
        let found = sessions::claims_after(&self.conn, watch.seen_seq, CLAIMS_PER_TURN_MAX)?;
        let all = found.len() < CLAIMS_PER_TURN_MAX;
        for claim in found {
            watch.seen_seq = claim.claim_seq;
            if claim.node != watch.node
                && let Some(session) = claim.session
            {
                let epoch = claim.epoch;
                self.events
                    .push_back(StoreEvent::TakenOver { session, epoch });
            }
        }
        if all {
            watch.data_version = Some(data_version);
        }
        Ok(all)
    }
}
