//! The store behind all nodes, and each node's link to it.
//!
//! [`Truth`] keeps the promises of `src/store/mod.rs` by the server's own [`Record`]. A [`Link`]
//! keeps the order of what is asked on it, and nothing else: it is slow, it dies without a word,
//! and what was asked and not answered may have been carried out, may never be, or may be yet.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use sundown::engine::io::{Claim, Commit, Pushed, Refused, SessionId, StoreCommand, StoreEvent};
use sundown::store::record::{Record, Records, carry_out};

use super::common::{Common, Event};
use super::posted::Posted;
use super::spill::{File, Found, Gate, Spill};
use super::trace::Seen;

/// What a process has asked.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) life: u32,
    pub(crate) command: StoreCommand,
}

/// What is kept.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    records: BTreeMap<SessionId, Record>,
    pub(crate) posted: Posted,
    /// Pushes that nodes are to hear of.
    mail: Vec<(SessionId, u64)>,
    /// It has lost its records once.
    pub(crate) is_lost: bool,
    /// To which process of which node each epoch was granted.
    granted: BTreeMap<(SessionId, u64), (usize, u32)>,
    /// The highest epoch of all records that are gone.
    epoch_floor: Option<u64>,
    /// By node: how often its link has died.
    pub(crate) links: Vec<u32>,
    /// Where processes put what it does not take in time.
    pub(crate) files: Vec<File>,
    /// Until then it answers nobody.
    pub(crate) frozen_until: Option<Instant>,
    /// Until then it refuses single sessions.
    pub(crate) refusing_until: Option<Instant>,
    /// Whether it refuses this one, for all that it has been asked for since then.
    refuses: BTreeMap<SessionId, bool>,
}

impl Truth {
    /// Single sessions are refused from now on, others than before.
    pub(crate) fn refuse_until(&mut self, until: Instant) {
        self.refusing_until = Some(until);
        self.refuses.clear();
    }

    /// All records are gone, and the epochs that were granted are not granted again.
    pub(crate) fn lose_records(&mut self) {
        self.epoch_floor = self.records.values().map(Record::epoch).max();
        self.records.clear();
        self.posted.lose();
        self.is_lost = true;
    }

    pub(crate) fn count(&self, session: &SessionId) -> u64 {
        let record = self.records.get(session);
        record.map_or(0, |record| record.snapshot().count)
    }

    /// What lies in the files for a session of this epoch.
    pub(crate) fn spilled(&self, session: &SessionId, epoch: Option<u64>) -> u64 {
        let rows = self.files.iter().filter_map(|file| file.rows.get(session));
        let of_epoch = rows.filter(|row| Some(row.epoch) >= epoch);
        let counts = of_epoch.map(|row| row.snapshot.count);
        counts.max().unwrap_or(0)
    }

    /// Which process of which node was granted the newest epoch.
    pub(crate) fn owner(&self, session: &SessionId) -> Option<(usize, u32)> {
        let grant = (session.clone(), self.epoch(session));
        self.granted.get(&grant).copied()
    }

    pub(crate) fn epoch(&self, session: &SessionId) -> u64 {
        self.records.get(session).map_or(0, Record::epoch)
    }

    /// The next epoch is so much higher. Returns whether the claim was not a repeated one, too.
    fn claim(&mut self, claim: &Claim, owner: (usize, u32), step: u64) -> (StoreEvent, bool) {
        let known = self.records.get(&claim.session);
        let epoch_before = known.map_or(self.epoch_floor.unwrap_or(0), Record::epoch);
        let (record, grant) = Record::claim(known, true, claim.token, epoch_before + step - 1);
        let is_new = grant.epoch > epoch_before;
        self.records.insert(claim.session.clone(), record);
        let granted = (claim.session.clone(), grant.epoch);
        let earlier = self.granted.insert(granted, owner);
        assert!(
            earlier.is_none_or(|earlier| earlier == owner),
            "one epoch for two owners: {earlier:?} and {owner:?}"
        );
        let key = claim.key;
        (StoreEvent::Claimed { key, grant }, is_new)
    }

