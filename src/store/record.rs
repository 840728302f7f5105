//! What a store promises of one session's record, as a plain value.
//!
//! It owns what a claim and a commit do to a record; where records live, and for how long, is the
//! store's own matter. The memory store runs it, and so do the model (`tests/model.rs`) and the
//! simulation; SQLite and Redis say the same in SQL and Lua, and `tests/store_promises.rs` and
//! `tests/redis_store` hold all of them to it. It must never let an epoch be granted twice.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::hash::BuildHasher;

use crate::engine::io::{Commit, Grant, Mailbox, Push, PushRefused, Pushed, SessionId, Snapshot};

/// What a store keeps of a session, but for its expiry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Record {
    epoch: u64,
    snapshot: Snapshot,
    claim: Option<(u64, bool)>,
    mailbox: Mailbox,
}

/// Where records are: what [`carry_out`] needs of a store that has them as values.
pub trait Records {
    /// What is kept of a session, expired or not, and whether it is alive.
    fn find(&self, session: &SessionId) -> Option<(&Record, bool)>;

    /// Keeps this of a session, for its whole time to live from now.
    fn keep(&mut self, session: &SessionId, record: Record);
}

/// Records that live for ever.
impl<S: BuildHasher> Records for HashMap<SessionId, Record, S> {
    fn find(&self, session: &SessionId) -> Option<(&Record, bool)> {
        self.get(session).map(|record| (record, true))
    }

    fn keep(&mut self, session: &SessionId, record: Record) {
        self.insert(session.clone(), record);
    }
}

/// Carries a commit out, with all that it does to mailboxes: adds to `pushed` what has become of
/// its pushes. Returns `false` if it is fenced, and then nothing of it is done.
pub fn carry_out(records: &mut impl Records, commit: &Commit, pushed: &mut Vec<Pushed>) -> bool {
    let known = records.find(&commit.session).map(|(record, _)| record);
    let held = known.map(|record| (record.epoch, record.snapshot.step));
    let Some(mut record) = Record::commit(known, commit.epoch, &commit.snapshot) else {
        return false;
    };
    let Some(mail) = &commit.mail else {
        records.keep(&commit.session, record);
        return true;
    };
    record.mailbox.confirm(mail.confirmed);
    records.keep(&commit.session, record);
    for push in &mail.pushes {
        let is_done = held.is_some_and(|(epoch, step)| epoch == commit.epoch && push.step <= step);
        pushed.push(if is_done {
            Pushed::Before
        } else {
            self::push(records, push)
        });
    }
    true
}

fn push(records: &mut impl Records, push: &Push) -> Pushed {
    let known = records.find(&push.to).filter(|(_, is_alive)| *is_alive);
    let Some((record, _)) = known else {
        return Pushed::Refused(PushRefused::Unknown);
    };
    let mut record = record.clone();
    match record.mailbox.push(push.body.clone()) {
        Ok(number) => {
            records.keep(&push.to, record);
            Pushed::Accepted(number)
        }
        Err(why) => Pushed::Refused(why),
    }
}

impl Record {
    /// A record as it was written down. `claim` is the token of the last claim and whether that
    /// found the session; `None` if that is not known any more.
    pub fn new(epoch: u64, snapshot: Snapshot, claim: Option<(u64, bool)>) -> Self {
        Self {
            epoch,
            snapshot,
            claim,
            mailbox: Mailbox::default(),
        }
    }

    /// The same with these pushes.
    #[must_use]
    pub fn with_mailbox(mut self, mailbox: Mailbox) -> Self {
        self.mailbox = mailbox;
        self
    }

    /// Claims a session: gives its next epoch, above all that it ever had, and the same one again
    /// to the same token, with what is held by then. `known` is what the store has, expired or not;
    /// `is_alive` says whether its snapshot is still good; `epoch_floor` is the highest epoch of all
    /// records that are gone.
    pub fn claim(
        known: Option<&Self>,
        is_alive: bool,
        token: u64,
        epoch_floor: u64,
    ) -> (Self, Grant) {
        if let Some(record) = known
            && let Some((claimed_with, found)) = record.claim
            && claimed_with == token
        {
            return (record.clone(), record.grant(found));
        }
        let epoch_before = known.map_or(0, |record| record.epoch).max(epoch_floor);
        let epoch = epoch_before.saturating_add(1);
        let alive = known.filter(|_| is_alive);
        let mut snapshot = alive.map_or_else(Snapshot::default, |record| record.snapshot.clone());
        snapshot.step = 0;
        if snapshot.incarnation == 0 {
            snapshot.incarnation = epoch;
        }
        let record = Self {
            epoch,
            snapshot,
            claim: Some((token, alive.is_some())),
            mailbox: alive.map_or_else(Mailbox::default, |record| record.mailbox.clone()),
        };
        let grant = record.grant(alive.is_some());
        (record, grant)
    }

    /// Commits what a session holds; `None` if it is refused, since a newer claim exists. Within an
    /// epoch, a commit of a step that is not later than the one held changes nothing, so that it can
    /// be repeated; and the count never goes down, since a spill file of version 0.1.0 has counts
    /// without steps. A higher epoch than the one held is the owner's word for a record that was
    /// lost.
    pub fn commit(known: Option<&Self>, epoch: u64, snapshot: &Snapshot) -> Option<Self> {
        let Some(mut record) = known.cloned() else {
            return Some(Self::new(epoch, snapshot.clone(), None));
        };
        record.take(epoch, snapshot).then_some(record)
    }

    /// The same in place. Whether the commit is taken.
    pub fn take(&mut self, epoch: u64, snapshot: &Snapshot) -> bool {
        match epoch.cmp(&self.epoch) {
            Ordering::Less => return false,
            Ordering::Greater => {
                self.epoch = epoch;
                self.claim = None;
                self.snapshot.clone_from(snapshot);
            }
            Ordering::Equal => {
                let held = &mut self.snapshot;
                held.count = held.count.max(snapshot.count);
                if snapshot.step > held.step {
                    held.step = snapshot.step;
                    held.state.clone_from(&snapshot.state);
                }
            }
        }
        true
    }

    /// The epoch of the last claim.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// What the session held after the latest step that was committed.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The pushes to the session.
    pub fn mailbox(&self) -> &Mailbox {
        &self.mailbox
    }

    /// Whether there is nothing in it that a new session would not have.
    pub fn is_blank(&self) -> bool {
        self.snapshot.is_blank() && self.mailbox.sent() == 0
    }

    /// The token of the last claim, and whether it found the session; `None` for a record that a
    /// commit has made.
    pub fn last_claim(&self) -> Option<(u64, bool)> {
        self.claim
    }

    fn grant(&self, found: bool) -> Grant {
        Grant {
            epoch: self.epoch,
            found,
            snapshot: self.snapshot.clone(),
            mailbox: self.mailbox.clone(),
        }
    }
}
