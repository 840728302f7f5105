//! The store, and what travels between it and the nodes. The records are the server's own
//! [`Record`], and so is what a commit does to them ([`carry_out`]): it keeps every promise,
//! whatever is asked of it and however late.

use std::sync::LazyLock;

use sundown::engine::io::{self, Mail, Push, Pushed, SessionId, SessionKey, Snapshot, State};
use sundown::engine::ledger::Mark;
use sundown::engine::mailbox::{Body, Mailbox};
use sundown::store::record::{Record, Records, carry_out};

use crate::flaws::{Flaw, Protocol};

/// The most messages that a configuration may have.
pub(crate) const MESSAGES_MAX: usize = 4;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Store {
    record: Option<Record>,
    /// Of processes, by their names.
    own: Vec<(u8, Record)>,
    /// Whom the steps of messages push to: the client's session itself, or another one, which
    /// receives everything at once.
    pushes_to_itself: bool,
    /// For the check alone: under which epoch each message was taken into the record.
    counted_under: [u64; MESSAGES_MAX],
    /// The pushes that were accepted, by their bodies, as bits.
    effects: u32,
    /// Those to the client's session, in their order.
    accepted: Vec<u8>,
}

/// The name of the client's session; processes have higher ones.
pub(crate) const CLIENT: u8 = 0;
/// The highest name of a process.
pub(crate) const OWN_MAX: u8 = 4;

static SESSIONS: LazyLock<Vec<SessionId>> = LazyLock::new(|| {
    let numbers = 0..=u128::from(OWN_MAX) + 1;
    numbers.map(SessionId::from_random).collect()
});

fn client_id() -> &'static SessionId {
    &SESSIONS[0]
}

fn other_id() -> &'static SessionId {
    &SESSIONS[1]
}

fn id_of(name: u8) -> &'static SessionId {
    match name {
        CLIENT => client_id(),
        own => &SESSIONS[usize::from(own) + 1],
    }
}

fn name_of(session: &SessionId) -> u8 {
    let mut names = CLIENT..=OWN_MAX;
    let name = names.find(|name| id_of(*name) == session);
    name.unwrap_or(CLIENT)
}

/// What the push of a message says is the number of that; what other pushes say comes after all of
/// them.
static BODIES: LazyLock<Vec<Body>> = LazyLock::new(|| {
    let numbers = 0..=2 * MESSAGES_MAX as u8;
    numbers.map(|number| Body::from(vec![number])).collect()
});

pub(crate) fn body_of(number: u8) -> Body {
    BODIES[usize::from(number)].clone()
}

/// What the nth push from outside of a step says.
pub(crate) fn of_outside(nth: usize) -> u8 {
    (MESSAGES_MAX + 1 + nth) as u8
}

/// Pushes of one session that the store has not confirmed: the nth of those that there may be, and
/// its step, 0 for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Posts([u8; MESSAGES_MAX]);

impl Posts {
    pub(crate) fn put(&mut self, nth: usize, step: u64) {
        if let Some(held) = self.0.get_mut(nth) {
            *held = step as u8;
        }
    }

    /// The step of the nth; 0 if there is none, or the store has it.
    pub(crate) fn step_of(self, nth: u64) -> u64 {
        self.0.get(nth as usize).copied().unwrap_or_default().into()
    }

    /// The store has this step.
    pub(crate) fn confirm(&mut self, step: u64) {
        for held in &mut self.0 {
            if u64::from(*held) <= step {
                *held = 0;
            }
        }
    }

    /// Each with its step, which rises.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, u64)> {
        let all = self.0.into_iter().map(u64::from).enumerate();
        all.filter(|(_, step)| *step > 0)
    }
}

/// What has come of the pushes to the client's session, as [`Posts`] has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Outcomes([Outcome; MESSAGES_MAX]);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Outcome {
    Accepted(u64),
    /// There is no such session.
    Unknown,
    /// It came with an earlier commit.
    #[default]
    Before,
}

impl Outcomes {
    pub(crate) fn of(self, nth: usize) -> Outcome {
        self.0[nth]
    }
}