    /// Whether the save was taken.
    fn save(
        &mut self,
        commit: &Commit,
        owner: (usize, u32),
        pushed: &mut Vec<Pushed>,
        seen: &mut Seen,
    ) -> bool {
        let grant = (commit.session.clone(), commit.epoch);
        let granted = self.granted.get(&grant);
        // A replay is somebody else's, or somebody's later life.
        let replayed = is_replayed(commit) && granted.is_some();
        // A process's own session is never claimed.
        let is_own = !self.granted.keys().any(|(id, _)| id == &commit.session);
        assert!(
            granted == Some(&owner) || replayed || is_own,
            "{} saved under an epoch that is not its own",
            commit.session
        );
        let before = pushed.len();
        let is_taken = carry_out(self, commit, pushed);
        let asked = commit.mail.iter().flat_map(|mail| &mail.pushes);
        for (push, outcome) in asked.zip(&pushed[before..]) {
            self.posted.note(push, *outcome, seen);
            if let Pushed::Accepted(number) = outcome {
                self.mail.push((push.to.clone(), *number));
            }
        }
        is_taken
    }

    fn sent(&self, session: &SessionId) -> u64 {
        let record = self.records.get(session);
        record.map_or(0, |record| record.mailbox().sent())
    }
}

impl Records for Truth {
    fn find(&self, session: &SessionId) -> Option<(&Record, bool)> {
        self.records.get(session).map(|record| (record, true))
    }

    fn keep(&mut self, session: &SessionId, record: Record) {
        self.records.insert(session.clone(), record);
    }
}

impl Common {
    /// Answers in order; what is refused is told before the rest of its batch.
    fn carry_out(&mut self, node: usize, request: Request) -> Vec<StoreEvent> {
        let owner = (node, request.life);
        match request.command {
            StoreCommand::Sync => vec![StoreEvent::Synced],
            StoreCommand::Read(read) => {
                let known = self.truth.records.get(&read.session);
                let mailbox = known.map(|record| record.mailbox().clone());
                vec![StoreEvent::Mailbox {
                    key: read.key,
                    mailbox: mailbox.unwrap_or_default(),
                }]
            }
            StoreCommand::Claim(claim) if self.refuses(&claim.session) => {
                self.seen.note("claim refused");
                vec![refused(Refused::Claim(claim.key))]
            }
            StoreCommand::Claim(claim) => {
                let step = self.dice.among(1, 100) as u64;
                let (answer, is_new) = self.truth.claim(&claim, owner, step);
                if is_new {
                    self.spread_news(&claim.session);
                } else {
                    self.seen.note("claim repeated");
                }
                vec![answer]
            }
            StoreCommand::Commit(mut batch) => {
                let asked = batch.len();
                let is_refused = |commit: &mut Commit| {
                    self.refuses(&commit.session) || is_replayed(commit) && self.refuses_row()
                };
                let mut answers: Vec<_> = batch
                    .extract_if(.., is_refused)
                    .map(|commit| refused(Refused::Commit(commit)))
                    .collect();
                if !answers.is_empty() {
                    self.seen.note(if answers.len() == asked {
                        "batch refused"
                    } else {
                        "batch partly refused"
                    });
                }
                let mut pushed = Vec::new();
                let commits = batch.iter().enumerate();
                let fenced = commits.filter(|(_, commit)| {
                    !self.truth.save(commit, owner, &mut pushed, &mut self.seen)
                });
                let fenced: Vec<usize> = fenced.map(|(at, _)| at).collect();
                if !fenced.is_empty() {
                    let all = fenced.len() == batch.len();
                    self.seen.note(if all {
                        "batch fenced"
                    } else {
                        "batch partly fenced"
                    });
                }
                self.tell_mail(&batch, &mut answers);
                answers.push(StoreEvent::Committed {
                    batch,
                    fenced,
                    pushed,
                });
                answers
            }
        }
    }

    fn refuses_row(&mut self) -> bool {
        !self.is_calm && self.dice.chance(self.options.rows_refused)
    }

    /// Whether the store refuses this request for a session.
    fn refuses(&mut self, session: &SessionId) -> bool {
        let is_refusing = |until: Instant| self.now.instant < until;
        if !self.truth.refusing_until.is_some_and(is_refusing) {
            return false;
        }
        let drawn = self.dice.chance(self.options.sessions_refused);
        let entry = self.truth.refuses.entry(session.clone());
        *entry.or_insert(drawn) && self.dice.chance(self.options.requests_refused)
    }

