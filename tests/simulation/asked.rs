//! The account of what a process asks of the store and of the spill, and of what they answer.

use std::collections::{BTreeMap, BTreeSet};

use sundown::engine::io::{
    Commit, ConnId, Grant, SessionId, SessionKey, Snapshot, State, StoreCommand, StoreEvent,
};
use sundown::engine::ledger::Mark;

use crate::service::state_after;

use super::{Book, Common, Conn, SPILLS_ASKED_MAX, Session, by_conn, by_key};

impl Book {
    /// The engine asks this of the store.
    pub(crate) fn asked(&mut self, command: &StoreCommand) {
        let name = self.name.clone();
        match command {
            StoreCommand::Read(_) | StoreCommand::Sync => {}
            StoreCommand::Claim(claim) => {
                let session = self.sessions.entry(by_key(claim.key));
                let session = session.or_insert_with(|| Session::new(&claim.session));
                assert!(
                    !session.claim_asked,
                    "{name}: {claim:?} is under way already"
                );
                session.claim_asked = true;
            }
            StoreCommand::Commit(batch) => {
                let keys: BTreeSet<_> = batch.iter().map(|commit| by_key(commit.key)).collect();
                assert_eq!(
                    keys.len(),
                    batch.len(),
                    "{name}: twice in one batch: {batch:?}"
                );
                for commit in batch {
                    self.save_asked(commit);
                }
            }
        }
    }

    /// The engine puts these aside.
    pub(crate) fn spill_asked(&mut self, batch: &[Commit]) {
        let name = &self.name;
        self.spills = true;
        for commit in batch {
            let session = known(&mut self.sessions, commit, self.own_pushes);
            let session = session.expect("it was claimed");
            assert_eq!(Some(commit.epoch), session.epoch, "{name}: {commit:?}");
            session.check_snapshot(name, &commit.snapshot);
            assert!(
                session.counted > session.confirmed || session.may_owe_more(),
                "{name}: {commit:?} is saved"
            );
            session.spills_asked += 1;
            assert!(
                session.spills_asked <= SPILLS_ASKED_MAX,
                "{name}: {session:?}"
            );
        }
    }

    fn save_asked(&mut self, commit: &Commit) {
        let name = &self.name;
        let session = known(&mut self.sessions, commit, self.own_pushes);
        let session = session.unwrap_or_else(|| panic!("{name}: {commit:?} was never claimed"));
        assert!(
            !session.save_asked,
            "{name}: {commit:?} while one is under way: {session:?}"
        );
        assert!(
            !session.lost,
            "{name}: {commit:?} was lost to someone else: {session:?}"
        );
        assert_eq!(
            Some(commit.epoch),
            session.epoch,
            "{name}: {commit:?}: {session:?}"
        );
        session.check_snapshot(name, &commit.snapshot);
        session.save_asked = true;
    }

    /// The engine is about to be told this.
    pub(crate) fn answered(&mut self, common: &mut Common, event: &StoreEvent) {
        self.refused = None;
        match event {
            StoreEvent::Up | StoreEvent::Resumed => self.store_is_up = true,
            StoreEvent::Stalled => self.store_is_up = false,
            StoreEvent::Synced => self.sync_owed = false,
            StoreEvent::Mailbox { .. } | StoreEvent::Mail { .. } => {}
            StoreEvent::Down { .. } => {
                self.store_is_up = false;
                for session in self.sessions.values_mut() {
                    session.save_asked = false;
                    session.claim_asked = false;
                }
            }
            StoreEvent::Claimed { key, grant } => self.granted(*key, grant),
            StoreEvent::Committed { batch, fenced, .. } => {
                for (at, commit) in batch.iter().enumerate() {
                    if let Some(session) = self.sessions.get_mut(&by_key(commit.key)) {
                        session.save_asked = false;
                        if fenced.contains(&at) {
                            session.lost = true;
                            common.seen.note("fenced");
                        } else {
                            session.confirmed = session.confirmed.max(commit.snapshot.count);
                        }
                    }
                    self.saved_once_more(common, commit.key);
                }
            }
            StoreEvent::Lost { .. } => {
                unreachable!("this store loses nothing that it has confirmed")
            }
            StoreEvent::Refused { request, .. } => self.refused(common, request),
            StoreEvent::Spilled { batch, kept } => {
                for commit in batch {
                    if let Some(session) = self.sessions.get_mut(&by_key(commit.key)) {
                        session.spills_asked -= 1;
                        let spilled = if *kept { commit.snapshot.count } else { 0 };
                        session.spilled = session.spilled.max(spilled);
                    }
                }
            }
            StoreEvent::TakenOver { session, epoch } => {
                for known in self.sessions.values_mut() {
                    let ours = known.epoch.is_some_and(|ours| ours < *epoch);
                    if &known.id == session && ours && !known.displaced && !known.lost {
                        known.lost = true;
                        common.seen.note("taken over by another node");
                    }
                }
            }
        }
    }

