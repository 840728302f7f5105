//! One client: its habit, its outbox, and up to two connections that share it while it moves. It
//! decides when to connect, what to send and when it is done, and never waits for anything.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::{Registry, Token};
use rand::RngExt as _;
use rand::rngs::StdRng;

use super::journal::{Break, End};
use super::ledger::Ledger;
use super::letters::{Received, Says};
use super::link::{Heard, Link, Stage, upgrade};
use super::{Account, Orders, Plan};
use crate::support::said::Said;
use crate::support::{ms, now};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Habit {
    /// A message every 20 ms, until it is told of a shutdown.
    Steady,
    /// A message every 200 ms, whatever it is told.
    Ceaseless,
    /// As many as the outbox takes.
    Blasting,
    /// Reads a few bytes now and then.
    SlowReader,
    /// Sends, and reads nothing.
    NeverReading,
    /// Reads the Close, and does not answer it.
    DeafToClose,
    /// Drops TCP again and again, without a Close.
    Dropping,
    /// Half a request head, and no session.
    HalfOpen,
    /// No subprotocol, so that it gets no hello and keeps no outbox; it never comes back.
    Plain,
}

/// What a client needs from outside.
pub(crate) struct Shell<'a> {
    pub(crate) nodes: &'a [SocketAddr],
    pub(crate) orders: Orders,
    pub(crate) registry: &'a Registry,
    /// Of its first connection; the second has the next.
    pub(crate) token: usize,
    pub(crate) rng: &'a mut StdRng,
    pub(crate) now: Instant,
}

pub(crate) struct Session {
    plan: Plan,
    pub(crate) ledger: Ledger,
    pub(crate) received: Received,
    breaks: Vec<Break>,
    /// The last reply, or the answer to a notice: from then on it waits.
    waits_since: Option<Instant>,
    /// When the last notice wants it to come back.
    slot: Option<Instant>,
    links: [Option<Link>; 2],
    /// The connection that was greeted last: the one that sends.
    front: usize,
    /// The node to try next.
    node: usize,
    failures: u32,
    dial_at: Option<Instant>,
    message_at: Option<Instant>,
    read_at: Option<Instant>,
    /// When it moves, or drops its connection.
    restless_at: Option<Instant>,
    /// The orders that it has heard last.
    orders: Orders,
    done: bool,
}

