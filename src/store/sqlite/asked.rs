//! What was asked and not yet carried out, and how much of it fits into a turn.

use std::collections::VecDeque;

use rusqlite::Connection;

use super::mailbox;
use super::sessions::{self, Granted, Saved};
use crate::engine::io::{Mailbox, StoreCommand};
use crate::store::expiry::Times;

/// Rows written in one transaction; with more, the rest has the next turn. Each page of a state or a
/// push counts as a row.
pub(super) const ROWS_PER_TURN_MAX: usize = 2_048;

/// Pages that a claim and a commit write, roughly, besides those of a state and of pushes.
pub(super) const PAGES_PER_CLAIM: usize = 4;
const PAGES_PER_COMMIT: usize = 1;

/// What was asked, with room for the answer.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) command: StoreCommand,
    /// What a batch has come to.
    pub(super) saved: Saved,
    /// What a mailbox holds, or why it cannot be read.
    pub(super) mailbox: Result<Mailbox, String>,
    /// What a claim was granted, or why it was not.
    pub(super) granted: Result<Granted, String>,
}

/// What a turn carries out.
pub(super) struct Share {
    pub(super) requests: usize,
    /// Roughly, and 0 if there is nothing to write.
    pub(super) pages: usize,
}

/// The requests, from the first on, that fit into a turn: at least one.
pub(super) fn share_of_turn(asked: &VecDeque<Asked>) -> Share {
    let (mut rows, mut pages) = (0, 0);
    for (requests, asked) in asked.iter().enumerate() {
        let (rows_more, pages_more) = match &asked.command {
            StoreCommand::Commit(batch) => {
                let pages = batch.iter().map(sessions::pages_beside).sum::<usize>();
                (batch.len() + pages, batch.len() * PAGES_PER_COMMIT + pages)
            }
            StoreCommand::Claim(_) => (1, PAGES_PER_CLAIM),
            StoreCommand::Read(_) | StoreCommand::Sync => (0, 0),
        };
        rows += rows_more;
        if rows > ROWS_PER_TURN_MAX && requests > 0 {
            return Share { requests, pages };
        }
        pages += pages_more;
    }
    Share {
        requests: asked.len(),
        pages,
    }
}

/// Carries out requests, in a transaction if any of them writes.
pub(super) fn carry_out_all<'a>(
    conn: &Connection,
    asked: impl IntoIterator<Item = &'a mut Asked>,
    node: i64,
    times: Times,
    is_full: bool,
) -> rusqlite::Result<()> {
    for asked in asked {
        match &asked.command {
            StoreCommand::Commit(batch) => {
                asked.saved = sessions::save(conn, batch, node, times, is_full)?;
            }
            StoreCommand::Claim(claim) => {
                let has_room = !is_full || sessions::has_room_for(conn, &claim.session)?;
                asked.granted = if has_room {
                    sessions::claim(conn, claim, node, times)?
                } else {
                    Err(sessions::FULL.to_owned())
                };
            }
            StoreCommand::Read(read) => {
                asked.mailbox = mailbox::read(conn, &read.session, times.judged_ms)?;
            }
            StoreCommand::Sync => {}
        }
    }
    Ok(())
}