/// What a node asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Request {
    /// Of the session with this key; the key is the token of its claim, too.
    Claim {
        key: u64,
    },
    Commit(Commit),
    /// The pushes to it.
    Read {
        key: u64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Commit {
    /// `None`: a row of the spill.
    pub(crate) key: Option<u64>,
    /// The name of the session.
    pub(crate) of: u8,
    pub(crate) epoch: u64,
    pub(crate) mark: Mark,
    /// The session's state, which the application sets with each message to that one's number.
    pub(crate) state: u8,
    /// The count that this epoch began with.
    pub(crate) base: u64,
    /// The client has received all pushes up to this number.
    pub(crate) confirmed: u64,
    pub(crate) posts: Posts,
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

    /// What the nth of its pushes says.
    pub(crate) fn body(&self, nth: usize) -> u8 {
        match self.of {
            CLIENT => nth as u8 + 1,
            _ => of_outside(nth),
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
            Self::Claim { key } | Self::Read { key } => Some(*key),
            Self::Commit(commit) => commit.key,
        }
    }
}

/// What it is answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Answer {
    Claimed {
        key: u64,
        epoch: u64,
        held: Mark,
        state: u8,
        mailbox: Mailbox,
    },
    Committed {
        commit: Commit,
        fenced: bool,
        outcomes: Outcomes,
        /// The number of the latest push to the session.
        sent: u64,
    },
    Mailbox {
        key: u64,
        mailbox: Mailbox,
    },
    /// By itself, while the store takes all others.
    Refused(Request),
}

/// What carrying out a request has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) answer: Answer,
    /// A claim that was granted for the first time: all nodes hear of it.
    pub(crate) news: Option<u64>,
    /// The number of the latest push to the client's session, if there is a new one: all processes
    /// but the one that has pushed hear of it.
    pub(crate) mail_news: Option<u64>,
    /// A message that is in the record already was taken into it once more.
    pub(crate) counted_twice: bool,
    /// The effect of a message was carried out once more, or that of one that is counted was not.
    pub(crate) effects_differ: bool,
}