    fn spread_news(&mut self, session: &SessionId) {
        let epoch = self.truth.epoch(session);
        for node in 0..self.truth.links.len() {
            if self.dice.chance(self.options.news_lost) {
                self.seen.note("news never came");
                continue;
            }
            let delay = self.dice.time(Duration::ZERO, self.options.news_delay_max);
            if delay > STALL_AFTER {
                self.seen.note("news came late");
            }
            let (link, session) = (self.truth.links[node], session.clone());
            self.plan_after(
                delay,
                Event::News {
                    node,
                    link,
                    session,
                    epoch,
                },
            );
        }
    }

    /// Of what was pushed just now all nodes hear, and an owner of what its session has.
    fn tell_mail(&mut self, batch: &[Commit], answers: &mut Vec<StoreEvent>) {
        for (session, sent) in std::mem::take(&mut self.truth.mail) {
            self.spread_mail(&session, sent);
        }
        for commit in batch {
            let session = commit.session.clone();
            let sent = self.truth.sent(&session);
            if sent > 0 {
                answers.push(StoreEvent::Mail { session, sent });
            }
        }
    }

    /// News of a push is late at most, on a link that lives.
    fn spread_mail(&mut self, session: &SessionId, sent: u64) {
        for node in 0..self.truth.links.len() {
            let delay = self.dice.time(Duration::ZERO, self.options.news_delay_max);
            let (link, session) = (self.truth.links[node], session.clone());
            self.plan_after(
                delay,
                Event::Mail {
                    node,
                    link,
                    session,
                    sent,
                },
            );
        }
    }

    /// What came out of the buffers of a dead link.
    pub(crate) fn carry_out_late(&mut self, node: usize, request: Request) {
        self.say(|| format!("node {node}: carried out, unheard: {request:?}"));
        self.seen.note("carried out, answer lost");
        self.carry_out(node, request);
    }

    fn store_delay(&mut self) -> Duration {
        let most = self.options.store_delay_max;
        self.dice.time(most / 10, most)
    }
}

fn is_replayed(commit: &Commit) -> bool {
    commit.key.slot == u32::MAX
}

