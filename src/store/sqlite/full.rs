//! What the store does on a full disk: it goes on with what is there, and makes room.
//!
//! Once the reserve is not complete any more, new sessions are refused one by one, while sessions
//! that are there are saved in the room of the WAL, and those that have expired are deleted, which
//! makes room for others. It must never take the store down for a claim alone.

use super::{SqliteStore, sessions};
use crate::engine::io::Now;
use crate::store::sqlite_file::Room;

/// More pages than a file can have.
const NO_LIMIT: i64 = 4_294_967_294;

impl SqliteStore {
    /// So many pages, roughly, were written: it may be time to move them into the database.
    pub(super) fn note_written(&mut self, pages: usize, now: Now) {
        if self.checkpointer.note_written(pages) {
            // Before the checkpoint, which gives up the reserve of the database for a moment.
            let room = self.checkpointer.look_for_room();
            self.begin_full_if(room, now);
            self.checkpointer.look_at_wal(now.instant);
        }
    }

    /// Goes over to a full disk in good time.
    pub(super) fn begin_full_if(&mut self, room: Room, now: Now) {
        if room != Room::Plenty {
            self.begin_full("there is hardly any room on the disk", room, now);
        }
    }

    /// From now on the file does not grow, new sessions are refused, and what has expired makes
    /// room.
    pub(super) fn begin_full(&mut self, reason: &str, room: Room, now: Now) {
        if std::mem::replace(&mut self.is_full, true) {
            return;
        }
        log::warn!(
            "{}: {reason}: new sessions are refused until there is room",
            self.path.display()
        );
        if room == Room::Little
            && let Err(error) = sessions::make_spare_pages(&self.conn)
        {
            log::debug!("{}: no spare pages: {error}", self.path.display());
        }
        self.limit_pages();
        self.sweep.hurry(now.instant);
    }

    /// Whether the file may grow again.
    pub(super) fn look_for_room(&mut self, now: Now) {
        if !self.is_full {
            return;
        }
        if self.checkpointer.room() == Room::Plenty {
            self.is_full = false;
            self.limit_pages();
            log::info!("{}: there is room again", self.path.display());
        } else {
            self.checkpointer.trim();
            self.sweep.look_again(now.instant);
        }
    }

    /// While the disk is full, the file must not grow: a checkpoint would find no room.
    fn limit_pages(&self) {
        let pragma = |name| self.conn.pragma_query_value(None, name, |row| row.get(0));
        let pages = if self.is_full {
            pragma("page_count").unwrap_or(NO_LIMIT)
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

    /// Whether the WAL is being emptied, so that the same may do later: if something was written
    /// since the last time.
    pub(super) fn makes_room(&mut self) -> bool {
        self.checkpointer.is_busy() || self.checkpointer.trim_written()
    }
}
