//! What the store does on a full disk: it goes on with what is there, and makes room.
//!
//! The reserve is given up, and from then on the file does not grow: a claim that needs a new page
//! is refused by itself, while sessions that are there are saved, and those that have expired are
//! deleted, which makes room for others. It must never take the store down for a claim alone.

use rusqlite::{Connection, ErrorCode};

use super::asked::{Asked, Share};
use super::sessions::{self, Clock};
use super::{LOCKED_PAUSE_MAX, SqliteStore, State};
use crate::engine::io::{Now, StoreEvent};
use crate::store::SessionStore as _;
use crate::store::database::{self, is_locked};

/// Requests in a turn: each claim is a transaction of its own.
const REQUESTS_PER_TURN_MAX: usize = 128;

/// More pages than a file can have.
const NO_LIMIT: i64 = 4_294_967_294;

/// Whether there is no room.
pub(super) fn is_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DiskFull)
}

impl SqliteStore {
    /// The disk is full: makes room, and carries out what goes.
    pub(super) fn carry_out_full(&mut self, error: &rusqlite::Error, share: &Share, now: Now) {
        if !std::mem::replace(&mut self.is_full, true) {
            log::warn!(
                "{}: {error}: new sessions are refused until there is room",
                self.path.display()
            );
            self.reserve.give_up();
            self.limit_pages(true);
            self.checkpointer.trim();
        }
        if self.checkpointer.is_busy() {
            // What is in the WAL needs the room first; its end carries this out.
            return self.wait_for_lock(now);
        }
        self.sweep.hurry(now.instant);
        let requests = share.requests.min(REQUESTS_PER_TURN_MAX);
        let (mut done, mut worked) = (0, false);
        while done < requests {
            let asked = self.asked.range(done..requests);
            let is_other = |asked: &&Asked| !matches!(asked, Asked::Claim { .. });
            let others = asked.take_while(is_other).count();
            let (node, clock) = (self.claims.node, self.clock());
            let part = self.asked.range_mut(done..done + others.max(1));
            let result = database::in_transaction(&self.conn, || {
                carry_out_all(&self.conn, part, node, clock)
            });
            match result {
                Ok(()) => worked = true,
                Err(error) if is_full(&error) && others == 0 => {
                    if let Some(Asked::Claim { refused, .. }) = self.asked.get_mut(done) {
                        *refused = Some(error.to_string());
                    }
                }
                Err(error) if is_locked(&error) => {
                    self.answer(done);
                    return self.wait_for_lock(now);
                }
                Err(error) => {
                    self.answer(done);
                    return self.go_down(&error, now);
                }
            }
            done += others.max(1);
        }
        let probed = if worked {
            Ok(())
        } else {
            sessions::probe(&self.conn)
        };
        self.checkpointer.trim();
        match probed {
            Err(error) if !is_locked(&error) => {
                self.answer(done);
                self.go_down(&error, now);
            }
            Ok(()) | Err(_) => {
                self.work_again(now);
                self.answer(done);
            }
        }
    }

    /// There may be room again: the file may grow, once the reserve is back.
    pub(super) fn look_for_room(&mut self) {
        if self.is_full && self.reserve.take() {
            self.is_full = false;
            self.limit_pages(false);
            log::info!("{}: there is room again", self.path.display());
        } else if !self.is_full && !self.reserve.is_held() {
            self.reserve.take();
        }
    }

    /// Finds out whether the file can be written again.
    pub(super) fn probe(&mut self, now: Now) {
        if let Some(change) = self.identity.changed() {
            log::debug!("{}: still down: {change}", self.describe());
            return self.pause_down(now);
        }
        match sessions::probe(&self.conn) {
            Ok(()) => {
                self.state = State::Working { rest_at: None };
                self.sweep.hurry(now.instant);
                self.events.push_back(StoreEvent::Up);
            }
            Err(error) if is_locked(&error) => {
                let probe_at = now.instant + LOCKED_PAUSE_MAX;
                self.state = State::Down { probe_at };
            }
            Err(error) => {
                log::debug!("{}: still down: {error}", self.describe());
                if is_full(&error) {
                    // The WAL may be what fills it.
                    self.checkpointer.trim();
                }
                self.pause_down(now);
            }
        }
    }

    fn limit_pages(&self, is_limited: bool) {
        let pages = self
            .conn
            .pragma_query_value(None, "page_count", |row| row.get(0));
        let pages: i64 = if is_limited {
            pages.unwrap_or(NO_LIMIT)
        } else {
            NO_LIMIT
        };
        let name = "max_page_count";
        let limited = self
            .conn
            .pragma_update_and_check(None, name, pages, |_| Ok(()));
        if let Err(error) = limited {
            log::debug!("{}: {error}", self.path.display());
        }
    }
}

/// Carries out requests, in a transaction.
pub(super) fn carry_out_all<'a>(
    conn: &Connection,
    asked: impl IntoIterator<Item = &'a mut Asked>,
    node: i64,
    clock: Clock,
) -> rusqlite::Result<()> {
    asked.into_iter().try_for_each(|asked| match asked {
        Asked::Save { batch, fenced } => {
            *fenced = sessions::save(conn, batch, clock)?;
            Ok(())
        }
        Asked::Claim { claim, granted, .. } => {
            *granted = sessions::claim(conn, claim, node, clock)?;
            Ok(())
        }
        Asked::Sync => Ok(()),
    })
}