fn refused(request: Refused) -> StoreEvent {
    StoreEvent::Refused {
        request,
        reason: "not this one".into(),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Down,
    Up,
    /// Broken, and nobody has noticed.
    Dead,
}

/// An answer is overdue after this, as with the link to Redis.
const STALL_AFTER: Duration = Duration::from_secs(1);
/// Silence after which a link is given up, as there.
const SILENCE_MAX: Duration = Duration::from_secs(15);

/// A process's way to the store.
#[derive(Debug)]
pub(crate) struct Link {
    node: usize,
    life: u32,
    is_local: bool,
    state: State,
    asked: Vec<StoreCommand>,
    requests: VecDeque<(Instant, Request)>,
    answers: VecDeque<(Instant, Vec<StoreEvent>)>,
    /// When what is not answered yet was asked.
    waiting: VecDeque<Instant>,
    heard_at: Instant,
    is_stalled: bool,
    spill: Spill,
    events: VecDeque<StoreEvent>,
}

impl Link {
    pub(crate) fn new(common: &mut Common, node: usize, life: u32) -> Self {
        let is_local = common.options.store_is_local;
        let mut link = Self {
            node,
            life,
            is_local,
            state: State::Down,
            asked: Vec::new(),
            requests: VecDeque::new(),
            answers: VecDeque::new(),
            waiting: VecDeque::new(),
            heard_at: common.now.instant,
            is_stalled: false,
            spill: Spill::new(common, node, life),
            events: VecDeque::new(),
        };
        if is_local {
            link.come_up(common);
        } else {
            link.plan_up(common);
        }
        link
    }

    pub(crate) fn is_down(&self) -> bool {
        self.state == State::Down
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.state == State::Dead
    }

    /// Nothing is under way that the store may have carried out already.
    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(crate) fn poll_event(&mut self) -> Option<StoreEvent> {
        self.events.pop_front()
    }

    pub(crate) fn ask(&mut self, command: StoreCommand) {
        self.asked.push(command);
    }

    /// Hands the batch back if there is no spill.
    pub(crate) fn spill(&mut self, common: &Common, batch: Vec<Commit>) -> Option<Vec<Commit>> {
        if !common.options.has_spill {
            return Some(batch);
        }
        self.spill.ask(batch);
        None
    }

    /// Sends what was asked in this turn; a store in this process carries it out.
    pub(crate) fn flush(&mut self, common: &mut Common) {
        if self.is_local {
            return self.flush_local(common);
        }
        for command in std::mem::take(&mut self.asked) {
            self.send(common, command);
        }
        self.events.extend(self.spill.write(common));
    }

    fn send(&mut self, common: &mut Common, command: StoreCommand) {
        let now = common.now.instant;
        if self.state == State::Down {
            return;
        }
        self.waiting.push_back(now);
        if self.state == State::Dead {
            return common.seen.note("asked on a dead link");
        }
        let at = now + common.store_delay();
        let at = self.requests.back().map_or(at, |(last, _)| at.max(*last));
        let life = self.life;
        self.requests.push_back((at, Request { life, command }));
        common.plan(at, Event::StoreWork { node: self.node });
    }

    fn flush_local(&mut self, common: &mut Common) {
        let now = common.now.instant;
        if common.truth.frozen_until.is_some_and(|until| until > now) {
            let new = self.asked.len() - self.waiting.len();
            self.waiting.extend(std::iter::repeat_n(now, new));
            return;
        }
        self.waiting.clear();
        let mut answered = false;
        for command in std::mem::take(&mut self.asked) {
            let life = self.life;
            let answers = common.carry_out(self.node, Request { life, command });
            self.events.extend(answers);
            answered = true;
        }
        if answered && std::mem::take(&mut self.is_stalled) {
            self.events.push_back(StoreEvent::Resumed);
        }
    }

    /// Requests have reached the store.
    pub(crate) fn work(&mut self, common: &mut Common) {
        let now = common.now.instant;
        if let Some(until) = common.truth.frozen_until.filter(|until| *until > now) {
            return common.plan(until, Event::StoreWork { node: self.node });
        }
        while self.requests.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, request)) = self.requests.pop_front() else {
                return;
            };
            common.say(|| format!("node {}: store: {request:?}", self.node));
            let answers = common.carry_out(self.node, request);
            let at = now + common.store_delay();
            let at = self.answers.back().map_or(at, |(last, _)| at.max(*last));
            self.answers.push_back((at, answers));
            common.plan(at, Event::Poke { node: self.node });
        }
    }

    /// Takes the answers that have come.
    pub(crate) fn handle_ready(&mut self, common: &mut Common) {
        let now = common.now.instant;
        let mut heard = false;
        while self.answers.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, answers)) = self.answers.pop_front() else {
                return;
            };
            self.waiting.pop_front();
            self.heard_at = now;
            heard = true;
            for answer in answers {
                self.take(common, answer);
            }
        }
        if heard && std::mem::take(&mut self.is_stalled) && self.spill.gate == Gate::Open {
            self.events.push_back(StoreEvent::Resumed);
        }
    }

    /// Passes an answer on to the engine, unless it is a replay's.
    fn take(&mut self, common: &mut Common, answer: StoreEvent) {
        if let StoreEvent::Refused {
            request: Refused::Commit(commit),
            ..
        } = &answer
            && self.spill.gate == Gate::Replaying
        {
            return self.spill.keep(common, &commit.session);
        }
        let StoreEvent::Committed { batch, .. } = &answer else {
            return self.events.push_back(answer);
        };
        self.spill.settle(common, batch);
        if self.spill.gate == Gate::Replaying {
            self.look(common);
        } else {
            self.events.push_back(answer);
        }
    }

    /// The store is up: what lies in the file goes first.
    fn look(&mut self, common: &mut Common) {
        match self.spill.look(common) {
            Found::Nothing => {
                self.events.push_back(StoreEvent::Up);
                if self.is_stalled {
                    self.events.push_back(StoreEvent::Stalled);
                }
            }
            Found::Rows(rows) => self.send(common, StoreCommand::Commit(rows)),
            Found::Later => {}
        }
    }

    pub(crate) fn handle_timeout(&mut self, common: &mut Common) {
        let now = common.now.instant;
        if self.is_local {
            self.flush_local(common);
        }
        self.events.extend(self.spill.write(common));
        if let Gate::Looking { at } = self.spill.gate
            && at <= now
        {
            self.look(common);
        }
        let Some(since) = self.waiting.front().copied() else {
            return;
        };
        if !self.is_stalled && since + STALL_AFTER <= now {
            self.is_stalled = true;
            common.seen.note("store stalled");
            if self.spill.gate == Gate::Open {
                self.events.push_back(StoreEvent::Stalled);
            }
        } else if !self.is_local && since.max(self.heard_at) + SILENCE_MAX <= now {
            common.seen.note("store silent for too long");
            self.break_off(common);
            self.go_down(common);
        }
    }

    pub(crate) fn poll_timeout(&self, common: &Common) -> Option<Instant> {
        let watch = self.waiting.front().and_then(|since| {
            if !self.is_stalled {
                Some(*since + STALL_AFTER)
            } else if self.is_local {
                None
            } else {
                Some((*since).max(self.heard_at) + SILENCE_MAX)
            }
        });
        let locked = self.is_local && !self.waiting.is_empty();
        let unlocked = common.truth.frozen_until.filter(|_| locked);
        [watch, unlocked, self.spill.poll_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    /// The link dies; of what is under way a part gets through all the same. Nobody knows yet.
    pub(crate) fn break_off(&mut self, common: &mut Common) {
        let delivered = if common.dice.chance(common.options.carried_out) {
            common.dice.among(0, self.requests.len())
        } else {
            0
        };
        let mut last = common.now.instant;
        for (at, request) in self.requests.drain(..).take(delivered) {
            let most = common.options.carried_out_after_max;
            last = last.max(at) + common.dice.time(Duration::ZERO, most);
            common.plan(
                last,
                Event::CarriedOut {
                    node: self.node,
                    request,
                },
            );
        }
        let heard = common.dice.among(0, self.answers.len());
        self.answers.truncate(heard);
        if self.state == State::Up {
            self.state = State::Dead;
        }
    }

    /// The process is gone: of what it had asked, a part gets through.
    pub(crate) fn end(&mut self, common: &mut Common) {
        self.break_off(common);
        self.spill.shut(common);
    }

    /// The node learns that its link is dead.
    pub(crate) fn go_down(&mut self, common: &mut Common) {
        if self.state == State::Down || self.is_local {
            return;
        }
        self.state = State::Down;
        common.truth.links[self.node] += 1;
        if !self.waiting.is_empty() {
            common.seen.note("unanswered at the loss of a link");
        }
        self.requests.clear();
        self.answers.clear();
        self.waiting.clear();
        self.asked.clear();
        self.is_stalled = false;
        self.spill.shut(common);
        self.events.push_back(StoreEvent::Down {
            reason: "the link is dead".into(),
        });
        self.plan_up(common);
    }

    fn plan_up(&self, common: &mut Common) {
        let most = if common.is_calm {
            Duration::from_millis(50)
        } else {
            common.options.down_max
        };
        let after = common.dice.time(Duration::ZERO, most);
        let (node, link) = (self.node, common.truth.links[self.node]);
        common.plan_after(after, Event::LinkUp { node, link });
    }

    pub(crate) fn come_up(&mut self, common: &mut Common) {
        if self.state == State::Down {
            self.state = State::Up;
            self.heard_at = common.now.instant;
            self.look(common);
        }
    }

    /// News of a push has come.
    pub(crate) fn hear_of_mail(&mut self, session: SessionId, sent: u64) {
        if self.state == State::Up {
            self.events.push_back(StoreEvent::Mail { session, sent });
        }
    }

    /// News has come.
    pub(crate) fn hear(&mut self, session: SessionId, epoch: u64) {
        if self.state == State::Up {
            self.events
                .push_back(StoreEvent::TakenOver { session, epoch });
        }
    }
}
