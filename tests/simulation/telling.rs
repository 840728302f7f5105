//! What a process tells its application of pushes that the store has refused: each of them, and once.

use std::collections::BTreeSet;
use std::sync::mpsc::Receiver;

use sundown::engine::io::{Commit, Pushed, Refused, SessionId, StoreEvent};

use super::posted::text_of;
use super::trace::Seen;

/// What the application was told of.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) text: String,
    /// The client was not there any more.
    pub(crate) is_late: bool,
}

/// What the store has answered, and the application does not know.
pub(crate) struct Telling {
    told: Receiver<Told>,
    owed: BTreeSet<(SessionId, String)>,
    /// Sessions that are, or may be, somebody else's: nothing is owed for them.
    lost: BTreeSet<SessionId>,
}

impl Telling {
    pub(crate) fn new(told: Receiver<Told>) -> Self {
        Self {
            told,
            owed: BTreeSet::new(),
            lost: BTreeSet::new(),
        }
    }

    /// The engine is about to hear this.
    pub(crate) fn answered(&mut self, event: &StoreEvent) {
        match event {
            StoreEvent::Committed {
                batch,
                fenced,
                pushed,
            } => {
                let mut outcomes = pushed.iter();
                for (at, commit) in batch.iter().enumerate() {
                    if fenced.contains(&at) {
                        self.lost.insert(commit.session.clone());
                    } else {
                        self.carried_out(commit, &mut outcomes);
                    }
                }
            }
            StoreEvent::TakenOver { session, .. } => {
                self.lost.insert(session.clone());
            }
            StoreEvent::Refused {
                request: Refused::Commit(commit),
                ..
            } => {
                self.lost.insert(commit.session.clone());
            }
            StoreEvent::Up
            | StoreEvent::Down { .. }
            | StoreEvent::Lost { .. }
            | StoreEvent::Stalled
            | StoreEvent::Resumed
            | StoreEvent::Claimed { .. }
            | StoreEvent::Mailbox { .. }
            | StoreEvent::Mail { .. }
            | StoreEvent::Refused { .. }
            | StoreEvent::Synced
            | StoreEvent::Spilled { .. } => {}
        }
    }

    fn carried_out<'a>(
        &mut self,
        commit: &Commit,
        outcomes: &mut impl Iterator<Item = &'a Pushed>,
    ) {
        let pushes = commit.mail.iter().flat_map(|mail| &mail.pushes);
        for (push, outcome) in pushes.zip(outcomes) {
            let text = text_of(&push.body);
            // What was pushed from outside of a step has a receipt, and is no client's.
            let is_of_client = text.starts_with(commit.session.as_str());
            if matches!(outcome, Pushed::Refused(_)) && is_of_client {
                self.owed.insert((commit.session.clone(), text));
            }
        }
    }

    /// After each input.
    pub(crate) fn check(&mut self, seen: &mut Seen) {
        for Told { text, is_late } in self.told.try_iter() {
            let before = self.owed.len();
            self.owed.retain(|(_, owed)| *owed != text);
            assert_eq!(self.owed.len() + 1, before, "told of, and not owed: {text}");
            seen.note(if is_late {
                "refused push told late"
            } else {
                "refused push told"
            });
        }
    }

    /// The process has ended in order.
    pub(crate) fn check_end(&self) {
        let owed = |(session, _): &&(SessionId, String)| !self.lost.contains(session);
        let untold: Vec<_> = self.owed.iter().filter(owed).collect();
        assert!(untold.is_empty(), "nobody was told: {untold:?}");
    }
}