    fn granted(&mut self, key: SessionKey, grant: &Grant) {
        let count = grant.snapshot.count;
        let Some(session) = self.sessions.get_mut(&by_key(key)) else {
            return;
        };
        session.claim_asked = false;
        if session.displaced && session.epoch.is_none() {
            // It had counted nothing when someone else on this node asked: it was forgotten.
            session.lost = true;
            return;
        }
        session.epoch = Some(grant.epoch);
        session.granted = Mark::of(&grant.snapshot);
        session.incarnation = grant.snapshot.incarnation;
        session.counted = count;
        session.confirmed = count;
        session.spilled = 0;
        let id = session.id.clone();
        let name = &self.name;
        for (other, session) in &mut self.sessions {
            if other.1 < key.generation && session.id == id {
                let inherited = session.lost || session.counted <= count;
                assert!(inherited, "{name}: {count} is granted after {session:?}");
                session.lost = true;
            }
        }
        // Whoever asked for it last on this node.
        let mine = |(_, conn): &(&(u32, u32), &mut Conn)| conn.session.as_ref() == Some(&id);
        let conns = self.conns.iter_mut().filter(mine);
        if let Some((at, conn)) = conns.max_by_key(|(_, conn)| conn.number) {
            conn.key = Some(key);
            if self.received.remove(at)
                && let Some(session) = self.sessions.get_mut(&by_key(key))
            {
                session.confirmations += 1;
            }
        }
    }
}

/// The session of a commit. The process's own is not claimed before: each push of it is a step.
fn known<'a>(
    sessions: &'a mut BTreeMap<(u32, u32), Session>,
    commit: &Commit,
    own_pushes: u64,
) -> Option<&'a mut Session> {
    if own_pushes > 0 && !sessions.contains_key(&by_key(commit.key)) {
        let own = Session {
            epoch: Some(1),
            incarnation: 1,
            is_own: true,
            ..Session::new(&commit.session)
        };
        sessions.insert(by_key(commit.key), own);
    }
    let session = sessions.get_mut(&by_key(commit.key))?;
    if session.is_own {
        session.confirmations = own_pushes;
    }
    Some(session)
}

impl Book {
    /// The process has pushed from outside of a step.
    pub(crate) fn pushed_from_outside(&mut self) {
        self.own_pushes += 1;
    }

    /// The client of a connection confirms pushes, or its kernel has them: that may be a step.
    pub(crate) fn confirmed(&mut self, conn: ConnId) {
        let key = self.conns.get(&by_conn(conn)).and_then(|conn| conn.key);
        if let Some(session) = key.and_then(|key| self.sessions.get_mut(&by_key(key))) {
            session.confirmations += 1;
        }
    }
}

impl Session {
    fn new(id: &SessionId) -> Self {
        Self {
            id: id.clone(),
            epoch: None,
            granted: Mark::default(),
            incarnation: 0,
            counted: 0,
            confirmed: 0,
            spilled: 0,
            spills_asked: 0,
            save_asked: false,
            claim_asked: false,
            displaced: false,
            lost: false,
            confirmations: 0,
            is_own: false,
        }
    }

    /// Whether there may be steps of it that count nothing.
    pub(super) fn may_owe_more(&self) -> bool {
        self.confirmations > 0 || self.is_own
    }

    /// What is committed is all that was counted here, each message a step of this epoch, and some
    /// confirmations.
    fn check_snapshot(&self, name: &str, snapshot: &Snapshot) {
        let steps = self.granted.step + self.counted - self.granted.count;
        let most = steps + self.confirmations;
        assert!(
            (steps..=most).contains(&snapshot.step),
            "{name}: {snapshot:?}: {self:?}"
        );
        let expected = Snapshot {
            incarnation: self.incarnation,
            step: snapshot.step,
            count: self.counted,
            state: State::new(&state_after(self.counted)).expect("a number is short"),
        };
        assert_eq!(*snapshot, expected, "{name}: {self:?}");
    }
}
