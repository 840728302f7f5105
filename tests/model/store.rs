//! The store, and what travels between it and the nodes. The record is the server's own
//! [`Record`]: it keeps every promise, whatever is asked of it and however late.

use sundown::store::record::Record;

use crate::flaws::{Flaw, Protocol};

/// The most messages that a configuration may have.
pub(crate) const MESSAGES_MAX: usize = 4;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Store {
    record: Option<Record>,
    /// For the check alone: under which epoch each message was taken into the record.
    counted_under: [u64; MESSAGES_MAX],
}

/// What a node asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Request {
    /// Of the session with this key; the key is the token of its claim, too.
    Claim {
        key: u64,
    },
    Commit(Commit),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Commit {
    /// `None`: a row of the spill.
    pub(crate) key: Option<u64>,
    pub(crate) epoch: u64,
    pub(crate) count: u64,
    /// For the check alone: the count that this epoch began with.
    pub(crate) base: u64,
}

impl Request {
    /// The session that asks; `None`: the replay of a row.
    pub(crate) fn key(&self) -> Option<u64> {
        match self {
            Self::Claim { key } => Some(*key),
            Self::Commit(commit) => commit.key,
        }
    }
}

/// What it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Answer {
    Claimed {
        key: u64,
        epoch: u64,
        count: u64,
    },
    Committed {
        commit: Commit,
        fenced: bool,
    },
    /// By itself, while the store takes all others.
    Refused(Request),
}

/// What carrying out a request has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) answer: Answer,
    /// A claim that was granted for the first time: all nodes hear of it.
    pub(crate) news: Option<u64>,
    /// A message that is in the record already was taken into it once more.
    pub(crate) counted_twice: bool,
}

impl Store {
    pub(crate) fn new() -> Self {
        Self {
            record: None,
            counted_under: [0; MESSAGES_MAX],
        }
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.record.map_or(0, |record| record.epoch())
    }

    pub(crate) fn count(&self) -> u64 {
        self.record.map_or(0, |record| record.count())
    }

    /// Whether this token is that of the last claim.
    pub(crate) fn knows_token(&self, token: u64) -> bool {
        self.record.is_some_and(|record| {
            let (claimed_again, _) = Record::claim(Some(record), true, token, 0);
            claimed_again == record
        })
    }

    /// Whether a request that comes late could still have an effect: a claim always, a save unless
    /// it is fenced, or covered.
    pub(crate) fn may_be_changed_by(&self, request: &Request) -> bool {
        match request {
            Request::Claim { .. } => true,
            Request::Commit(commit) => {
                let saved = Record::commit(self.record, commit.epoch, commit.count);
                saved.is_some() && saved != self.record
            }
        }
    }

    /// Nobody has a save any more that begins below this count.
    pub(crate) fn forget_counts_up_to(&mut self, count: u64) {
        self.counted_under
            .iter_mut()
            .take(count as usize)
            .for_each(|under| *under = 0);
    }

    pub(crate) fn carry_out(&mut self, request: Request, protocol: Protocol) -> Done {
        match request {
            Request::Claim { key } => self.claim(key, protocol),
            Request::Commit(commit) => self.save(commit, protocol),
        }
    }

    fn claim(&mut self, key: u64, protocol: Protocol) -> Done {
        let epoch_before = self.epoch();
        let (mut record, mut grant) = Record::claim(self.record, true, key, 0);
        if protocol.has(Flaw::SameEpochAgain) && epoch_before > 0 && grant.epoch > epoch_before {
            record = self.record.unwrap_or(record);
            grant.epoch = epoch_before;
        }
        self.record = Some(record);
        Done {
            answer: Answer::Claimed {
                key,
                epoch: grant.epoch,
                count: grant.count,
            },
            news: (grant.epoch > epoch_before).then_some(grant.epoch),
            counted_twice: false,
        }
    }

    fn save(&mut self, commit: Commit, protocol: Protocol) -> Done {
        let is_fenced = match commit.key {
            Some(_) => !protocol.has(Flaw::NoFence),
            None => !protocol.has(Flaw::ReplayWithoutFence),
        };
        let epoch = if is_fenced {
            commit.epoch
        } else {
            commit.epoch.max(self.epoch())
        };
        let saved = Record::commit(self.record, epoch, commit.count);
        let mut counted_twice = false;
        if saved.is_some() {
            self.record = saved;
            let (first, end) = (commit.base as usize, commit.count as usize);
            for under in self.counted_under.iter_mut().take(end).skip(first) {
                counted_twice |= *under != 0 && *under != commit.epoch;
                *under = commit.epoch;
            }
        }
        Done {
            answer: Answer::Committed {
                commit,
                fenced: saved.is_none(),
            },
            news: None,
            counted_twice,
        }
    }
}
