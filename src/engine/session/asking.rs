//! What the store is asked, and answers with a mailbox: claims, and reads.
//!
//! It owns how many such questions are under way, and whether a mailbox is asked for.

use super::{SessionKey, Sessions, get_mut};
use crate::engine::io::{ReadMailbox, StoreCommand};

/// Whether the store is asked what the mailbox holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Asking {
    #[default]
    No,
    /// At the next flush.
    Soon,
    Now,
}

/// So many claims and reads are under way: with full mailboxes, 16 MiB of answers. Redis cuts a link
/// with news on it for which 32 MB wait.
const UNANSWERED_MAX: usize = 64;

impl Sessions {
    pub(super) fn ask_for_mailbox(&mut self, key: SessionKey) {
        if let Some(session) = get_mut(&mut self.slab, key) {
            let mailing = session.mailing.get_or_insert_default();
            if mailing.asking == Asking::No {
                mailing.asking = Asking::Soon;
                self.reads.push(key);
            }
        }
    }

    /// The next claim or read: what the store answers with a mailbox.
    pub(super) fn poll_question(&mut self) -> Option<StoreCommand> {
        if self.unanswered >= UNANSWERED_MAX {
            return None;
        }
        let claim = self.poll_claim().map(StoreCommand::Claim);
        let question = claim.or_else(|| self.poll_read());
        self.unanswered += usize::from(question.is_some());
        question
    }

    /// The store has answered a claim, or a read.
    pub(in crate::engine) fn handle_answer(&mut self) {
        self.unanswered = self.unanswered.saturating_sub(1);
    }

    /// The next mailbox to read.
    pub(super) fn poll_read(&mut self) -> Option<StoreCommand> {
        while let Some(key) = self.reads.pop() {
            if let Some(session) = get_mut(&mut self.slab, key)
                && let Some(mailing) = &mut session.mailing
            {
                mailing.asking = Asking::Now;
                mailing.heard = 0;
                let session = session.id.clone();
                return Some(StoreCommand::Read(ReadMailbox { key, session }));
            }
        }
        None
    }

    /// The store has forgotten what it was asked.
    pub(super) fn handle_reads_lost(&mut self) {
        for (slot, session) in &mut self.slab {
            if let Some(mailing) = &mut session.mailing
                && mailing.asking == Asking::Now
            {
                mailing.asking = Asking::Soon;
                let generation = session.generation;
                let slot = slot as u32;
                self.reads.push(SessionKey { slot, generation });
            }
        }
    }

    /// A mailbox cannot be read. It is asked for again when there is news of it.
    pub(in crate::engine) fn handle_read_refused(&mut self, key: SessionKey) {
        if let Some(session) = get_mut(&mut self.slab, key)
            && let Some(mailing) = &mut session.mailing
        {
            mailing.asking = Asking::No;
        }
    }
}