impl Store {
    pub(crate) fn new(pushes_to_itself: bool) -> Self {
        Self {
            record: None,
            own: Vec::new(),
            pushes_to_itself,
            counted_under: [0; MESSAGES_MAX],
            effects: 0,
            accepted: Vec::new(),
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

    fn mailbox(&self) -> Option<&Mailbox> {
        self.record.as_ref().map(Record::mailbox)
    }

    /// The number of the latest push to the client's session.
    pub(crate) fn sent(&self) -> u64 {
        self.mailbox().map_or(0, Mailbox::sent)
    }

    pub(crate) fn confirmed(&self) -> u64 {
        self.mailbox().map_or(0, Mailbox::confirmed)
    }

    /// The push to the client's session that was accepted with this number.
    pub(crate) fn push_of(&self, number: u64) -> Option<u8> {
        let at = usize::try_from(number).ok()?.checked_sub(1)?;
        self.accepted.get(at).copied()
    }

    pub(crate) fn has_accepted(&self, body: u8) -> bool {
        self.effects & 1 << body != 0
    }

    /// Whether the mailbox has every push that was accepted and not confirmed.
    pub(crate) fn keeps_pushes(&self) -> bool {
        if self.accepted.is_empty() {
            return self.sent() == 0;
        }
        let confirmed = self.confirmed() as usize;
        let kept = self.mailbox().into_iter().flat_map(Mailbox::iter);
        let kept = kept.map(|(_, body)| number_in(body.as_bytes()));
        self.accepted.iter().copied().skip(confirmed).eq(kept)
    }

    fn record_of(&self, session: u8) -> Option<&Record> {
        if session == CLIENT {
            return self.record.as_ref();
        }
        let mut own = self.own.iter();
        Some(&own.find(|(name, _)| *name == session)?.1)
    }

    /// Whether there may be pushes to the client's session.
    pub(crate) fn has_pushes(&self) -> bool {
        self.pushes_to_itself
    }

    /// The pushes that this commit would bring, and that were not accepted.
    pub(crate) fn new_pushes(&self, of: u8, posts: Posts) -> u32 {
        let bodies = posts.iter().map(|(nth, _)| match of {
            CLIENT => nth as u8 + 1,
            _ => of_outside(nth),
        });
        bodies.fold(0, |bits, body| bits | 1 << body) & !self.effects
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
            Request::Read { .. } => false,
            Request::Commit(commit) => {
                let known = self.record_of(commit.of);
                let Some(record) = Record::commit(known, commit.epoch, &commit.snapshot()) else {
                    return false;
                };
                if known != Some(&record) {
                    return true;
                }
                let mut after = self.clone();
                after.commit(commit.epoch, commit, protocol).is_some() && after != *self
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

    /// Sessions of processes under whose names nothing comes any more.
    pub(crate) fn forget_own(&mut self, is_used: impl Fn(u8) -> bool) {
        self.own.retain(|(name, _)| is_used(*name));
    }

    pub(crate) fn carry_out(&mut self, request: Request, protocol: Protocol) -> Done {
        match request {
            Request::Claim { key } => self.claim(key, protocol),
            Request::Commit(commit) => self.save(commit, protocol),
            Request::Read { key } => Done::answered(Answer::Mailbox {
                key,
                mailbox: self.mailbox().cloned().unwrap_or_default(),
            }),
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
        let answer = Answer::Claimed {
            key,
            epoch: grant.epoch,
            held: Mark::of(&grant.snapshot),
            state: number_of(&grant.snapshot.state) as u8,
            mailbox: grant.mailbox,
        };
        Done {
            news: (grant.epoch > epoch_before).then_some(grant.epoch),
            ..Done::answered(answer)
        }
    }

    fn save(&mut self, commit: Commit, protocol: Protocol) -> Done {
        let is_fenced = match commit.key {
            Some(_) => !protocol.has(Flaw::NoFence),
            None => !protocol.has(Flaw::ReplayWithoutFence),
        };
        let epoch = if is_fenced || commit.of != CLIENT {
            commit.epoch
        } else {
            commit.epoch.max(self.epoch())
        };
        let sent_before = self.sent();
        let taken = self.commit(epoch, &commit, protocol);
        let mut counted_twice = false;
        if taken.is_some() && commit.of == CLIENT {
            let (first, end) = (commit.base as usize, commit.mark.count as usize);
            for under in self.counted_under.iter_mut().take(end).skip(first) {
                counted_twice |= *under != 0 && *under != commit.epoch;
                *under = commit.epoch;
            }
        }
        let is_client = commit.of == CLIENT;
        let is_silent = protocol.has(Flaw::CommitsSayNothing);
        let answer = Answer::Committed {
            commit,
            fenced: taken.is_none(),
            outcomes: taken.map(|taken| taken.outcomes).unwrap_or_default(),
            sent: if is_client && !is_silent {
                self.sent()
            } else {
                0
            },
        };
        Done {
            mail_news: (self.sent() > sent_before).then_some(self.sent()),
            counted_twice,
            effects_differ: taken.is_some_and(|taken| taken.effects_differ),
            ..Done::answered(answer)
        }
    }

    /// What a commit does to the records; `None`: it is fenced.
    fn commit(&mut self, epoch: u64, commit: &Commit, protocol: Protocol) -> Option<Taken> {
        let request = self.asked(epoch, commit, protocol);
        let sent_before = self.sent();
        let mut pushed = Vec::new();
        let mut records = Shelf {
            store: self,
            other: Record::new(1, Snapshot::default(), None),
        };
        if !carry_out(&mut records, &request, &mut pushed) {
            return None;
        }
        let other = records.other;
        if protocol.has(Flaw::EarlierStateCounts)
            && let Some(record) = &mut self.record
        {
            // The count, which is the higher one, hides that the step is not later.
            let snapshot = Snapshot {
                count: record.snapshot().count,
                ..request.snapshot
            };
            let mailbox = record.mailbox().clone();
            *record =
                Record::new(record.epoch(), snapshot, record.last_claim()).with_mailbox(mailbox);
        }
        let mut differ = self.accept(other.mailbox(), 0);
        let mailbox = self.mailbox().cloned().unwrap_or_default();
        let accepted = self.accept(&mailbox, sent_before);
        differ |= accepted;
        self.accepted.extend(numbers_above(&mailbox, sent_before));
        let is_missing = |number: u64| !self.has_accepted(number as u8);
        let mut outcomes = Outcomes::default();
        if commit.of != CLIENT || self.pushes_to_itself {
            for ((nth, _), pushed) in commit.posts.iter().zip(pushed) {
                outcomes.0[nth] = match pushed {
                    Pushed::Accepted(number) => Outcome::Accepted(number),
                    Pushed::Refused(_) => Outcome::Unknown,
                    Pushed::Before => Outcome::Before,
                };
            }
        }
        Some(Taken {
            outcomes,
            effects_differ: differ || (1..=self.count()).any(is_missing),
        })
    }

    /// A commit as the store gets it.
    fn asked(&self, epoch: u64, commit: &Commit, protocol: Protocol) -> io::Commit {
        let is_repeated = protocol.has(Flaw::PushesRepeated);
        let to = match commit.of {
            CLIENT if !self.pushes_to_itself => other_id(),
            _ => client_id(),
        };
        let has_mail = commit.confirmed > 0 || commit.posts.iter().next().is_some();
        let pushes = commit.posts.iter().map(|(nth, step)| Push {
            step: if is_repeated { u64::MAX } else { step },
            to: to.clone(),
            body: body_of(commit.body(nth)),
        });
        io::Commit {
            key: SessionKey {
                slot: 0,
                generation: 0,
            },
            session: id_of(commit.of).clone(),
            epoch,
            snapshot: commit.snapshot(),
            mail: has_mail.then(|| {
                Box::new(Mail {
                    confirmed: commit.confirmed,
                    pushes: pushes.collect(),
                })
            }),
        }
    }

    /// Notes the pushes above this number. Whether one of them was accepted before.
    fn accept(&mut self, mailbox: &Mailbox, above: u64) -> bool {
        let mut differ = false;
        for body in numbers_above(mailbox, above) {
            differ |= self.has_accepted(body);
            self.effects |= 1 << body;
        }
        differ
    }
}

/// A commit that was not fenced.
#[derive(Clone, Copy)]
struct Taken {
    outcomes: Outcomes,
    effects_differ: bool,
}

impl Done {
    fn answered(answer: Answer) -> Self {
        Self {
            answer,
            news: None,
            mail_news: None,
            counted_twice: false,
            effects_differ: false,
        }
    }
}

/// The store's records, and the one of the session that receives everything at once.
struct Shelf<'a> {
    store: &'a mut Store,
    other: Record,
}

impl Records for Shelf<'_> {
    fn find(&self, session: &SessionId) -> Option<(&Record, bool)> {
        if session == other_id() {
            return Some((&self.other, true));
        }
        Some((self.store.record_of(name_of(session))?, true))
    }

    fn keep(&mut self, session: &SessionId, record: Record) {
        if session == other_id() {
            self.other = record;
            return;
        }
        match name_of(session) {
            CLIENT => self.store.record = Some(record),
            name => {
                let own = &mut self.store.own;
                own.retain(|(other, _)| *other != name);
                own.push((name, record));
                own.sort_by_key(|(name, _)| *name);
            }
        }
    }
}

fn numbers_above(mailbox: &Mailbox, above: u64) -> impl Iterator<Item = u8> {
    let new = mailbox.iter().filter(move |(number, _)| *number > above);
    new.map(|(_, body)| number_in(body.as_bytes()))
}

/// The number that a body, or a state, has in it.
pub(crate) fn number_in(bytes: &[u8]) -> u8 {
    bytes.first().copied().unwrap_or_default()
}

/// The number of the message that has set this state.
fn number_of(state: &State) -> u64 {
    number_in(state.as_bytes()).into()
}