impl Session {
    /// Begins with this node of those that there are.
    pub(crate) fn new(plan: Plan, node: usize) -> Self {
        let mut ledger = Ledger::new(&plan.session);
        ledger.is_plain = plan.habit == Habit::Plain;
        Self {
            plan,
            ledger,
            received: Received::default(),
            breaks: Vec::new(),
            waits_since: None,
            slot: None,
            links: [None, None],
            front: 0,
            node,
            failures: 0,
            dial_at: None,
            message_at: None,
            read_at: None,
            restless_at: None,
            orders: Orders::Flow,
            done: false,
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.done
    }

    /// It can send.
    pub(crate) fn is_open(&self) -> bool {
        let front = self.links[self.front].as_ref();
        front.is_some_and(|link| link.stage == Stage::Open)
    }

    /// It takes part: who drops its connections all the time is never seen with one for long.
    pub(crate) fn takes_part(&self) -> bool {
        self.is_open() || self.plan.habit == Habit::Dropping && self.ledger.hellos > 0
    }

    /// What it has to say, if it had a session at all.
    pub(crate) fn account(mut self) -> Option<Account> {
        self.ledger.is_complete = self.done;
        (self.plan.habit != Habit::HalfOpen).then_some(Account {
            ledger: self.ledger,
            says: self.plan.says,
            received: self.received,
            breaks: self.breaks,
        })
    }

    /// Something happened to one of its connections.
    pub(crate) fn ready(&mut self, slot: usize) {
        if let Some(link) = &mut self.links[slot] {
            // A connection that is broken says so when it is read.
            link.write();
            if self.reads_at_once() {
                self.listen(slot, usize::MAX);
            }
        }
    }

    pub(crate) fn tick(&mut self, shell: &mut Shell<'_>) {
        if self.done {
            return;
        }
        self.orders = shell.orders;
        self.listen_slowly(shell.now);
        self.give_up_on_silence(shell.now);
        if matches!(self.orders, Orders::Flow | Orders::Storm) {
            self.write_new_messages(shell.now);
            self.be_restless(shell);
        }
        self.send();
        if self.orders == Orders::Finish {
            self.try_to_finish();
        }
        if !self.done && self.links.iter().all(Option::is_none) {
            let dial_at = *self.dial_at.get_or_insert_with(|| {
                let ceiling = RETRY_MIN * (1 << self.failures.min(RETRY_DOUBLINGS));
                shell.now + shell.rng.random_range(Duration::ZERO..=ceiling)
            });
            if dial_at <= shell.now {
                self.dial(0, shell);
            }
        }
    }

    fn dial(&mut self, slot: usize, shell: &mut Shell<'_>) {
        self.dial_at = None;
        let node = shell.nodes[self.node % shell.nodes.len()];
        self.node += 1;
        self.failures += 1;
        if let Some(last) = self.breaks.last_mut() {
            last.dialled.get_or_insert(shell.now);
        }
        let habit = self.plan.habit;
        let is_v2 = self.plan.answers_notice;
        let protocol = if is_v2 { "sundown.v2" } else { "sundown.v1" };
        let protocol = (habit != Habit::Plain).then_some(protocol);
        let mut head = upgrade(&self.plan.session, protocol, self.received.last());
        if habit == Habit::HalfOpen {
            head.truncate(30);
        }
        let at = (shell.registry, Token(shell.token + slot));
        let Ok(mut link) = Link::dial(node, &head, at, shell.now) else {
            self.note_refusal();
            return;
        };
        if matches!(habit, Habit::SlowReader | Habit::NeverReading) {
            link.shrink_window();
        }
        link.is_v2 = is_v2;
        link.answers_close = habit != Habit::DeafToClose;
        self.links[slot] = Some(link);
        if self.links[1 - slot].is_none() {
            self.front = slot;
        }
    }

    fn reads_at_once(&self) -> bool {
        self.orders == Orders::Finish
            || !matches!(self.plan.habit, Habit::SlowReader | Habit::NeverReading)
            // The hello is read in any case: nothing may be sent before it.
            || !self.is_open()
    }

    fn listen_slowly(&mut self, now: Instant) {
        match self.plan.habit {
            Habit::SlowReader | Habit::NeverReading if self.orders == Orders::Finish => {
                (0..2).for_each(|slot| self.listen(slot, usize::MAX));
            }
            Habit::SlowReader if self.read_at.is_none_or(|at| at <= now) => {
                self.read_at = Some(now + SLOW_PAUSE);
                self.listen(self.front, SLOW_BYTES);
            }
            Habit::Steady
            | Habit::Ceaseless
            | Habit::Blasting
            | Habit::SlowReader
            | Habit::NeverReading
            | Habit::DeafToClose
            | Habit::Dropping
            | Habit::HalfOpen
            | Habit::Plain => {}
        }
    }

    /// Reads, and takes in what has come.
    fn listen(&mut self, slot: usize, bytes_max: usize) {
        let Some(link) = &mut self.links[slot] else {
            return;
        };
        let lives = link.read(bytes_max);
        while let Some(heard) = self.links[slot].as_mut().and_then(Link::take) {
            match heard {
                Heard::Upgraded if self.plan.habit == Habit::Plain => {
                    if let Some(link) = &mut self.links[slot] {
                        link.stage = Stage::Open;
                    }
                }
                Heard::Upgraded => {}
                Heard::Said(said) => self.hear(slot, &said),
                Heard::Pushed { number, body } => {
                    if self.received.take(number, body)
                        && let Some(link) = &mut self.links[slot]
                    {
                        link.confirm(number);
                    }
                }
                Heard::End => return self.ended(slot),
            }
        }
        if !lives {
            self.ended(slot);
        } else if let Some(link) = &mut self.links[slot] {
            link.write();
        }
    }

    fn hear(&mut self, slot: usize, said: &Said) {
        let [first, second] = &mut self.links;
        let (link, other) = if slot == 0 {
            (first, second)
        } else {
            (second, first)
        };
        let Some(link) = link else { return };
        match said {
            Said::Hello(hello) => {
                self.ledger.hello(&mut link.seat, hello.count);
                link.stage = Stage::Open;
                if let Some(other) = other {
                    Ledger::take_over(&mut other.seat, hello.count);
                }
                self.front = slot;
                self.failures = 0;
                if link.is_v2 {
                    // It goes on at once, so that a gap is no pause of its own.
                    self.message_at = None;
                }
                if let Some(last) = self.breaks.last_mut() {
                    last.greeted.get_or_insert_with(now);
                }
            }
            Said::Count(count) => {
                if link.is_v2 {
                    // One for all that it covers.
                    link.seat.at = link.seat.at.max(count.saturating_sub(1));
                }
                self.ledger.reply(&mut link.seat, *count);
                self.waits_since = Some(now());
                if let Some(last) = self.breaks.last_mut() {
                    last.first_reply.get_or_insert_with(now);
                }
            }
            Said::Bye(total) => {
                self.ledger.goodbye(&mut link.seat, *total);
                link.bye = Some(*total);
            }
            Said::Notice(notice) => {
                link.is_told = true;
                self.slot = Some(now() + Duration::from_millis(notice.reconnect_ms));
            }
            Said::Time(_) => {}
        }
    }

    /// One connection is over.
    fn ended(&mut self, slot: usize) {
        let Some(link) = self.links[slot].take() else {
            return;
        };
        let alone = self.links[1 - slot].is_none();
        if self.plan.habit == Habit::Plain && link.stage != Stage::Shaking {
            self.done = true;
        }
        if alone && !self.done {
            self.note_break(&link);
        }
        if alone
            && self.plan.heeds_wait
            && let Some(wait) = link.retry_after
        {
            self.dial_at = Some(now() + wait);
        }
        if !alone && self.front == slot {
            self.front = 1 - slot;
        }
    }

    /// It has lost its only connection, or has not got one.
    fn note_break(&mut self, link: &Link) {
        match link.stage {
            Stage::Shaking | Stage::Greeting => self.note_refusal(),
            Stage::Open | Stage::Parting => {
                let end = if link.error.is_some() {
                    End::Broken
                } else if link.bye.is_some() && link.close_code == Some(1001) {
                    End::Farewell
                } else {
                    End::Eof
                };
                let slot = self.slot.take().filter(|_| link.is_leaving);
                self.breaks.push(Break::new(end, self.waits_since, slot));
            }
        }
    }

    /// Before the first connection there is nothing that it could have noticed.
    fn note_refusal(&mut self) {
        if let Some(last) = self.breaks.last_mut() {
            last.refused += 1;
        }
    }

    fn give_up_on_silence(&mut self, now: Instant) {
        for slot in 0..2 {
            let Some(link) = &mut self.links[slot] else {
                continue;
            };
            match link.stage {
                Stage::Open => link.since = now,
                Stage::Shaking | Stage::Greeting if self.plan.habit == Habit::HalfOpen => {}
                Stage::Shaking | Stage::Greeting | Stage::Parting => {
                    if now >= link.since + SILENCE_MAX {
                        link.error = Some(std::io::ErrorKind::TimedOut);
                        self.ended(slot);
                    }
                }
            }
        }
    }

    fn write_new_messages(&mut self, now: Instant) {
        match self.plan.says {
            Says::Numbers => {}
            Says::Letters { .. } if self.orders == Orders::Storm => {}
            Says::Letters { .. } | Says::Nothing => return,
        }
        let (window, pace) = match self.plan.habit {
            Habit::Blasting => (256, Duration::ZERO),
            Habit::NeverReading => (400, Duration::ZERO),
            Habit::Ceaseless => (32, CEASELESS_PACE),
            Habit::Steady
            | Habit::SlowReader
            | Habit::DeafToClose
            | Habit::Dropping
            | Habit::Plain => (32, PACE),
            Habit::HalfOpen => return,
        };
        // Who is in no hurry stops at the notice.
        let hurries = pace.is_zero() || self.plan.habit == Habit::Ceaseless;
        let told = |link: &Link| link.is_told && !hurries;
        if self.links[self.front].as_ref().is_some_and(told) {
            return;
        }
        if pace.is_zero() {
            while self.ledger.outbox() < window {
                self.ledger.want();
            }
        } else if self.ledger.outbox() < window && self.message_at.is_none_or(|at| at <= now) {
            self.message_at = Some(now + pace);
            self.ledger.want();
        }
    }

    /// Moves to another connection, or drops the one there is, from time to time.
    fn be_restless(&mut self, shell: &mut Shell<'_>) {
        let drops = self.plan.habit == Habit::Dropping;
        if !drops && shell.orders != Orders::Storm || !self.is_open() {
            return;
        }
        let pause = shell.rng.random_range(RESTLESS_WITHIN.0..RESTLESS_WITHIN.1);
        let at = *self.restless_at.get_or_insert(shell.now + pause);
        if at > shell.now {
            return;
        }
        self.restless_at = None;
        let spare = 1 - self.front;
        match &mut self.links[spare] {
            None if drops => self.ended(self.front),
            None => {
                self.node = shell.rng.random_range(0..shell.nodes.len());
                self.dial(spare, shell);
            }
            // Nobody has told it that it is not wanted any more.
            Some(link) if link.stage == Stage::Open => {
                link.close(1000);
                link.write();
            }
            Some(_) => {}
        }
    }

    fn send(&mut self) {
        let Some(link) = &mut self.links[self.front] else {
            return;
        };
        if link.stage != Stage::Open {
            return;
        }
        if link.is_v2 && link.is_told {
            let is_answered = self.ledger.acknowledged == link.seat.sent;
            if is_answered && !link.is_leaving {
                link.leave();
                self.waits_since = Some(now());
            }
            link.write();
            return;
        }
        while link.unwritten() < BACKLOG_MAX
            && let Some(number) = self.ledger.next(&link.seat)
        {
            link.message(&self.plan.says.body(&self.plan.session, number));
            self.ledger.sent(&mut link.seat);
        }
        link.write();
    }

    fn try_to_finish(&mut self) {
        let all_said = self.ledger.outbox() == 0;
        match self.plan.habit {
            Habit::HalfOpen => self.done = true,
            Habit::Plain if self.links.iter().all(Option::is_none) => self.done = true,
            Habit::Steady
            | Habit::Ceaseless
            | Habit::Blasting
            | Habit::SlowReader
            | Habit::NeverReading
            | Habit::DeafToClose
            | Habit::Dropping
            | Habit::Plain => {}
        }
        let Some(link) = &mut self.links[self.front] else {
            // It left with everything acknowledged, or it comes back to see.
            return;
        };
        if all_said && link.stage == Stage::Open && link.unwritten() == 0 {
            link.close(1000);
            link.write();
            self.done = true;
        }
    }
}

/// New messages of a client that is in no hurry.
const PACE: Duration = ms(20);
const CEASELESS_PACE: Duration = ms(200);
const SLOW_PAUSE: Duration = ms(20);
const SLOW_BYTES: usize = 64;
/// Between two moves of a restless client.
const RESTLESS_WITHIN: (Duration, Duration) = (ms(20), ms(150));
/// Bytes that a client queues before it waits for the kernel to take them.
const BACKLOG_MAX: usize = 16 << 10;
/// The first ceiling of the random wait before a reconnect.
const RETRY_MIN: Duration = ms(10);
/// It doubles up to 640 ms.
const RETRY_DOUBLINGS: u32 = 6;
/// A handshake, a hello or an end that does not come in this time is given up.
const SILENCE_MAX: Duration = Duration::from_secs(5);
