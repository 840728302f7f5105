//! Which of the file's two tables a row is in. Plain values.
//!
//! Version 0.1.0 replays a row of `spilled` as a count, and deletes it: what is more than that must
//! never be there. It does not know of `spilled_whole`, so that a row there waits for a newer version,
//! and is replayed or fenced with all that is in it.

use crate::engine::io::{Commit, Mail, State, StoreCommand, StoreEvent};

/// A table, in the order in which they are replayed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Table {
    /// `spilled`.
    #[default]
    Counts,
    /// `spilled_whole`.
    Whole,
}

impl Table {
    pub(super) const ALL: [Self; 2] = [Self::Counts, Self::Whole];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Counts => "spilled",
            Self::Whole => "spilled_whole",
        }
    }

    pub(super) fn other(self) -> Self {
        match self {
            Self::Counts => Self::Whole,
            Self::Whole => Self::Counts,
        }
    }

    /// Where a row belongs, if one without a state and mail belongs here.
    pub(super) fn of(self, row: &Commit) -> Self {
        if row.snapshot.state.is_empty() && mail_of(row).is_none() {
            self
        } else {
            Self::Whole
        }
    }

    /// The store may get the states that are in this.
    pub(super) fn note_asked(&mut self, asked: &StoreCommand) {
        if let StoreCommand::Commit(batch) = asked {
            for commit in batch {
                self.note(&commit.snapshot.state);
            }
        }
    }

    /// The store has the state that is in this.
    pub(super) fn note_answer(&mut self, answer: &StoreEvent) {
        if let StoreEvent::Claimed { grant, .. } = answer {
            self.note(&grant.snapshot.state);
        }
    }

    /// Once the store has had a state, an empty one may be news, and a row without one more than a
    /// count.
    fn note(&mut self, state: &State) {
        if !state.is_empty() {
            *self = Self::Whole;
        }
    }
}

/// How far a replay has come: up to this row.
#[derive(Debug, Default)]
pub(super) struct Reached {
    pub(super) table: Table,
    pub(super) id: String,
}

/// What a row does to mailboxes; `None` also if it is in a batch with one that does something, and
/// does nothing itself.
pub(super) fn mail_of(row: &Commit) -> Option<&Mail> {
    let mail = row.mail.as_deref();
    mail.filter(|mail| **mail != Mail::default())
}
