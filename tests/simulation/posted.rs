//! The account of pushes: what has become of each in the store, whoever has heard of it. A push has
//! a body that no other one has, so that none can be carried out twice unnoticed.

use std::collections::{BTreeMap, BTreeSet};

use sundown::engine::io::{Body, Push, Pushed, SessionId};

use super::trace::Seen;

/// What was pushed.
#[derive(Debug, Default)]
pub(crate) struct Posted {
    /// By session, in the order of their numbers.
    accepted: BTreeMap<SessionId, Vec<String>>,
    /// All that were ever carried out.
    done: BTreeSet<String>,
    refused: BTreeSet<String>,
}

/// The session that a client with this number asks for at first.
pub(crate) fn name_of(client: usize) -> SessionId {
    SessionId::parse(&format!("s{client}")).expect("a name")
}

/// What the message of this number pushes.
pub(crate) fn body_of(session: &SessionId, count: u64) -> String {
    format!("{session} {count}")
}

pub(crate) fn text_of(body: &Body) -> String {
    String::from_utf8_lossy(body.as_bytes()).into_owned()
}

impl Posted {
    /// The store has carried this out.
    pub(crate) fn note(&mut self, push: &Push, outcome: Pushed, seen: &mut Seen) {
        let text = text_of(&push.body);
        match outcome {
            Pushed::Accepted(number) => {
                let accepted = self.accepted.entry(push.to.clone()).or_default();
                accepted.push(text.clone());
                assert_eq!(accepted.len() as u64, number, "{push:?}");
                assert!(self.done.insert(text.clone()), "pushed twice: {text}");
                seen.note("pushed");
            }
            Pushed::Refused(_) => {
                assert!(self.done.insert(text.clone()), "pushed twice: {text}");
                self.refused.insert(text);
                seen.note("push refused");
            }
            Pushed::Before => {
                assert!(self.done.contains(&text), "never pushed: {text}");
                seen.note("push repeated");
            }
        }
    }

    /// The store has accepted it, before anyone is told.
    pub(crate) fn check(&self, to: &SessionId, number: u64, text: &str) {
        let accepted = self.accepted.get(to);
        let found = accepted.and_then(|all| all.get(number as usize - 1));
        assert_eq!(found.map(String::as_str), Some(text), "{to}: push {number}");
    }

    pub(crate) fn is_refused(&self, text: &str) -> bool {
        self.refused.contains(text)
    }

    /// Whether it was accepted, or refused.
    pub(crate) fn is_done(&self, text: &str) -> bool {
        self.done.contains(text)
    }

    /// The number of the latest push to a session.
    pub(crate) fn sent(&self, session: &SessionId) -> u64 {
        self.accepted
            .get(session)
            .map_or(0, |accepted| accepted.len() as u64)
    }

    /// The store has lost all mailboxes: numbers begin anew.
    pub(crate) fn lose(&mut self) {
        self.accepted.clear();
    }
}
