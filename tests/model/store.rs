//! The store, and what travels between it and the nodes. The record is the server's own
//! [`Record`]: it keeps every promise, whatever is asked of it and however late.

use sundown::engine::io::{Snapshot, State};
use sundown::engine::ledger::Mark;
use sundown::store::record::Record;

use crate::flaws::{Flaw, Protocol};

/// The most messages that a configuration may have.
pub(crate) const MESSAGES_MAX: usize = 4;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Store {
    record: Option<Record>,
    /// For the check alone: under which epoch each message was taken into the record.
    counted_under: [u64; MESSAGES_MAX],
    /// The effects of messages that were carried out, as bits.
    effects: u32,
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
    pub(crate) mark: Mark,
    /// The session's state, which the application sets with each message to that one's number.
    pub(crate) state: u8,
    /// The count that this epoch began with: the messages above it, up to the count, have an effect
    /// each, which goes with the commit, as the steps from 1 on.
    pub(crate) base: u64,
}

impl Commit {
    /// As the store gets it. It loses nothing here, and so the incarnation is the first.
    fn snapshot(&self) -> Snapshot {
        Snapshot {
            incarnation: 1,
            step: self.mark.step,
            count: self.mark.count,
            state: state_of(self.state),
        }
    }
}

fn state_of(number: u8) -> State {
    let bytes: &[u8] = if number == 0 { &[] } else { &[number] };
    State::new(bytes).unwrap_or_default()
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
        held: Mark,
        state: u8,
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
    /// The effect of a message was carried out once more, or that of one that is counted was not.
    pub(crate) effects_differ: bool,
}

impl Store {
    pub(crate) fn new() -> Self {
        Self {
            record: None,
            counted_under: [0; MESSAGES_MAX],
            effects: 0,
        }
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.record.as_ref().map_or(0, Record::epoch)
    }

    pub(crate) fn count(&self) -> u64 {
        self.held().map_or(0, |held| held.count)
    }

    /// Whether count and state are of the same step.
    pub(crate) fn is_consistent(&self) -> bool {
        self.held()
            .is_none_or(|held| number_of(&held.state) == held.count)
    }

    fn held(&self) -> Option<&Snapshot> {
        self.record.as_ref().map(Record::snapshot)
    }

    /// Whether this token is that of the last claim.
    pub(crate) fn knows_token(&self, token: u64) -> bool {
        let last = self.record.as_ref().and_then(Record::last_claim);
        last.is_some_and(|(last, _)| last == token)
    }

    /// Whether a request that comes late could still have an effect: a claim always, a save unless
    /// it is fenced, or covered.
    pub(crate) fn may_be_changed_by(&self, request: &Request, protocol: Protocol) -> bool {
        match request {
            Request::Claim { .. } => true,
            Request::Commit(commit) => {
                let saved = self.commit(commit.epoch, commit, protocol);
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
        let (mut record, mut grant) = Record::claim(self.record.as_ref(), true, key, 0);
        if protocol.has(Flaw::SameEpochAgain) && epoch_before > 0 && grant.epoch > epoch_before {
            record = self.record.take().unwrap_or(record);
            grant.epoch = epoch_before;
        }
        self.record = Some(record);
        Done {
            answer: Answer::Claimed {
                key,
                epoch: grant.epoch,
                held: Mark::of(&grant.snapshot),
                state: number_of(&grant.snapshot.state) as u8,
            },
            news: (grant.epoch > epoch_before).then_some(grant.epoch),
            counted_twice: false,
            effects_differ: false,
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
        let saved = self.commit(epoch, &commit, protocol);
        let is_taken = saved.is_some();
        let (mut counted_twice, mut effects_differ) = (false, false);
        if is_taken {
            effects_differ = self.carry_out_effects(epoch, &commit, protocol);
            self.record = saved;
            let (first, end) = (commit.base as usize, commit.mark.count as usize);
            for under in self.counted_under.iter_mut().take(end).skip(first) {
                counted_twice |= *under != 0 && *under != commit.epoch;
                *under = commit.epoch;
            }
        }
        Done {
            answer: Answer::Committed {
                commit,
                fenced: !is_taken,
            },
            news: None,
            counted_twice,
            effects_differ,
        }
    }

    /// What becomes of the record.
    fn commit(&self, epoch: u64, commit: &Commit, protocol: Protocol) -> Option<Record> {
        let snapshot = commit.snapshot();
        let saved = Record::commit(self.record.as_ref(), epoch, &snapshot)?;
        if protocol.has(Flaw::EarlierStateCounts) {
            // The count, which is the higher one, hides that the step is not later.
            let count = saved.snapshot().count;
            return Some(Record::new(
                saved.epoch(),
                Snapshot { count, ..snapshot },
                saved.last_claim(),
            ));
        }
        Some(saved)
    }

    /// Carries out the effects of the steps above the one that is held in this epoch, all of them or
    /// none. Whether one was carried out already, or one that is counted now is missing.
    fn carry_out_effects(&mut self, epoch: u64, commit: &Commit, protocol: Protocol) -> bool {
        let in_epoch = self
            .record
            .as_ref()
            .filter(|record| record.epoch() == epoch);
        let held = in_epoch.map_or(0, |record| record.snapshot().step);
        let held = if protocol.has(Flaw::EffectsRepeated) {
            0
        } else {
            held
        };
        let mut differs = false;
        for step in held + 1..=commit.mark.step {
            let effect = 1 << (commit.base + step);
            differs |= self.effects & effect != 0;
            self.effects |= effect;
        }
        let counted = self.count().max(commit.mark.count);
        differs || (1..=counted).any(|number| self.effects & 1 << number == 0)
    }
}

/// The number of the message that has set this state.
fn number_of(state: &State) -> u64 {
    state.as_bytes().first().copied().map_or(0, u64::from)
}
